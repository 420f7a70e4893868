"""Sample cells: what is held of the values, compiled and in Python."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hypertrace._compiled import gil_enabled, speedups
from hypertrace.number_cells import HistogramCell, LockedHistogram, OneStepHistogram
from hypertrace.sample_cells import PythonSampleCell, SampleCell

from ..running import growth, in_threads

if TYPE_CHECKING:
    from collections.abc import Iterator

KINDS = [SampleCell, PythonSampleCell]
each_kind = pytest.mark.parametrize("kind", KINDS)


@pytest.fixture
def _quick_switches() -> Iterator[None]:
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(interval)


@pytest.mark.skipif(not speedups, reason="needs the compiled core")
def test_the_compiled_cell_is_used_where_it_can_be_had() -> None:
    """Without it the one in Python is."""
    assert SampleCell is getattr(speedups, "SampleCell", None)


@each_kind
@given(room=st.integers(1, 40), batches=st.lists(st.lists(st.floats(allow_nan=False), max_size=60)))
def test_all_values_are_held_while_there_is_room(
    kind: Any, room: int, batches: list[list[float]]
) -> None:
    """In the order in which they came; of more, as many as there is room for. Taking empties it."""
    cell = kind(room)
    assert cell.room == room
    for number, batch in enumerate(batches):
        if number % 2:
            cell.extend(batch)
        else:
            for value in batch:
                cell.add(value)
        seen, values = cell.take()
        assert seen == len(batch)
        if seen <= room:
            assert values == batch
        else:
            assert len(values) == room
            rest = batch.copy()
            for value in values:
                rest.remove(value)
    assert cell.take() == (0, [])


@each_kind
def test_each_value_has_the_same_chance(kind: Any) -> None:
    """Also the first and the last ones of many; the values that are held differ each time."""
    cell = kind(100)
    thirds, found = [0, 0, 0], []
    for _ in range(30):
        for number in range(3_000):
            cell.add(float(number))
        seen, values = cell.take()
        assert (seen, len(set(values))) == (3_000, 100)
        found.append(tuple(sorted(values)))
        for value in values:
            thirds[int(value // 1_000)] += 1
    assert len(set(found)) == 30
    assert all(850 < third < 1_150 for third in thirds)  # 1 000 ± 26, one standard deviation


@each_kind
def test_what_is_no_float_is_left_out_of_a_list(kind: Any) -> None:
    """Such as what a patched clock gave: nothing is called to convert it."""
    cell = kind(10)
    cell.extend([1.5, 2, None, "3", True, 4.5])
    assert cell.take() == (2, [1.5, 4.5])


@each_kind
@pytest.mark.parametrize("room", [0, -1, 1 << 40])
def test_there_is_room_for_some(kind: Any, room: int) -> None:
    """Another room is refused."""
    with pytest.raises(ValueError, match=f"no samples have room for {room} values"):
        kind(room)


@pytest.mark.skipif(not speedups, reason="needs the compiled core")
def test_the_compiled_cell_checks_its_arguments() -> None:
    """They are those of other C code, or of a mistake."""
    cell: Any = SampleCell(4)
    with pytest.raises(TypeError, match="a sample is a float, not 'x'"):
        cell.add("x")
    with pytest.raises(TypeError, match=r"samples are a list, not \(1\.0,\)"):
        cell.extend((1.0,))
    histogram: Any = HistogramCell((1.0,))
    with pytest.raises(TypeError, match="samples must be a SampleCell, not 'x'"):
        histogram.samples = "x"
    assert histogram.samples is None


@each_kind
@pytest.mark.usefixtures("_quick_switches")
def test_threads_that_add_and_take_break_nothing(kind: Any) -> None:
    """All are counted; at most what threads are adding is held beyond the room."""
    cell = kind(50)
    taken: list[tuple[int, list[float]]] = []

    def add() -> None:
        for _ in range(5_000):
            cell.add(1.0)

    def take() -> None:
        taken.extend(cell.take() for _ in range(500))

    in_threads(add, add, add, take)
    taken.append(cell.take())
    assert sum(number for number, _ in taken) == 15_000 or not gil_enabled()
    assert max(len(values) for _, values in taken) <= 50 + 3
    assert {value for _, values in taken for value in values} <= {1.0}


@each_kind
def test_a_cell_does_not_grow(kind: Any) -> None:
    """However many values come."""
    cell = kind(20)
    assert growth(lambda number: cell.add(float(number))) < 2_000


@pytest.mark.parametrize("kind", [HistogramCell, OneStepHistogram, LockedHistogram])
def test_a_histogram_adds_each_value_to_its_samples(kind: Any) -> None:
    """As it is counted, while there are samples; a value that is refused is in neither."""
    histogram = kind((1.0,))
    assert histogram.samples is None
    histogram.add(0.25)
    samples = histogram.samples = SampleCell(10)
    assert histogram.samples is samples
    histogram.convert = lambda value: 7.0 if value == "seven" else None
    for value in (0.5, 3, "seven", "none"):
        histogram.add(value)
    assert samples.take() == (3, [0.5, 3.0, 7.0])
    histogram.samples = None
    histogram.add(0.75)
    assert samples.take() == (0, [])
    assert histogram.value == ((3, 2), 11.5)


@pytest.mark.skipif(not gil_enabled(), reason="needs a GIL")
def test_a_histogram_frees_its_samples() -> None:
    """With the last reference."""
    samples = SampleCell(10)
    before = sys.getrefcount(samples)
    histogram = HistogramCell((1.0,))
    histogram.samples = samples
    assert sys.getrefcount(samples) == before + 1
    del histogram
    assert sys.getrefcount(samples) == before
