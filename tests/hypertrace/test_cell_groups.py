"""Cell groups: cells, and lists of durations, that are counted in together."""

import math
import threading
from collections.abc import Iterator
from typing import Any

import pytest

import hypertrace
from hypertrace import Cell, SpanEvent, Tracer
from hypertrace._compiled import speedups
from hypertrace._recorders import guarded
from hypertrace.cells import CellGroup, CountCell, PythonCellGroup

KINDS = [
    (PythonCellGroup, CountCell),
    *([(speedups.CellGroup, speedups.Cell)] if speedups else []),
]


@pytest.mark.parametrize(("group_type", "cell_type"), KINDS)
def test_a_group_increments_all_its_cells(
    group_type: type[PythonCellGroup], cell_type: type[Cell]
) -> None:
    """Calling a group, or its method, adds one to each cell."""
    cells = (cell_type(), cell_type(), cell_type())
    group = group_type(cells)
    group()
    group.increment()
    cells[1].increment()
    assert [cell.value for cell in cells] == [2, 3, 2]


@pytest.mark.parametrize(("group_type", "cell_type"), KINDS)
def test_a_group_appends_a_duration_to_all_its_lists(
    group_type: type[PythonCellGroup], cell_type: type[Cell]
) -> None:
    """The end of a span adds one to each cell, and the scaled duration to each list."""
    cell = cell_type()
    seconds: list[float] = []
    milliseconds: list[float] = [0.0]
    minutes: list[float] = []
    group = group_type(
        (cell,), ((seconds, 1.0, 1.0), (milliseconds, 1000.0, 1.0), (minutes, 1.0, 60.0))
    )
    assert len(group) == 1
    group.append(0.5)
    group.append(0.25)
    assert (seconds, milliseconds) == ([0.5, 0.25], [0.0, 500.0, 250.0])
    assert minutes == [0.5 / 60, 0.25 / 60]
    assert (cell.value, len(group)) == (2, 3)


@pytest.mark.skipif(speedups is None, reason="compiled only")
def test_a_compiled_group_takes_nothing_that_could_run_code() -> None:
    """A compiled group refuses what is no cell, and what is no list of durations."""
    assert speedups is not None
    wrongs: list[tuple[Any, ...]] = [
        ((print,),),
        ((), (([], 1.0),)),
        ((), ((_no_list, 1.0, 1.0),)),
        ((), (1,)),
    ]
    for wrong in wrongs:
        with pytest.raises(TypeError):
            speedups.CellGroup(*wrong)
    with pytest.raises(TypeError):
        speedups.CellGroup(())(1)
    with pytest.raises(TypeError):
        speedups.CellGroup((), (([], 1.0, 1.0),)).append(1)


def _no_list() -> None:
    """Is no list."""


@pytest.mark.parametrize(("group_type", "cell_type"), KINDS)
def test_threads_lose_no_count(group_type: type[PythonCellGroup], cell_type: type[Cell]) -> None:
    """A group is exact while several threads count with it."""
    cells, durations = (cell_type(), cell_type()), list[float]()
    group = group_type(cells, ((durations, 2.0, 1.0),))

    def count() -> None:
        for _ in range(5_000):
            group()
            group.append(1.0)

    threads = [threading.Thread(target=count) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [cell.value for cell in cells] == [40_000, 40_000]
    assert durations == [2.0] * 20_000


def test_a_group_is_not_guarded() -> None:
    """A group can neither trace nor raise: the core calls it as it is."""
    increment = CellGroup((Cell(),)).increment
    assert guarded(increment, droppable=True) is increment


class _Groups:
    """Records calls and spans with groups."""

    def __init__(self) -> None:
        self.cells = (Cell(), Cell())
        self.lists: tuple[list[float], list[float]] = ([], [])
        self.ended: list[SpanEvent] = []
        self.folded = 0
        first, second = self.lists
        self.durations = CellGroup(self.cells, ((first, 1.0, 1.0), (second, 1000.0, 1.0)))
        self.edge = None
        self.start = Cell().increment

    def __call__(self, event: object) -> None:
        raise AssertionError(event)

    def share_key(self, *_: object) -> str:
        return ""

    def bind(self, _: object) -> object:
        return CellGroup(self.cells).increment

    def bind_props(self, _: object) -> object:
        known = {("a",): CellGroup(self.cells)}
        return hypertrace.PropsRecorder(("prop",), known, lambda *_: Cell()).record  # type: ignore[arg-type]

    def bind_span(self, _: object) -> object:
        return self

    def bind_span_props(self, _: object) -> object:
        return lambda _: self

    def end(self, event: SpanEvent) -> None:
        self.ended.append(event)

    def fold(self) -> None:
        self.folded += 1
        for one in self.lists:
            one.clear()


@pytest.fixture
def groups() -> Iterator[_Groups]:
    """Set a trace function that records with groups."""
    groups = _Groups()
    hypertrace.set_trace_function(groups)
    yield groups
    hypertrace.clear_trace_function()


def test_calls_count_in_all_cells(groups: _Groups) -> None:
    """A recorder without props, and one for known props, may be groups."""
    tracer = Tracer("Cart")
    for _ in range(3):
        tracer.trace()
        tracer.trace(prop="a")
    assert [cell.value for cell in groups.cells] == [6, 6]


def test_spans_that_end_well_only_append(groups: _Groups) -> None:
    """A span that ends well needs no event; others have one."""
    tracer = Tracer("Cart")
    for _ in range(3):
        with tracer.span():
            pass
    with tracer.span() as span:
        span.set(more=1)
    with pytest.raises(KeyError), tracer.span():
        raise KeyError
    assert [event.result for event in groups.ended] == ["ok", "error"]
    assert [cell.value for cell in groups.cells] == [3, 3]
    first, second = groups.lists
    assert [1000.0 * seconds for seconds in first] == second


def test_long_lists_are_folded(groups: _Groups) -> None:
    """The recorder folds when a list of the group is long."""
    tracer = Tracer("Cart")
    for _ in range(300):
        with tracer.span():
            pass
    assert groups.folded == 2


@pytest.mark.parametrize("odd", [math.nan, math.inf, -1.0, 1e16])
def test_odd_durations_have_an_event(
    groups: _Groups, monkeypatch: pytest.MonkeyPatch, odd: float
) -> None:
    """A duration that is no plausible one is for the recorder to look at."""
    times = iter([0.0, odd])
    monkeypatch.setattr("hypertrace._span.clock", lambda: next(times))
    with Tracer("Cart").span():
        pass
    (event,) = groups.ended
    assert event.duration == pytest.approx(odd, nan_ok=True)
