"""Series of a metric, bounded, and what counts them."""

from __future__ import annotations

import gc
import logging
import sys
import threading
from collections import deque
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Any
from weakref import ref

import pytest

from hypertrace import Caller, TracedObject
from hypertrace.metrics import Declaration
from hypertrace.metrics import series as module
from hypertrace.metrics.aggregations import Count
from hypertrace.metrics.series import Series, SeriesKind, SeriesTable
from hypertrace.metrics.series_kinds import COUNT_SERIES

from ...running import in_threads

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from hypertrace.metrics.series import Key

Counters = SeriesTable[Count]

CLASS = "object_classname"
NAMES = (CLASS,), ("n", "f", "a", "b", "name", "peer", "parity", "ghost")
OVERFLOW = 'object_classname="<overflow>"'
X = Declaration("counter", "x_total", description="How often.")

CALLER = Caller("connect", "/srv/app/net/swarm.py", "net.swarm", 7, 9)


class FakeTracer:
    """Stands for a tracer: what matters is when it goes."""


def counters(limit: int) -> Counters:
    return SeriesTable(X, limit, NAMES, COUNT_SERIES)


def key(**labels: str) -> Key:
    """Give the key of some labels; those that are not named have no value."""
    (common, others) = NAMES
    assert labels.keys() <= {*common, *others}
    return tuple(labels.get(n, "") for n in common), tuple(labels.get(n, "") for n in others)


def shown(series: Counters, one: Series) -> str:
    """Give the labels that have a value as text."""
    pairs = zip(series.label_names, one.labels, strict=True)
    return ",".join(f'{name}="{value}"' for name, value in pairs if value)


def values(series: Counters) -> dict[str, int]:
    """Give the count of each series, and of the overflow if it has one."""
    *held, overflow = series.all()
    assert overflow is series.overflow
    counted = [*held, overflow] if overflow.value else held
    return {shown(series, one): one.value for one in counted}


def count(series: Counters, owner: TracedObject | None = None, **labels: str) -> None:
    series.get(key(**labels), CALLER, owner).cell.increment()


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


def test_equal_label_values_are_one_series() -> None:
    """The same label values lead to the same series, others to another one."""
    series = counters(10)
    assert series.get(key(a="1", b="2"), CALLER) is series.get(key(b="2", a="1"), CALLER)
    assert series.get(key(a="2"), CALLER) is not series.get(key(a="1"), CALLER)
    assert len(series) == 3


def test_values_of_a_call_site_and_of_its_calls_are_distinguished() -> None:
    """The same text as the value of another label is another series."""
    series = counters(10)
    found = [series.get(key(**{name: "x"}), CALLER) for name in (CLASS, "n", "f")]
    assert len({id(one) for one in found}) == len(series) == 3


def test_a_series_knows_its_label_values() -> None:
    """They are in the order of the names of the table, empty where a label has no value."""
    series = counters(10)
    one = series.get(key(object_classname="Cart", f="1", ghost="2"), CALLER)
    assert series.label_names == (CLASS, "n", "f", "a", "b", "name", "peer", "parity", "ghost")
    assert one.labels == ("Cart", "", "1", "", "", "", "", "", "2")
    assert one.key == key(object_classname="Cart", f="1", ghost="2")
    assert series.overflow.labels == ("<overflow>", "", "", "", "", "", "", "", "")
    assert series.declaration is X


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
    assert series.get(key(name="e"), CALLER) is series.overflow
    assert module.OVERFLOW == "<overflow>"


def test_the_warning_names_metric_label_and_line_once(caplog: pytest.LogCaptureFixture) -> None:
    """The log says once which label has the most values, and where it is traced."""
    series = counters(4)
    for number in range(20):
        count(series, object_classname="A", peer=str(number), parity=str(number % 2))
    (record,) = caplog.records
    assert (record.name, record.levelno) == ("hypertrace.metrics", logging.WARNING)
    message = record.getMessage()
    assert "x_total holds 4 series" in message
    assert "{object_classname='<overflow>'}" in message
    assert "peer (4 values in the last 4 series)" in message
    assert "net/swarm.py:7" in message
    assert "max_series" in message


def test_the_warning_looks_at_the_newest_series_alone(caplog: pytest.LogCaptureFixture) -> None:
    """Of a large table the warning looks at a part: the line that meets the limit waits for it."""
    series = counters(module._EXAMINED + 50)
    for number in range(module._EXAMINED + 51):
        count(series, peer=str(number))
    assert "peer (1000 values in the last 1000 series)" in caplog.text


def test_threads_that_meet_the_limit_at_once_log_it_once(caplog: pytest.LogCaptureFixture) -> None:
    """Of two threads that find no room at the same time, one says so."""
    series = counters(1)
    count(series, n="0")
    both = threading.Barrier(2)

    def meet(number: int) -> None:
        both.wait(10)
        for index in range(200):
            count(series, n=f"{number}-{index}")

    in_threads(*(partial(meet, number) for number in range(2)))
    assert len(caplog.records) == 1


def test_a_log_that_fails_loses_no_count(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the warning cannot be logged, the update is counted all the same."""

    def fail(_: logging.LogRecord) -> bool:
        raise RuntimeError("a filter of the application")

    logger = logging.getLogger("hypertrace.metrics")
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
    """A new series takes the place of one whose owner is gone, without a reading in between."""
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
    both = threading.Barrier(2)

    class Slow(deque[Any]):
        """Lets every thread look before any takes."""

        def __len__(self) -> int:
            with suppress(threading.BrokenBarrierError):  # the second look of the faster one
                both.wait(0.2)
            return super().__len__()

    series._gone = Slow()
    tracer = FakeTracer()
    count(series, owner_of(tracer), n="1")
    del tracer
    in_threads(series.drop_gone, series.drop_gone)
    assert len(series) == 0
    assert series._owners == {}


@pytest.mark.parametrize("step", ["_hold", "_own", "drop"])
def test_an_interrupt_leaves_no_series_behind(monkeypatch: pytest.MonkeyPatch, step: str) -> None:
    """A `KeyboardInterrupt` in the midst of making or dropping series passes on, and none stays."""
    series = counters(10)
    pending = [KeyboardInterrupt()]

    class Held(dict[Any, Count]):
        def pop(self, *arguments: Any) -> Any:
            if step == "drop" and pending:
                raise pending.pop()
            return super().pop(*arguments)

    def interrupt(call: Callable[..., object], *arguments: object) -> None:
        call(*arguments)
        if pending:
            raise pending.pop()

    series._held = Held()
    if step != "drop":
        monkeypatch.setattr(series, step, partial(interrupt, getattr(series, step)))
    tracer = FakeTracer()
    with suppress(KeyboardInterrupt):
        count(series, owner_of(tracer), n="1")
    count(series, owner_of(tracer), n="2")
    del tracer
    with suppress(KeyboardInterrupt):
        series.drop_gone()
    assert values(series) == {}
    assert (pending, series._owners, len(series._gone)) == ([], {}, 0)


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
        assert len([[one, one.value] for one in series.all()]) > 2_000
    gc.disable()
    ghosts = [count for text, count in values(series).items() if text.startswith("ghost")]
    seen, made = made, 1_000  # the last one is to make no other
    assert seen > 50
    assert sum(ghosts) in {seen, seen - 1}


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


def _looking_together(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let two threads look for room at the same time, before any of them makes a series."""
    both = threading.Barrier(2)

    def is_full(self: Counters) -> bool:
        result = len(self) >= self.limit
        both.wait(10)
        return result

    monkeypatch.setattr(SeriesTable, "is_full", property(is_full))


def test_the_last_room_is_given_away_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of two threads that look for room at the same time, one gets the last."""
    series = counters(1)
    _looking_together(monkeypatch)
    in_threads(partial(count, series, n="1"), partial(count, series, n="2"))
    assert len(series) == 1
    assert series.overflow.value == 1


def test_the_last_room_is_for_all_with_the_same_labels(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of two threads that make the same last series, none counts in the overflow."""
    series = counters(1)
    _looking_together(monkeypatch)
    in_threads(partial(count, series, n="1"), partial(count, series, n="1"))
    assert values(series) == {'n="1"': 2}


def test_a_series_that_comes_in_between_is_no_overflow(monkeypatch: pytest.MonkeyPatch) -> None:
    """Who finds no room because another thread just made the same series counts in that one."""
    series = counters(1)
    _re_enter(monkeypatch, series, "drop_gone", partial(count, series, n="1"))
    count(series, n="1")
    assert values(series) == {'n="1"': 2}


def test_threads_that_race_for_series_count_exactly() -> None:
    """Threads that race for the same series lose no count, and split none with the overflow."""
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        for _ in range(10):
            series, start = counters(50), threading.Barrier(8)

            def work(first: int, series: Counters = series, start: Any = start) -> None:
                start.wait(10)
                for number in range(80):
                    count(series, n=str((first + number) % 80))

            in_threads(*(partial(work, first) for first in range(8)))
            held = values(series)
            assert held.pop(OVERFLOW) == 8 * 30
            assert set(held.values()) == {8}
            assert len(held) == len(series) == 50
    finally:
        sys.setswitchinterval(interval)


def test_no_thread_waits_for_one_that_hangs_in_the_making() -> None:
    """A finalizer in the midst of a new series may wait for a lock whose holder makes series."""
    application, stuck = threading.Lock(), threading.Event()

    def make(made: Key) -> Count:
        if made == key(n="stuck"):
            stuck.set()
            assert application.acquire(timeout=10)
        return Count(made)

    series = SeriesTable(X, 10, NAMES, SeriesKind("any", make))

    def hold() -> None:
        assert stuck.wait(10)
        count(series, n="1")
        assert values(series) == {'n="1"': 1}
        application.release()

    application.acquire()
    in_threads(partial(count, series, n="stuck"), hold)
    assert values(series) == {'n="1"': 1, 'n="stuck"': 1}


def test_finalizers_that_make_series_at_any_allocation(collected: None) -> None:
    """Garbage that traces wherever the collector finds it never lets the table pass its limit."""
    series = counters(300)
    made = 0

    class Ghost:
        def __init__(self) -> None:
            nonlocal made
            made += 1
            self.name = str(made)
            self.cycle = self

        def __del__(self) -> None:
            count(series, ghost=self.name)
            if made < 1_000:
                Ghost()

    gc.collect()
    Ghost()
    gc.set_threshold(1)
    for number in range(1_000):
        count(series, n=str(number))
    gc.disable()
    held = values(series)
    seen, made = made, 1_000  # as above
    assert seen > 50
    assert sum(held.values()) in {seen + 999, seen + 1_000}
    assert len(series) == 300


def test_series_are_freed_with_their_exporter() -> None:
    """Nothing but its user keeps the series of a metric."""
    series = counters(10)
    cell = ref(series)
    del series
    assert cell() is None


def test_what_counts_a_series_is_made_of_its_key() -> None:
    """The maker is given the key of each series, and that of the overflow."""
    series = SeriesTable(X, 1, NAMES, SeriesKind("any", Series))
    assert series.get(key(b="1", a="2"), CALLER).key == key(b="1", a="2")
    assert series.overflow.key == key(object_classname="<overflow>")
    assert series.get(key(n="1"), CALLER) is series.overflow


def test_the_overflow_comes_last_also_while_it_is_empty() -> None:
    """The overflow is given at any time; the reader decides whether there is anything to show."""
    series = counters(10)
    count(series, n="1")
    assert [(shown(series, one), one.value) for one in series.all()] == [
        ('n="1"', 1),
        (OVERFLOW, 0),
    ]
