"""Objects of the core whose slots are empty: made without their constructor, or emptied."""

from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any

import pytest

from hypertrace import PropsRecorder, Span, SpanEvent, TraceEvent, Tracer, _span, set_trace_function
from hypertrace.cells import Cell


class Recorder:
    """Records spans, with the spans around them."""

    def __init__(self) -> None:
        self.durations: list[float] = []
        self.start = Cell().increment

    def end(self, event: SpanEvent) -> None:
        pass

    def edge(self, upstream: Any) -> Callable[[], object]:
        return Cell().increment

    def fold(self) -> None:
        self.durations.clear()


class Recording:
    """Offers a recorder for everything."""

    def __init__(self) -> None:
        self.bound: list[Any] = []

    def __call__(self, event: TraceEvent) -> None:
        raise NotImplementedError

    def share_key(self, traced: Any, parent: Any) -> str:
        return "a"

    def bind(self, event: TraceEvent) -> Callable[[], object]:
        return Cell().increment

    def bind_props(self, event: TraceEvent) -> Callable[[dict[str, object]], object]:
        recorder = PropsRecorder(("peer",), {}, lambda _, __: Cell().increment)
        self.bound.append(recorder)
        return recorder.record

    def bind_span(self, event: TraceEvent) -> Recorder:
        return Recorder()

    def bind_span_props(self, event: TraceEvent) -> Callable[[dict[str, object]], Recorder]:
        return lambda props: Recorder()


@pytest.fixture(autouse=True)
def _no_span_stays() -> Iterator[None]:
    yield
    _span._current.set(None)  # which a broken span cannot do


@pytest.fixture(params=["events", "recorders"])
def tracer(request: pytest.FixtureRequest) -> Tracer:
    """Give a tracer that sends to a plain or to a bindable trace function."""
    events: list[TraceEvent] = []
    set_trace_function(Recording() if request.param == "recorders" else events.append)
    return Tracer("a")


def _opened(tracer: Tracer) -> Span:
    return tracer.span().__enter__()


def test_a_span_without_a_binding_is_an_ordinary_error(tracer: Tracer) -> None:
    """A span that was made without its constructor, or lost its binding, cannot be entered."""
    for empty in (object.__new__(type(tracer.span())), tracer.span()):
        with suppress(AttributeError):
            del empty._binding
        with pytest.raises(AttributeError, match="_binding"):
            empty.__enter__()


def test_a_span_of_something_else_is_an_ordinary_error(tracer: Tracer) -> None:
    """Objects that are no bindings are not used as bindings."""
    span, opened = tracer.span(), _opened(tracer)
    span._binding = opened._binding = None  # type: ignore[assignment]
    with pytest.raises(AttributeError, match="start"):
        span.__enter__()
    opened.__exit__(None, None, None)


@pytest.mark.parametrize("slot", Span.__slots__)
@pytest.mark.parametrize("error", [None, KeyError("a")])
def test_a_span_with_an_empty_slot_ends(
    tracer: Tracer, slot: str, error: BaseException | None
) -> None:
    """The end of a span that lost a slot raises nothing."""
    span = _opened(tracer)
    with suppress(AttributeError):  # few spans have rules
        delattr(span, slot)
    span.__exit__(None if error is None else type(error), error, None)
    object.__new__(Span).__exit__(None, None, None)


@pytest.mark.parametrize("slot", ["start", "durations", "edges", "recorder"])
def test_a_binding_with_an_empty_slot_raises_nothing_at_the_end(tracer: Tracer, slot: str) -> None:
    """A binding that lost a slot is an ordinary error at the start at the most."""
    span, opened = tracer.span(), _opened(tracer)
    for binding in (span._binding, opened._binding):
        with suppress(AttributeError):
            delattr(binding, slot)
    opened.__exit__(None, None, None)
    with suppress(AttributeError):
        span.__enter__()
    span.__exit__(None, None, None)


def test_a_span_around_one_that_lost_its_place_ends(tracer: Tracer) -> None:
    """Spans that end in another order raise nothing, even where one no longer knows its place."""
    outer, inner = _opened(tracer), _opened(tracer)
    del inner._outer
    outer.__exit__(None, None, None)
    inner.__exit__(None, None, None)


def test_a_tracer_with_empty_slots_raises_nothing(tracer: Tracer) -> None:
    """A tracer that was made without its constructor, or lost a slot, does what it can."""
    for slot in (None, "_table", "_class", "_ctx", "_props", "_parent_object", "class_name"):
        empty = object.__new__(Tracer) if slot is None else Tracer("a")
        for _ in range(2):
            if slot is not None:
                with suppress(AttributeError):
                    delattr(empty, slot)
            empty.trace()
            empty.trace("id", peer=1)
            with empty.span():
                pass
            with empty.span("id", peer=1):
                pass


def test_a_props_recorder_with_empty_slots_raises_nothing() -> None:
    """A recorder of props that lost a slot is an error inside tracing."""
    function = Recording()
    set_trace_function(function)
    tracer = Tracer("a")
    for slot in ("names", "known"):
        for _ in range(3):
            tracer.trace(peer="a")
            with suppress(AttributeError):
                delattr(function.bound[-1], slot)
        function.bound[-1].names, function.bound[-1].known = ("peer",), {}
