"""Bucket cells: exponential buckets in pages, compiled, in Python, and with a lock."""

from __future__ import annotations

import gc
import math
import random
import sys
import time
import weakref
from typing import TYPE_CHECKING, Any, cast

import pytest

from hypertrace._compiled import gil_enabled, speedups
from hypertrace.bucket_cells import (
    Buckets,
    LockedPage,
    OneStepPage,
    PageCell,
    PythonBuckets,
    Shape,
    size_of_page,
    stamps_at,
)
from hypertrace.number_cells import HistogramCell

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


KINDS_OF_BUCKETS = [Buckets, PythonBuckets]
each_kind_of_buckets = pytest.mark.parametrize("kind", KINDS_OF_BUCKETS)
LIMITS = (0.5, 0.6, 0.7, 0.8, 0.9)
SHAPE = Shape(LIMITS, 8, 7)
RING = Shape(LIMITS, 8, 7, 3, 2.5)


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


# --- buckets ------------------------------------------------------------------------------


def all_cells(buckets: Any) -> dict[int, list[int]]:
    return {number: cells(page) for number, page in buckets.pages.items()}


def _value(rng: random.Random) -> float:
    size = rng.choice((2.0 ** rng.uniform(-12, 12), rng.choice(LIMITS), 0.0, 5e-324, 1.7e308))
    return rng.choice((-1, 1)) * size * 2.0 ** rng.choice((0, 0, 0, 1, -3))


@pytest.mark.skipif(not speedups, reason="needs the compiled core")
@pytest.mark.parametrize("shape", [SHAPE, RING], ids=["pages", "ring"])
@pytest.mark.parametrize("seed", range(20))
def test_compiled_buckets_count_as_those_in_python(shape: Shape, seed: int) -> None:
    """The same cells of the same pages, whatever the values and the clock are."""
    rng, now = random.Random(seed), [rng_start(seed)]
    both = [kind(HistogramCell(()), shape, None, lambda: now[0]) for kind in KINDS_OF_BUCKETS]
    for _ in range(300):
        value = _value(rng)
        if math.isfinite(value):
            for each in both:
                each.add(value)
        if rng.random() < 0.1:
            now[0] += rng.choice((0.5, 1.0, 2.5, 7.5, -2.5, -100.0, 1e9, 1e-9))
    assert all_cells(both[0]) == all_cells(both[1])


def rng_start(seed: int) -> float:
    """Give a moment to start at: any, the end of a slot, or one that no clock shows."""
    return (1_700_000_000.0, 1_700_000_002.5, 7.5, 0.0, -3.0, 1e30, math.nan, math.inf)[seed % 8]


@each_kind_of_buckets
def test_pages_are_made_on_first_need(kind: Any) -> None:
    """By the function that is given, each once, with its number."""
    made: list[int] = []

    def make(number: int) -> Any:
        made.append(number)
        return PageCell(7)

    buckets = kind(HistogramCell(()), SHAPE, make)
    for value in (1.0, 1.0, -1.0, 300.0, 0.0):
        buckets.add(value)
    assert made == [5, -6, 11, 0]
    assert sum(map(sum, all_cells(buckets).values())) == 5
    buckets.reset()
    assert set(map(sum, all_cells(buckets).values())) == {0}


@each_kind_of_buckets
def test_what_raises_in_the_making_of_a_page_passes_on(kind: Any) -> None:
    """As a `KeyboardInterrupt` may at any moment; nothing is counted."""

    def make(_: int) -> Any:
        raise KeyboardInterrupt

    total = HistogramCell(())
    with pytest.raises(KeyboardInterrupt):
        kind(total, SHAPE, make).add(1.0)
    assert total.value == ((0,), 0.0)


@each_kind_of_buckets
def test_the_systems_clock_is_used_without_another(kind: Any) -> None:
    """What is counted has the stamp of the present slot."""
    buckets = kind(HistogramCell(()), Shape(LIMITS, 8, 7, 3, 1e6))
    buckets.add(1.0)
    newest = int(time.time() // 1e6) * 10**12
    assert stamps_at(time.time(), 3, 1e6) == {newest, newest - 10**12, newest - 2 * 10**12}
    assert newest in all_cells(buckets)[5]


@pytest.mark.skipif(not speedups, reason="needs the compiled core")
def test_compiled_buckets_check_their_arguments() -> None:
    """No mistake reads or writes outside of their memory."""
    total, make = HistogramCell(()), cast("Any", Buckets)
    for wrong in ((LIMITS, 0, 7), (LIMITS, 2000, 7), (LIMITS, 8, 0), ((), 8, 7), (LIMITS, 8, 7, 3)):
        with pytest.raises(ValueError, match=r"shape|no page has"):
            make(total, Shape(*wrong))
    for mistyped in ((None, SHAPE), (total, [1]), (total, (("x",), 8, 7, 0, 0.0)), (total, (1,))):
        with pytest.raises(TypeError):
            make(*mistyped)
    with pytest.raises(TypeError, match="must return a page"):
        make(total, SHAPE, lambda _: PageCell(8)).add(1.0)
    with pytest.raises(TypeError, match="must return a page"):
        make(total, SHAPE, lambda _: None).add(1.0)


@each_kind_of_buckets
def test_buckets_are_freed(kind: Any) -> None:
    """Also where the function that makes pages holds them, as that of a shared series does."""

    class Holder:
        def __init__(self) -> None:
            self.buckets = kind(HistogramCell(()), RING, self.make)
            self.buckets.add(1.0)

        def make(self, _: int) -> Any:
            return PageCell(7, 3)

    gone = weakref.ref(Holder())
    gc.collect()
    assert gone() is None
