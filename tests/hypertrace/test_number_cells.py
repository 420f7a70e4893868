"""Number cells: sums, gauges and histograms, compiled, in Python, and with a lock."""

from __future__ import annotations

import gc
import math
import random
import signal
import sys
import time
import weakref
from bisect import bisect_left
from collections import Counter
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import pytest

from hypertrace import number_cells as module
from hypertrace._compiled import gil_enabled, speedups
from hypertrace.number_cells import (
    GaugeCell,
    HistogramCell,
    LockedGauge,
    LockedHistogram,
    LockedNumber,
    NumberCell,
    OneStepGauge,
    OneStepHistogram,
    OneStepNumber,
)

from ..hostile_values import HostileStr
from ..running import in_threads

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

BOUNDS = (-10.0, -1.0, 0.0, 0.5, 10.0)
NUMBERS = [NumberCell, OneStepNumber, LockedNumber]
GAUGES = [GaugeCell, OneStepGauge, LockedGauge]
HISTOGRAMS = [HistogramCell, OneStepHistogram, LockedHistogram]


@pytest.fixture
def _quick_switches() -> Iterator[None]:
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(interval)


# --- sums ---------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", NUMBERS)
def test_a_number_is_a_sum_of_amounts(kind: Any) -> None:
    """Floats and integers are added, one without an argument, and updates are counted."""
    cell = kind()
    assert (cell.value, cell.updates) == (0.0, 0)
    for amount in (1.5, 2, 0, 0.0, 1e-9):
        cell.add(amount)
    add = cell.add
    add()
    assert cell.value == pytest.approx(4.500000001)
    assert type(cell.value) is float
    assert cell.updates == 6
    cell.reset()
    assert (cell.value, cell.updates) == (0.0, 0)
    add(3)
    assert cell.value == 3.0


@pytest.mark.parametrize("kind", GAUGES)
@pytest.mark.parametrize("updates", [1, 2])
def test_a_gauge_can_be_without_a_value_again(kind: Any, updates: int) -> None:
    """Then it has none, and what is added later is added to nothing."""
    cell = kind()
    for _ in range(updates):
        cell.add(5)
    cell.clear()
    assert cell.value is None
    assert cell.read()[0] == 0
    cell.add(2)
    assert cell.value == 2.0


@pytest.mark.parametrize("kind", GAUGES)
def test_a_gauge_has_no_value_before_it_is_set(kind: Any) -> None:
    """It is set or added to, from nothing on; the time is that of the last update."""
    cell = kind()
    assert cell.value is None
    assert cell.read()[0] == 0
    before = time.monotonic()
    cell.add(-2.5)
    updates, value, first = cell.read()
    assert (updates, value) == (1, -2.5)
    assert before <= first <= time.monotonic()
    cell.set(7)
    cell.add()
    updates, value, last = cell.read()
    assert (updates, value) == (3, 8.0)
    assert first <= last <= time.monotonic()
    cell.set(0)
    assert cell.value == 0.0
    cell.reset()
    assert cell.value is None
    cell.add(1)
    assert cell.value == 1.0


@pytest.mark.parametrize("kind", HISTOGRAMS)
def test_a_histogram_has_values_of_either_sign(kind: Any) -> None:
    """A value is in the bucket of the first bound that is not below it; the sum has all."""
    rng = random.Random(1)
    cell = kind(BOUNDS)
    assert cell.value == ((0,) * 6, 0.0)
    values = [rng.choice((rng.gauss(0, 20), *BOUNDS, 1e300, -1e300, 3, -4)) for _ in range(2_000)]
    for value in values:
        cell.add(value)
    found = Counter(bisect_left(BOUNDS, value) for value in values)
    counts, total = cell.value
    assert counts == tuple(found[bucket] for bucket in range(6))
    expected = 0.0
    for value in values:
        expected += value
    assert total == expected
    cell.reset()
    assert cell.value == ((0,) * 6, 0.0)


@pytest.mark.parametrize("kind", HISTOGRAMS)
def test_a_histogram_may_have_no_bounds(kind: Any) -> None:
    """All values are in the bucket up to infinity."""
    cell = kind(())
    cell.add(-1)
    cell.add(5)
    assert cell.value == ((2,), 4.0)


# --- what is no number ------------------------------------------------------------------------

NO_NUMBERS: dict[str, Any] = {
    "NaN": math.nan,
    "inf": math.inf,
    "-inf": -math.inf,
    "True": True,
    "None": None,
    "text": "1",
    "bytes": b"1",
    "complex": 1j,
    "huge": 10**400,
    "decimal": Decimal(1),
    "hostile": HostileStr("1"),
}


def _adding(kind: Any, *arguments: Any) -> Callable[[], Any]:
    return lambda: kind(*arguments).add


def _setting(kind: Any) -> Callable[[], Any]:
    return lambda: kind().set


WRITES = {
    **{f"{kind.__name__}.add": _adding(kind) for kind in (*NUMBERS, *GAUGES)},
    **{f"{kind.__name__}.set": _setting(kind) for kind in GAUGES},
    **{f"{kind.__name__}.add": _adding(kind, BOUNDS) for kind in HISTOGRAMS},
}


@pytest.mark.parametrize("write", WRITES.values(), ids=WRITES)
@pytest.mark.parametrize("value", NO_NUMBERS.values(), ids=NO_NUMBERS)
def test_what_is_no_finite_number_is_refused(write: Callable[[], Any], value: Any) -> None:
    """It is a ValueError, and nothing is written."""
    put = write()
    before = _state(put.__self__)
    with pytest.raises((ValueError, RuntimeError)):
        put(value)
    assert _state(put.__self__) == before


@pytest.mark.parametrize("write", WRITES.values(), ids=WRITES)
def test_what_is_no_number_may_be_converted(write: Callable[[], Any]) -> None:
    """`convert` gets it, and what it returns is written if it is a finite number."""
    put = write()
    cell = put.__self__
    assert cell.convert is None
    seen: list[object] = []

    def convert(value: Any) -> float | None:
        seen.append(value)
        return 0.5 if value == "half" else None

    cell.convert = convert
    before = _state(cell)
    for value in NO_NUMBERS.values():
        if type(value) is not HostileStr:
            put(value)
    assert _state(cell) == before
    assert len(seen) == len(NO_NUMBERS) - 1
    put("half")
    put(0.25)
    assert seen[-1] == "half"
    assert _state(cell) != before
    cell.convert = lambda value: math.nan
    after = _state(cell)
    put("half")
    assert _state(cell) == after

    def interrupt(_: object) -> float:
        raise KeyboardInterrupt

    cell.convert = interrupt
    with pytest.raises(KeyboardInterrupt):
        put("half")
    cell.convert = None
    with pytest.raises(ValueError, match="'half' is no finite number"):
        put("half")


@pytest.mark.parametrize("kind", NUMBERS)
def test_a_sum_never_falls(kind: Any) -> None:
    """An amount below zero is refused, also one that was converted; minus zero is none."""
    cell = kind()
    cell.add(-0.0)
    with pytest.raises(ValueError, match="-1 is no finite number from 0 up"):
        cell.add(-1)
    cell.convert = lambda _: -5.0
    cell.add(-1)
    assert (cell.value, cell.updates) == (0.0, 1)


def test_arguments_that_are_too_many_or_few_are_type_errors() -> None:
    """As with functions of Python."""
    wrong: list[tuple[Any, tuple[int, ...]]] = [
        (NumberCell().add, (1, 2)),
        (GaugeCell().set, ()),
        (GaugeCell().set, (1, 2)),
        (HistogramCell(BOUNDS).add, ()),
        (HistogramCell, ()),
    ]
    for function, arguments in wrong:
        with pytest.raises(TypeError):
            function(*arguments)


@pytest.mark.parametrize("kind", [*NUMBERS, *GAUGES])
def test_a_function_that_refers_to_its_cell_goes_with_it(kind: Any) -> None:
    """The garbage collector finds the cycle."""

    class Holder:
        cell: Any

        def convert(self, _: object) -> None:
            """Return nothing."""

    holder = Holder()
    holder.cell = kind()
    holder.cell.convert = holder.convert
    gone = weakref.ref(holder)
    del holder
    gc.collect()
    assert gone() is None


def _state(cell: Any) -> Any:
    if hasattr(cell, "updates"):
        return cell.value, cell.updates
    return cell.read()[:2] if hasattr(cell, "read") else cell.value


# --- threads, signals, finalizers -------------------------------------------------------------


@pytest.mark.usefixtures("_quick_switches")
@pytest.mark.parametrize("index", range(3))
def test_threads_lose_nothing(index: int) -> None:
    """All of four threads' updates are there, and each reading is consistent."""
    number, gauge, histogram = NUMBERS[index](), GAUGES[index](), HISTOGRAMS[index](BOUNDS)
    if index == 1 and not gil_enabled():
        pytest.skip("one step needs a GIL")
    running = [True] * 4
    readings = []

    def work(thread: int) -> None:
        for _ in range(5_000):
            number.add(0.5)
            gauge.add(2)
            histogram.add(-0.25)
        running[thread] = False

    def read() -> None:
        while any(running):
            counts, total = histogram.value
            updates, value, _ = gauge.read()
            readings.append((sum(counts) * -0.25, total, updates * 2.0, value))

    in_threads(read, *[lambda thread=thread: work(thread) for thread in range(4)])
    assert (number.value, number.updates) == (10_000.0, 20_000)
    assert gauge.read()[:2] == (20_000, 40_000.0)
    assert histogram.value == ((0, 0, 20_000, 0, 0, 0), -5_000.0)
    assert all(a == b and c == d for a, b, c, d in readings)


@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="no timers here")
@pytest.mark.parametrize("index", range(2))
def test_signals_and_finalizers_lose_nothing(index: int) -> None:
    """What a handler or a finalizer adds in the middle of an update is added, too."""
    if index == 1 and not gil_enabled():
        pytest.skip("one step needs a GIL")
    number, gauge, histogram = NUMBERS[index](), GAUGES[index](), HISTOGRAMS[index](BOUNDS)
    times = 0

    def update(*_: object) -> None:
        nonlocal times
        number.add(0.5)
        gauge.add(1)
        histogram.add(0.25)
        times += 1

    class Finalized:
        def __init__(self) -> None:
            self.cycle = self

        def __del__(self) -> None:
            update()

    before = signal.signal(signal.SIGALRM, update)
    signal.setitimer(signal.ITIMER_REAL, 0.0005, 0.0005)
    try:
        for number_of_rounds in range(20_000):
            number.add(0.5)
            gauge.add(1)
            histogram.add(0.25)
            if number_of_rounds % 100 == 0:
                Finalized()
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    gc.collect()
    assert times > 100
    assert number.updates == number.value * 2 == gauge.value == sum(histogram.value[0])
    assert number.updates >= 20_000 + times - 2  # `times += 1` itself may be interrupted
    assert histogram.value[1] == number.updates * 0.25


def test_the_public_cells_are_those_that_are_exact_here() -> None:
    """Compiled if that can be had, else one step with a GIL, else with a lock."""
    found = NumberCell, GaugeCell, HistogramCell
    if speedups:
        assert found == (speedups.NumberCell, speedups.GaugeCell, speedups.HistogramCell)
    elif gil_enabled():
        assert found == (OneStepNumber, OneStepGauge, OneStepHistogram)
    else:
        assert found == (LockedNumber, LockedGauge, LockedHistogram)
    assert module.NumberCell is NumberCell
