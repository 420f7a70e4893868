"""Metrics of third-party collectors as text that was checked, line by line."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from prometheus_client import CollectorRegistry, Counter, Enum, Gauge, Histogram, Info, Summary
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeHistogramMetricFamily,
    GaugeMetricFamily,
    Metric,
    Timestamp,
    UnknownMetricFamily,
)
from prometheus_client.exposition import generate_latest
from prometheus_client.openmetrics import exposition as openmetrics_exposition
from prometheus_client.samples import Exemplar, Sample

from hypertrace_prometheus.exposition.process import missing_defaults
from hypertrace_prometheus.exposition.sections import (
    Section,
    plain_section,
    sections_of,
    with_samples,
)

if TYPE_CHECKING:
    from collections.abc import Callable


def many_kinds() -> CollectorRegistry:
    """Give metrics of every type, with all that a line may have."""
    registry = CollectorRegistry(target_info={"env": "test"})
    Counter("orders", 'Orders "\\\n é.', ["kind"], registry=registry).labels('a\\b\n"é}{').inc(3)
    Gauge("depth", "Depth.", unit="meters", registry=registry).set(-0.5)
    Gauge("tiny", "Tiny.", registry=registry).set(5e-324)
    Gauge("huge", "Huge.", registry=registry).set(1.5e300)
    Gauge("nan", "No number.", registry=registry).set(float("nan"))
    Gauge("low", "", registry=registry).set(float("-inf"))
    histogram = Histogram("wait_seconds", "Wait.", buckets=[1e-5, 1e7], registry=registry)
    histogram.observe(0.1, {"trace_id": 'a"b'})
    Summary("size", "Size.", registry=registry).observe(3)
    Info("app", "The application.", registry=registry).info({"version": "1"})
    Enum("state", "State.", states=["on", "off"], registry=registry)
    old = GaugeMetricFamily("old", "Old.")
    old.add_metric([], 1, timestamp=1234.5)
    old.add_metric([], 2, timestamp=Timestamp(1235, 7))
    spread = GaugeHistogramMetricFamily("spread", "Spread.")
    spread.add_metric([], [("1.0", 1), ("+Inf", 2)], 3)
    unknown = UnknownMetricFamily("unknown", "Unknown.", 3)
    registry.register(Given(old, spread, unknown))
    return registry


class Given:
    def __init__(self, *families: Metric) -> None:
        self.families = families

    def collect(self) -> tuple[Metric, ...]:
        return self.families


def fail(error: BaseException) -> None:
    raise error


def text(family: Metric, errors: list[BaseException], *, openmetrics: bool = False) -> str:
    sections = sections_of(family, errors.append, openmetrics=openmetrics)
    return "".join(map(page_of, sections))


def page_of(section: Section) -> str:
    return (section.head + section.body).decode()


def lines(page: str) -> list[str]:
    return [line for line in page.splitlines() if not line.startswith("#")]


def gauge(*samples: tuple[dict[str, Any], Any]) -> Metric:
    family = Metric("depth", "Depth.", "gauge")
    family.samples = [Sample("depth", labels, value) for labels, value in samples]
    return family


@pytest.mark.parametrize("openmetrics", [False, True])
def test_what_is_right_is_left_as_it_is(openmetrics: bool) -> None:
    """Metrics of every type are written as `prometheus_client` writes them, byte by byte."""
    registry = many_kinds()
    generate: Callable[[Any], bytes] = (
        openmetrics_exposition.generate_latest if openmetrics else generate_latest
    )
    ours = [
        page_of(section)
        for family in registry.collect()
        for section in sections_of(family, fail, openmetrics=openmetrics)
    ]
    assert "".join(ours) == generate(registry).decode().removesuffix("# EOF\n")
    assert len(ours) >= 14


@pytest.mark.parametrize("openmetrics", [False, True])
@pytest.mark.parametrize(
    "sample",
    [
        ({"a": "\udc80"}, 1),
        ({"a": "b"}, "much"),
        ({"a": 1}, 1),
        ({1: "a"}, 1),
        (["a"], 1),
    ],
    ids=["lone surrogate", "no number", "no text", "no name", "no labels"],
)
def test_a_sample_that_cannot_be_written_is_left_out(openmetrics: bool, sample: Any) -> None:
    """The family is shown with its other samples, and the error is reported."""
    errors: list[BaseException] = []
    family = gauge(({"a": "1"}, 1), sample, ({"a": "2"}, 2))
    page = text(family, errors, openmetrics=openmetrics)
    assert lines(page) == ['depth{a="1"} 1.0', 'depth{a="2"} 2.0']
    assert len(errors) == 1
    # Nor does the error hold the family, which a log would repeat.
    assert family not in errors[0].args


class SameName(str):
    """A text that is equal to no other, but written like it."""

    __slots__ = ()
    __hash__ = object.__hash__

    def __eq__(self, other: object) -> bool:
        return self is other


@pytest.mark.parametrize(
    "sample",
    [
        Sample("depth", {}, 1, "noon"),  # type: ignore[arg-type]
        Sample("", {}, 1),
        Sample("depth", {"": "a"}, 1),
        Sample("depth", {}, None),  # type: ignore[arg-type]
        Sample("depth", {}, 1, "1.2.3"),  # type: ignore[arg-type]
        Sample("depth", {}, 1, float("inf")),
        Sample("depth", {}, 1, 10**400),
        Sample("depth", {"__name__": "other"}, 1),
        Sample("depth", {"a": "1", SameName("a"): "2"}, 1),
    ],
    ids=["time", "name", "label", "value", "points", "never", "far", "__name__", "label twice"],
)
def test_a_line_that_parsers_refuse_is_left_out(sample: Sample) -> None:
    """What `prometheus_client` writes without an error is read before it is shown."""
    errors: list[BaseException] = []
    family = with_samples(
        CounterMetricFamily("depth", "Depth."), [sample, Sample("depth_total", {}, 2)]
    )
    page = text(family, errors, openmetrics=True)
    assert lines(page) == ["depth_total 2.0"]
    assert len(errors) == 1


@pytest.mark.parametrize(
    "sample",
    [
        Sample("depth", {}, 1, -1),
        Sample("depth", {}, 1, 1e17),
        Sample("depth", {"__name__": "other"}, 1),
        Sample("depth", {"a": "1", SameName("a"): "2"}, 1),
    ],
    ids=["before 1970", "far", "__name__", "label twice"],
)
def test_a_line_that_prometheus_refuses_is_not_in_the_text_format(sample: Sample) -> None:
    """Times are digits that an int64 holds, and no name of a label comes twice."""
    errors: list[BaseException] = []
    family = with_samples(gauge(), [sample, Sample("depth", {}, 2)])
    assert lines(text(family, errors)) == ["depth 2.0"]
    assert len(errors) == 1


@pytest.mark.parametrize("time", [-1.5, 0, 1e17, Timestamp(1700000000, 5)])
def test_times_of_openmetrics_are_shown(time: Any) -> None:
    """A time in seconds may be before 1970, and a fraction."""
    family = with_samples(gauge(), [Sample("depth", {}, 2, time)])
    sections = sections_of(family, fail, openmetrics=True)
    assert lines("".join(map(page_of, sections))) == [f"depth 2.0 {time}"]


@pytest.mark.parametrize(
    "exemplar",
    [
        Exemplar({"a": "b\0c"}, 1),
        Exemplar({"a": "\0"}, 1, 5.0),
        Exemplar({"a b": "c"}, 1),
        Exemplar({"a\nb": "c"}, 1),
        Exemplar({"a": "c"}, 1, "noon"),  # type: ignore[arg-type]
        Exemplar({"a": "c"}, 1, float("nan")),
        Exemplar({"a": "c"}, 1, 10**400),
        Exemplar({"a": "\udc80"}, 1),
        Exemplar({"a": 7}, 1),  # type: ignore[dict-item]
        Exemplar({"a": "b"}, "much"),  # type: ignore[arg-type]
        "none",
    ],
    ids=[
        "NUL",
        "NUL alone",
        "label",
        "newline",
        "time",
        "no time",
        "far",
        "surrogate",
        "no text",
        "no number",
        "no exemplar",
    ],
)
def test_an_exemplar_that_cannot_be_written_costs_itself_alone(exemplar: Any) -> None:
    """Its sample is shown without it, and the error is counted."""
    errors: list[BaseException] = []
    good = Exemplar({"a": "b"}, 1, 5.0)
    samples = [
        Sample("depth_total", {"n": "1"}, 1, None, exemplar),
        Sample("depth_total", {"n": "2"}, 2, None, good),
    ]
    family = with_samples(CounterMetricFamily("depth", "Depth."), samples)
    page = text(family, errors, openmetrics=True)
    assert lines(page) == [
        'depth_total{n="1"} 1.0',
        'depth_total{n="2"} 2.0 # {a="b"} 1.0 5.0',
    ]
    assert errors


@pytest.mark.parametrize(("kind", "name"), [("gauge", "depth"), ("histogram", "depth")])
def test_an_exemplar_where_there_may_be_none_costs_itself_alone(kind: str, name: str) -> None:
    """Prometheus 2 takes exemplars of counters and buckets alone."""
    errors: list[BaseException] = []
    sample = Sample(name, {}, 1, None, Exemplar({"a": "b"}, 1))
    family = with_samples(Metric("depth", "Depth.", kind), [sample])
    assert lines(text(family, errors, openmetrics=True)) == ["depth 1.0"]
    assert len(errors) == 1


@pytest.mark.parametrize(("openmetrics", "kind"), [(True, "untyped"), (False, "nonsense")])
def test_each_format_has_its_types(openmetrics: bool, kind: str) -> None:
    """A type that the format does not have is an error: Prometheus refuses the page for it."""
    family = gauge(({}, 1))
    family.type = kind
    with pytest.raises(ValueError, match=kind):
        sections_of(family, fail, openmetrics=openmetrics)


def test_a_series_is_shown_once() -> None:
    """Of a series that comes twice the first value is shown, and the second is reported."""
    errors: list[BaseException] = []
    page = text(gauge(({"a": "1", "b": "2"}, 1), ({"b": "2", "a": "1"}, 2), ({}, 3)), errors)
    assert lines(page) == ['depth{a="1",b="2"} 1.0', "depth 3.0"]
    (error,) = errors
    assert "twice" in str(error)


def test_names_that_become_the_same_are_one_series() -> None:
    """Labels whose characters are replaced are compared as they are shown."""
    errors: list[BaseException] = []
    page = text(gauge(({"a b": "1"}, 1), ({"a_b": "1"}, 2)), errors)
    # prometheus_client 0.22 replaces none, so that neither format has a line for it.
    assert lines(page) in (['depth{a_b="1"} 1.0'], ['depth{a_b="1"} 2.0'])
    assert len(errors) == 1


@pytest.mark.parametrize("attribute", ["type", "name", "unit", "documentation"])
@pytest.mark.parametrize("value", ["\udc80", "a b\nc", None, 7])
def test_a_head_that_parsers_refuse_is_an_error(attribute: str, value: Any) -> None:
    """A family that says of itself what the formats do not know is not written at all."""
    family = gauge(({}, 1))
    setattr(family, attribute, value)
    try:
        sections = sections_of(family, fail, openmetrics=True)
    except Exception:  # noqa: BLE001 -- any of them informs the caller
        return
    # Or it was put right.
    (section,) = sections
    for line in page_of(section).splitlines():
        assert line.split(" ")[0 if line[0] != "#" else 2] in {"depth", "a_b_c", "_"}


def test_what_is_no_family_is_an_error() -> None:
    """An object that is no metric is reported as such."""
    for thing in (None, 7, "depth 1"):
        with pytest.raises(AttributeError):
            sections_of(thing, fail, openmetrics=False)  # type: ignore[arg-type]


def section_of(family: Metric) -> Any:
    (section,) = sections_of(family, fail, openmetrics=False)
    return section


def test_sections_of_one_family_are_joined() -> None:
    """Series of another collector come under the same head; those that are there stay."""
    errors: list[BaseException] = []
    first = section_of(gauge(({"pool": "a"}, 1)))
    first.join(section_of(gauge(({"pool": "b"}, 2), ({"pool": "a"}, 3))), errors.append)
    assert page_of(first).splitlines() == [
        "# HELP depth Depth.",
        "# TYPE depth gauge",
        'depth{pool="a"} 1.0',
        'depth{pool="b"} 2.0',
    ]
    assert len(errors) == 1


def test_sections_of_two_types_are_not_joined() -> None:
    """Series of another type are refused, as they would be read as what they are not."""
    errors: list[BaseException] = []
    first = section_of(gauge(({"pool": "a"}, 1)))
    first.join(section_of(UnknownMetricFamily("depth", "Depth.", 2)), errors.append)
    assert lines(page_of(first)) == ['depth{pool="a"} 1.0']
    (error,) = errors
    assert "another type" in str(error)


@pytest.mark.parametrize("openmetrics", [False, True])
def test_default_metrics_need_no_check(openmetrics: bool) -> None:
    """A page without a check of the default metrics is the page with it."""
    families = [
        family
        for collector in missing_defaults(CollectorRegistry())
        for family in collector.collect()
    ]
    assert len(families) > 3
    for family in families:
        (checked,) = sections_of(family, fail, openmetrics=openmetrics)
        plain = plain_section(family, openmetrics=openmetrics)
        assert plain is not None
        assert (plain.name, plain.kind, plain.names) == (checked.name, checked.kind, checked.names)
        assert (plain.head, plain.body) == (checked.head, checked.body)


@pytest.mark.parametrize("openmetrics", [False, True])
def test_a_family_is_plain_or_is_checked(openmetrics: bool) -> None:
    """Without a check a family has the same text as with it, or none at all."""
    plain = {}
    for family in many_kinds().collect():
        section = plain_section(family, openmetrics=openmetrics)
        if section is not None:
            (checked,) = sections_of(family, fail, openmetrics=openmetrics)
            assert (section.head, section.body) == (checked.head, checked.body)
            plain[family.name] = section
    assert set(plain) == {"tiny", "huge", "nan", "low"}


def test_a_plain_section_takes_the_series_of_others() -> None:
    """A family that a third-party collector gives, too, has the series of both."""
    first, second = (GaugeMetricFamily("depth", "Depth.", labels=["of"]) for _ in range(2))
    first.add_metric(['a"\n\\'], 1)
    second.add_metric(["b"], 2)
    section = plain_section(first, openmetrics=False)
    other = plain_section(second, openmetrics=False)
    assert section is not None
    assert other is not None
    section.join(other, fail)
    assert section.body == b'depth{of="a\\"\\n\\\\"} 1.0\ndepth{of="b"} 2.0\n'
    third = GaugeMetricFamily("depth", "Depth.", labels=["of"])
    third.add_metric(["b"], 3)
    again = plain_section(third, openmetrics=False)
    assert again is not None
    with pytest.raises(ValueError, match="given twice"):
        section.join(again, fail)
