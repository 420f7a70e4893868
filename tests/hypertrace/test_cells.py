"""Cells: counters that many threads increment."""

import sys
import threading
from collections.abc import Iterator

import pytest

import hypertrace
from hypertrace._compiled import speedups
from hypertrace.cells import CountCell, LockedCell

CELLS = [CountCell, LockedCell, *([speedups.Cell] if speedups else [])]


@pytest.fixture
def _many_switches() -> Iterator[None]:
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(before)


@pytest.mark.parametrize("cell_type", CELLS)
def test_a_cell_counts_from_zero(cell_type: type[CountCell | LockedCell]) -> None:
    """A cell starts at 0, each increment adds one, and reading changes nothing."""
    cell = cell_type()
    assert (cell.value, cell.value) == (0, 0)
    cell.increment()
    assert (cell.value, cell.value) == (1, 1)
    for _ in range(1000):
        cell.increment()
    assert cell.value == 1001


@pytest.mark.parametrize("cell_type", CELLS)
def test_increment_can_be_kept(cell_type: type[CountCell | LockedCell]) -> None:
    """The increment of a cell is a separate callable, for recorders, that keeps the cell alive."""
    cell = cell_type()
    increment = cell.increment
    increment()
    increment()
    assert cell.value == 2


@pytest.mark.parametrize("cell_type", CELLS)
def test_a_cell_can_start_again(cell_type: type[CountCell | LockedCell]) -> None:
    """After a reset a cell counts from 0, also through what was kept of it, and again."""
    cell = cell_type()
    increment = cell.increment
    for count in (3, 2, 0):
        for _ in range(count):
            increment()
        cell()
        assert cell.value == count + 1
        cell.reset()
        assert cell.value == 0


@pytest.mark.usefixtures("_many_switches")
@pytest.mark.parametrize("cell_type", CELLS)
def test_no_count_is_lost_among_threads(cell_type: type[CountCell | LockedCell]) -> None:
    """Increments from many threads are all counted, while others read."""
    cell = cell_type()
    seen: list[int] = []

    def count() -> None:
        increment = cell.increment
        for i in range(20_000):
            increment()
            if i % 500 == 0:
                seen.append(cell.value)

    threads = [threading.Thread(target=count) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert cell.value == 80_000
    assert max(seen) <= 80_000


def test_a_count_beyond_a_machine_word_is_exact() -> None:
    """A count has no upper bound."""
    cell = CountCell(sys.maxsize - 1)
    for _ in range(3):
        cell.increment()
    assert cell.value == sys.maxsize + 2


def test_the_public_cell_is_the_one_that_is_exact_here() -> None:
    """Where there is a GIL a cell needs no lock; elsewhere it has one."""
    gil = getattr(sys, "_is_gil_enabled", lambda: True)()
    expected: type[object] = CountCell if gil else LockedCell
    if speedups is not None:
        expected = speedups.Cell
    assert hypertrace.Cell is expected
