"""Values, names and classes that do their worst, and what the parsers read of them."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from prometheus_client.openmetrics import parser as openmetrics_parser
from prometheus_client.parser import text_string_to_metric_families as parse_text
from wrapt import ObjectProxy

from hypertrace import (
    Caller,
    SpanEvent,
    TracedObject,
    TraceEvent,
    Tracer,
    dropped_events,
    set_trace_function,
    swallowed_errors,
)
from hypertrace_prometheus import PrometheusExporter
from hypertrace_prometheus.exposition import render
from hypertrace_prometheus.labels import Labeller, import_path, type_name

if TYPE_CHECKING:
    from collections.abc import Iterator

    from prometheus_client.samples import Sample

TOPIC = {"topic": "topic"}


def fail(*_: object) -> Any:
    raise RuntimeError("nothing works")


_NEEDED = {
    *("__new__", "__init__", "__class__", "__init_subclass__", "__subclasshook__"),
    *("__getattribute__", "__setattr__"),
}


def hostile(base: type, *kept: str) -> Any:
    """Give a subclass all of whose methods raise."""
    methods = {name for name in dir(base) if callable(getattr(base, name))} - _NEEDED - {*kept}
    return type(f"Hostile{base.__name__.title()}", (base,), dict.fromkeys(methods, fail))


HostileStr = hostile(str)
HostileBytes = hostile(bytes)
HostileBytearray = hostile(bytearray)


class GivesHostileStr:
    def __str__(self) -> Any:
        return HostileStr('of "its" own')


class GivesNoStr:
    __str__: Any = bytes


class Liar:
    """Says that it is a text, as the proxies of web frameworks do for the text behind them."""

    __class__: Any = str

    def __str__(self) -> str:
        return "text"


class HostileMeta(type):
    __name__: Any = property(fail)
    __hash__: Any = fail
    __eq__: Any = fail


class OfHostileMeta(metaclass=HostileMeta):
    __str__ = fail


class FalseName(type):
    __name__: Any = 7


class OfFalseName(metaclass=FalseName):
    __str__ = fail


class Huge:
    def __str__(self) -> str:
        return "é" * 10_000_000


def named(name: str, *bases: type) -> Any:
    """Give an object of a class with any name that can only be shown by it."""
    return type(name, bases, {"__str__": fail, "__repr__": fail})()


VALUES: dict[str, tuple[Any, str]] = {
    "str": (HostileStr('a "b"'), 'a "b"'),
    "bytes": (HostileBytes(b"caf\xc3\xa9"), "café"),
    "bytearray": (bytearray(b"caf\xc3\xa9"), "café"),
    "hostile bytearray": (HostileBytearray(b"x"), "x"),
    "memoryview": (memoryview(b"caf\xc3\xa9"), "café"),
    "memoryview of every second": (memoryview(b"abcd")[::2], "ac"),
    "memoryview of numbers": (memoryview(b"abcd").cast("H"), "abcd"),
    "memoryview of rows": (memoryview(b"abcd").cast("B", (2, 2)), "abcd"),
    "gives a hostile str": (GivesHostileStr(), 'of "its" own'),
    "gives bytes": (GivesNoStr(), "<unprintable GivesNoStr>"),
    "says it is a str": (Liar(), "text"),
    "proxy": (ObjectProxy("text"), "text"),
    "class that cannot be asked": (OfHostileMeta(), "<unprintable OfHostileMeta>"),
    "class with a number for a name": (OfFalseName(), "<unprintable OfFalseName>"),
    "name with quotes": (named('a"b\\\n'), '<unprintable a"b\\\n>'),
    "hostile name": (named(HostileStr("Name")), "<unprintable Name>"),
    "long name": (named("N" * 10_000), "<unprintable " + "N" * 242 + "…"),
    "huge": (Huge(), "é" * 255 + "…"),
    "int that is too long for a text": (10**10_000, "<unprintable int>"),
    "class": (HostileMeta, str(HostileMeta)),
}


@pytest.fixture
def exporter() -> Iterator[PrometheusExporter]:
    """Give an exporter that counts, with one allowed prop."""
    with PrometheusExporter(collect_defaults=False, allowed_props=["topic"]) as exporter:
        set_trace_function(exporter)
        yield exporter


def read(exporter: PrometheusExporter) -> list[list[Sample]]:
    """Give the samples of a page, as the parsers of both formats read them."""
    openmetrics = render(exporter.registry, openmetrics=True).decode()
    families = (
        parse_text(exporter.metrics()),
        openmetrics_parser.text_string_to_metric_families(openmetrics),  # type: ignore[no-untyped-call]
    )
    return [[sample for family in page for sample in family.samples] for page in families]


def pages(exporter: PrometheusExporter, name: str) -> list[list[dict[str, str]]]:
    """Give the labels of the samples of a name, in both formats."""
    return [[s.labels for s in page if s.name == name] for page in read(exporter)]


# By name: what fails shows its arguments, and these cannot be shown.
@pytest.mark.parametrize("which", VALUES)
def test_a_hostile_value_is_shown_as_well_as_it_can_be(
    exporter: PrometheusExporter, which: str
) -> None:
    """As a prop in any place and as an id it is counted, and both parsers read it back."""
    value, text = VALUES[which]
    tracer = Tracer("place", {"topic": value}, parent=Tracer("parent", {"topic": value}))
    for _ in range(2):
        tracer.trace(value, topic=value)
        with tracer.span(value, {"topic": value}):
            pass
    names = ("object_props_topic", "parent_object_props_topic", "caller_props_topic", "id")
    for name in ("function_counter_total", "function_duration_seconds_count"):
        for (labels,) in pages(exporter, name):
            assert [labels[name] for name in names] == [text] * 4
    assert type(Labeller(TOPIC, 256, object_ids=False).text(value)) is str


class Traces:
    """Traces whenever it is asked for its text."""

    def __init__(self) -> None:
        self.tracer = Tracer("text")

    def __str__(self) -> str:
        self.tracer.trace("text", topic=self)
        return "shown"


def test_a_value_that_traces_is_shown_and_not_counted(exporter: PrometheusExporter) -> None:
    """What the text of a value traces is dropped and counted as such: it comes to an end."""
    value = Traces()
    tracer = Tracer("place", {"topic": value})
    for _ in range(2):
        tracer.trace(None, topic=value)
    for samples in pages(exporter, "function_counter_total"):
        assert [sample["object_classname"] for sample in samples] == ["place"]
        assert samples[0]["object_props_topic"] == samples[0]["caller_props_topic"] == "shown"
    assert dropped_events() >= 2
    assert swallowed_errors() == 0


def test_an_exemplar_and_a_log_that_trace_are_not_counted() -> None:
    """What the exemplar function or a log handler traces is dropped, not counted as the user's."""

    def trace() -> dict[str, str]:
        Tracer("inner").trace()
        return {"n": "1"}

    handler = logging.Handler()
    handler.emit = lambda _: trace()  # type: ignore[method-assign,assignment]
    logger = logging.getLogger("hypertrace_prometheus")
    with PrometheusExporter(collect_defaults=False, exemplar=trace, max_series=1) as exporter:
        set_trace_function(exporter)
        logger.addHandler(handler)
        try:
            for name in ("outer", "overflow"):
                with Tracer(name).span():
                    pass
        finally:
            logger.removeHandler(handler)
        for samples in pages(exporter, "function_counter_total"):
            assert [s["object_classname"] for s in samples] == ["outer", "<overflow>"]
        assert exporter.calls.overflow.value == 1
    assert dropped_events() == 3


def test_values_of_a_hostile_class_are_looked_up(exporter: PrometheusExporter) -> None:
    """A prop beside one that cannot be hashed, compared or asked for its class is still counted."""
    tracer = Tracer("place")
    for _ in range(3):
        for value in (OfHostileMeta(), "x", 1, True):
            tracer.trace(topic=value)
    for samples in pages(exporter, "function_counter_total"):
        texts = {sample["caller_props_topic"] for sample in samples}
        assert texts == {"<unprintable OfHostileMeta>", "x", "1", "True"}
    assert swallowed_errors() == 0


@pytest.mark.parametrize(
    ("kind", "name"),
    [
        (OfHostileMeta, "OfHostileMeta"),
        (OfHostileMeta(), "OfHostileMeta"),
        (named(HostileStr("Name")), "Name"),
        (KeyError, "KeyError"),
        (7, "int"),
        (type, "type"),
    ],
    ids=["class", "object", "hostile name", "exception", "int", "type"],
)
def test_the_name_of_a_type_cannot_be_forged(kind: Any, name: str) -> None:
    """A type is named as Python knows it, whatever its own attributes say."""
    assert type_name(kind) == name
    assert type(type_name(kind)) is str


# Those that mean something to a format or a parser, and some that do not.
_CHARACTERS = '"\\\n\r\0 {}=,#<>ab1é…\x7f\x85\u2028\ud800\udfff😀'
_texts = st.lists(st.sampled_from(_CHARACTERS), max_size=12).map("".join)


def _exception(name: str) -> type[Exception]:
    return type(name, (Exception,), {})


@settings(deadline=None, max_examples=25)
@given(_texts, _texts, _texts, _texts, st.binary(max_size=20), _texts)
def test_whatever_is_traced_is_read_back(
    class_name: str, function: str, trace_id: str, prop: str, binary: bytes, exception: str
) -> None:
    """Classes, functions, ids, props and exceptions of any name come back from both parsers."""
    exporter = PrometheusExporter(collect_defaults=False, allowed_props=["topic"])
    text = exporter._labeller.text
    caller = Caller(function, "/srv/app.py", "app", 1, 1, {"topic": prop})
    traced = TracedObject(class_name, 1, {"topic": binary})
    parent = TracedObject(prop, 1, {"topic": class_name})
    exporter(TraceEvent(trace_id, traced, parent, caller))
    try:
        kind = _exception(exception)
    except (ValueError, UnicodeEncodeError):  # no name that Python takes
        kind = KeyError
    exporter(SpanEvent(trace_id, traced, parent, caller, 0.5, "error", kind))
    labels = {
        "object_classname": text(class_name),
        "object_props_topic": text(binary),
        "parent_object_classname": text(prop),
        "parent_object_props_topic": text(class_name),
        "caller_functionname": text(function),
        "caller_filename": "app.py",
        "caller_props_topic": text(prop),
        "id": text(trace_id),
    }
    for page in read(exporter):
        for name, more in (
            ("function_counter_total", {}),
            ("function_duration_seconds_count", {"result": "error"}),
            ("function_exceptions_total", {"exception": text(kind.__name__)}),
        ):
            expected = {name: value for name, value in (labels | more).items() if value}
            assert [sample.labels for sample in page if sample.name == name] == [expected]


# prometheus_client's parser of OpenMetrics cannot read a quote in an exemplar.
_exemplar_texts = st.text(list(set(_CHARACTERS) - set('"\ud800\udfff')), max_size=30)


@settings(deadline=None, max_examples=25)
@given(_exemplar_texts)
def test_exemplars_are_read_back(value: str) -> None:
    """The labels of an exemplar come back from the parser of OpenMetrics."""
    exporter = PrometheusExporter(collect_defaults=False, exemplar=lambda: {"trace_id": value})
    caller = Caller("f", "/srv/app.py", "app", 1, 1)
    exporter(SpanEvent(None, TracedObject("A", 1), None, caller, 0.5))
    page = render(exporter.registry, openmetrics=True).decode()
    families = openmetrics_parser.text_string_to_metric_families(page)  # type: ignore[no-untyped-call]
    found = [s.exemplar.labels for f in families for s in f.samples if s.exemplar]
    assert found == [{"trace_id": value} if value else {}]


def test_an_exemplar_of_a_hostile_text_is_shown() -> None:
    """What an object gives as its text is shown as plain text."""
    value: Any = GivesHostileStr()
    exporter = PrometheusExporter(collect_defaults=False, exemplar=lambda: {"user": value})
    caller = Caller("f", "/srv/app.py", "app", 1, 1)
    exporter(SpanEvent(None, TracedObject("A", 1), None, caller, 0.5))
    page = render(exporter.registry, openmetrics=True).decode()
    assert '# {user="of \\"its\\" own"} 0.5 ' in page


def test_hostile_names_of_files_and_modules_are_taken() -> None:
    """A code object or a module may have been given a text with methods of its own, or a NUL."""
    assert import_path(Caller("f", HostileStr("/srv/shop.py"), HostileStr("shop"))) == "shop.py"
    assert "/" not in import_path(Caller("f", "/srv/sh\0op.py", "other"))


@pytest.mark.parametrize(
    ("filename", "path"),
    [
        ("<eval /srv/app/secret.py>", "<secret.py>"),
        ("</srv/app/template>", "<template>"),
        ("<string>", "<string>"),
        ("<stdin-7>-1", "<stdin-7>"),
        ("<frozen importlib._bootstrap>", "<frozen importlib._bootstrap>"),
        ("<", "<>"),
        ("<eval C:\\app\\secret.py>", "<secret.py>"),
        ("file:///srv/app/secret.py", "secret.py"),
        ("notebook-cell:/srv/app/secret.ipynb#1", "secret.ipynb#1"),
        ("C:\\Users\\me\\secret.py", "secret.py"),
        ("C:/Users/me/secret.py", "secret.py"),
        ("\\\\server\\share\\secret.py", "secret.py"),
        ("zip:/srv/lib.zip/app.py", "app.py"),
    ],
)
def test_what_is_no_file_tells_no_path(
    monkeypatch: pytest.MonkeyPatch, filename: str, path: str
) -> None:
    """Code that was made at run time may be called after a file, whose folder is not told."""
    monkeypatch.syspath_prepend("")
    assert import_path(Caller("f", filename, "app")) == path


@pytest.mark.parametrize("result", ['"', "", None, [], 7, HostileStr("x"), "OK"], ids=type)
def test_a_result_that_no_span_has_is_an_error(result: Any) -> None:
    """An event that somebody made with another result is counted among the failed."""
    with PrometheusExporter(collect_defaults=False) as exporter:
        caller = Caller("f", "/srv/app.py", "app", 1, 1)
        for _ in range(2):
            exporter(SpanEvent(None, TracedObject("A", 1), None, caller, 0.5, result))
        for samples in pages(exporter, "function_duration_seconds_count"):
            assert [sample["result"] for sample in samples] == ["error"]


@pytest.mark.parametrize("exception", [KeyError("x"), OfHostileMeta, 7, "KeyError"], ids=type)
def test_an_exception_that_is_no_class_is_counted_by_its_type(exception: Any) -> None:
    """An event that somebody made with an exception itself, or with anything, counts it."""
    with PrometheusExporter(collect_defaults=False) as exporter:
        caller = Caller("f", "/srv/app.py", "app", 1, 1)
        exporter(SpanEvent(None, TracedObject("A", 1), None, caller, 0.5, "error", exception))
        for samples in pages(exporter, "function_exceptions_total"):
            assert [sample["exception"] for sample in samples] == [type_name(exception)]


@pytest.mark.parametrize("duration", [float("nan"), float("inf"), -1.0, None, "soon", 1j], ids=repr)
def test_an_event_with_an_odd_duration_poisons_no_series(duration: Any) -> None:
    """It is counted as a span of no length; sum and buckets stay what they were otherwise."""
    with PrometheusExporter(
        collect_defaults=False, buckets=[1], exemplar=lambda: {"n": "1"}
    ) as exporter:
        caller = Caller("f", "/srv/app.py", "app", 1, 1)
        for seconds in (0.5, duration, 2.0):
            exporter(SpanEvent(None, TracedObject("A", 1), None, caller, seconds))
        page = render(exporter.registry, openmetrics=True).decode()
        families = openmetrics_parser.text_string_to_metric_families(page)  # type: ignore[no-untyped-call]
        (family,) = [f for f in families if f.name == "function_duration_seconds"]
        assert [sample.value for sample in family.samples] == [2, 3, 3, 2.5]
        assert all(s.exemplar.value >= 0 for s in family.samples if s.exemplar)
        assert exporter.metrics().count("function_in_progress{") == 1


def test_an_odd_clock_poisons_no_series(
    exporter: PrometheusExporter, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A clock that was patched to say nonsense costs the durations it spoilt, and nothing else."""
    readings = iter([1.0, float("nan"), 1.0, float("-inf"), 2.0, 1.0])
    monkeypatch.setattr("hypertrace._span.clock", lambda: next(readings, 5.0))
    tracer = Tracer("place")
    for _ in range(200):
        with tracer.span():
            pass
    (timings,) = [t for _, t in exporter.timings.items() if t is not exporter.timings.overflow]
    snapshot = timings.results["ok"].read()
    assert snapshot.cumulative[0] == snapshot.cumulative[-1] == 200
    assert snapshot.total == 0.0


class Counted(hostile(dict, "get", "__len__")):  # type: ignore[misc]
    """Props that can be looked up, and nothing else."""

    asked = 0

    def get(self, key: str) -> object:
        self.asked += 1
        return dict.get(self, key)


def test_many_props_cost_what_the_allow_list_costs(exporter: PrometheusExporter) -> None:
    """Of ten thousand props in a call only those are looked at that are allowed."""
    props = Counted({f"prop {number}": number for number in range(10_000)} | {"topic": "a"})
    caller = Caller("f", "/srv/app.py", "app", 1, 1)
    record = exporter.bind_props(TraceEvent(None, TracedObject("A", 1), None, caller))
    find = exporter.bind_span_props(TraceEvent(None, TracedObject("A", 1), None, caller))
    for _ in range(3):
        record(props)
        find(props)
    exporter(TraceEvent(None, TracedObject("A", 1), None, Caller("f", "a.py", "a", 1, 1, props)))
    assert props.asked <= 10
    assert exporter.metrics().count('caller_props_topic="a"') >= 2


def test_cancelled_and_exiting_code_is_not_held_up(exporter: PrometheusExporter) -> None:
    """What must pass through a text's making passes: it is the application's own ending."""

    class Ends:
        def __init__(self, error: type[BaseException]) -> None:
            self.error = error

        def __str__(self) -> str:
            raise self.error

    for error in (KeyboardInterrupt, SystemExit, asyncio.CancelledError):
        with pytest.raises(error):
            exporter._labeller.text(Ends(error))
