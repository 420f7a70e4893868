"""Recorders: what counts without an event, and how those of others are called."""

import logging
from collections.abc import Callable, Mapping
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
        self._recorder = PropsRecorder(names, {}, self._make)

    def _make(self, values: tuple[object, ...], props: Mapping[str, object]) -> Any:
        self.made.append(values)
        texts = tuple(value if value is None else str(value) for value in values)
        increment = self.cells.setdefault(texts, Cell()).increment
        if texts == values:
            self._recorder.known[values] = increment
        return increment

    def __call__(self, event: TraceEvent) -> None:
        raise NotImplementedError

    def share_key(self, traced: TracedObject, parent: TracedObject | None) -> str:
        return traced.class_name

    def bind(self, event: TraceEvent) -> Callable[[], object]:
        raise NotImplementedError

    def bind_props(self, event: TraceEvent) -> Callable[[Mapping[str, object]], object]:
        return self._recorder.record


@pytest.mark.parametrize("names", [("a",), ("a", "b")])
def test_values_that_are_known_are_not_made_again(names: tuple[str, ...]) -> None:
    """Equal texts are counted by what was made for the first of them."""
    counting = Counting(*names)
    set_trace_function(counting)
    tracer = Tracer("a")
    for value in ("x", "x", None, "x", None):
        tracer.trace(a=value, b="y")
        tracer.trace({"a": value, "b": "y"})
    rest = ("y",) * (len(names) - 1)
    assert counting.made == [("x", *rest), (None, *rest)]
    assert [cell.value for cell in counting.cells.values()] == [6, 4]


@pytest.mark.parametrize("names", [("a",), ("a", "b")])
def test_neither_values_nor_their_types_are_hashed(names: tuple[str, ...]) -> None:
    """A value is counted though neither it nor its class can be hashed or compared."""
    counting = Counting(*names)
    set_trace_function(counting)
    tracer, value = Tracer("a"), Value()
    for _ in range(3):
        tracer.trace(a=value, b="y")
        tracer.trace({"a": "y", "b": value})
    assert sum(cell.value for cell in counting.cells.values()) == 6
    assert swallowed_errors() == 0


def test_the_log_names_the_recorder_that_failed(caplog: pytest.LogCaptureFixture) -> None:
    """What a recorder raises is told of by its own name, not of what calls it."""

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
