"""Shared native histograms: the durations of workers, forks and what has no room, in both kinds."""

from __future__ import annotations

import errno
import os
import random
from functools import partial
from itertools import chain
from operator import ge
from typing import TYPE_CHECKING, Any

import pytest

from hypertrace import Tracer, set_trace_function
from hypertrace.metrics import Counter, Distribution, HistogramReading, Metrics
from hypertrace.metrics.native_histograms import NativeHistogram
from hypertrace.metrics.shared import directory
from hypertrace.metrics.shared.journal import Journal
from hypertrace.metrics.shared.storage import SharedStorage

from ....running import in_child, in_threads
from ..readings import DURATIONS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from hypertrace.metrics import Reading

BOUNDS = (0.1, 1.0, 10.0)


class Worker:
    """What one process has: metrics, and a tracer whose spans are counted in them."""

    def __init__(self, folder: str, **options: Any) -> None:
        directory._ordinals.pop((folder, ""), None)
        given: dict[str, Any] = {"buckets": BOUNDS, "native_histograms": True} | options
        self.metrics = Metrics(workers=folder, **given)
        set_trace_function(self.metrics)  # else the tracer stays silent
        self.tracer = Tracer("Cart")

    def add(self, *durations: float, result: Any = "ok") -> None:
        set_trace_function(self.metrics)
        for duration in durations:
            self.tracer.record(duration, result=result)

    def fail(self) -> None:
        set_trace_function(self.metrics)
        with pytest.raises(KeyError), self.tracer.span():
            raise KeyError

    def value(self, result: str = "ok", worker: int | str | None = None) -> HistogramReading:
        return value_in(self.metrics.read(worker=worker), result)


def value_in(reading: Reading, result: str = "ok") -> HistogramReading:
    """Return the durations of the series of a result; of none where it is not shown."""
    family = reading.family(DURATIONS)
    at = family.label_names.index("result")
    found = [point.value for point in family.points if point.labels[at] == result]
    assert len(found) <= 1
    value = found[0] if found else expected()
    assert isinstance(value, HistogramReading)
    return value


@pytest.fixture
def make(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Worker]]:
    """Give a function that makes a worker in one run directory."""
    monkeypatch.delenv("HYPERTRACE_WORKERS", raising=False)
    made: list[Worker] = []

    def make(**options: Any) -> Worker:
        made.append(Worker(str(tmp_path / "run"), **options))
        return made[-1]

    yield make
    for worker in made:
        worker.metrics.close()


def expected(*durations: float) -> HistogramReading:
    """Give the reading of one process that counted all durations in memory."""
    histogram = NativeHistogram((("",), ("ok",)), BOUNDS)
    for duration in durations:
        histogram.add(duration)
    return histogram.value


def assert_equal(reading: HistogramReading, wanted: HistogramReading) -> None:
    """Compare readings; sums of floats depend on their order."""
    assert reading.counts == wanted.counts
    assert reading.sum == pytest.approx(wanted.sum)
    assert reading.exponential is not None
    assert wanted.exponential is not None
    assert reading.exponential.sum == pytest.approx(wanted.sum)
    wanted.exponential.sum = reading.exponential.sum
    assert reading.exponential == wanted.exponential


def some_durations(rng: random.Random, count: int) -> list[float]:
    return [rng.choice((rng.lognormvariate(-2, 4), 0.0, 1.0, 2e15)) for _ in range(count)]


@pytest.mark.parametrize("seed", range(3))
def test_any_split_over_workers_gives_the_same(seed: int, make: Callable[..., Worker]) -> None:
    """Both kinds of buckets are those of one that has all durations; so are each worker's."""
    rng = random.Random(seed)
    workers = [make() for _ in range(3)]
    shares: list[list[float]] = [[], [], []]
    for duration in some_durations(rng, 300):
        number = rng.randrange(3)
        shares[number].append(duration)
        workers[number].add(duration)
    for worker, share in zip(workers, shares, strict=True):
        assert_equal(worker.value(), expected(*chain(*shares)))
        assert_equal(worker.value(worker="self"), expected(*share))


def test_each_result_has_both(make: Callable[..., Worker]) -> None:
    """Spans that fail are counted in both kinds of buckets of their result, in all workers."""
    one, other = make(), make()
    for worker in (one, other):
        worker.add(0.5)
        worker.add(2.0, result="cancelled")
        worker.fail()
    for worker in (one, other):
        assert_equal(worker.value(), expected(0.5, 0.5))
        assert_equal(worker.value("cancelled"), expected(2.0, 2.0))
        error = worker.value("error")
        assert error.exponential is not None
        assert error.count == error.exponential.count == 2


def test_forked_and_killed_children_lose_nothing(make: Callable[..., Worker]) -> None:
    """A child starts from zero; what it counted before it was killed is in the sums, also later."""
    worker = make()
    worker.add(0.3)

    def count(number: int) -> None:
        assert worker.value(worker="self").count == 0
        worker.add(0.3, 5.0 * 9**number)
        assert_equal(worker.value(worker="self"), expected(0.3, 5.0 * 9**number))

    for number in range(3):
        in_child(partial(count, number), is_killed=True)
    for _ in range(2):
        assert_equal(worker.value(), expected(0.3, 0.3, 0.3, 0.3, 5.0, 45.0, 405.0))
    assert_equal(worker.value(worker="self"), expected(0.3))


def test_a_reader_between_two_steps_finds_no_bucket_that_falls(make: Callable[..., Worker]) -> None:
    """While others count, no bucket of either kind falls; in the end they agree."""
    reader = make()
    reader.add(0.3)
    begin, end = os.pipe()
    child = os.fork()
    if not child:
        os.close(begin)
        for number in range(20_000):
            reader.add(0.001 * 1.1 ** (number % 100))
        os._exit(0)
    os.close(end)
    os.set_blocking(begin, False)
    before = reader.value()
    while not _has_ended(begin):
        now = reader.value()
        assert now.exponential is not None
        assert before.exponential is not None
        assert all(map(ge, now.counts, before.counts))
        positive = now.exponential.positive
        assert all(positive[at] >= count for at, count in before.exponential.positive.items())
        before = now
    os.close(begin)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    last = reader.value()
    assert last.exponential is not None
    assert last.count == last.exponential.count == 20_001


def _has_ended(pipe: int) -> bool:
    try:
        return os.read(pipe, 1) == b""
    except BlockingIOError:
        return False


def test_a_worker_that_was_killed_between_two_steps(make: Callable[..., Worker]) -> None:
    """Its last duration is in the exponential buckets alone, whose count stays their own."""
    worker = make()
    worker.add(0.3)
    first = worker.metrics.read()

    def count_in_one() -> None:
        worker.add(0.3)
        (series,) = [one for one in worker.metrics._functions.calls.all() if one.spans]
        assert series.spans is not None
        histogram: Any = series.spans.results["ok"]
        histogram.exponential.add(0.3)

    in_child(count_in_one, is_killed=True)
    value = worker.value()
    assert value.exponential is not None
    assert (value.count, value.exponential.count) == (2, 3)
    second = worker.metrics.read()
    added = value_in(second.since(first))
    assert added.exponential is not None
    assert (added.count, added.exponential.count) == (1, 2)
    assert not second.since(second).family(DURATIONS).values


def test_what_came_in_is_a_difference(make: Callable[..., Worker]) -> None:
    """`read(since=)` has the durations of all workers since then, in both kinds of buckets."""
    one, other = make(), make()
    one.add(0.3, 4.0)
    before = one.metrics.read()
    other.add(0.3, 900.0)
    assert_equal(value_in(one.metrics.read(before)), expected(0.3, 900.0))


def test_what_only_exponential_buckets_have_is_a_difference(make: Callable[..., Worker]) -> None:
    """A duration that a reading has in one kind of buckets is in a difference once, in each."""
    worker = make()
    worker.add(0.3)
    first = worker.metrics.read()
    (series,) = [one for one in worker.metrics._functions.calls.all() if one.spans]
    assert series.spans is not None
    histogram: Any = series.spans.results["ok"]
    histogram.exponential.add(5.0)
    second = worker.metrics.read()
    histogram._classic.append(5.0)
    third = worker.metrics.read()
    for part, classic, exponential in ((second.since(first), 0, 1), (third.since(second), 1, 0)):
        added = value_in(part)
        assert added.exponential is not None
        assert (added.count, added.exponential.count) == (classic, exponential)


def test_a_mark_of_an_exporter_has_both(make: Callable[..., Worker]) -> None:
    """What one process exported last, another goes on from, in both kinds of buckets."""
    one, other = make(), make()
    one.add(0.3, 4.0)
    one.metrics.storage.save("test", one.metrics.view())
    one.add(4.0, 1e9)
    saved = other.metrics.storage.saved("test")
    assert saved is not None
    before = other.metrics.reading(saved)
    assert_equal(value_in(before), expected(0.3, 4.0))
    assert_equal(value_in(other.metrics.read(before)), expected(4.0, 1e9))


@pytest.mark.parametrize(
    "options",
    [{"upstream": True, "allowed_props": ["topic"]}, {"max_series": 7}],
    ids=["labels", "limit"],
)
def test_a_process_with_other_settings_shows_both(
    options: dict[str, Any], make: Callable[..., Worker]
) -> None:
    """The table of other workers, which this process does not have, shows both kinds."""
    worker, other = make(), make(**options)
    worker.add(0.3, 4.0)
    assert_equal(other.value(), expected(0.3, 4.0))
    other.add(0.3, 1e9)
    for each in (worker, other):
        assert_equal(each.value(), expected(0.3, 4.0, 0.3, 1e9))


def test_workers_without_native_histograms_make_a_series_classic(
    make: Callable[..., Worker],
) -> None:
    """Where some workers have no exponential buckets, the classic ones are the sums of all."""
    worker, plain = make(), make(native_histograms=False)
    worker.add(0.3, 4.0)
    plain.add(0.3)
    for each in (worker, plain):
        assert (each.value().counts, each.value().exponential) == ((0, 2, 1, 0), None)


def test_the_overflow_is_shared(make: Callable[..., Worker]) -> None:
    """Spans past the limit of series are in both kinds of buckets, those of all workers."""
    workers = [make(max_series=1) for _ in range(2)]
    for worker in workers:
        set_trace_function(worker.metrics)
        for trace_id in "abc":
            worker.tracer.record(0.3, trace_id)
    for worker in workers:
        first, overflow = worker.metrics.read().family(DURATIONS).values
        assert isinstance(first, HistogramReading)
        assert isinstance(overflow, HistogramReading)
        assert_equal(first, expected(0.3, 0.3))
        assert_equal(overflow, expected(0.3, 0.3, 0.3, 0.3))


def test_declared_metrics_are_counted_beside(make: Callable[..., Worker]) -> None:
    """Durations that declared metrics have, too, are in all of them, however the span ends."""
    worker = make(
        declared=[
            Counter("sold_total", of="Cart.*"),
            Distribution("sale_seconds", of="Cart.*", value="duration", native=True),
        ],
    )
    worker.add(0.3, 4.0)
    worker.add(0.7, result="error")
    assert_equal(worker.value(), expected(0.3, 4.0))
    assert_equal(worker.value("error"), expected(0.7))
    reading = worker.metrics.read()
    assert reading.family("sold_total").values == [3]
    (declared,) = reading.family("sale_seconds").values
    assert not isinstance(declared, int | float)
    assert (declared.count, declared.sum) == (3, 5.0)


def test_threads_share_the_pages_they_make(make: Callable[..., Worker]) -> None:
    """Those that need a page at the same time get the same, and lose nothing."""
    worker = make()
    durations = [2.0**n for n in range(-20, 20)]
    add = partial(worker.add, *durations)
    in_threads(add, add, add, add)
    assert_equal(worker.value(), expected(*4 * durations))


@pytest.mark.parametrize("when", ["at once", "for pages"])
@pytest.mark.parametrize("where", ["journal", "segment"])
def test_without_room_the_process_shows_what_it_counted(
    where: str, when: str, make: Callable[..., Worker], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing is raised or lost; what gets room later is shared; a child starts from zero."""
    worker, other = make(), make()
    before: Sequence[float] = [0.3] if when == "for pages" else []
    worker.add(*before)
    durations = some_durations(random.Random(3), 200)

    def no_space(*_: object, **__: object) -> Any:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as full:
        if where == "journal":
            full.setattr(Journal, "append", no_space)
        else:
            full.setattr(SharedStorage, "_grown", lambda *_: None)
        worker.add(*durations)
        assert_equal(worker.value(), expected(*before, *durations))
    other.add(*durations)
    if (where, when) == ("journal", "at once"):  # these spans stay in memory
        assert_equal(worker.value(), expected(*durations))
        assert_equal(other.value(), expected(*durations))
    else:
        worker.add(1e9)
        assert_equal(worker.value(), expected(*before, *durations, *durations, 1e9))

    def look() -> None:
        assert worker.value(worker="self").count == 0

    in_child(look)


def test_an_interrupt_while_a_page_is_made_leaves_both_alike(
    make: Callable[..., Worker], monkeypatch: pytest.MonkeyPatch
) -> None:
    """What a signal handler raises then is raised by the application; neither kind has it."""
    worker = make()
    worker.add(0.3)

    def interrupt(*_: object) -> Any:
        raise KeyboardInterrupt

    with monkeypatch.context() as interrupted:
        interrupted.setattr(SharedStorage, "page", interrupt)
        with pytest.raises(KeyboardInterrupt):
            worker.add(1e9)
    assert_equal(worker.value(), expected(0.3))


def test_exemplars_are_those_of_the_process(make: Callable[..., Worker]) -> None:
    """The exemplars of a bucket are with both kinds of buckets, as without sharing."""
    worker = make(exemplar=lambda: {"trace_id": "a"})
    worker.add(0.3)
    assert worker.value().exemplars.keys() == {1}
    assert worker.value().exponential is not None


def test_a_closed_storage_goes_on_in_memory(make: Callable[..., Worker]) -> None:
    """What is counted after the end is in the reading of the process, in both kinds."""
    worker = make()
    worker.add(0.3)
    worker.metrics.close()
    worker.add(4.0, 1e9)
    assert_equal(worker.value(), expected(0.3, 4.0, 1e9))
