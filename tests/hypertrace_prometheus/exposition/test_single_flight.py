"""Work that is done once for all who ask for it at the same time."""

from __future__ import annotations

import subprocess
import sys
import threading
from concurrent.futures import Future, ThreadPoolExecutor, wait
from time import monotonic
from typing import TYPE_CHECKING

import pytest

from hypertrace_prometheus.exposition import single_flight
from hypertrace_prometheus.exposition.single_flight import Snapshots

from ..wire import needs_fork

if TYPE_CHECKING:
    from collections.abc import Iterator

WAIT = 10.0


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


class Shared(Snapshots[int]):
    """Snapshots that tell how many threads have come, so that no test needs to sleep."""

    def __init__(self) -> None:
        super().__init__()
        self.boarded = threading.Semaphore(0)

    def _board(
        self, key: object, mine: single_flight._Flight[int], asked: float
    ) -> single_flight._Flight[int]:
        flight = super()._board(key, mine, asked)
        self.boarded.release()
        return flight

    def wait_for(self, threads: int) -> None:
        for _ in range(threads):
            assert self.boarded.acquire(timeout=WAIT)


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
    futures = [pool.submit(shared.get, "page", work) for _ in range(32)]
    shared.wait_for(32)
    work.proceed.set()
    assert results(futures) == [1] * 32


def test_who_finds_none_does_it_anew() -> None:
    """What was done before is never used again, however short ago it was."""
    work = Work()
    work.proceed.set()
    shared = Shared()
    assert [shared.get("page", work) for _ in range(3)] == [1, 2, 3]


def test_who_asked_before_it_began_takes_it_when_it_is_done(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The last result serves those who had to wait to ask; not later ones, nor for long."""
    now = 100.0
    monkeypatch.setattr(single_flight, "monotonic", lambda: now)
    shared, work = Shared(), Work()
    work.proceed.set()
    assert shared.get("page", work, asked=99.5) == 1
    now = 100.9
    assert shared.get("page", work, asked=99.9) == 1
    assert shared.get("page", work, asked=100.0) == 1
    assert shared.get("other page", work, asked=99.9) == 2
    assert shared.get("other page", work, asked=100.91) == 3
    now = 101.91
    assert shared.get("other page", work, asked=99.9) == 4
    assert shared.get("other page", work) == 5
    shared.renew()
    assert shared.get("other page", work, asked=99.9) == 6


def test_other_keys_have_their_turn_after(pool: ThreadPoolExecutor) -> None:
    """Work for other keys is done, too, one at a time."""
    shared, work = Shared(), Work()
    futures = [pool.submit(shared.get, key, work) for key in range(8)]
    shared.wait_for(8)
    work.proceed.set()
    assert sorted(results(futures)) == list(range(1, 9))
    assert work.most_at_once == 1


def test_what_began_long_ago_is_not_shared(
    pool: ThreadPoolExecutor, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who comes a second after the work began waits for its end, and then one does it for all."""
    shared, work = Shared(), Work()
    first = pool.submit(shared.get, "page", work)
    assert work.started.wait(WAIT)
    now = monotonic() + single_flight.SHARED_FOR + 0.1
    monkeypatch.setattr(single_flight, "monotonic", lambda: now)
    late = [pool.submit(shared.get, "page", work) for _ in range(8)]
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
            shared.get("page", fail)

    leader = pool.submit(lead)
    assert started.wait(WAIT)
    futures = [pool.submit(shared.get, "page", work) for _ in range(8)]
    shared.wait_for(9)
    work.proceed.set()
    proceed.set()
    leader.result(WAIT)
    assert set(results(futures)) <= set(range(1, 9))
    assert work.most_at_once == 1
    assert shared.get("page", work) == work.times


@pytest.mark.parametrize("key", ["page", "other page"])
def test_who_hangs_keeps_nobody_waiting_for_ever(
    pool: ThreadPoolExecutor, monkeypatch: pytest.MonkeyPatch, key: str
) -> None:
    """After some seconds the work is done beside that which hangs, and later at once."""
    monkeypatch.setattr(single_flight, "SHARED_FOR", 0.01)
    monkeypatch.setattr(single_flight, "_PATIENCE", 0.1)
    shared, hanging, work = Shared(), Work(), Work()
    work.proceed.set()
    first = pool.submit(shared.get, "page", hanging)
    assert hanging.started.wait(WAIT)
    assert pool.submit(shared.get, key, work).result(WAIT) == 1
    # The turn was taken from who hangs: now nobody waits for it.
    monkeypatch.setattr(single_flight, "_PATIENCE", WAIT)
    assert pool.submit(shared.get, "third page", work).result(WAIT / 2) == 2
    hanging.proceed.set()
    assert results([first]) == [1]


def test_nobody_waits_more_than_some_times(monkeypatch: pytest.MonkeyPatch) -> None:
    """Who was let down several times does the work alone."""
    monkeypatch.setattr(single_flight, "_PATIENCE", 0.01)
    shared, work = Shared(), Work()
    work.proceed.set()
    flight: single_flight._Flight[int] = single_flight._Flight()
    monkeypatch.setattr(shared, "_board", lambda *_: flight)
    assert shared.get("page", work) == 1


FORK = """
import faulthandler, os, threading
from hypertrace_prometheus.exposition.single_flight import Snapshots

shared = Snapshots()
started, proceed = threading.Event(), threading.Event()

def hang():
    with shared._lock:
        started.set()
        proceed.wait()

thread = threading.Thread(target=shared.get, args=("page", hang))
thread.start()
started.wait()
child = os.fork()
if child == 0:
    faulthandler.dump_traceback_later(5, exit=True)
    os._exit(shared.get("page", lambda: 7))
proceed.set()
thread.join()
print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), shared.get("page", lambda: 8))
"""


@needs_fork
def test_a_forked_child_waits_for_nobody() -> None:
    """Work that is under way in the parent, whose threads a child lacks, is done in the child."""
    process = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", FORK],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (process.stdout, process.stderr) == ("7 8\n", "")
