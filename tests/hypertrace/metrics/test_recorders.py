"""Recorders for calls with props."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from hypertrace import Caller, Cell, SpanEvent, TracedObject, Upstream
from hypertrace.metrics import Declaration
from hypertrace.metrics.aggregations import Spans
from hypertrace.metrics.labels import Labeller
from hypertrace.metrics.recorders import PropsIndex, SpansRecorder, props_recorder
from hypertrace.metrics.series import SeriesTable
from hypertrace.metrics.series_kinds import COUNT_SERIES

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from hypertrace.events import Result
    from hypertrace.metrics.labels import Values

    Increment = Callable[[], object]

CALLER = Caller("f", "/srv/a.py", "a", 1, 1)
KEY = ("Cart",), ()
OVERFLOW = "<overflow>"


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


class EqualToText:
    """Has the hash of a text that was counted before, and says that it is the same."""

    def __hash__(self) -> int:
        return hash("a")

    def __eq__(self, _: object) -> bool:
        return True

    def __str__(self) -> str:
        return "another text"


class Recording:
    """A recorder for the props `topic` and `peer`, and what it asked for."""

    def __init__(self, limit: int = 10, max_length: int = 16, *names: str) -> None:
        allowed = {name: name for name in names or ("topic", "peer")}
        self.labeller = Labeller(allowed, max_length, object_ids=False)
        declaration = Declaration("counter", "x_total", description="How often.")
        label_names = ("class",), self.labeller.prop_names
        self.series = SeriesTable(declaration, limit, label_names, COUNT_SERIES)
        self.asked: list[Values] = []
        overflow = self.series.overflow.cell.increment
        self.index: PropsIndex[Increment] = PropsIndex(
            self.labeller, self.increment_for, lambda increment: increment != overflow
        )
        self.record = props_recorder(self.index)

    def increment_for(self, values: Values) -> Increment:
        self.asked.append(values)
        return self.series.get((("",), values), CALLER).cell.increment

    def values(self) -> dict[Values, int]:
        """Give the counts by the values of the props; the class stands before those of overflow."""
        return {
            one.labels if one is self.series.overflow else one.labels[1:]: one.value
            for one in self.series.all()
            if one.value
        }


def test_props_seen_before_are_not_looked_up_again() -> None:
    """The same short texts are counted without asking for their cell twice."""
    recording = Recording()
    for _ in range(3):
        recording.record({"topic": "a", "peer": "b"})
        recording.record({"topic": "a"})
        recording.record({"peer": "a", "other": 1})
        recording.record({"other": 2})
    assert len(recording.asked) == 4
    assert recording.values() == {
        ("a", "b"): 3,
        ("a", ""): 3,
        ("", "a"): 3,
        ("", ""): 3,
    }


def test_an_index_finds_what_a_recorder_counts() -> None:
    """Asked for props, the index gives the same as a recorder that was called with them."""
    recording = Recording()
    recording.record({"topic": "a"})
    for topic in ("a", "b", ["a"]):
        for _ in range(2):
            recording.index.find({"topic": topic})()
    assert recording.values() == {("a", ""): 3, ("b", ""): 2, ("['a']", ""): 2}
    assert recording.asked == [(topic, "") for topic in ("a", "b", "['a']", "['a']")]


def test_an_index_distinguishes_what_says_that_it_is_equal() -> None:
    """A value that says it equals a text which was counted before is counted by its own."""
    recording = Recording()
    for topic in ("a", EqualToText(), "a"):
        recording.index.find({"topic": topic})()
    assert recording.values() == {("a", ""): 2, ("another text", ""): 1}


def test_without_allowed_props_one_cell_counts_all() -> None:
    """Where no prop is allowed, props make no difference."""
    cell = Cell()
    labeller = Labeller({}, 16, object_ids=False)
    record = props_recorder(PropsIndex(labeller, lambda _: cell.increment, lambda _: True))
    for number in range(3):
        record({"topic": number})
    assert cell.value == 3


def test_equal_values_of_other_types_are_other_texts() -> None:
    """1, True and 1.0 are equal, but not the same text."""
    recording = Recording()
    for _ in range(2):
        for value in (1, True, 1.0, "1", "True"):
            recording.record({"topic": value})
    assert recording.values() == {("1", ""): 4, ("True", ""): 4, ("1.0", ""): 2}


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
    assert recording.values() == {("x", ""): 1, (text, ""): 2}


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
    """Past the limit each value is looked up again, and known ones stay fast."""
    recording = Recording(limit=2)
    for number in range(5):
        recording.record({"topic": str(number)})
    recording.asked.clear()
    for number in range(5):
        recording.record({"topic": str(number)})
    assert [topic for topic, _ in recording.asked] == ["2", "3", "4"]
    assert recording.values() == {("0", ""): 2, ("1", ""): 2, (OVERFLOW, "", ""): 6}


def test_props_are_neither_kept_nor_changed() -> None:
    """The mapping stays the caller's, who may change it and use it again."""
    recording = Recording()
    props: dict[str, object] = {"topic": "a", "secret": "s"}
    recording.record(props)
    assert props == {"topic": "a", "secret": "s"}
    props["topic"] = "b"
    recording.record(props)
    assert recording.values() == {("a", ""): 1, ("b", ""): 1}


# --- spans ------------------------------------------------------------------------------


class FakeEnds:
    """Stands for what finds the series that spans end in: those with props end in `there`."""

    by_entry = False

    def __init__(self, exemplar: Mapping[str, str] | None = None) -> None:
        self.there = Spans(KEY, (1.0,))
        self.endings: list[SpanEvent] = []
        self._exemplar = exemplar

    def spans_of(self, event: SpanEvent) -> Spans:
        return self.there

    def count_exception(self, event: SpanEvent) -> None:
        self.endings.append(event)

    def exemplar(self) -> Mapping[str, str] | None:
        return self._exemplar


def ending(props: Mapping[str, object] | None = None, result: Result = "ok") -> SpanEvent:
    caller = Caller("f", "/srv/a.py", "a", 1, 1, props)
    return SpanEvent(None, TracedObject("Cart", 1), None, caller, 0.5, result)


def test_a_simple_span_is_no_more_than_an_append() -> None:
    """What is appended to the list is a finished span, and `fold` makes room in it."""
    here = Spans(KEY, (1.0,))
    recorder = SpansRecorder(here, FakeEnds(), None, simple=True)
    assert recorder.durations is not None
    for _ in range(3):
        recorder.start()
        recorder.durations.append(0.5)
    recorder.fold()
    assert recorder.durations == []
    assert (here.read().finished, here.read().open) == (3, 0)


def test_a_span_with_more_to_report_has_no_list() -> None:
    """Where exemplars are wanted, the end of each span is reported."""
    metrics = FakeEnds(exemplar={"trace_id": "a"})
    here = Spans(KEY, (1.0,))
    recorder = SpansRecorder(here, metrics, None, simple=False)
    assert recorder.durations is None
    recorder.start()
    recorder.end(ending(result="error"))
    assert (here.read().finished, here.read().open) == (1, 0)
    assert here.results["error"].value.exemplars[0].labels == {"trace_id": "a"}
    assert [event.result for event in metrics.endings] == ["error"]


@pytest.mark.parametrize("result", ["weird", 'o"k', None, [], 7])
def test_a_result_that_no_span_has_makes_no_series(result: Any) -> None:
    """An event that was made by hand with another result is counted among the failed."""
    here = Spans(KEY, (1.0,))
    recorder = SpansRecorder(here, FakeEnds(), None, simple=True)
    recorder.end(ending(result=result))
    assert here.results.keys() == {"ok", "error"}
    assert here.results["error"].value.count == 1


def test_a_span_whose_props_changed_ends_elsewhere(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is open where it started and finished where it ends; the number open is never below 0."""
    metrics, here, seen = FakeEnds(), Spans(KEY, (1.0,)), []
    end = Spans.end

    def end_and_look(self: Spans, result: str, seconds: float) -> None:
        seen.append((here.read().open, metrics.there.read().open))
        end(self, result, seconds)
        seen.append((here.read().open, metrics.there.read().open))

    monkeypatch.setattr(Spans, "end", end_and_look)
    recorder = SpansRecorder(here, metrics, None, simple=True)
    recorder.start()
    recorder.end(ending({"topic": "a"}))
    assert min(min(both) for both in seen) == 0
    assert seen[-1] == (0, 0)
    assert (here.read().finished, metrics.there.read().finished) == (0, 1)


def test_a_recorder_knows_the_edges() -> None:
    """Who wants edges finds in the recorder what counts those from another span."""
    cell = Cell()
    recorder = SpansRecorder(Spans(KEY, (1.0,)), FakeEnds(), lambda _: cell.increment, simple=True)
    assert recorder.edge is not None
    recorder.edge(Upstream("Shop", "serve"))()
    assert cell.value == 1
