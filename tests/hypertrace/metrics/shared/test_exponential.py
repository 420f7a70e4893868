"""Shared native histograms and summaries: the buckets of workers, forks, windows, no room."""

from __future__ import annotations

import errno
import random
import time
from collections import deque
from functools import partial
from itertools import chain
from typing import TYPE_CHECKING, Any

import pytest

from hypertrace import Caller
from hypertrace.metrics.declarations import Declaration
from hypertrace.metrics.exponential_series import SLOTS, Exponential, Quantiles
from hypertrace.metrics.series_kinds import exponential_series, summary_series
from hypertrace.metrics.shared import directory
from hypertrace.metrics.shared.storage import SharedStorage, open_storage
from hypertrace.metrics.tables import read_table, with_others

from ....running import in_child, in_threads

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from hypertrace.metrics import Family
    from hypertrace.metrics.declarations import Kind
    from hypertrace.metrics.series import SeriesKind

CALLER = Caller("f", "/srv/a.py", "a", 1, 1)
NAMES = ("object_classname",), ("a",)
WANTED = (0.0, 0.5, 0.9, 0.99, 1.0)
FOREVER = 1e10
"""Seconds: all values of a test are in one slot."""
KEY = ("Cart",), ("a",)


def native() -> SeriesKind[Exponential]:
    return exponential_series()


def summary() -> SeriesKind[Quantiles]:
    return summary_series(WANTED, FOREVER)


KINDS: dict[str, Callable[[], SeriesKind[Any]]] = {"native": native, "summary": summary}
each_kind = pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS)


class Worker:
    """What one process has: a storage, and a table in it."""

    def __init__(self, folder: str, kind: SeriesKind[Any]) -> None:
        directory._ordinals.pop((folder, ""), None)
        self.storage = open_storage(folder, name="")
        metric: Kind = "summary" if kind.name == "summary" else "histogram"
        declaration = Declaration(metric, "size", description="Help.")
        self.table = self.storage.table(declaration, 3, NAMES, kind)

    def add(self, value: float, name: str = "a") -> None:
        self.table.get((("Cart",), (name,)), CALLER).add(value)

    def family(self, worker: int | str | None = None) -> Family:
        return read_table(self.table, self.storage.view(worker))[0]

    def value(self, name: str = "a", worker: int | str | None = None) -> Any:
        return dict(self.family(worker).points).get(("Cart", name))


@pytest.fixture
def make(tmp_path: Path) -> Iterator[Callable[[SeriesKind[Any]], Worker]]:
    """Give a function that makes a worker in one run directory."""
    made: list[Worker] = []

    def make(kind: SeriesKind[Any]) -> Worker:
        made.append(Worker(str(tmp_path / "run"), kind))
        return made[-1]

    yield make
    for worker in made:
        worker.storage.close()


def expected(kind: SeriesKind[Any], values: list[float]) -> Any:
    """Give the reading of one process that counted all values in memory."""
    series = kind.make(KEY)
    for value in values:
        series.add(value)
    return series.value


def assert_equal(reading: Any, wanted: Any) -> None:
    """Compare readings; sums of floats depend on their order."""
    assert reading.sum == pytest.approx(wanted.sum)
    reading.sum = wanted.sum
    assert reading == wanted


def _values(rng: random.Random, count: int) -> list[float]:
    return [
        rng.choice((-1, 1, 1, 1)) * rng.choice((rng.lognormvariate(0, 6), 0.0, 1.0, 1e300))
        for _ in range(count)
    ]


# --- workers ------------------------------------------------------------------------------


@each_kind
@pytest.mark.parametrize("seed", range(5))
def test_any_split_over_workers_gives_the_same(
    kind: Callable[[], SeriesKind[Any]], seed: int, make: Callable[..., Worker]
) -> None:
    """Buckets, counts and quantiles are those of one that has all values; so are each worker's."""
    rng = random.Random(seed)
    workers = [make(kind()) for _ in range(3)]
    shares: list[list[float]] = [[], [], []]
    for value in _values(rng, 600):
        number = rng.randrange(3)
        shares[number].append(value)
        workers[number].add(value)
    for worker, share in zip(workers, shares, strict=True):
        assert_equal(worker.value(), expected(kind(), [*chain(*shares)]))
        assert_equal(worker.value(worker="self"), expected(kind(), share))


@each_kind
def test_what_workers_that_are_gone_counted_stays(
    kind: Callable[[], SeriesKind[Any]], make: Callable[..., Worker]
) -> None:
    """Whether they are folded yet or not, and with the buckets that only they had."""
    values = _values(random.Random(1), 300)
    reader = make(kind())
    reader.add(3.0)
    in_child(lambda: deque(map(reader.add, values)))
    for _ in range(2):
        assert_equal(reader.value(), expected(kind(), [*values, 3.0]))
    assert reader.storage.snapshot().dead.folded == 1


@each_kind
def test_a_reader_without_the_metric_shows_it(
    kind: Callable[[], SeriesKind[Any]], make: Callable[..., Worker]
) -> None:
    """A process that has not declared it, or with other settings, adds those of the others."""
    worker = make(kind())
    other = make(exponential_series(1) if kind is native else summary_series((0.5,), 60.0))
    values = _values(random.Random(2), 100)
    for value in values:
        worker.add(value)
    view = other.storage.view(None)
    (family,) = with_others([], other.storage.foreign_tables, view)
    ((_, reading),) = family.points
    assert_equal(reading, expected(kind(), values))


@each_kind
def test_the_limit_holds_for_all_workers_together(
    kind: Callable[[], SeriesKind[Any]], make: Callable[..., Worker]
) -> None:
    """What is past it is in the overflow series, whose pages are shared, too."""
    one, other = make(kind()), make(kind())
    for worker in (one, other):
        for name in "abcde":
            worker.add(2.0, name)
    for worker in (one, other):
        found = {labels: reading.count for labels, reading in worker.family().points}  # type: ignore[union-attr]
        assert found == {
            **{("Cart", name): 2 for name in "abc"},
            ("<overflow>", ""): 4,
        }


@each_kind
def test_pages_get_cells_when_they_are_needed(
    kind: Callable[[], SeriesKind[Any]], make: Callable[..., Worker]
) -> None:
    """A page is placed once, whichever workers count in it; values out of range need no more."""
    one, other = make(kind()), make(kind())
    one.add(1.5)
    other.add(1.5)
    cells = one.storage._journal.place.cells
    for value in (1.5, 1.45, 1.6):
        one.add(value)
        other.add(value)
    other.storage._journal.read()
    assert other.storage._journal.place.cells == cells
    for value in (1e30, 1e200, -1e30, -1e200, 1e-30, 0.0):
        one.add(value)
    series: Any = one.table.find(KEY)
    assert len(series.page_at) <= 5
    size = 32 if kind is native else (series.scale.page_size + 1) * SLOTS
    assert one.storage._journal.place.cells - cells == (len(series.page_at) - 1) * size


@each_kind
def test_threads_share_the_pages_they_make(
    kind: Callable[[], SeriesKind[Any]], make: Callable[..., Worker]
) -> None:
    """Those that need a page at the same time get the same, and lose nothing."""
    worker = make(kind())
    values = [2.0**n for n in range(-20, 20)]

    def add() -> None:
        for value in values:
            worker.add(value)

    in_threads(add, add, add, add)
    assert_equal(worker.value(), expected(kind(), 4 * values))


# --- forks --------------------------------------------------------------------------------


@each_kind
def test_forked_and_killed_children_lose_nothing(
    kind: Callable[[], SeriesKind[Any]], make: Callable[..., Worker]
) -> None:
    """A child starts from zero; what it counted before it was killed is in the sums."""
    worker = make(kind())
    worker.add(1.0)

    def count(number: int) -> None:
        assert worker.value(worker="self") is None
        worker.add(1.0)
        worker.add(100.0 * 9**number)

    for number in range(3):
        in_child(partial(count, number), is_killed=True)
    assert_equal(worker.value(), expected(kind(), [1.0] * 4 + [100.0, 900.0, 8100.0]))
    assert_equal(worker.value(worker="self"), expected(kind(), [1.0]))


# --- windows ------------------------------------------------------------------------------


def test_values_leave_the_window_of_all_workers(make: Callable[..., Worker]) -> None:
    """Those of the living and of the dead; count and sum keep them."""
    kind = summary_series(WANTED, 0.6)
    one = make(kind)
    one.add(1.0)
    in_child(lambda: one.add(2.0))
    assert one.value().count == 2
    deadline = time.monotonic() + 10
    while one.value().window:
        assert time.monotonic() < deadline
        time.sleep(0.02)
    assert (one.value().count, one.value().sum) == (2, 3.0)
    one.add(5.0)
    assert sum(one.value().window.values()) == 1


def test_a_worker_of_the_time_to_come_hides_no_other(make: Callable[..., Worker]) -> None:
    """What was counted before the clock was set back is not in the window, and counted."""
    kind = summary_series(WANTED, 60.0)
    worker = make(kind)

    def count_ahead() -> None:
        worker.table.expect(KEY, CALLER)._clock = lambda: time.time() + 86_400
        worker.add(2.0)

    in_child(count_ahead)
    for _ in range(2):
        worker.add(2.0)
    assert (worker.value().count, sum(worker.value().window.values())) == (3, 2)


# --- no room ------------------------------------------------------------------------------


@each_kind
@pytest.mark.parametrize("when", ["at once", "for pages"])
@pytest.mark.parametrize("where", ["journal", "segment"])
def test_without_room_the_process_shows_what_it_counted(
    kind: Callable[[], SeriesKind[Any]],
    where: str,
    when: str,
    make: Callable[..., Worker],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Nothing is raised or lost; what gets room later is shared; a child starts from zero."""
    worker, other = make(kind()), make(kind())
    before = [1.5] if when == "for pages" else []
    for value in before:
        worker.add(value)
    values = _values(random.Random(3), 200)

    def no_space(*_: object, **__: object) -> Any:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as full:
        if where == "journal":
            full.setattr("hypertrace.metrics.shared.journal.Journal.append", no_space)
        else:
            full.setattr(SharedStorage, "_grown", lambda *_: None)
        for value in values:
            worker.add(value)
        assert_equal(worker.value(), expected(kind(), [*before, *values]))
    for value in values:
        other.add(value)
    worker.add(1e9)
    assert_equal(worker.value(), expected(kind(), [*before, *values, *values, 1e9]))

    def look() -> None:
        assert worker.value(worker="self") is None

    in_child(look)
