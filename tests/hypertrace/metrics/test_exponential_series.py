"""Native histograms and summaries, in memory."""

from __future__ import annotations

import gc
import math
import os
import random
import signal
import sys
import threading
from fractions import Fraction
from typing import TYPE_CHECKING, Any, TypeAlias

import pytest

from hypertrace import Caller
from hypertrace.metrics.declarations import Declaration
from hypertrace.metrics.exponential import SMALLEST, scale_of_schema
from hypertrace.metrics.exponential_series import SLOTS, Exponential, Quantiles
from hypertrace.metrics.reading import SummaryReading
from hypertrace.metrics.series_kinds import exponential_series, summary_series
from hypertrace.metrics.storage import MemoryStorage
from hypertrace.metrics.tables import read_table

from ...running import in_threads
from .test_exponential import assert_near

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from types import FrameType

    from hypertrace.metrics.series import SeriesKind

KEY = ("Cart",), ("a",)
WANTED = (0.5, 0.9, 0.99)

Kind: TypeAlias = "Callable[[], Exponential | Quantiles]"


class Clock:
    """Seconds since the epoch, as a test sets them."""

    def __init__(self, now: float = 60_000.0) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now


def summary(clock: Clock | None = None, max_age: float = 60.0) -> Quantiles:
    return Quantiles(KEY, WANTED, max_age, clock or Clock())


KINDS: dict[str, Kind] = {"native": lambda: Exponential(KEY), "summary": summary}
each_kind = pytest.mark.parametrize("make", KINDS.values(), ids=KINDS)


@pytest.fixture
def switching() -> Iterator[None]:
    """Let threads take turns as often as they can."""
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    yield
    sys.setswitchinterval(interval)


def window_of(series: Quantiles) -> int:
    """Give how many values are in the window."""
    return sum(series.value.window.values())


# --- both -------------------------------------------------------------------------------


@each_kind
def test_an_empty_series_can_be_read(make: Kind) -> None:
    """Without values count and sum are 0."""
    reading = make().value
    assert (reading.count, reading.sum) == (0, 0.0)


@each_kind
def test_every_value_is_counted(make: Kind) -> None:
    """Count and sum are those of all values, of either sign."""
    rng, series = random.Random(1), make()
    values = [rng.gauss(0, 100) for _ in range(3_000)]
    for value in values:
        series.add(value)
    reading = series.value
    assert reading.count == 3_000
    assert reading.sum == pytest.approx(math.fsum(values))


@each_kind
def test_what_was_read_does_not_change(make: Kind) -> None:
    """A reading stays as it is while the series goes on."""
    series = make()
    series.add(1.0)
    before, again = series.value, series.value
    series.add(1.0)
    assert before == again
    assert series.value.count == 2


@each_kind
@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, 10**400, "1", None, Fraction(1)])
def test_a_value_that_is_no_number_is_an_error(make: Kind, value: Any) -> None:
    """It is not counted; a function may convert it, or leave it out."""
    series = make()
    with pytest.raises(ValueError, match="is no finite number"):
        series.add(value)
    assert (series.value.count, series.value.sum) == (0, 0.0)
    series.cell.convert = lambda given: None if given is value else 0.0
    series.add(value)
    assert series.value.count == 0
    series.cell.convert = lambda _: 2.0
    series.add(value)
    series.add(3)
    assert (series.value.count, series.value.sum) == (2, 5.0)


@each_kind
def test_a_reset_starts_from_zero(make: Kind) -> None:
    """As in a forked child; what the series counts then is all that it has."""
    series = make()
    for _ in range(300):
        series.add(1.0)
    series.reset()
    assert (series.value.count, series.value.sum) == (0, 0.0)
    series.add(2.0)
    assert (series.value.count, series.value.sum) == (1, 2.0)


@each_kind
@pytest.mark.usefixtures("switching")
def test_threads_that_add_and_read_lose_nothing(make: Kind) -> None:
    """Counts that are read meanwhile only rise, and at the end all values are there."""
    series = make()
    seen: list[int] = []

    def add() -> None:
        for n in range(5_000):
            series.add(1.0 + n % 7)

    def read() -> None:
        seen.extend(series.value.count for _ in range(50))

    in_threads(add, add, add, add, read)
    assert seen == sorted(seen)
    assert series.value.count == 20_000
    assert series.value.sum == 4 * sum(1.0 + n % 7 for n in range(5_000))


@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="needs timers that send signals")
@each_kind
def test_signal_handlers_that_add_lose_nothing(make: Kind) -> None:
    """A handler that adds at any moment of an addition."""
    if threading.current_thread() is not threading.main_thread():
        pytest.skip("signals come to the main thread only")
    series, handled = make(), []

    def handle(_: int, __: FrameType | None) -> None:
        series.add(1.0)
        handled.append(1)

    before = signal.signal(signal.SIGALRM, handle)
    signal.setitimer(signal.ITIMER_REAL, 0.0002, 0.0002)
    added = 0
    try:
        while len(handled) < 200:
            series.add(1.0)
            added += 1
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    assert series.value.count == added + len(handled)


@each_kind
def test_finalizers_that_add_lose_nothing(make: Kind) -> None:
    """Garbage that is collected in the midst of anything may add."""
    series, made = make(), []

    class Adds:
        def __init__(self) -> None:
            self.itself = self
            made.append(1)

        def __del__(self) -> None:
            series.add(1.0)

    for _ in range(2_000):
        Adds()
        series.add(1.0)
    # Those that were not collected yet are the difference.
    gc.collect()
    assert series.value.count == 2_000 + len(made)


# --- native histograms ------------------------------------------------------------------


def test_a_native_histogram_has_the_buckets_of_its_schema() -> None:
    """Values, limits among them, are in the buckets that Prometheus defines."""
    histogram = Exponential(KEY)
    for value in (1.0, 1.0, 1.05, 2.0, 2.1, -1.0, -3.0, 0.0, SMALLEST, 1e300):
        histogram.add(value)
    reading = histogram.value
    assert (reading.schema, reading.zero_threshold, reading.zero_count) == (3, SMALLEST, 2)
    assert reading.positive == {0: 2, 1: 1, 8: 1, 9: 1, 512: 1}
    assert reading.negative == {0: 1, 13: 1}
    assert reading.count == 10


@pytest.mark.parametrize("schema", range(9))
def test_the_buckets_agree_with_a_count_of_each_value(schema: int) -> None:
    """Each bucket has the values above its lower and up to its upper limit."""
    rng, histogram = random.Random(schema), Exponential(KEY, schema)
    values = [rng.lognormvariate(0, 2) for _ in range(500)]
    for value in values:
        histogram.add(value)
    limit = scale_of_schema(schema).limit
    for index, count in histogram.value.positive.items():
        assert count == sum(limit(index - 1) < value <= limit(index) for value in values)


def test_the_last_exemplar_of_a_power_of_two_is_kept() -> None:
    """It stands at the bucket of its value; values that are not above 0 have none."""
    histogram = Exponential(KEY)
    for number, value in enumerate((1.1, 1.9, 3.0, -1.0, 0.0)):
        histogram.add(value)
        histogram.remember(value, {"n": str(number)})
    found = histogram.value.exemplars
    assert {index: (one.labels["n"], one.value) for index, one in found.items()} == {
        8: ("1", 1.9),
        13: ("2", 3.0),
    }


# --- summaries --------------------------------------------------------------------------


def test_a_summary_has_quantiles_of_its_values() -> None:
    """They are within 1 % of the exact ones."""
    rng, series = random.Random(1), summary()
    values = [rng.expovariate(3) for _ in range(4_000)]
    for value in values:
        series.add(value)
    found = series.value.quantiles
    assert list(found) == list(WANTED)
    assert_near(dict(found), values)


def test_a_value_leaves_the_window_once_it_is_too_old() -> None:
    """It is there until its slot expires; count and sum keep it."""
    clock = Clock()
    series = summary(clock)
    clock.now += 3.0
    series.add(7.0)
    clock.now = 60_000.0 + 59.9
    assert window_of(series) == 1
    clock.now = 60_000.0 + 60.0
    assert window_of(series) == 0
    reading = series.value
    assert (reading.count, reading.sum) == (1, 7.0)
    assert all(map(math.isnan, reading.quantiles.values()))


@pytest.mark.parametrize("seed", range(20))
def test_the_window_has_the_values_of_its_slots_exactly(seed: int) -> None:
    """Whenever it is read: none that is older than `max_age`, all of five sixths."""
    rng, clock = random.Random(seed), Clock()
    max_age = rng.choice((1.0, 60.0, 600.0, 7.3))
    series = summary(clock, max_age)
    added: list[float] = []
    for _ in range(400):
        clock.now += rng.expovariate(100 / max_age)
        series.add(float(len(added)))
        added.append(clock.now)
        if rng.random() < 0.1:
            width = max_age / SLOTS
            first = clock.now // width - SLOTS + 1
            expected = [float(n) for n, t in enumerate(added) if t // width >= first]
            assert window_of(series) == len(expected)
            assert all(
                float(n) in expected for n, t in enumerate(added) if t > clock.now - max_age * 5 / 6
            )
            assert_near(dict(series.value.quantiles), expected)
    assert series.value.count == 400


def test_a_clock_that_is_set_forwards_empties_the_window() -> None:
    """Then old values are old; new ones are counted as usual."""
    clock = Clock()
    series = summary(clock)
    series.add(1.0)
    clock.now += 1e9
    assert window_of(series) == 0
    series.add(2.0)
    assert (window_of(series), series.value.count) == (1, 2)


def test_a_clock_that_is_set_back_does_no_harm() -> None:
    """Values of the time to come are not shown; new ones are shown at once."""
    clock = Clock()
    series = summary(clock)
    series.add(1.0)
    clock.now -= 1e4
    assert window_of(series) == 0
    series.add(2.0)
    assert (window_of(series), series.value.count) == (1, 2)
    clock.now += 1e4
    assert (window_of(series), series.value.count) == (1, 2)


def test_a_clock_that_is_set_back_a_little_loses_nothing() -> None:
    """What was counted just before is shown once the clock is there again."""
    clock = Clock()
    series = summary(clock)
    clock.now += 10.0
    series.add(1.0)
    clock.now -= 0.5
    series.add(2.0)
    assert window_of(series) == 1
    clock.now += 0.5
    assert window_of(series) == 2


@pytest.mark.parametrize("time", [math.nan, math.inf, -math.inf, -5.0, 0.0])
def test_a_clock_that_is_broken_costs_the_window_alone(time: float) -> None:
    """Count and sum are right, whatever it returns."""
    clock = Clock(time)
    series = summary(clock)
    for _ in range(300):
        series.add(1.0)
    assert (series.value.count, series.value.sum) == (300, 300.0)


@pytest.mark.parametrize("seed", range(10))
def test_summaries_of_workers_add_up(seed: int) -> None:
    """Any split of the values over workers gives the same quantiles as one that has them all."""
    rng, clock = random.Random(seed), Clock()
    workers, one = [summary(clock) for _ in range(rng.randrange(1, 6))], summary(clock)
    for _ in range(600):
        clock.now += rng.expovariate(4)
        value = float(rng.randrange(1, 10_000))
        one.add(value)
        rng.choice(workers).add(value)
    total = SummaryReading.of(0, 0.0, WANTED, {})
    for worker in workers:
        total = total.plus(worker.value)
    assert total == one.value


# --- tables -----------------------------------------------------------------------------


TABLES: dict[str, tuple[Declaration, Callable[[], SeriesKind[Any]]]] = {
    "native": (Declaration("histogram", "size", description="Help."), exponential_series),
    "summary": (
        Declaration("summary", "size", description="Help."),
        lambda: summary_series(WANTED, 60.0),
    ),
}
NAMES = ("object_classname",), ("a",)
CALLER = Caller("f", "/srv/a.py", "a", 1, 1)


@pytest.mark.parametrize(("declaration", "kind"), TABLES.values(), ids=TABLES)
def test_a_table_is_read_as_a_family(
    declaration: Declaration, kind: Callable[[], SeriesKind[Any]]
) -> None:
    """The series that have values, the overflow among them; the usage counts what is in that."""
    storage = MemoryStorage()
    table = storage.table(declaration, 2, NAMES, kind())
    for name in ("a", "b", "c", "d", "d"):
        table.get((("Cart",), (name,)), CALLER).add(3.0)
    family, usage = read_table(table, storage.view(None))
    assert family.kind == declaration.kind
    found: dict[Any, Any] = dict(family.points)
    assert {labels: (value.count, value.sum) for labels, value in found.items()} == {
        ("Cart", "a"): (1, 3.0),
        ("Cart", "b"): (1, 3.0),
        ("<overflow>", ""): (3, 9.0),
    }
    assert usage == ("size", 2, 2, 3)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork()")
@pytest.mark.parametrize(("declaration", "kind"), TABLES.values(), ids=TABLES)
def test_a_forked_child_starts_from_zero(
    declaration: Declaration, kind: Callable[[], SeriesKind[Any]]
) -> None:
    """What the parent counted is the parent's; both go on for themselves."""
    storage = MemoryStorage()
    table = storage.table(declaration, 2, NAMES, kind())
    series = table.get((("Cart",), ("a",)), CALLER)
    series.add(3.0)
    child = os.fork()
    if not child:
        series.add(5.0)
        os._exit(int(series.value.sum + 10 * series.value.count))
    _, status = os.waitpid(child, 0)
    assert os.waitstatus_to_exitcode(status) == 15
    assert series.value.sum == 3.0


def test_a_value_is_converted_as_the_kind_says() -> None:
    """Series of a table have the kind's function."""
    table = MemoryStorage().table(
        TABLES["native"][0], 2, NAMES, exponential_series(convert=lambda _: 0.5)
    )
    series = table.get((("Cart",), ("a",)), CALLER)
    series.add(Fraction(1, 2))  # type: ignore[arg-type]
    assert series.value.sum == 0.5
