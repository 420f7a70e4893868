"""InfluxDB 1.6 and VictoriaMetrics: what they answer equals what the program did."""

from __future__ import annotations

import itertools
import re
import time
import urllib.error
import urllib.parse
import urllib.request
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from hypertrace import Tracer, set_trace_function
from hypertrace.exporters.influx import InfluxExporter
from hypertrace.exporters.influx.lines import tag_value
from hypertrace.exporters.influx.receivers import HttpReceiver
from hypertrace.metrics import Counter, LastValue, Metrics, Sum, Summary

from .databases import VICTORIA, Server, VictoriaMetrics

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

NEVER = 3_600.0

CONFIGURATION = """
reporting-enabled = false
bind-address = "127.0.0.1:{rpc}"
[meta]
  dir = "{folder}/meta"
[data]
  dir = "{folder}/data"
  wal-dir = "{folder}/wal"
[monitor]
  store-enabled = false
[http]
  bind-address = "127.0.0.1:{http}"
  log-enabled = false
[[udp]]
  enabled = true
  bind-address = "127.0.0.1:{udp}"
  database = "udp"
  batch-timeout = "10ms"
"""


class InfluxDB(Server):
    """InfluxDB 1.6."""

    udp: int

    def query(self, database: str, text: str) -> list[dict[str, Any]]:
        """Give the rows of the first statement, each with its tags and the columns."""
        answer = self.ask("/query", "POST", db=database, q=text, epoch="ns")
        (result,) = answer["results"]
        assert "error" not in result, result
        return [
            {**series.get("tags", {}), **dict(zip(series["columns"], row, strict=True))}
            for series in result.get("series", [])
            for row in series["values"]
        ]

    def sum(self, database: str, measurement: str, field: str = "val") -> Any:
        """Give the sum of a field over all time."""
        rows = self.query(database, f'SELECT SUM("{field}") FROM "{measurement}"')
        return rows[0]["sum"] if rows else 0


@pytest.fixture(scope="module")
def influxdb(
    component: Callable[[str], str],
    free_port: Callable[[], int],
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[InfluxDB]:
    """Give a running InfluxDB."""
    program, folder = component("influxd"), tmp_path_factory.mktemp("influxdb")
    ports = {"rpc": free_port(), "http": free_port(), "udp": free_port()}
    configuration = folder / "influxdb.conf"
    configuration.write_text(CONFIGURATION.format(folder=folder, **ports))
    server = InfluxDB([program, "-config", str(configuration)], folder, ports["http"])
    server.udp = ports["udp"]
    try:
        server.wait(lambda: server.ask("/ping") == b"")
        yield server
    finally:
        server.stop()


@pytest.fixture(scope="module", params=VICTORIA)
def victoria(
    request: pytest.FixtureRequest,
    component: Callable[[str], str],
    free_port: Callable[[], int],
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[VictoriaMetrics]:
    """Give a running VictoriaMetrics of one version, and then of the other."""
    program, folder = component(request.param), tmp_path_factory.mktemp("victoria")
    option = "-dedup.minScrapeInterval=1ms"  # as docs/influxdb.md has it
    with VictoriaMetrics.started(program, folder, free_port(), option) as server:
        yield server


@pytest.fixture
def database(influxdb: InfluxDB, request: pytest.FixtureRequest) -> str:
    """Give the name of an empty database."""
    name: str = request.node.name
    influxdb.query("", f'CREATE DATABASE "{name}"')
    return name


class Shop:
    """What the program does, and how often."""

    DECLARED = (
        Counter("orders_total", of="Shop.*", tags=["channel"]),
        Sum("paid_total", of="Shop.*", value="amount"),
        LastValue("last_amount", of="Shop.*", value="amount"),
        Summary("amounts", of="Shop.*", value="amount"),
    )

    def __init__(self) -> None:
        self.tracer = Tracer(self)

    def order(self, channel: str, amount: float) -> None:
        with self.tracer.span("order", {"channel": channel, "amount": amount}):
            pass


def test_influxdb_over_http_answers_what_the_program_did(influxdb: InfluxDB, database: str) -> None:
    """Sums of counters, counts of durations and summaries, and gauges are equal."""
    metrics = Metrics(declared=Shop.DECLARED, labels={"service": "the shop"})
    set_trace_function(metrics)
    with InfluxExporter(
        influxdb.url, database=database, metrics=metrics, interval=NEVER
    ) as exporter:
        shop = Shop()
        for number in range(5):
            for _ in range(100):
                shop.order("web", 0.5)
                shop.order("phone, fax = old", 2)
            assert exporter.flush(), number
    assert (exporter.dropped, exporter.failures) == (0, 0)
    assert influxdb.sum(database, "function_counter_total") == 1000
    assert influxdb.sum(database, "paid_total") == 1250
    rows = influxdb.query(database, 'SELECT SUM("val") FROM "orders_total" GROUP BY *')
    assert {(row["channel"], row["service"], row["sum"]) for row in rows} == {
        ("web", "the shop", 500),
        ("phone, fax = old", "the shop", 500),
    }
    for measurement in ("function_duration_seconds", "amounts"):
        assert influxdb.sum(database, measurement, "count") == 1000
    assert influxdb.sum(database, "function_duration_seconds", "le_10") == 1000
    assert influxdb.sum(database, "amounts", "sum") == 1250
    (last,) = influxdb.query(database, 'SELECT LAST("val") FROM "last_amount"')
    assert last["last"] == 2
    (quantile,) = influxdb.query(database, 'SELECT LAST("p99") FROM "amounts"')
    assert quantile["last"] == pytest.approx(2, rel=0.01)


def test_a_server_that_goes_away_and_comes_back(influxdb: InfluxDB, database: str) -> None:
    """What the program did meanwhile is there afterwards."""
    metrics = Metrics()
    set_trace_function(metrics)
    with InfluxExporter(
        influxdb.url, database=database, metrics=metrics, interval=NEVER
    ) as exporter:
        Tracer("shop").trace()
        assert exporter.flush()
        influxdb.stop()
        try:
            for _ in range(10):
                Tracer("shop").trace()
                exporter.flush(0.1)
            assert exporter.failures
        finally:
            influxdb.start()
        influxdb.wait(lambda: exporter.flush(0.1))
        assert influxdb.sum(database, "function_counter_total") == 11


def fail_after_the_next_request(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the answer to the next request be lost."""
    post, to_lose = HttpReceiver._post, [TimeoutError("the answer is lost")]

    def lossy(*arguments: Any) -> None:
        post(*arguments)
        if to_lose:
            raise to_lose.pop()

    monkeypatch.setattr(HttpReceiver, "_post", lossy)


def test_an_answer_that_is_lost_makes_nothing_count_twice(
    influxdb: InfluxDB,
    database: str,
    victoria: VictoriaMetrics,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The points of the next attempt replace those that were stored all the same."""
    for url in (influxdb.url, victoria.url):
        metrics = Metrics(prefix="lost_answer_")
        set_trace_function(metrics)
        fail_after_the_next_request(monkeypatch)
        with InfluxExporter(url, database=database, metrics=metrics, interval=NEVER) as exporter:
            for _ in range(3):
                Tracer("shop").trace()
                exporter.flush(0.1)
            assert exporter.failures == 1
    assert influxdb.sum(database, "lost_answer_function_counter_total") == 3
    query = "sum_over_time(lost_answer_function_counter_total_val[1h])"
    # Of points of the same time, 1.79 keeps any; 1.145, the one with the largest value.
    victoria.wait(lambda: victoria.value(query) in {2, 3})


@pytest.mark.parametrize("precision", ["ns", "us", "ms", "s"])
def test_no_reading_replaces_another(influxdb: InfluxDB, database: str, precision: str) -> None:
    """Readings within one second are separate points at each precision."""
    metrics = Metrics()
    set_trace_function(metrics)
    with InfluxExporter(
        influxdb.url, database=database, metrics=metrics, precision=precision, interval=NEVER
    ) as exporter:
        for _ in range(20):
            Tracer("shop").trace()
            assert exporter.flush()
    assert influxdb.sum(database, "function_counter_total") == 20
    (first, *_) = influxdb.query(database, 'SELECT * FROM "function_counter_total"')
    assert abs(first["time"] / 1e9 - time.time()) < 120


def test_influxdb_over_udp_answers_what_the_program_did(influxdb: InfluxDB) -> None:
    """A reading of 1 000 series arrives whole, in packets."""
    influxdb.query("", 'CREATE DATABASE "udp"')
    metrics = Metrics(max_series=2_000)
    set_trace_function(metrics)
    with InfluxExporter(
        f"udp://127.0.0.1:{influxdb.udp}", metrics=metrics, interval=NEVER
    ) as exporter:
        for number in range(1_000):
            for _ in range(3):
                Tracer("shop").trace(str(number))
        assert exporter.flush()
    influxdb.wait(lambda: influxdb.sum("udp", "function_counter_total") >= 3_000)
    assert influxdb.sum("udp", "function_counter_total") == 3_000


@pytest.mark.parametrize("place", [{"database": "shop"}, {"bucket": "shop", "org": "us & them"}])
def test_victoriametrics_answers_what_the_program_did(
    victoria: VictoriaMetrics, place: dict[str, Any]
) -> None:
    """Both interfaces; each field becomes a metric."""
    name = f"{'_'.join(place)}_"
    metrics = Metrics(declared=Shop.DECLARED, prefix=name)
    set_trace_function(metrics)
    with InfluxExporter(victoria.url, metrics=metrics, interval=NEVER, **place) as exporter:
        shop = Shop()
        for _ in range(3):
            for _ in range(50):
                shop.order("phone, fax = old", 2.5)
            assert exporter.flush()

    orders = f'sum_over_time({name}orders_total_val{{channel="phone, fax = old"}}[1h])'
    victoria.wait(lambda: victoria.value(orders) == 150)
    durations = f"sum(sum_over_time({name}function_duration_seconds_count[1h]))"
    victoria.wait(lambda: victoria.value(durations) == 150)
    victoria.wait(lambda: victoria.value(f"sum_over_time({name}paid_total_val[1h])") == 375)


EVENTS = (
    Counter("orders_total", of="Shop.*", tags=["channel", "amount"]),
    Sum("paid_total", of="Shop.*", value="amount"),
)


def orders(shop: Shop, number: int) -> set[int]:
    """Place orders, and give their times."""
    times = {1_764_469_463_000_000_000 + 7 * each for each in range(number)}
    for when in times:
        shop.tracer.trace("order", channel="phone, fax = old", amount=0.5, timestamp=when)
    return times


def test_influxdb_over_http_has_a_point_for_each_event(influxdb: InfluxDB, database: str) -> None:
    """With its time to the nanosecond; those of one time stay apart, and sums are equal."""
    metrics = Metrics(declared=EVENTS, labels={"service": "the shop"})
    set_trace_function(metrics)
    with InfluxExporter(
        influxdb.url,
        database=database,
        metrics=metrics,
        prefix="app",
        events=EVENTS,
        interval=NEVER,
    ) as exporter:
        shop = Shop()
        times = orders(shop, 3_000)
        assert exporter.flush()
        for _ in range(100):
            shop.tracer.trace("order", channel="web", amount=2, timestamp=1_764_469_462)
        before = time.time_ns()
        shop.order("web", 3)
        after = time.time_ns()
    assert (exporter.dropped, exporter.dropped_events, exporter.failures) == (0, 0, 0)
    rows = influxdb.query(database, 'SELECT * FROM "app.orders_total"')
    assert len(rows) == len({row["time"] for row in rows}) == 3_101
    assert {row["time"] for row in rows if row["channel"] != "web"} == times
    assert {row["service"] for row in rows} == {"the shop"}
    (last,) = [row for row in rows if row["amount"] == 3]
    assert before <= last["time"] <= after
    assert influxdb.sum(database, "app.orders_total") == 3_101
    assert influxdb.sum(database, "app.paid_total") == 1_500 + 200 + 3
    assert influxdb.sum(database, "app.function_counter_total") == 3_101


def test_influxdb_over_udp_has_a_point_for_each_event(influxdb: InfluxDB) -> None:
    """In packets, with their times."""
    influxdb.query("", 'CREATE DATABASE "udp"')
    with InfluxExporter(
        f"udp://127.0.0.1:{influxdb.udp}", prefix="udp", events=EVENTS, interval=NEVER
    ) as exporter:
        set_trace_function(exporter)
        times = orders(Shop(), 500)
        assert exporter.flush()

    def found() -> list[dict[str, Any]]:
        return influxdb.query("udp", 'SELECT * FROM "udp.orders_total"')

    influxdb.wait(lambda: len(found()) >= 500)
    assert {row["time"] for row in found()} == times


def test_events_wait_for_a_server_that_comes_back(influxdb: InfluxDB, database: str) -> None:
    """None is lost, and none counts twice, also if an answer is lost."""
    with InfluxExporter(
        influxdb.url, database=database, events=["Shop.*"], interval=NEVER
    ) as exporter:
        set_trace_function(exporter)
        shop = Shop()
        influxdb.stop()
        try:
            for _ in range(10):
                orders(shop, 50)
                exporter.flush(0.1)
            assert exporter.failures
        finally:
            influxdb.start()
        influxdb.wait(lambda: exporter.flush(0.1))
        rows = influxdb.query(database, 'SELECT COUNT("val") FROM "Shop.orders"')
    assert rows[0]["count"] == 500


@pytest.mark.parametrize("place", [{"database": "shop"}, {"bucket": "shop"}])
def test_victoriametrics_has_a_point_for_each_event(
    victoria: VictoriaMetrics, place: dict[str, Any]
) -> None:
    """To the millisecond, which it keeps."""
    name = f"events_{'_'.join(place)}_"
    with InfluxExporter(
        victoria.url, prefix=name, events=EVENTS, interval=NEVER, **place
    ) as exporter:
        set_trace_function(exporter)
        shop, begin = Shop(), time.time() - 60
        for number in range(200):
            shop.tracer.trace("order", channel="web", amount=0.5, timestamp=begin + number / 100)
        assert exporter.flush()
    query = f"sum(sum_over_time({name}orders_total_val[1h]))"
    victoria.wait(lambda: victoria.value(query) == 200)
    query = f"sum(sum_over_time({name}paid_total_val[1h]))"
    victoria.wait(lambda: victoria.value(query) == 100)


def test_what_the_server_refuses_is_dropped_and_the_rest_goes_on(
    influxdb: InfluxDB, database: str, caplog: pytest.LogCaptureFixture
) -> None:
    """A field of another type is refused by the real server, with its reason; others are stored."""
    request = urllib.request.Request(
        f"{influxdb.url}/write?db={database}", b'function_counter_total val="text"', method="POST"
    )
    urllib.request.urlopen(request, timeout=10).close()
    metrics = Metrics(declared=[Counter("orders_total", of="*")])
    set_trace_function(metrics)
    with InfluxExporter(
        influxdb.url, database=database, metrics=metrics, interval=NEVER
    ) as exporter:
        Tracer("shop").trace()
        assert exporter.flush()
        assert exporter.dropped == 1
        Tracer("shop").trace()
        assert exporter.flush()
    assert "field type conflict" in caplog.text
    assert influxdb.sum(database, "orders_total") == 2


def test_the_queries_of_the_page_have_answers(
    influxdb: InfluxDB, database: str, root: Path
) -> None:
    """Each that docs/influxdb.md shows, on what its kind of program sends."""
    page = (root / "docs" / "influxdb.md").read_text()
    blocks = re.findall(r"```sql\n(.*?)```", page, re.DOTALL)
    queries = [line for block in blocks for line in block.splitlines()]
    queries += re.findall(r"-execute '(SELECT[^']*)'", page)
    assert len(queries) == 3
    metrics = Metrics()
    set_trace_function(metrics)
    with InfluxExporter(influxdb.url, database=database, metrics=metrics, interval=NEVER):
        for _ in range(4):
            Shop().order("web", 1)
    rows: list[set[Any]] = []
    for query in queries:
        filled = query.replace("$timeFilter", "time > now() - 1h")
        rows = [set(row.values()) for row in influxdb.query(database, filled)]
        assert any(value for row in rows for value in row if isinstance(value, float | int)), query
    assert any("Shop" in row and 4 in row for row in rows)


HOSTILE = st.text(
    st.one_of(st.sampled_from('\\\n\r\t ,="#\x00\x7f\u2028'), st.characters(codec="utf-8")),
    min_size=1,
    max_size=12,
)


def test_any_value_of_a_label_comes_back(influxdb: InfluxDB, database: str) -> None:
    """What the server has as tags is what went in, with the documented replacements."""

    @settings(
        max_examples=10, deadline=None, suppress_health_check=list(HealthCheck), database=None
    )
    @given(st.sets(HOSTILE, min_size=1, max_size=40))
    def round_trip(values: set[str]) -> None:
        influxdb.query("", f'DROP DATABASE "{database}"')
        influxdb.query("", f'CREATE DATABASE "{database}"')
        metrics = Metrics(declared=[Counter("orders_total", of="*", tags=["channel"])])
        set_trace_function(metrics)
        with InfluxExporter(
            influxdb.url, database=database, metrics=metrics, interval=NEVER
        ) as exporter:
            for value in values:
                Tracer("shop").trace(None, {"channel": value})
            assert exporter.flush()
        points = metrics.read().family("orders_total").points
        expected = {unescaped(tag_value(point.labels[0])) for point in points}
        assert exporter.dropped == exporter.failures == 0
        rows = influxdb.query(
            database, 'SELECT COUNT("val") FROM "orders_total" GROUP BY "channel"'
        )
        assert {row["channel"] for row in rows} == expected
        names = influxdb.query(database, "SHOW MEASUREMENTS")
        assert {row["name"] for row in names} <= {f.name for f in metrics.read().families}

    round_trip()


def test_any_value_of_a_label_comes_back_from_victoriametrics(victoria: VictoriaMetrics) -> None:
    """With the same replacements; it reads escapes in another way than InfluxDB."""
    numbers = itertools.count()

    @settings(max_examples=10, deadline=None, database=None)
    @given(st.sets(HOSTILE, min_size=1, max_size=40))
    @example({"\\", "\\,x=1 ", "a\\\\", "\n", '"', "a\\b", "\\\\a"})
    def round_trip(values: set[str]) -> None:
        name = f"hostile_{next(numbers)}_"
        declared = Counter("orders_total", of="*", tags=["channel"])
        metrics = Metrics(declared=[declared], prefix=name)
        set_trace_function(metrics)
        with InfluxExporter(
            victoria.url, database="hostile", metrics=metrics, interval=NEVER
        ) as exporter:
            for value in values:
                Tracer("shop").trace(None, {"channel": value})
            assert exporter.flush()
        points = metrics.read().family(f"{name}orders_total").points
        expected = {unescaped(tag_value(point.labels[0])) for point in points}

        def labels() -> list[dict[str, str]]:
            victoria.ask("/internal/force_flush")
            answer = victoria.ask("/api/v1/series", **{"match[]": f"{name}orders_total_val"})
            found: list[dict[str, str]] = answer["data"]
            return found

        victoria.wait(lambda: len(labels()) >= len(expected))
        assert {one["channel"] for one in labels()} == expected
        assert {frozenset(one) for one in labels()} == {frozenset({"__name__", "db", "channel"})}

    round_trip()


def unescaped(text: str) -> str:
    """Give a tag's value as it is shown: no backslash stands before these unless it escapes."""
    return text.replace("\\,", ",").replace("\\=", "=").replace("\\ ", " ")
