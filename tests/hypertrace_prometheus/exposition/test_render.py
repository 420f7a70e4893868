"""Text that Prometheus scrapes."""

from __future__ import annotations

from functools import partial
from types import SimpleNamespace
from typing import TYPE_CHECKING

import pytest
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, Info, generate_latest
from prometheus_client.core import Metric
from prometheus_client.openmetrics import exposition as openmetrics_exposition
from prometheus_client.openmetrics import parser as openmetrics_parser
from prometheus_client.parser import text_string_to_metric_families as parse_text

from hypertrace import Caller, SpanEvent, TracedObject, TraceEvent, Upstream
from hypertrace.metrics import Declaration, Family, Metrics, aggregations
from hypertrace.metrics.series import Series
from hypertrace_prometheus import PrometheusExporter
from hypertrace_prometheus.exposition.collector import ExporterCollector
from hypertrace_prometheus.exposition.families import FamilyMetric
from hypertrace_prometheus.exposition.label_texts import TextCache
from hypertrace_prometheus.exposition.render import Format, expose, render

from ..metrics_proto import families as decoded
from ..metrics_proto import samples_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from prometheus_client.samples import Sample

    from hypertrace.events import Result

FORMATS = (Format.TEXT, Format.OPENMETRICS)
CALLER = Caller("f", "/srv/a.py", "a", 1, 1)
AWKWARD = 'back\\slash "quoted"\nsecond line \\n {a="b",} # é \0 \u2028 \r end'


def traced(counter_name: str) -> Metrics:
    """Give metrics with every kind of line in them, also of the overflow."""
    metrics = Metrics(
        counter_name=counter_name,
        max_series=3,
        buckets=(0.1, 1.0),
        exemplar=lambda: {"trace_id": "t-1"},
        upstream=True,
    )
    for name in ("a", AWKWARD, "a", "", "b", "c"):
        metrics(TraceEvent(name, TracedObject("Cart", 1), None, CALLER))
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
    monkeypatch.setattr(aggregations, "time", SimpleNamespace(time=lambda: 1234.5))
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
                yield counted(name, name)

    registry = CollectorRegistry()
    registry.register(Two())
    lines = render(registry).decode().splitlines()
    assert [line for line in lines if line[0] != "#"] == [
        'a_total{x="a_total"} 1',
        'b_total{x="b_total"} 1',
    ]


class Given:
    """A collector of some families; an exception among them is raised in its place."""

    def __init__(self, *families: Metric | Exception) -> None:
        self.families = families

    def collect(self) -> Iterator[Metric]:
        for family in self.families:
            if isinstance(family, Exception):
                raise family
            yield family


def counted(name: str, value: str) -> FamilyMetric:
    """Give a family of ours with one series, whose only label has a value."""
    return of_ours(name, [value])


def of_ours(name: str, labels: list[str], read: Callable[[], object] = bool) -> FamilyMetric:
    """Give a family of ours with a series for each label value; `read` runs when it is read."""
    declaration = Declaration("counter", name, description="Help.")
    series = [Series(((value,), ())) for value in labels]
    family = Family(declaration, ("x",), series, [1] * len(series))
    return FamilyMetric(declaration, lambda: (read(), family)[1], TextCache())


def gauge(name: str, labels: dict[str, str], value: float) -> Metric:
    family = Metric(name, "Help.", "gauge")
    family.add_sample(name, labels, value)
    return family


def failed(page: str) -> dict[str, float]:
    """Give the failures that a page shows, by the name of the class without its module."""
    return {name: value for name, value in watched(page).items() if value}


def watched(page: str) -> dict[str, float]:
    """Give the same with those that have not failed."""
    return {
        s.labels["collector"].split(".")[-1]: s.value
        for s in samples(parse_text(page))
        if s.name == "hypertrace_failed_collections_total"
    }


@pytest.mark.parametrize("bounded", [False, True])
def test_a_page_says_which_collectors_it_lacks(registry: CollectorRegistry, bounded: bool) -> None:
    """A collector that fails is left out, and the same page counts it, before it or after."""
    page = expose(registry, bounded=bounded).page().decode()
    assert failed(page) == {}
    for number in range(2):
        registry.register(Given(gauge(f"kept_{number}", {}, number), RuntimeError("closed")))
    with_failures = expose(registry, bounded=bounded).page().decode()
    assert failed(with_failures) == {"Given": 2}
    lines = with_failures.splitlines()
    assert {"kept_0 0.0", "kept_1 1.0", *page.splitlines()} <= set(lines)


@pytest.mark.parametrize("bounded", [False, True])
def test_collectors_of_the_application_are_reported_before_they_fail(bounded: bool) -> None:
    """The first page has them with 0, so that Prometheus sees the first failure as a rise."""
    with PrometheusExporter() as exporter:
        exporter.registry.register(Given(gauge("kept", {}, 1)))
        assert watched(expose(exporter.registry, bounded=bounded).page().decode()) == {"Given": 0}


def test_what_cannot_be_written_is_left_out(registry: CollectorRegistry) -> None:
    """A value that is no Unicode costs its own sample, not the page."""
    registry.register(Given(gauge("bad", {"a": "\udc80"}, 1), gauge("good", {"a": "b"}, 1)))
    for openmetrics in (False, True):
        page = render(registry, openmetrics=openmetrics).decode()
        assert [line for line in page.splitlines() if line.startswith(("bad", "good"))] == [
            'good{a="b"} 1.0'
        ]
    assert failed(render(registry).decode()) == {"Given": 3}


def test_no_value_of_ours_costs_the_page() -> None:
    """Text that is no Unicode is shown with a question mark, such as an exemplar's."""
    registry = CollectorRegistry()
    registry.register(Given(counted("x_total", "\udc80")))
    assert 'x_total{x="?"} 1' in render(registry).decode().splitlines()


def test_a_family_of_several_collectors_is_shown_once(registry: CollectorRegistry) -> None:
    """Their series come under one head; a series is shown once, and its repetition counted."""
    for pool, value in (("a", 1), ("b", 2), ("a", 3)):
        registry.register(Given(gauge("pool_size", {"pool": pool}, value)))
    page = render(registry).decode()
    assert [line for line in page.splitlines() if "pool_size" in line] == [
        "# HELP pool_size Help.",
        "# TYPE pool_size gauge",
        'pool_size{pool="a"} 1.0',
        'pool_size{pool="b"} 2.0',
    ]
    assert failed(page) == {"Given": 1}


@pytest.mark.parametrize("openmetrics", [False, True])
def test_our_metrics_are_ours(registry: CollectorRegistry, openmetrics: bool) -> None:
    """A collector that gives a metric of hypertrace is counted, and what it gives is not shown."""
    before = CollectorRegistry()
    before.register(Given(gauge("function_in_progress", {"a": "b"}, 7)))
    for collector in registry._collector_to_names:
        before.register(collector)
    page = render(before, openmetrics=openmetrics).decode()
    assert "7.0" not in page
    assert page.count("# TYPE function_in_progress ") == 1
    assert failed(render(before).decode()) == {"Given": 2}  # it was the second page


def test_an_error_of_the_exporter_is_raised(
    registry: CollectorRegistry, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where the metrics of hypertrace fail, there is no page without them."""
    for collector in registry._collector_to_names:
        if isinstance(collector, ExporterCollector):
            monkeypatch.setattr(collector, "_metrics", None)
    with pytest.raises(AttributeError):
        render(registry)


def test_where_all_collectors_fail_there_is_no_page() -> None:
    """Without an exporter to count it, a registry of which nothing is left is an error."""
    registry = CollectorRegistry()
    registry.register(Given(RuntimeError("a collector of the application")))
    with pytest.raises(RuntimeError, match="every collector"):
        render(registry)


@pytest.mark.parametrize("openmetrics", [False, True])
def test_names_leave_their_samples_alone(registry: CollectorRegistry, openmetrics: bool) -> None:
    """Restricted to some names, a page has their samples and no head without one."""
    names = {"function_duration_seconds_sum", "orders_total", "target_info", "hypertrace_series"}
    exposition = expose(registry, FORMATS[openmetrics])
    page = exposition.page(names).decode()
    # Not splitlines(): one of the values has more kinds of line ends than the formats.
    lines = page.removesuffix("\n").split("\n")
    shown = {line.split("{")[0] for line in lines if not line.startswith("#")}
    assert shown == names
    whole = exposition.page().decode().splitlines()
    assert set(page.splitlines()) <= set(whole)
    assert page.count("# TYPE ") == len(names)


@pytest.mark.parametrize("openmetrics", [False, True])
@pytest.mark.parametrize("family", ["function_duration_seconds", "wait_seconds"])
def test_some_names_of_a_family_leave_the_order_of_its_lines(
    registry: CollectorRegistry, openmetrics: bool, family: str
) -> None:
    """Lines of one series stay together, as OpenMetrics asks for, ours and third-party ones."""
    exposition = expose(registry, FORMATS[openmetrics])
    names = {f"{family}_count", f"{family}_bucket", f"{family}_other"}
    shown = exposition.page(names).decode().removesuffix("\n").split("\n")
    heads = (f"# HELP {family} ", f"# TYPE {family} ")
    lines = (f"{family}_bucket{{", f"{family}_count")
    whole = exposition.page().decode().split("\n")
    expected = [line for line in whole if line.startswith((*heads, *lines))]
    assert shown == [*expected, *(["# EOF"] if openmetrics else [])]
    assert len(shown) > 5


@pytest.mark.parametrize("third_party", [False, True])
def test_a_name_is_no_other_that_begins_with_it(third_party: bool) -> None:
    """Neither a shorter nor a longer name is shown for the one that is asked for."""
    names = ("x_a", "x_ab", "x_abc", "x_ab")

    shown = frozenset(names)

    class Several(FamilyMetric):
        names = shown

        def lines(self, *, openmetrics: bool) -> list[str]:
            return [f"{name}{{}} 1\n" for name in ("x_a", "x_ab", "x_abc", "x_ab")]

    family: Metric
    if third_party:
        family = Metric("x", "X.", "gauge")
        for number, name in enumerate(names):
            family.add_sample(name, {"n": str(number)}, 1)
    else:
        family = Several(Declaration("counter", "x", description="X."), Family, TextCache())  # type: ignore[arg-type]
    registry = CollectorRegistry()
    registry.register(Given(family))
    page = expose(registry).page({"x_ab", "x", "x_", "y"}).decode().splitlines()
    assert [line.split("{")[0] for line in page if line[0] != "#"] == ["x_ab", "x_ab"]


def test_a_request_costs_the_families_it_asks_for() -> None:
    """A family is read for a request that asks for it, and once for all at the time."""
    made: list[str] = []
    values = [str(number) for number in range(200)]
    registry = CollectorRegistry()
    registry.register(Given(*(of_ours(n, values, partial(made.append, n)) for n in ("a", "b"))))
    exposition = expose(registry)
    assert exposition.page({"c"}) == b""
    assert made == []
    assert b"\na{" in exposition.page({"a", "c"})
    assert b"\na{" in exposition.page({"a"})
    assert made == ["a"]
    assert exposition.page().count(b"\n") == 2 * 202
    assert made == ["a", "b"]


def test_names_that_nothing_has_cost_no_page() -> None:
    """Whatever names are asked for besides, the page of the same samples is made once."""
    registry = CollectorRegistry()
    registry.register(Given(gauge("depth", {}, 1), gauge("width", {}, 2)))
    exposition = expose(registry)
    pages = [exposition.page({"depth", f"x{number}"}) for number in range(3)]
    assert pages[0] == b"# HELP depth Help.\n# TYPE depth gauge\ndepth 1.0\n"
    assert all(page is pages[0] for page in pages)
    assert exposition.page({"x"}) == b""


# --- messages ---------------------------------------------------------------------------


def messages(registry: CollectorRegistry, names: frozenset[str] = frozenset()) -> bytes:
    return expose(registry, Format.PROTOBUF).page(names)


def test_messages_say_what_the_text_says(registry: CollectorRegistry) -> None:
    """Every series of the text is in the messages with its value, and no other is.

    Only when a metric was created is no series there.
    """
    # The parser adds `_total` where a counter is called otherwise.
    text = {
        (s.name.removesuffix("_total"), frozenset(s.labels.items())): s.value
        for s in samples(parse_text(render(registry).decode()))
        if not s.name.endswith("_created")
    }
    found = samples_of(messages(registry))
    assert {(n.removesuffix("_total"), labels): v for (n, labels), v in found.items()} == text
    assert {family.name for family in decoded(messages(registry))} >= {
        "function_duration_seconds",
        "orders_total",
        "app_info",
        "target_info",
        "wait_seconds",
    }


def test_messages_leave_out_what_the_text_does(registry: CollectorRegistry) -> None:
    """A collector that fails, repeats a series or gives a metric of ours costs what it gave."""
    before = CollectorRegistry()
    before.register(Given(gauge("function_in_progress", {"a": "b"}, 7)))
    for collector in registry._collector_to_names:
        before.register(collector)
    for value in (1, 2):
        before.register(Given(gauge("pool_size", {"pool": "a"}, value), RuntimeError("closed")))
    page = samples_of(messages(before))
    assert page["pool_size", frozenset({("pool", "a")})] == 1
    assert 7.0 not in page.values()
    counted = [v for (name, _), v in page.items() if name == "hypertrace_failed_collections_total"]
    assert sum(counted) == 3


def test_a_message_is_shown_whole(registry: CollectorRegistry) -> None:
    """Whichever name of its samples is asked for, a message has all of them."""
    (found,) = decoded(messages(registry, frozenset({"wait_seconds_sum"})))
    assert (found.name, found.metric[0].histogram.sample_count) == ("wait_seconds", 1)


def test_a_message_costs_the_families_that_are_asked_for() -> None:
    """A family is read for a request that asks for it, and once for all at the time."""
    made: list[str] = []
    registry = CollectorRegistry()
    registry.register(Given(*(of_ours(n, ["1"], partial(made.append, n)) for n in ("a", "b"))))
    exposition = expose(registry, Format.PROTOBUF)
    assert exposition.page({"c"}) == b""
    assert made == []
    assert exposition.page({"a"}) == exposition.page({"a", "c"})
    assert made == ["a"]
    assert [family.name for family in decoded(exposition.page())] == ["a", "b"]
    assert made == ["a", "b"]
