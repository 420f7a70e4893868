"""Page cells: counts of buckets, compiled, in Python, and with a lock."""

from __future__ import annotations

import random
import sys
from typing import TYPE_CHECKING, Any

import pytest

from hypertrace._compiled import gil_enabled, speedups
from hypertrace.page_cells import LockedPage, OneStepPage, PageCell, size_of_page

from ..running import in_threads

if TYPE_CHECKING:
    from collections.abc import Iterator

KINDS = [PageCell, OneStepPage, LockedPage]
EXACT = [one for one in KINDS if gil_enabled() or one is not OneStepPage]
each_kind = pytest.mark.parametrize("kind", KINDS)


@pytest.fixture
def _quick_switches() -> Iterator[None]:
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(interval)


def cells(page: Any) -> list[int]:
    return list(memoryview(page.data).cast("Q"))


@pytest.mark.skipif(not speedups, reason="needs the compiled core")
def test_the_compiled_page_is_used_where_it_can_be_had() -> None:
    """Without it the one in Python is."""
    assert PageCell is getattr(speedups, "PageCell", None)


@each_kind
def test_a_page_counts_at_places(kind: Any) -> None:
    """It starts at zero, and does so again after a reset."""
    page = kind(4)
    for place in (0, 3, 3):
        page.add(place)
    assert cells(page) == [1, 0, 0, 2]
    page.reset()
    assert cells(page) == [0, 0, 0, 0]
    page.add(1)
    assert cells(page) == [0, 1, 0, 0]


@each_kind
def test_a_slot_with_another_stamp_is_emptied(kind: Any) -> None:
    """Its counts are those of its stamp, whether that is a later or an earlier one."""
    page = kind(3, 2)
    assert len(cells(page)) == size_of_page(3, 2) == 8
    page.add_in_slot(0, 0, 10)
    page.add_in_slot(2, 0, 10)
    page.add_in_slot(1, 1, 11)
    assert cells(page) == [10, 1, 0, 1, 11, 0, 1, 0]
    page.add_in_slot(1, 0, 12)
    assert cells(page) == [12, 0, 1, 0, 11, 0, 1, 0]
    page.add_in_slot(1, 1, 9)
    page.add_in_slot(1, 1, 9)
    assert cells(page) == [12, 0, 1, 0, 9, 0, 2, 0]


@each_kind
@pytest.mark.parametrize("seed", range(5))
def test_a_page_agrees_with_a_model(kind: Any, seed: int) -> None:
    """After any additions, with stamps that mostly rise."""
    rng, page = random.Random(seed), kind(5, 3)
    model: dict[int, list[int]] = {slot: [0] * 6 for slot in range(3)}
    now = 1
    for _ in range(2_000):
        now = max(1, now + rng.choice((0, 0, 0, 1, -3)))
        place, slot = rng.randrange(5), now % 3
        if model[slot][0] != now:
            model[slot] = [now, 0, 0, 0, 0, 0]
        model[slot][1 + place] += 1
        page.add_in_slot(place, slot, now)
    assert cells(page) == [*model[0], *model[1], *model[2]]


@pytest.mark.parametrize("kind", EXACT)
@pytest.mark.usefixtures("_quick_switches")
def test_threads_count_exactly(kind: Any) -> None:
    """No addition is lost, in pages with slots and without."""
    page, ring = kind(2), kind(2, 1)

    def add() -> None:
        for _ in range(5_000):
            page.add(1)
            ring.add_in_slot(0, 0, 7)

    in_threads(add, add, add, add)
    assert cells(page) == [0, 20_000]
    assert cells(ring) == [7, 20_000, 0]


@pytest.mark.skipif(not speedups, reason="needs the compiled core")
def test_a_compiled_page_checks_its_arguments() -> None:
    """No mistake writes outside of its cells."""
    make: Any = PageCell
    page, ring = make(3), make(3, 2)
    wrong: Any
    for wrong in (
        lambda: page.add(3),
        lambda: page.add(-1),
        lambda: ring.add(0),
        lambda: ring.add_in_slot(3, 0, 1),
        lambda: ring.add_in_slot(0, 2, 1),
        lambda: page.add_in_slot(0, 0, 1),
    ):
        with pytest.raises(IndexError):
            wrong()
    for sizes in ((0,), (-1,), (3, -1), (1 << 62, 1 << 62)):
        with pytest.raises(ValueError, match="no page has"):
            make(*sizes)
    for mistyped in (lambda: page.add("1"), lambda: page.add(1, 2), make):
        with pytest.raises(TypeError):
            mistyped()
