"""Recorders: callables that count without an event, and how third-party ones are called."""

import logging
import sys
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from math import inf
from timeit import Timer
from typing import Any

import pytest

from hypertrace import (
    Cell,
    PropsRecorder,
    TracedObject,
    TraceEvent,
    Tracer,
    set_trace_function,
    swallowed_errors,
)


class Unhashable(type):
    """A class of classes that can be neither hashed nor compared."""

    def __hash__(cls) -> int:
        raise ArithmeticError

    def __eq__(cls, other: object) -> bool:
        raise ArithmeticError


class Value(metaclass=Unhashable):
    def __hash__(self) -> int:
        raise ArithmeticError


class Counting:
    """Counts calls by the values of some props."""

    def __init__(self, *names: str) -> None:
        self.cells: dict[tuple[object, ...], Cell] = {}
        self.made: list[tuple[object, ...]] = []
        self.recorder = PropsRecorder(names, {}, self._make)

    def _make(self, values: tuple[object, ...], props: Mapping[str, object]) -> Any:
        self.made.append(values)
        texts = tuple(value if value is None else str(value) for value in values)
        increment = self.cells.setdefault(texts, Cell()).increment
        if texts == values:
            self.recorder.known[values] = increment
        return increment

    def __call__(self, event: TraceEvent) -> None:
        raise NotImplementedError

    def share_key(self, traced: TracedObject, parent: TracedObject | None) -> str:
        return traced.class_name

    def bind(self, event: TraceEvent) -> Callable[[], object]:
        raise NotImplementedError

    def bind_props(self, event: TraceEvent) -> Callable[[Mapping[str, object]], object]:
        return self.recorder.record


NAMES = pytest.mark.parametrize("names", [tuple("abcd"[:count]) for count in range(5)])
"""None, one and two are spelled out; further ones are looked at in a loop."""


@NAMES
def test_values_that_are_known_are_not_made_again(names: tuple[str, ...]) -> None:
    """Equal texts are counted by what was made for the first of them, whichever are left out."""
    counting = Counting(*names)
    set_trace_function(counting)
    tracer = Tracer("a")
    whole: dict[str, str | None] = dict.fromkeys(names, "x")
    calls = [
        {},
        whole,
        *({name: whole[name]} for name in names),
        *({**whole, name: None} for name in names),
    ]
    for _ in range(3):
        for props in calls:
            tracer.trace(**{"other": "z", **props})
            tracer.trace({"other": "z", **props})
    keys = [tuple(props.get(name) for name in names) for props in calls]
    assert counting.made == list(dict.fromkeys(keys))
    expected = {key: 6 * keys.count(key) for key in keys}
    assert {key: cell.value for key, cell in counting.cells.items()} == expected


@NAMES
def test_neither_values_nor_their_types_are_hashed(names: tuple[str, ...]) -> None:
    """A value is counted though neither it nor its class can be hashed or compared."""
    counting = Counting(*names)
    set_trace_function(counting)
    tracer, value = Tracer("a"), Value()
    for _ in range(3):
        for name in names:
            props = {**dict.fromkeys(names, "y"), name: value}
            tracer.trace(**props)
            tracer.trace(props)
    assert sum(cell.value for cell in counting.cells.values()) == 6 * len(names)
    assert swallowed_errors() == 0


@NAMES
def test_only_exact_texts_are_looked_up(names: tuple[str, ...]) -> None:
    """A value that says it equals a known text is not looked up, and its own code is not run."""
    ran: list[str] = []

    class Pretending(str):
        __slots__ = ()

        def __hash__(self) -> int:
            ran.append("hash")
            return hash("x")

        def __eq__(self, other: object) -> bool:
            ran.append("eq")
            return True

    class Making(Counting):
        def _make(self, values: tuple[object, ...], props: Mapping[str, object]) -> Any:
            self.made.append(values)
            return Cell().increment

    counting, known = Making(*names), Cell()
    counting.recorder.known[("x",) * len(names)] = known.increment
    set_trace_function(counting)
    tracer = Tracer("a")
    for name in names:
        for value in ("x", Pretending("y")):
            tracer.trace(**{**dict.fromkeys(names, "x"), name: value})
    assert known.value == len(counting.made) == len(names)
    assert ran == []


@pytest.fixture
def _unmeasured() -> Iterator[None]:
    """Keep the measuring of coverage away from what is timed."""
    tracing = sys.gettrace()
    sys.settrace(None)
    yield
    sys.settrace(tracing)


@pytest.mark.usefixtures("_unmeasured")
def test_two_names_take_less_than_twice_the_time_of_one() -> None:
    """Known values of two props are counted in less than twice the time of one."""
    one = PropsRecorder(("b",), {("y",): Cell().increment}, lambda *_: Cell().increment)
    two = PropsRecorder(("a", "b"), {(None, "y"): Cell().increment}, lambda *_: Cell().increment)
    timers = [Timer(partial(recorder.record, {"b": "y"})) for recorder in (one, two)]
    fastest = [inf, inf]
    for turn in range(2_000):  # short ones: under load, too, some are not interrupted
        fastest = [
            min(each, timer.timeit(200)) for each, timer in zip(fastest, timers, strict=True)
        ]
        if turn > 100 and fastest[1] < 2 * fastest[0]:
            return
    pytest.fail(f"two names take {fastest[1] / fastest[0]:.1f} times the time of one")


def test_the_log_names_the_recorder_that_failed(caplog: pytest.LogCaptureFixture) -> None:
    """An error of a recorder is logged with its name, not that of its caller."""

    class Failing(Counting):
        def bind(self, event: TraceEvent) -> Callable[[], object]:
            return self.record

        bind_props = bind  # type: ignore[assignment]

        def record(self, *props: object) -> None:
            raise LookupError

    set_trace_function(Failing())
    for _ in range(3):
        Tracer("a").trace()
        Tracer("a").trace(a="b")
    assert swallowed_errors() == 6
    assert [record.levelno for record in caplog.records] == [logging.ERROR]
    assert "Failing.record;" in caplog.text
