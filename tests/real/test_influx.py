"""InfluxDB 1.6 and VictoriaMetrics: what they answer equals what the program did."""

from __future__ import annotations

import itertools
import json
import re
import subprocess
import time
import tomllib
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

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

NEVER = 3_600.0
DEADLINE = 30.0

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


class Server:
    """A running database."""

    def __init__(self, command: list[str], folder: Path, port: int) -> None:
        self.url = f"http://127.0.0.1:{port}"
        self._command = command
        self._log = folder / "log"
        self.start()

    def start(self) -> None:
        """Start it, also again."""
        with self._log.open("ab") as log:
            self.process = subprocess.Popen(
                self._command, stdin=subprocess.DEVNULL, stdout=log, stderr=log
            )

    def stop(self) -> None:
        self.process.terminate()
        try:
            self.process.wait(timeout=10)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()

    def ask(self, path: str, method: str = "GET", **parameters: str) -> Any:
        """Give the answer to a request, as JSON if there is any."""
        query = urllib.parse.urlencode(parameters)
        request = urllib.request.Request(f"{self.url}{path}?{query}", method=method)
        with urllib.request.urlopen(request, timeout=10) as answer:
            body = answer.read()
        return json.loads(body) if body.startswith((b"{", b"[")) else body

    def wait(self, condition: Callable[[], object]) -> None:
        """Wait until something holds."""
        deadline = time.monotonic() + DEADLINE
        last: object = None
        while time.monotonic() < deadline:
            try:
                if condition():
                    return
            except (OSError, KeyError, IndexError) as error:
                last = error
            time.sleep(0.02)
        raise AssertionError(f"not in time: {last!r}\n{self._log.read_text()[-5_000:]}")


class VictoriaMetrics(Server):
    """VictoriaMetrics."""

    def value(self, query: str) -> float:
        """Give the sum of the series that a query finds now."""
        self.ask("/internal/force_flush")
        answer = self.ask("/api/v1/query", query=query, time=str(time.time() + 1), nocache="1")
        return sum(float(result["value"][1]) for result in answer["data"]["result"])


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


@pytest.fixture(scope="module")
def victoria(
    component: Callable[[str], str],
    free_port: Callable[[], int],
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[VictoriaMetrics]:
    """Give a running VictoriaMetrics."""
    program, folder = component("victoria-metrics"), tmp_path_factory.mktemp("victoria")
    port = free_port()
    command = [
        program,
        f"-storageDataPath={folder}/data",
        f"-httpListenAddr=127.0.0.1:{port}",
        "-search.latencyOffset=0s",
        "-dedup.minScrapeInterval=1ms",  # as docs/influxdb.md has it
    ]
    server = VictoriaMetrics(command, folder, port)
    try:
        server.wait(lambda: server.ask("/health") == b"OK")
        yield server
    finally:
        server.stop()


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


def test_the_configurations_of_the_page_parse(root: Path) -> None:
    """Telegraf's is TOML."""
    page = (root / "docs" / "influxdb.md").read_text()
    (block,) = re.findall(r"```toml\n(.*?)```", page, re.DOTALL)
    (listener,) = tomllib.loads(block)["inputs"]["socket_listener"]
    assert listener["data_format"] == "influx"
    assert f'"{listener["service_address"]}"' in page.replace(block, "")


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
