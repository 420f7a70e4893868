"""The text that Prometheus scrapes."""

from __future__ import annotations

from types import SimpleNamespace
from typing import TYPE_CHECKING

import pytest
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, Info, generate_latest
from prometheus_client.openmetrics import exposition as openmetrics_exposition
from prometheus_client.openmetrics import parser as openmetrics_parser
from prometheus_client.parser import text_string_to_metric_families as parse_text

from hypertrace import Caller, SpanEvent, TracedObject, Upstream
from hypertrace_prometheus import timings
from hypertrace_prometheus.collector import ExporterCollector
from hypertrace_prometheus.exposition import render
from hypertrace_prometheus.families import SeriesFamily
from hypertrace_prometheus.labels import Labeller
from hypertrace_prometheus.metrics import TraceMetrics

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from prometheus_client.core import Metric
    from prometheus_client.samples import Sample

    from hypertrace.events import Result

CALLER = Caller("f", "/srv/a.py", "a", 1, 1)
AWKWARD = 'back\\slash "quoted"\nsecond line \\n {a="b",} # é \0 \u2028 \r end'


def traced(counter_name: str) -> TraceMetrics:
    """Give metrics with every kind of line in them, also of the overflow."""
    metrics = TraceMetrics(
        Labeller((), 256, object_ids=False),
        counter_name=counter_name,
        max_series=3,
        own_series=False,
        bounds_of=lambda _: (0.1, 1.0),
        exemplar=lambda: {"trace_id": "t-1"},
        upstream=True,
    )
    for name in ("a", AWKWARD, "a", "", "b", "c"):
        metrics.calls.get({"object_classname": "Cart", "id": name}, CALLER).cell.increment()
    for seconds, error in ((0.1, None), (0.7, KeyError), (3.0, ValueError)):
        for name in ("a", AWKWARD, "new"):
            result: Result = "ok" if error is None else "error"
            upstream = Upstream(name, "serve")
            cart = TracedObject("Cart", 1)
            metrics(SpanEvent(name, cart, None, CALLER, seconds, result, error, upstream))
    return metrics


@pytest.fixture(params=["function_counter_total", "function_counter"])
def registry(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> CollectorRegistry:
    """Give a registry with metrics of the application before and after those of an exporter."""
    # Milliseconds, which is what our page shows of the time of an exemplar.
    monkeypatch.setattr(timings, "time", SimpleNamespace(time=lambda: 1234.5))
    registry = CollectorRegistry(target_info={"env": "test"})
    Counter("orders", "Orders.", ["kind"], registry=registry).labels("a\\b\n").inc(3)
    Info("app", "The application.", registry=registry).info({"version": "1"})
    registry.register(ExporterCollector(traced(request.param)))
    Gauge("depth", "Depth.", registry=registry).set(0.5)
    Histogram("wait_seconds", "Wait.", registry=registry).observe(0.1)
    return registry


def parse_openmetrics(text: str) -> list[Metric]:
    return list(openmetrics_parser.text_string_to_metric_families(text))  # type: ignore[no-untyped-call]


def generate_openmetrics(registry: CollectorRegistry) -> str:
    page: bytes = openmetrics_exposition.generate_latest(registry)  # type: ignore[no-untyped-call]
    return page.decode()


def samples(families: Iterable[Metric]) -> list[Sample]:
    # Without the times at which the metrics of the application were made.
    found = [s for family in families for s in family.samples if not s.name.endswith("_created")]
    return sorted(found, key=lambda s: (s.name, sorted(s.labels.items())))


def test_the_text_has_the_samples_of_the_collector(registry: CollectorRegistry) -> None:
    """The page is what `prometheus_client` makes of the same registry, sample by sample."""
    ours = samples(parse_text(render(registry).decode()))
    theirs = samples(parse_text(generate_latest(registry).decode()))
    # The parser adds `_total` to the samples of what is said to be a counter.
    assert [(s.name.removesuffix("_total"), s.labels, s.value) for s in ours] == [
        (s.name.removesuffix("_total"), s.labels, s.value) for s in theirs
    ]
    assert len(ours) > 10


def test_openmetrics_has_the_samples_of_the_collector(registry: CollectorRegistry) -> None:
    """So is the page in OpenMetrics, which its strict parser reads."""
    ours = samples(parse_openmetrics(render(registry, openmetrics=True).decode()))
    assert ours == samples(parse_openmetrics(generate_openmetrics(registry)))
    assert len(ours) > 10


@pytest.mark.parametrize("openmetrics", [False, True])
def test_the_families_are_those_of_the_collector(
    registry: CollectorRegistry, openmetrics: bool
) -> None:
    """Names and order of the families are kept, and each comes once."""
    page = render(registry, openmetrics=openmetrics).decode()
    names = [line.split()[2] for line in page.splitlines() if line.startswith("# TYPE ")]
    theirs = generate_openmetrics(registry) if openmetrics else generate_latest(registry).decode()
    assert names == [line.split()[2] for line in theirs.splitlines() if line.startswith("# TYPE ")]
    assert len(names) == len(set(names))


def test_openmetrics_ends_once(registry: CollectorRegistry) -> None:
    """The mark of the end stands at the end alone, however many parts the page has."""
    page = render(registry, openmetrics=True)
    assert page.endswith(b"\n# EOF\n")
    assert page.count(b"# EOF") == 1
    assert b"# EOF" not in render(registry)


def test_awkward_values_are_read_back(registry: CollectorRegistry) -> None:
    """A value with every character that matters to the format comes back as it was."""
    for families in (
        parse_text(render(registry).decode()),
        parse_openmetrics(render(registry, openmetrics=True).decode()),
    ):
        values = {s.labels.get("id") for s in samples(families) if s.name.startswith("function_c")}
        assert values == {"a", AWKWARD, None}


def test_openmetrics_alone_has_exemplars(registry: CollectorRegistry) -> None:
    """Exemplars are on the buckets of the OpenMetrics page, as `prometheus_client` puts them."""
    page = render(registry, openmetrics=True).decode()
    found = [s for s in samples(parse_openmetrics(page)) if s.exemplar]
    theirs = samples(parse_openmetrics(generate_openmetrics(registry)))
    assert [s.exemplar for s in found] == [s.exemplar for s in theirs if s.exemplar]
    assert {s.name for s in found} == {"function_duration_seconds_bucket"}
    assert b"trace_id" not in render(registry)


def test_an_empty_registry_has_an_empty_page() -> None:
    """Without collectors there is no line, but for the end in OpenMetrics."""
    assert render(CollectorRegistry()) == b""
    assert render(CollectorRegistry(), openmetrics=True) == b"# EOF\n"


def test_several_families_share_a_page() -> None:
    """Two families of ours that follow each other are both on the page."""

    class Two:
        def collect(self) -> Iterator[Metric]:
            for name in ("a_total", "b_total"):
                rows = [(name, f'x="{name}"', 1, None)]
                yield SeriesFamily(name, "counter", "Help.", rows.copy)

    registry = CollectorRegistry()
    registry.register(Two())
    lines = render(registry).decode().splitlines()
    assert [line for line in lines if line[0] != "#"] == [
        'a_total{x="a_total"} 1',
        'b_total{x="b_total"} 1',
    ]


def test_an_error_of_a_collector_is_raised() -> None:
    """What a collector of the application raises reaches who asked for the page."""

    class Failing:
        def collect(self) -> Iterator[Metric]:
            raise RuntimeError("a collector of the application")

    registry = CollectorRegistry()
    registry.register(Failing())
    with pytest.raises(RuntimeError, match="a collector of the application"):
        render(registry)
