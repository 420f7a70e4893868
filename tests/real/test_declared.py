"""Declared metrics, instruments and pull gauges of one application, as Prometheus holds them."""

from __future__ import annotations

import math
import queue
import random
from asyncio import CancelledError
from bisect import bisect_left, bisect_right
from contextlib import suppress
from copy import deepcopy
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import pytest

from hypertrace import SpanEvent, Tracer, set_trace_function
from hypertrace.metrics import Counter, Distribution, LastValue, Metrics, Sum, Summary
from hypertrace.testing import reset
from hypertrace_prometheus import PrometheusExporter

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from hypertrace.metrics.declared.kinds import DeclaredMetric

NATIVE = ("native-histograms",)
FEATURES = [pytest.param(("exemplar-storage",), id="classic"), pytest.param(NATIVE, id="native")]
LABELS = {"service": "shop", "version": "1.4"}
THREADS = {"busy": 3, "idle": 5}
ENDINGS: Mapping[str, type[BaseException] | None] = {
    "ok": None,
    "error": KeyError,
    "cancelled": CancelledError,
}
TIERS = ("free", "gold")
BOUNDS = (0.0625, 0.125, 0.25, 0.5, 1.0)
QUANTILES = (0.5, 0.9, 0.99)
DECLARED: list[DeclaredMetric] = [
    Counter("logins_total", of="Auth.login", tags=["result", "provider"]),
    Counter(
        "failures_total",
        of="Auth.login",
        tags=["exception"],
        drop=lambda event: isinstance(event, SpanEvent) and event.exception is None,
    ),
    Sum("sent_bytes_total", of="Auth.send*", value="size", unit="bytes", tags=["tier"]),
    Sum("waited_seconds_total", of="Auth.send*", value="wait", unit=("milliseconds", "seconds")),
    LastValue("queue_depth", of="Auth.send*", value="depth", tags={"plan": "object.tier"}),
    LastValue("open_orders", of="Auth.order", value="change", tags=["tier"], mode="add"),
    Distribution("job_seconds", of="Auth.job", tags=["tier"], buckets=BOUNDS),
    Distribution("size_bytes", of="Auth.send*", value="size", unit="bytes", native=True),
    Summary("payload_bytes", of="Auth.send*", value="size", tags=["tier"], quantiles=QUANTILES),
]


class Prometheus(Protocol):
    """What these tests need of the running Prometheus in conftest.py."""

    def query(self, promql: str) -> list[tuple[dict[str, str], float]]:
        """Evaluate `promql` now."""

    def series(self, selector: str) -> list[dict[str, str]]:
        """Give the labels of every series that `selector` matches."""

    def wait_for_scrape(self, job: str) -> None:
        """Wait for a scrape of `job` that begins after this call."""


class Tally:
    """What the application has done: all numbers of each thing, by a label, in their order."""

    def __init__(self) -> None:
        self.values: dict[str, dict[str, list[float]]] = {}

    def add(self, what: str, label: str, value: float = 1) -> None:
        """Add a number."""
        self.values.setdefault(what, {}).setdefault(label, []).append(value)

    def all(self, what: str) -> list[float]:
        """Give all numbers of one thing, sorted."""
        return sorted(value for values in self.values[what].values() for value in values)

    def sums(self, what: str) -> dict[str, float]:
        """Give the sum of the numbers of one thing by the label."""
        return {label: sum(values) for label, values in self.values[what].items()}

    def counts(self, what: str) -> dict[str, float]:
        """Give how many numbers of one thing there are by the label."""
        return {label: len(values) for label, values in self.values[what].items()}

    def last(self, what: str) -> dict[str, float]:
        """Give the last number of one thing by the label."""
        return {label: values[-1] for label, values in self.values[what].items()}


class Auth:
    """What the application traces."""

    def __init__(self, tier: str, tally: Tally) -> None:
        self.tier, self._tally = tier, tally
        self.tracer = Tracer(self, {"tier": tier})

    def login(self, provider: str, ending: str) -> None:
        """Log in, which ends in one of the three ways."""
        self._tally.add("logins", provider)
        self._tally.add("endings", ending)
        raised = ENDINGS[ending]
        with suppress(KeyError, CancelledError), self.tracer.span(provider=provider):
            if raised:
                self._tally.add("failures", raised.__name__)
                raise raised

    def send(self, size: int, wait: int) -> None:
        """Send so many bytes after so many milliseconds."""
        self._tally.add("sent", self.tier, size)
        self._tally.add("waited", "", wait / 1000)
        self._tally.add("depth", self.tier, size - wait)
        self.tracer.trace(size=size, wait=wait, depth=size - wait)

    def send_nonsense(self) -> None:
        """Send something whose size is no number."""
        self.tracer.trace(size="much")

    def order(self, change: int) -> None:
        """Open so many orders, or close them."""
        self._tally.add("orders", self.tier, change)
        self.tracer.trace(change=change)

    def job(self, seconds: float) -> None:
        """Record a job that took so long."""
        self._tally.add("jobs", self.tier, seconds)
        self.tracer.record(seconds)

    def work(self, chance: random.Random) -> None:
        """Do everything once."""
        self.login(chance.choice(("github", "mail")), chance.choice((*ENDINGS, "ok")))
        self.send(chance.randrange(1, 100_000), chance.randrange(5_000))
        self.order(chance.randrange(-3, 4))
        self.job(chance.randrange(1, 1024) / 1024)


class Direct:
    """What the application counts without a tracer."""

    def __init__(self, metrics: Metrics, tally: Tally) -> None:
        self._tally = tally
        self.mail: queue.Queue[int] = queue.Queue()
        self._paid = metrics.counter("paid_total", ["country"])
        self._connections = metrics.gauge("connections", ["pool"])
        self._fetches = metrics.distribution("fetch_seconds", ["host"], buckets=BOUNDS)
        self._fetched = metrics.distribution("fetched_bytes", unit="bytes", native=True)
        self._rows = metrics.summary("rows", ["table"], quantiles=QUANTILES)
        metrics.gauge("mail_waiting", read=self.mail.qsize)
        metrics.gauge("threads", ["state"], read=lambda: THREADS)

    def work(self, chance: random.Random) -> None:
        """Use each instrument."""
        country, amount = chance.choice(("de", "fr")), chance.randrange(5)
        self._tally.add("paid", country, amount)
        self._paid.inc(amount, country=country)
        more, less = chance.randrange(5), chance.randrange(5)
        self._tally.add("connections", "main", more - less)
        self._connections.inc(more, pool="main")
        self._connections.labels(pool="main").dec(less)
        self._tally.add("set", "other", more)
        self._connections.set(more, pool="other")
        seconds, size = chance.randrange(1, 1024) / 1024, chance.randrange(1, 100_000)
        self._tally.add("fetches", "a", seconds)
        self._fetches.labels(host="a").observe(seconds)
        self._tally.add("rows", "users", size)
        self._fetched.observe(size)
        self._rows.observe(size, table="users")
        self.mail.put(size)


@dataclass
class Shop:
    """An application that has done its work, and a Prometheus that scraped it before and since."""

    prometheus: Prometheus
    is_native: bool
    before: Tally
    tally: Tally

    def by(self, label: str, promql: str) -> dict[str, float]:
        """Ask for values by one label."""
        found = self.prometheus.query(promql)
        answer = {labels.get(label, ""): value for labels, value in found}
        assert len(answer) == len(found), found
        return answer

    def value(self, promql: str) -> float:
        """Ask for one value."""
        ((_, value),) = self.prometheus.query(promql)
        return value

    def increase(self, label: str, metric: str) -> dict[str, float]:
        """Ask for increases from the first scrape to the last, so that little is extrapolated."""
        first = self.value(f"min(min_over_time(timestamp({metric})[10m:1s]))")
        last = self.value(f"max(timestamp({metric}))")
        # The range ends at the last scrape; 2 ms more than it takes to hold the first one.
        range_ = f"{round((last - first) * 1000) + 2}ms"
        return self.by(label, f"sum by ({label}) (increase({metric}[{range_}] @ {last:.3f}))")


@pytest.fixture(scope="module", params=FEATURES)
def shop(
    request: pytest.FixtureRequest, each_prometheus: Callable[..., Prometheus]
) -> Iterator[Shop]:
    """Let a Prometheus scrape the application between two rounds of work, and after them."""
    chance, tally = random.Random(14), Tally()
    metrics = Metrics(declared=DECLARED, labels=LABELS, prefix="shop_")
    with PrometheusExporter(0, metrics=metrics) as exporter:
        assert exporter.port
        set_trace_function(exporter)
        traced = [Auth(tier, tally) for tier in TIERS]
        direct = Direct(metrics, tally)

        def work() -> None:
            for _ in range(150):
                traced[0].work(chance)
                traced[1].work(chance)
                direct.work(chance)

        work()
        before = deepcopy(tally)
        prometheus = each_prometheus(exporter.port, features=request.param)
        prometheus.wait_for_scrape("hypertrace")
        work()
        traced[0].send_nonsense()
        prometheus.wait_for_scrape("hypertrace")
        yield Shop(prometheus, request.param == NATIVE, before, tally)
    reset()


@pytest.mark.parametrize(
    ("metric", "label", "counted"),
    [
        ("logins_total", "provider", "logins"),
        ("logins_total", "result", "endings"),
        ("failures_total", "exception", "failures"),
        ("job_seconds_count", "tier", "jobs"),
        ("fetch_seconds_count", "host", "fetches"),
        ("rows_count", "table", "rows"),
    ],
)
def test_counts_are_those_of_the_program(shop: Shop, metric: str, label: str, counted: str) -> None:
    """Counters, and counts of values, are exact by each tag, and so is their increase."""
    now, before = shop.tally.counts(counted), shop.before.counts(counted)
    assert shop.by(label, f"sum by ({label}) (shop_{metric})") == now
    found = shop.increase(label, f"shop_{metric}")
    assert {key: round(value) for key, value in found.items()} == {
        key: value - before[key] for key, value in now.items()
    }


@pytest.mark.parametrize(
    ("metric", "label", "summed"),
    [
        ("sent_bytes_total", "tier", "sent"),
        ("payload_bytes_sum", "tier", "sent"),
        ("job_seconds_sum", "tier", "jobs"),
        ("paid_total", "country", "paid"),
        ("fetch_seconds_sum", "host", "fetches"),
        ("rows_sum", "table", "rows"),
        ("open_orders", "tier", "orders"),
        ('connections{pool="main"}', "pool", "connections"),
    ],
)
def test_sums_are_those_of_the_program(shop: Shop, metric: str, label: str, summed: str) -> None:
    """Sums of values that have no rounding errors are exact, and gauges that are added to."""
    assert shop.by(label, f"sum by ({label}) (shop_{metric})") == shop.tally.sums(summed)


def test_increases_of_sums_are_those_of_the_program(shop: Shop) -> None:
    """The increase of a sum is right, but for what Prometheus adds for the last milliseconds."""
    now, before = shop.tally.sums("sent"), shop.before.sums("sent")
    expected = {tier: now[tier] - before[tier] for tier in TIERS}
    assert shop.increase("tier", "shop_sent_bytes_total") == pytest.approx(expected, rel=0.005)


def test_converted_values_are_in_the_unit_that_is_shown(shop: Shop) -> None:
    """Milliseconds that the program waited are seconds in Prometheus."""
    found = shop.value("shop_waited_seconds_total")
    assert found == pytest.approx(sum(shop.tally.all("waited")), rel=1e-9)


def test_gauges_are_the_last_values(shop: Shop) -> None:
    """Gauges that are set have the value set last, and pull gauges what is there now."""
    assert shop.by("plan", "shop_queue_depth") == shop.tally.last("depth")
    assert shop.by("pool", 'shop_connections{pool="other"}') == shop.tally.last("set")
    assert shop.value("shop_mail_waiting") == len(shop.tally.all("rows"))
    assert shop.by("state", "shop_threads") == THREADS


@pytest.mark.parametrize(
    ("metric", "observed"), [("job_seconds", "jobs"), ("fetch_seconds", "fetches")]
)
def test_buckets_hold_the_values_of_the_program(shop: Shop, metric: str, observed: str) -> None:
    """Each bucket is exact, and a quantile is in the bucket of the exact one."""
    values = shop.tally.all(observed)
    found = shop.by("le", f"sum by (le) (shop_{metric}_bucket)")
    assert {float(bound): count for bound, count in found.items()} == {
        bound: bisect_right(values, bound) for bound in (*BOUNDS, math.inf)
    }
    for quantile in QUANTILES:
        promql = f"histogram_quantile({quantile}, sum by (le) (shop_{metric}_bucket))"
        exact = _quantile(values, quantile)
        assert bisect_left(BOUNDS, shop.value(promql)) == bisect_left(BOUNDS, exact)


@pytest.mark.parametrize(
    ("metric", "observed"), [("size_bytes", "sent"), ("fetched_bytes", "rows")]
)
def test_native_distributions_hold_the_values_of_the_program(
    shop: Shop, metric: str, observed: str
) -> None:
    """Count and sum are exact; a quantile is within a bucket, and those of text are wider."""
    values = shop.tally.all(observed)
    if shop.is_native:
        count, total = f"histogram_count(shop_{metric})", f"histogram_sum(shop_{metric})"
        buckets, growth = f"shop_{metric}", 2**0.125
        assert shop.prometheus.query(f"shop_{metric}_bucket") == []
    else:
        count, total = f"shop_{metric}_count", f"shop_{metric}_sum"
        buckets, growth = f"sum by (le) (shop_{metric}_bucket)", 2
    assert shop.value(count) == len(values)
    assert shop.value(total) == sum(values)
    for quantile in QUANTILES:
        exact = _quantile(values, quantile)
        found = shop.value(f"histogram_quantile({quantile}, {buckets})")
        assert exact / growth <= found <= exact * growth


def test_quantiles_of_summaries_are_right(shop: Shop) -> None:
    """Each quantile is within 1 % of the exact one, whichever of two neighbours that is."""
    for metric, values in (
        ('shop_payload_bytes{tier="gold"}', sorted(shop.tally.values["sent"]["gold"])),
        ("shop_rows", shop.tally.all("rows")),
    ):
        found = {float(key): value for key, value in shop.by("quantile", metric).items()}
        assert found.keys() == set(QUANTILES)
        for quantile, value in found.items():
            at = math.ceil(quantile * len(values)) - 1
            assert values[at] * 0.99 <= value <= values[at + 1] * 1.01


def test_labels_of_the_process_join_every_metric(shop: Shop) -> None:
    """What the process is joins a declared metric, an instrument and a gauge by its instance."""
    for metric, expected in (
        ("shop_logins_total", len(shop.tally.all("logins"))),
        ("shop_paid_total", sum(shop.tally.all("paid"))),
        ("shop_threads", sum(THREADS.values())),
    ):
        joined = f"{metric} * on (instance) group_left (service, version) target_info"
        ((labels, value),) = shop.prometheus.query(f"sum by (service, version) ({joined})")
        assert (labels, value) == (LABELS, expected)
        assert shop.prometheus.query(f'{metric}{{version!=""}}') == []


def test_values_that_do_not_count_are_counted(shop: Shop) -> None:
    """A text where a number was needed is in no metric, and in the one of such values."""
    assert shop.by("metric", "hypertrace_invalid_values_total > 0") == dict.fromkeys(
        ("shop_sent_bytes_total", "shop_size_bytes", "shop_payload_bytes"), 1
    )
    assert shop.value("hypertrace_swallowed_errors_total") == 0


def test_every_metric_has_the_prefix(shop: Shop) -> None:
    """All that was declared, asked for or built in has it, and no series comes without it."""
    names = {labels["__name__"] for labels in shop.prometheus.series('{job="hypertrace"}')}
    metrics = [metric.name for metric in DECLARED]
    metrics += ["paid_total", "connections", "mail_waiting", "threads", "function_counter_total"]
    for name in metrics:
        assert any(found.startswith(f"shop_{name}") for found in names), name
        assert not any(found.startswith(name) for found in names), name


def _quantile(values: list[float], quantile: float) -> float:
    """Give the exact quantile of sorted values."""
    return values[math.ceil(quantile * len(values)) - 1]
