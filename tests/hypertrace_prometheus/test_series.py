"""The series of a metric and their counts, bounded."""

from __future__ import annotations

import gc
import logging
import threading
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Any
from weakref import ref

import pytest

from hypertrace import Caller, Cell, TracedObject
from hypertrace_prometheus import series as module
from hypertrace_prometheus.series import OVERFLOW, SeriesTable

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

Counters = SeriesTable[Cell]

CALLER = Caller("connect", "/srv/app/net/swarm.py", "net.swarm", 7, 9)


class FakeTracer:
    """Stands for a tracer: what matters is when it goes."""


def counters(limit: int) -> Counters:
    return SeriesTable("x_total", limit, lambda _: Cell())


def values(series: Counters) -> dict[str, int]:
    """Give the count of each series, and of the overflow if it has one."""
    counts = {text: cell.value for text, cell in series.items()}
    return {text: count for text, count in counts.items() if count or text != OVERFLOW}


def count(series: Counters, owner: TracedObject | None = None, **labels: str) -> None:
    series.get(labels, CALLER, owner).increment()


def owner_of(tracer: object, number: int = 1) -> TracedObject:
    return TracedObject("Swarm", number, tracer=ref(tracer))


@pytest.fixture
def collected() -> Iterator[None]:
    """Leave no garbage to other tests, and the collector as it was."""
    threshold = gc.get_threshold()
    gc.collect()
    yield
    gc.set_threshold(*threshold)
    gc.enable()
    gc.collect()


def test_equal_labels_have_one_cell() -> None:
    """The same labels lead to the same cell, whatever their order."""
    series = counters(10)
    assert series.get({"a": "1", "b": "2"}, CALLER) is series.get({"b": "2", "a": "1"}, CALLER)
    assert series.get({"a": "2"}, CALLER) is not series.get({"a": "1"}, CALLER)
    assert len(series) == 3


def test_a_label_without_value_makes_no_series_of_its_own() -> None:
    """An empty value and no value are one series, as they are to Prometheus."""
    series = counters(10)
    assert series.get({"a": "1", "b": ""}, CALLER) is series.get({"a": "1"}, CALLER)


def test_series_come_in_the_order_they_were_made() -> None:
    """All series and their counts are given, and no overflow while there is room."""
    series = counters(3)
    for name in ("c", "a", "b", "a"):
        count(series, name=name)
    assert list(values(series).items()) == [('name="c"', 1), ('name="a"', 2), ('name="b"', 1)]
    assert series.is_full


def test_past_the_limit_updates_are_counted_in_the_overflow() -> None:
    """At the limit old series go on, and what would be new is counted in one series, the last."""
    series = counters(2)
    for name in ("a", "b", "c", "d", "a", "c"):
        count(series, name=name)
    assert len(series) == series.limit == 2
    assert list(values(series).items()) == [('name="a"', 2), ('name="b"', 1), (OVERFLOW, 3)]
    assert series.get({"name": "e"}, CALLER) is series.overflow
    assert OVERFLOW == 'object_classname="<overflow>"'


def test_the_warning_names_metric_label_and_line_once(caplog: pytest.LogCaptureFixture) -> None:
    """The log says once which label has the most values, and where it is traced."""
    series = counters(4)
    for number in range(20):
        count(series, object_classname="A", peer=str(number), parity=str(number % 2))
    (record,) = caplog.records
    assert (record.name, record.levelno) == ("hypertrace_prometheus", logging.WARNING)
    message = record.getMessage()
    assert "x_total holds 4 series" in message
    assert OVERFLOW in message
    assert "peer (4 values)" in message
    assert "net/swarm.py:7" in message
    assert "max_series" in message


def test_a_log_that_fails_loses_no_count(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the warning cannot be logged, the update is counted all the same."""

    def fail(_: logging.LogRecord) -> bool:
        raise RuntimeError("a filter of the application")

    logger = logging.getLogger("hypertrace_prometheus")
    monkeypatch.setattr(logger, "filters", [fail])
    series = counters(1)
    for name in ("a", "b", "c"):
        count(series, name=name)
    assert values(series) == {'name="a"': 1, OVERFLOW: 2}


def test_series_of_an_owner_go_with_its_tracer() -> None:
    """Once the tracer is gone its series are not given any more, and their room is free."""
    series = counters(3)
    first, second = FakeTracer(), FakeTracer()
    count(series, owner_of(first, 1), n="1", f="f")
    count(series, owner_of(first, 1), n="1", f="g")
    count(series, owner_of(second, 2), n="2")
    assert series.is_full
    del first
    assert values(series) == {'n="2"': 1}
    assert not series.is_full
    count(series, n="3")
    assert values(series) == {'n="2"': 1, 'n="3"': 1}


def test_room_is_freed_without_a_scrape() -> None:
    """A new series takes the place of one whose owner is gone, though nobody reads them."""
    series = counters(1)
    for number in range(100):
        tracer = FakeTracer()
        count(series, owner_of(tracer, number), n=str(number))
        del tracer
    assert series.overflow.value == 0
    assert len(series) == 1


def test_a_number_that_is_used_again_is_another_owner() -> None:
    """Series of an owner that had the same number before do not come back."""
    series = counters(10)
    for _ in range(3):
        tracer = FakeTracer()
        count(series, owner_of(tracer, 1), n="1")
        assert values(series) == {'n="1"': 1}
        del tracer
        assert values(series) == {}


def test_an_event_of_a_tracer_that_is_gone_makes_no_series() -> None:
    """An event that was kept too long is taken without an error, and leaves nothing behind."""
    series = counters(10)
    tracer = FakeTracer()
    late = owner_of(tracer, 1)
    del tracer
    count(series, late, n="1")
    assert values(series) == {}
    assert len(series) == 0


def test_many_readers_drop_what_is_gone() -> None:
    """Series that are dropped by many threads at once are dropped once, without an error."""
    series = counters(10)

    class Slow:
        """A lock that lets every thread look before any gets in."""

        def __init__(self) -> None:
            self.barrier = threading.Barrier(2)
            self.lock = threading.RLock()

        def __enter__(self) -> None:
            self.barrier.wait(10)
            self.lock.acquire()

        def __exit__(self, *_: object) -> None:
            self.lock.release()

    tracer = FakeTracer()
    count(series, owner_of(tracer), n="1")
    del tracer
    series._lock = Slow()  # type: ignore[assignment]
    failed: list[BaseException] = []

    def read() -> None:
        try:
            series.drop_gone()
        except BaseException as error:  # noqa: BLE001 -- told by the test
            failed.append(error)

    threads = [threading.Thread(target=read) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failed == []
    assert len(series) == 0


def _re_enter(
    monkeypatch: pytest.MonkeyPatch, owner: object, name: str, trace: Callable[[], None]
) -> None:
    """Let the garbage collector, so to say, run `trace` once where `owner.name` is called."""
    original = getattr(owner, name)
    pending = [trace]

    def call(*arguments: Any) -> Any:
        result = original(*arguments)
        if pending:
            pending.pop()()
        return result

    monkeypatch.setattr(owner, name, call)


@pytest.mark.parametrize("step", ["_make", "_Owner"])
def test_a_finalizer_that_counts_the_same_loses_no_count(
    monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    """A `__del__` that traces in the midst of the making of the same series is counted in it."""
    series = counters(10)
    tracer = FakeTracer()
    owner = series if step == "_make" else module
    _re_enter(monkeypatch, owner, step, partial(count, series, owner_of(tracer), n="1"))
    count(series, owner_of(tracer), n="1")
    assert values(series) == {'n="1"': 2}
    del tracer
    assert values(series) == {}


def test_a_finalizer_that_counts_another_is_dropped_with_its_owner(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A `__del__` in the midst of the first series of an owner loses none of its series."""
    series = counters(10)
    tracer = FakeTracer()
    _re_enter(monkeypatch, module, "_Owner", partial(count, series, owner_of(tracer), n="2"))
    count(series, owner_of(tracer), n="1")
    assert values(series) == {'n="1"': 1, 'n="2"': 1}
    del tracer
    assert values(series) == {}


def test_a_finalizer_does_not_pass_the_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    """A `__del__` that takes the last room in the midst of the making of a series keeps it."""
    series = counters(1)
    _re_enter(monkeypatch, series, "_make", lambda: count(series, n="2"))
    count(series, n="1")
    assert values(series) == {'n="2"': 1, OVERFLOW: 1}


def test_finalizers_that_trace_during_a_scrape(collected: None) -> None:
    """Garbage that is found while the series are read, and traces, does not disturb the reading."""
    series = counters(100_000)
    for number in range(2_000):
        count(series, n=str(number))
    made = 0

    class Ghost:
        def __init__(self) -> None:
            nonlocal made
            made += 1
            self.cycle = self

        def __del__(self) -> None:
            count(series, ghost=str(made))
            if made < 1_000:
                Ghost()

    gc.disable()
    Ghost()
    gc.set_threshold(5)
    gc.enable()
    for _ in range(5):
        # The lists give the garbage collector its turn between two series.
        assert len([[text, cell.value] for text, cell in series.items()]) > 2_000
    gc.disable()
    ghosts = [count for text, count in values(series).items() if text.startswith("ghost")]
    assert made > 50
    assert sum(ghosts) in {made, made - 1}


def test_a_finalizer_that_runs_at_the_last_look_loses_no_count(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A `__del__` that makes the same series right before it is made is counted in it."""
    series = counters(10)
    pending = [partial(count, series, n="1")]

    def is_full(self: Counters) -> bool:
        result = len(self) >= self.limit
        if pending:
            pending.pop()()
        return result

    monkeypatch.setattr(SeriesTable, "is_full", property(is_full))
    count(series, n="1")
    assert values(series) == {'n="1"': 2}


def test_the_last_room_is_given_away_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of two threads that look for room at the same time, one gets the last."""
    series = counters(1)
    both = threading.Barrier(2)

    def is_full(self: Counters) -> bool:
        result = len(self) >= self.limit
        with suppress(threading.BrokenBarrierError):  # the other is kept out, as it should be
            both.wait(0.1)
        return result

    monkeypatch.setattr(SeriesTable, "is_full", property(is_full))
    threads = [threading.Thread(target=count, args=(series,), kwargs={"n": n}) for n in "12"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(series) == 1
    assert series.overflow.value == 1


def test_threads_that_race_for_series_count_exactly() -> None:
    """Many threads that make and count the same series, past the limit, lose no count."""
    series = counters(50)
    start = threading.Barrier(8)

    def work() -> None:
        start.wait()
        for number in range(1_000):
            count(series, n=str(number % 200))

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    held = values(series)
    assert sum(held.values()) == 8_000
    assert len(held) == 51
    assert len(series) == 50


def test_a_forked_child_is_not_blocked_by_a_lock_of_its_parent() -> None:
    """What runs in the child after a fork gives every metric a lock that is free."""
    series = counters(10)
    held = series._lock
    with held:
        module._renew_locks()
        other = threading.Thread(target=lambda: count(series, n="1"), daemon=True)
        other.start()
        other.join(10)
    assert values(series) == {'n="1"': 1}


def test_series_are_freed_with_their_exporter() -> None:
    """Nothing but its user keeps the series of a metric."""
    series = counters(10)
    cell = ref(series)
    del series
    assert cell() is None


def test_what_counts_a_series_is_made_of_its_labels() -> None:
    """The maker is given the labels of each series, and none for the overflow."""
    series: SeriesTable[list[str]] = SeriesTable("x_total", 1, sorted)
    assert series.get({"b": "1", "a": "2"}, CALLER) == ["a", "b"]
    assert series.overflow == []
    assert series.get({"c": "1"}, CALLER) is series.overflow


def test_the_overflow_comes_last_also_while_it_is_empty() -> None:
    """The overflow is given at any time; who shows it decides whether there is anything to show."""
    series = counters(10)
    count(series, n="1")
    assert [(text, cell.value) for text, cell in series.items()] == [('n="1"', 1), (OVERFLOW, 0)]
