"""Recorders for calls with props."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from hypertrace import Caller, Cell
from hypertrace_prometheus.labels import Labeller
from hypertrace_prometheus.recorders import props_recorder
from hypertrace_prometheus.series import OVERFLOW, CounterSeries

if TYPE_CHECKING:
    from collections.abc import Callable

CALLER = Caller("f", "/srv/a.py", "a", 1, 1)


class HashRaises:
    def __hash__(self) -> int:
        raise ValueError("no hash")

    def __eq__(self, _: object) -> bool:
        raise ValueError("no comparison")

    def __str__(self) -> str:
        return "unhashable"


class EqRaises:
    """Has the hash of a text that was counted before, and cannot be compared with it."""

    def __hash__(self) -> int:
        return hash("x")

    def __eq__(self, _: object) -> bool:
        raise ValueError("no comparison")

    def __str__(self) -> str:
        return "incomparable"


class Recording:
    """A recorder for the props `topic` and `peer`, and what it asked for."""

    def __init__(self, limit: int = 10, max_length: int = 16, *names: str) -> None:
        self.series = CounterSeries("x_total", limit)
        self.asked: list[dict[str, object]] = []
        self.labeller = Labeller(names or ("topic", "peer"), max_length, object_ids=False)
        self.record: Callable[[dict[str, object]], object] = props_recorder(
            tuple(self.labeller.allowed), self.cell_for, self.series, self.labeller.text
        )

    def cell_for(self, props: dict[str, object]) -> Cell:
        self.asked.append(props)
        return self.series.cell(self.labeller.of_props("", props), CALLER)

    def values(self) -> dict[str, int]:
        return {text: cell.value for text, cell in self.series.items()}


def test_props_seen_before_are_not_looked_up_again() -> None:
    """The same short texts are counted without asking for their cell twice."""
    recording = Recording()
    for _ in range(3):
        recording.record({"topic": "a", "peer": "b"})
        recording.record({"topic": "a"})
        recording.record({"peer": "a", "other": 1})
        recording.record({"other": 2})
    assert len(recording.asked) == 4
    assert recording.values() == {'peer="b",topic="a"': 3, 'topic="a"': 3, 'peer="a"': 3, "": 3}


def test_without_allowed_props_one_cell_counts_all() -> None:
    """Where no prop is allowed, props make no difference."""
    series = CounterSeries("x_total", 10)
    record = props_recorder((), lambda _: series.cell({}, CALLER), series, str)
    for number in range(3):
        record({"topic": number})
    assert {text: cell.value for text, cell in series.items()} == {"": 3}


def test_equal_values_of_other_types_are_other_texts() -> None:
    """1, True and 1.0 are equal, but not the same text."""
    recording = Recording()
    for _ in range(2):
        for value in (1, True, 1.0, "1", "True"):
            recording.record({"topic": value})
    assert recording.values() == {'topic="1"': 4, 'topic="True"': 4, 'topic="1.0"': 2}


@pytest.mark.parametrize(
    ("value", "text"),
    [(HashRaises(), "unhashable"), (EqRaises(), "incomparable"), (["a"], "['a']")],
    ids=["hash raises", "eq raises", "list"],
)
def test_values_that_cannot_be_looked_up_are_counted(value: object, text: str) -> None:
    """A value that has no hash, or whose hash or comparison raises, is counted by its text."""
    recording = Recording()
    recording.record({"topic": "x"})
    for _ in range(2):
        recording.record({"topic": value})
    assert recording.values() == {'topic="x"': 1, f'topic="{text}"': 2}


@pytest.mark.parametrize(
    "values",
    [
        [object() for _ in range(50)],
        ["x" * 16 + str(number) for number in range(50)],
        ["\ud800" * 10 + str(number) for number in range(50)],
    ],
    ids=["objects", "too long", "too long once they are text"],
)
def test_what_a_recorder_keeps_is_bounded_by_the_series(values: list[object]) -> None:
    """Values that are not their own text are not kept: many of them may be one series."""
    recording = Recording(1_000)
    for _ in range(2):
        for value in values:
            recording.record({"topic": value})
    assert len(recording.asked) == 100
    assert sum(recording.values().values()) == 100


def test_the_overflow_is_not_remembered() -> None:
    """Past the limit each value is looked up anew, and known ones stay fast."""
    recording = Recording(limit=2)
    for number in range(5):
        recording.record({"topic": str(number)})
    recording.asked.clear()
    for number in range(5):
        recording.record({"topic": str(number)})
    assert [props["topic"] for props in recording.asked] == ["2", "3", "4"]
    assert recording.values() == {'topic="0"': 2, 'topic="1"': 2, OVERFLOW: 6}


def test_props_are_neither_kept_nor_changed() -> None:
    """The mapping stays the caller's, who may change it and use it again."""
    recording = Recording()
    props: dict[str, object] = {"topic": "a", "secret": "s"}
    recording.record(props)
    assert props == {"topic": "a", "secret": "s"}
    props["topic"] = "b"
    recording.record(props)
    assert recording.values() == {'topic="a"': 1, 'topic="b"': 1}
