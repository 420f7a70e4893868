"""Objects, ids, props and clocks that behave as badly as they can."""

import itertools
import logging
import math
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from types import ModuleType
from typing import Any

import pytest

from hypertrace import (
    Cell,
    PropsRecorder,
    SpanEvent,
    Tracer,
    _span,
    clear_trace_function,
    set_trace_function,
    swallowed_errors,
    traced,
)
from hypertrace.testing import capture_events

Counts = Callable[..., Counter[Any]]


@pytest.fixture(autouse=True)
def _no_log() -> Iterator[None]:
    logging.getLogger("hypertrace").disabled = True
    yield
    logging.getLogger("hypertrace").disabled = False


class Unbound:
    """A proxy with nothing behind it, as outside of a request: all it is asked raises."""

    def __getattribute__(self, name: str) -> Any:
        raise RuntimeError(f"nothing behind it to ask for {name}")

    @property  # type: ignore[misc]
    def __class__(self) -> type:
        raise RuntimeError("nothing behind it")

    def __hash__(self) -> int:
        raise RuntimeError

    def __eq__(self, other: object) -> bool:
        raise RuntimeError

    def __str__(self) -> str:
        raise RuntimeError

    def __len__(self) -> int:
        raise RuntimeError

    def __bool__(self) -> bool:
        raise RuntimeError


class Text(str):
    """A string that cannot be compared."""

    __slots__ = ()

    def __hash__(self) -> int:
        raise RecursionError

    def __eq__(self, other: object) -> bool:
        raise RecursionError

    def __str__(self) -> str:
        raise RecursionError


class Meta(type):
    """A class of classes that raise when they are asked for what they are."""

    def __getattribute__(cls, name: str) -> Any:
        if name in {"__name__", "__qualname__", "__module__", "__mro__"}:
            raise RuntimeError(name)
        return super().__getattribute__(name)

    def __hash__(cls) -> int:
        raise RuntimeError

    def __eq__(cls, other: object) -> bool:
        raise RuntimeError


class Nameless(metaclass=Meta):
    pass


VALUES: dict[str, Callable[[], Any]] = {
    "a proxy": Unbound,
    "a text": lambda: Text("a"),
    "of a nameless class": Nameless,
    "a nameless class": lambda: Nameless,
    "of an oddly named class": type(Text("Odd"), (), {}),
    "a huge number": lambda: 10**5000,
    "no number": lambda: math.nan,
    "a list": list,
    "bytes": bytes,
    "a surrogate": lambda: "\ud800",
}


@pytest.mark.parametrize("kind", VALUES)
def test_no_value_raises(kind: str, counts: Counts) -> None:
    """Whatever is given as an id or a prop, the call is counted."""
    tracer, value = Tracer("a"), VALUES[kind]()
    for _ in range(3):
        _use(tracer, value)
    with capture_events() as events:
        _use(tracer, value)
    assert len(events) == 6
    clear_trace_function()
    _use(tracer, value)


def _use(tracer: Tracer, value: Any) -> None:
    tracer.trace(value)
    tracer.trace("id", value)
    tracer.trace(a=value)
    tracer.trace("id", {"a": value})
    tracer.trace({"a": value}, a=value)
    with tracer.span(value) as span:
        span.set(value)
        span.set(a=value)
        span.fail(value)


@pytest.mark.parametrize("kind", VALUES)
def test_any_object_can_be_traced(kind: str, counts: Counts) -> None:
    """Whatever an object pretends to be, its tracer can be made, tracing on or off."""
    value = VALUES[kind]()
    for _ in range(2):
        tracer = Tracer(value)
        tracer.trace()
        with tracer.span():
            pass
    assert counts("id") == {None: 4}
    assert swallowed_errors() == 0
    clear_trace_function()
    Tracer(value).trace()


def test_names_are_text(counts: Counts) -> None:
    """A class or module is counted under a plain string, whatever its name is made of."""
    odd = type(Text("Odd"), (), {})
    module, bare = ModuleType("module"), ModuleType("bare")
    module.__name__ = 5  # type: ignore[assignment]
    del bare.__name__
    for ctx in (odd(), odd, module, bare, Nameless(), Nameless):
        for _ in range(2):
            assert type(Tracer(ctx).class_name) is str
    assert Tracer(odd).class_name == "Odd"
    assert Tracer(Nameless()).class_name == "Nameless"
    assert Tracer(bare).class_name == "module"


def test_an_id_that_cannot_be_compared_is_not_taken_for_another(counts: Counts) -> None:
    """A recorder bound for an id is not used for an id that only pretends to be equal."""

    class Liar(str):
        __slots__ = ()

        def __eq__(self, other: object) -> bool:
            return True

        def __hash__(self) -> int:
            return hash("id")

    tracer = Tracer("a")
    for id in ("id", Liar("other"), "id", Liar("other")):
        tracer.trace(id)
    assert sum(counts("id").values()) == 4


def test_too_many_arguments_are_an_error_tracing_on_or_off() -> None:
    """Arguments that the signature does not allow raise the same error, tracing on or off."""
    for _ in range(2):
        tracer = Tracer("a")
        with pytest.raises(TypeError):
            tracer.trace("a", None, "b")  # type: ignore[call-arg]
        with pytest.raises(TypeError):
            tracer.span("a", None, "b")  # type: ignore[call-arg]
        set_trace_function(print)


def test_a_mapping_that_changes_meanwhile_raises_nothing(counts: Counts) -> None:
    """Props that another thread changes while they are read are counted all the same."""
    props: dict[str, object] = {f"key{i}": i for i in range(50)}
    stop = threading.Event()

    def change() -> None:
        for i in itertools.count():
            props[f"other{i % 1000}"] = i
            props.pop(f"other{(i + 500) % 1000}", None)
            if stop.is_set():
                return

    thread = threading.Thread(target=change)
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    thread.start()
    try:
        tracer = Tracer("a")
        for _ in range(300):
            tracer.trace(props)
            tracer.trace("id", props)
            tracer.trace(props, key1=2)
    finally:
        sys.setswitchinterval(before)
        stop.set()
        thread.join()
    assert sum(counts("id").values()) == 900


def test_many_props_cost_what_the_wanted_ones_cost() -> None:
    """A recorder gets a dict as it is, without a copy; an event gets a copy."""
    seen: list[int] = []

    class Recording:
        def __call__(self, event: object) -> None:
            raise NotImplementedError

        def share_key(self, traced: object, parent: object) -> str:
            return "a"

        def bind(self, event: object) -> Callable[[], object]:
            return Cell().increment

        def bind_props(self, event: object) -> Callable[[dict[str, object]], object]:
            return lambda props: seen.append(id(props))

    props: dict[str, object] = {f"key{i}": i for i in range(10_000)}
    set_trace_function(Recording())
    tracer = Tracer("a")
    tracer.trace(props)
    tracer.trace("id", props)
    assert seen == [id(props)] * 2
    with capture_events() as events:
        tracer.trace(props)
        props.clear()
    assert events[0].caller.props is not None
    assert len(events[0].caller.props) == 10_000


def test_ten_thousand_props_are_fast() -> None:
    """One call with 10 000 props is not ten times as dear as one with a single prop."""
    known: dict[tuple[object, ...], Callable[[], object]] = {("b",): Cell().increment}

    class Recording:
        def __call__(self, event: object) -> None:
            raise NotImplementedError

        def share_key(self, traced: object, parent: object) -> str:
            return "a"

        def bind(self, event: object) -> Callable[[], object]:
            return Cell().increment

        def bind_props(self, event: object) -> Callable[[Any], object]:
            return PropsRecorder(("a",), known, lambda _, __: Cell().increment).record

    set_trace_function(Recording())
    tracer = Tracer("a")

    def seconds(props: dict[str, str]) -> float:
        best = math.inf
        for _ in range(20):
            began = time.perf_counter()
            for _ in range(20):
                tracer.trace(props)
            best = min(best, time.perf_counter() - began)
        return best

    few, many = {"a": "b"}, {"a": "b"} | {f"key{i}": "" for i in range(10_000)}
    assert seconds(many) < 10 * seconds(few)


CLOCKS: dict[str, Callable[[], Any]] = {
    "none": lambda: None,
    "text": lambda: "now",
    "raises": lambda: 1 / 0,
    "nan": lambda: math.nan,
    "infinite": lambda: math.inf,
    "backwards": itertools.count(0, -1).__next__,
    "integers": itertools.count().__next__,
    "huge": lambda: 10**400,
}


@pytest.mark.parametrize("clock", CLOCKS)
@pytest.mark.parametrize("when", ["before", "after", "between"])
def test_an_odd_clock_raises_nothing(
    clock: str, when: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However the clock is replaced, spans end, and their durations are numbers."""

    @traced
    def numbers() -> Iterator[int]:
        yield 1
        yield 2

    @traced
    def fail() -> None:
        raise KeyError

    real = _span.clock
    with capture_events() as events:
        tracer = Tracer("a")
        if when != "between":
            monkeypatch.setattr(_span, "clock", CLOCKS[clock])
        with tracer.span():
            if when == "between":
                monkeypatch.setattr(_span, "clock", CLOCKS[clock])
            steps = numbers()
            next(steps)
            if when == "before":
                monkeypatch.setattr(_span, "clock", real)
        list(steps)
        with pytest.raises(KeyError):
            fail()
    assert len(events) == 3
    for event in events:
        assert isinstance(event, SpanEvent)
        assert type(event.duration) is float
        assert event.busy is None or type(event.busy) is float
    assert events[-1].upstream is None  # type: ignore[attr-defined]


def test_a_span_that_ends_before_it_starts_raises_nothing(counts: Counts) -> None:
    """It is a wrong call, and logged as one; nothing is counted."""
    span = Tracer("a").span()
    span.__exit__(None, None, None)
    assert sum(counts("id").values()) == swallowed_errors() == 0


def test_a_span_fails_with_exceptions_alone() -> None:
    """An object that is no exception also fails a span, and does not become its exception."""
    with capture_events() as events:
        for wrong in ("no", KeyError, 7):
            with Tracer("a").span() as span:
                span.fail(wrong)  # type: ignore[arg-type]
    for event in events:
        assert isinstance(event, SpanEvent)
        assert (event.result, event.exception) == ("error", None)


def test_a_generator_starts_once_whatever_the_clock_does(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its span starts and ends once, though the clock fails in the middle of a step."""
    recorded: list[str] = []

    class Recording:
        durations = edge = None

        def __call__(self, event: object) -> None:
            raise NotImplementedError

        def share_key(self, traced: object, parent: object) -> str:
            return "a"

        def bind(self, event: object) -> Any:
            return self

        bind_props = bind_span = bind_span_props = bind

        def start(self) -> None:
            recorded.append("start")

        def end(self, event: SpanEvent) -> None:
            recorded.append("end")

        def fold(self) -> None:
            raise NotImplementedError

    @traced
    def numbers() -> Iterator[int]:
        yield 1
        monkeypatch.setattr(_span, "clock", CLOCKS["raises"])
        yield 2
        monkeypatch.undo()
        yield 3

    set_trace_function(Recording())
    assert list(numbers()) == [1, 2, 3]
    assert recorded == ["start", "end"]
