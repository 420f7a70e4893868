"""Work that is done once for all who ask for it at the same time."""

from __future__ import annotations

import subprocess
import sys
import threading
from concurrent.futures import Future, ThreadPoolExecutor, wait
from functools import partial
from math import inf
from time import monotonic
from typing import TYPE_CHECKING

import pytest

from hypertrace_prometheus.exposition import single_flight
from hypertrace_prometheus.exposition.single_flight import SingleFlight

from ..wire import needs_fork

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

WAIT = 10.0

Run = single_flight._Run[str, int]


class Work:
    """Work that can be held up, and knows how often and how many at a time it was done."""

    def __init__(self) -> None:
        self.started = threading.Event()
        self.proceed = threading.Event()
        self.times = 0
        self.most_at_once = 0
        self._at_once = 0
        self._lock = threading.Lock()

    def __call__(self) -> int:
        with self._lock:
            self.times += 1
            self._at_once += 1
            self.most_at_once = max(self.most_at_once, self._at_once)
            result = self.times
        self.started.set()
        assert self.proceed.wait(WAIT)
        with self._lock:
            self._at_once -= 1
        return result


class Shared(SingleFlight[str, int]):
    """SingleFlight that report how many threads have come, so that no test needs to sleep."""

    def __init__(self) -> None:
        super().__init__()
        self.joined = threading.Semaphore(0)

    def _join(self, mine: Run, asked: float) -> Run:
        run = super()._join(mine, asked)
        self.joined.release()
        return run

    def one(self, key: object, work: Callable[[], int], *, asked: float = inf) -> int:
        """Ask for a result, of which there is one a run."""
        return self.get(key, "it", lambda: lambda _: work(), asked=asked)

    def wait_for(self, threads: int) -> None:
        for _ in range(threads):
            assert self.joined.acquire(timeout=WAIT)


@pytest.fixture
def pool() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(32) as pool:
        yield pool


def results(futures: list[Future[int]]) -> list[int]:
    wait(futures, WAIT)
    return [future.result(0) for future in futures]


def test_who_comes_meanwhile_shares_the_result(pool: ThreadPoolExecutor) -> None:
    """Any number of threads that ask while the work is done get its result."""
    shared, work = Shared(), Work()
    futures = [pool.submit(shared.one, "page", work) for _ in range(32)]
    shared.wait_for(32)
    work.proceed.set()
    assert results(futures) == [1] * 32


def test_a_thread_that_finds_no_result_makes_it_again() -> None:
    """What was done before is never used again, however short ago it was."""
    work = Work()
    work.proceed.set()
    shared = Shared()
    assert [shared.one("page", work) for _ in range(3)] == [1, 2, 3]


def test_who_asked_before_it_began_takes_it_when_it_is_done(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The last result is for threads that asked before it began, and for a second only."""
    now = 100.0
    monkeypatch.setattr(single_flight, "monotonic", lambda: now)
    shared, work = Shared(), Work()
    work.proceed.set()
    assert shared.one("page", work, asked=99.5) == 1
    now = 100.9
    assert shared.one("page", work, asked=99.9) == 1
    assert shared.one("page", work, asked=100.0) == 1
    assert shared.one("other page", work, asked=99.9) == 2
    assert shared.one("other page", work, asked=100.91) == 3
    now = 101.91
    assert shared.one("other page", work, asked=99.9) == 4
    assert shared.one("other page", work) == 5
    shared.renew()
    assert shared.one("other page", work, asked=99.9) == 6


def test_other_keys_have_their_turn_after(pool: ThreadPoolExecutor) -> None:
    """Work for other keys is done, too, one at a time."""
    shared, work = Shared(), Work()
    futures = [pool.submit(shared.one, key, work) for key in range(8)]
    shared.wait_for(8)
    work.proceed.set()
    assert sorted(results(futures)) == list(range(1, 9))
    assert work.most_at_once == 1


def test_what_began_long_ago_is_not_shared(
    pool: ThreadPoolExecutor, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Threads that come a second after the start wait for the end; then one works for all."""
    shared, work = Shared(), Work()
    first = pool.submit(shared.one, "page", work)
    assert work.started.wait(WAIT)
    now = monotonic() + single_flight.SHARED_FOR + 0.1
    monkeypatch.setattr(single_flight, "monotonic", lambda: now)
    late = [pool.submit(shared.one, "page", work) for _ in range(8)]
    shared.wait_for(9)
    work.proceed.set()
    assert results([first]) == [1]
    assert results(late) == [2] * 8
    assert work.most_at_once == 1


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit, ValueError])
def test_where_the_work_breaks_off_another_does_it(
    pool: ThreadPoolExecutor, error: type[BaseException]
) -> None:
    """An error ends the wait of the others at once: one of them does the work for all."""
    shared, work = Shared(), Work()
    started, proceed = threading.Event(), threading.Event()

    def fail() -> int:
        started.set()
        assert proceed.wait(WAIT)
        raise error

    def lead() -> None:
        with pytest.raises(error):
            shared.one("page", fail)

    leader = pool.submit(lead)
    assert started.wait(WAIT)
    futures = [pool.submit(shared.one, "page", work) for _ in range(8)]
    shared.wait_for(9)
    work.proceed.set()
    proceed.set()
    leader.result(WAIT)
    assert set(results(futures)) <= set(range(1, 9))
    assert work.most_at_once == 1
    assert shared.one("page", work) == work.times


def test_each_thread_gets_what_it_wants_of_the_same_work(pool: ThreadPoolExecutor) -> None:
    """The part that all have in common is done once, and each result once."""
    shared, common = Shared(), Work()
    made: list[str] = []

    def start() -> Callable[[str], int]:
        common()
        return make

    def make(want: str) -> int:
        made.append(want)
        return len(want)

    wants = ["", "a", "bb", "ccc"] * 4
    futures = [pool.submit(shared.get, "page", want, start) for want in wants]
    shared.wait_for(16)
    common.proceed.set()
    assert results(futures) == [0, 1, 2, 3] * 4
    assert common.times == 1
    assert sorted(made) == ["", "a", "bb", "ccc"]


def test_a_wish_that_comes_while_results_are_made_is_met(pool: ThreadPoolExecutor) -> None:
    """As long as the work is not complete, a thread may want something else of it."""
    shared, first = Shared(), Work()
    starts: list[bool] = []

    def start() -> Callable[[str], int]:
        starts.append(True)
        return lambda want: first() if want == "first" else 7

    futures = [pool.submit(shared.get, "page", "first", start)]
    assert first.started.wait(WAIT)
    futures.append(pool.submit(shared.get, "page", "second", start))
    shared.wait_for(2)
    first.proceed.set()
    assert results(futures) == [1, 7]
    assert len(starts) == 1


def test_the_last_result_is_no_answer_to_another_wish() -> None:
    """A thread that wants what was not made does the work."""
    shared = Shared()
    asked = monotonic()
    assert shared.get("page", "a", lambda: len, asked=asked) == 1
    assert shared.get("page", "bb", lambda: len, asked=asked) == 2
    assert shared.get("page", "bb", lambda: lambda _: 7, asked=asked) == 2


def test_nothing_is_kept_where_no_thread_had_to_wait_to_ask() -> None:
    """Without the time at which it was asked for, a result is not kept when all have it."""
    shared = Shared()
    shared.get("page", "a", lambda: len)
    assert shared._last is None


def test_a_queue_is_no_hang(pool: ThreadPoolExecutor, monkeypatch: pytest.MonkeyPatch) -> None:
    """Work is done one at a time however long the queue, if no turn takes too long."""
    clock = [0.0]
    monkeypatch.setattr(single_flight, "monotonic", lambda: clock[0])
    shared, work = Shared(), Work()

    def take_a_while() -> int:
        result = work()
        clock[0] += single_flight._PATIENCE - 0.1
        return result

    futures = [pool.submit(shared.one, key, take_a_while) for key in range(16) for _ in "ab"]
    shared.wait_for(32)
    work.proceed.set()
    assert sorted(results(futures)) == sorted([*range(1, 17)] * 2)
    assert work.most_at_once == 1
    assert clock[0] > 10 * single_flight._PATIENCE


def test_turns_come_in_the_order_they_were_asked_for(pool: ThreadPoolExecutor) -> None:
    """A thread that comes later does not have its turn before."""
    shared, first = Shared(), Work()
    order: list[int] = []
    futures = [pool.submit(shared.one, "first", first)]
    assert first.started.wait(WAIT)
    shared.wait_for(1)

    def make(key: int) -> int:
        order.append(key)
        return key

    for key in range(8):
        futures.append(pool.submit(shared.one, key, partial(make, key)))
        shared.wait_for(1)
    first.proceed.set()
    results(futures)
    assert order == list(range(8))


def test_one_that_lost_its_thread_while_it_waited_keeps_no_other_waiting(
    pool: ThreadPoolExecutor, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A turn that is not taken in time is passed over."""
    monkeypatch.setattr(single_flight, "_PATIENCE", 0.05)
    shared, work = Shared(), Work()
    work.proceed.set()
    lost: Run = single_flight._Run("lost", "it")
    assert shared._join(lost, 0.0) is lost
    for key in ("page", "lost"):
        assert pool.submit(shared.one, key, work).result(WAIT)
    assert shared._waiting == {}


@pytest.mark.parametrize("key", ["page", "other page"])
def test_a_thread_that_hangs_keeps_no_other_waiting_for_ever(
    pool: ThreadPoolExecutor, monkeypatch: pytest.MonkeyPatch, key: str
) -> None:
    """After some seconds the work is done beside that which hangs, and later at once."""
    monkeypatch.setattr(single_flight, "SHARED_FOR", 0.01)
    monkeypatch.setattr(single_flight, "_PATIENCE", 0.1)
    shared, hanging, work = Shared(), Work(), Work()
    work.proceed.set()
    first = pool.submit(shared.one, "page", hanging)
    assert hanging.started.wait(WAIT)
    assert pool.submit(shared.one, key, work).result(WAIT) == 1
    # The hung thread lost its turn: now no thread waits for it.
    monkeypatch.setattr(single_flight, "_PATIENCE", WAIT)
    assert pool.submit(shared.one, "third page", work).result(WAIT / 2) == 2
    hanging.proceed.set()
    assert results([first]) == [1]


def test_no_thread_waits_more_than_some_times(monkeypatch: pytest.MonkeyPatch) -> None:
    """A thread whose run failed several times does the work alone."""
    monkeypatch.setattr(single_flight, "_PATIENCE", 0.01)
    shared, work = Shared(), Work()
    work.proceed.set()
    run: Run = single_flight._Run("page", "it")
    run.wait_behind(0)
    monkeypatch.setattr(shared, "_join", lambda *_: run)
    assert shared.one("page", work) == 1


FORK = """
import faulthandler, os, threading
from hypertrace_prometheus.exposition.single_flight import SingleFlight

shared = SingleFlight()
started, proceed = threading.Event(), threading.Event()

def hang(_):
    with shared._changed:
        started.set()
        proceed.wait()

thread = threading.Thread(target=shared.get, args=("page", "it", lambda: hang))
thread.start()
started.wait()
child = os.fork()
if child == 0:
    faulthandler.dump_traceback_later(5, exit=True)
    os._exit(shared.get("page", "it", lambda: lambda _: 7))
proceed.set()
thread.join()
status = os.waitpid(child, 0)[1]
print(os.waitstatus_to_exitcode(status), shared.get("page", "it", lambda: lambda _: 8))
"""


@needs_fork
def test_a_forked_child_waits_for_no_thread() -> None:
    """Work that is under way in the parent, whose threads a child lacks, is done in the child."""
    process = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", FORK],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (process.stdout, process.stderr) == ("7 8\n", "")
