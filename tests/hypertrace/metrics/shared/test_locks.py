"""Locks of a run directory: who leads and who folds, in threads, processes and forked children."""

from __future__ import annotations

import ctypes
import errno
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from hypertrace.metrics.shared import locks as module
from hypertrace.metrics.shared.locks import Locks

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

fcntl: Any = pytest.importorskip("fcntl", reason="this system has no POSIX locks")
needs_proc = pytest.mark.skipif(not Path("/proc/self/fd").is_dir(), reason="needs Linux's /proc")
needs_pidfd = pytest.mark.skipif(not hasattr(os, "pidfd_open"), reason="needs Linux's pidfds")

SOON = 10.0
"""Seconds that only a test that fails waits."""

OTHER = """
import fcntl, sys, threading
from hypertrace.metrics.shared.locks import Locks
locks = Locks(sys.argv[1])
held = []


def fold():
    held.append(locks.try_fold())
    return held[-1].__enter__()


def lock_and_wait(path):
    held.append(open(path, "w"))
    fcntl.lockf(held[-1], fcntl.LOCK_EX)
    threading.Thread(target=locks.wait_to_lead, daemon=True).start()


for line in sys.stdin:
    print(eval(line), flush=True)
"""


class Other:
    """Another process that has locks of the same directory, and evaluates what it is sent."""

    def __init__(self, directory: Path) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-c", OTHER, str(directory)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def send(self, expression: str) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(expression + "\n")
        self.process.stdin.flush()

    def receive(self) -> str:
        assert self.process.stdout is not None
        return self.process.stdout.readline().strip()

    def ask(self, expression: str) -> str:
        self.send(expression)
        return self.receive()

    def kill(self) -> None:
        self.process.kill()
        self.process.communicate()


@pytest.fixture
def locks(tmp_path: Path) -> Iterator[Locks]:
    """Give locks of a directory."""
    made = Locks(str(tmp_path))
    yield made
    made.close()


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[[], Other]]:
    """Give a function that starts another process with locks of the same directory."""
    others: list[Other] = []

    def start() -> Other:
        others.append(Other(tmp_path))
        return others[-1]

    yield start
    for other in others:
        other.kill()


def descriptors(folder: Path) -> int:
    """Return how many files of a folder this process has open."""
    files = Path("/proc/self/fd").iterdir()
    return sum(str(file.resolve()).startswith(str(folder.resolve())) for file in files)


def in_fork(work: Callable[[], bool], fork: Callable[[], int] = os.fork) -> bool:
    """Return what a function returns in a forked child."""
    child = fork()
    if not child:
        done = False
        try:
            done = work()
        finally:
            os._exit(0 if done else 1)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def test_one_process_leads(locks: Locks, start: Callable[[], Other]) -> None:
    """Of several processes one leads, and says so each time it is asked."""
    other = start()
    assert locks.try_lead()
    assert locks.try_lead()
    assert locks.is_leading
    assert other.ask("locks.try_lead(), locks.is_leading") == "(False, False)"


def test_a_leader_that_stops_lets_another_lead(locks: Locks, start: Callable[[], Other]) -> None:
    """After `stop_leading()` another process leads, and this one does not any more."""
    other = start()
    assert locks.try_lead()
    locks.stop_leading()
    assert not locks.is_leading
    assert other.ask("locks.try_lead()") == "True"
    assert not locks.try_lead()


def test_the_users_of_a_process_lead_together(locks: Locks, start: Callable[[], Other]) -> None:
    """A process leads until the last of its users stops, however often one of them stops."""
    other, page = start(), locks.another()
    assert locks.try_lead()
    assert page.try_lead()
    for _ in range(2):
        page.stop_leading()
    assert not page.is_leading
    assert locks.is_leading
    assert other.ask("locks.try_lead()") == "False"
    page.close()
    locks.stop_leading()
    assert other.ask("locks.try_lead()") == "True"


def test_each_purpose_has_a_lead(locks: Locks, start: Callable[[], Other]) -> None:
    """A process that leads in one thing is not in the way of one that leads in something else."""
    other = start()
    assert locks.try_lead()
    assert locks.another("StatsdExporter").try_lead()
    assert other.ask("locks.another('StatsdExporter').try_lead()") == "False"
    assert other.ask("locks.another('InfluxExporter').try_lead()") == "True"
    assert not locks.another("InfluxExporter").try_lead()


def test_a_process_opens_the_file_once(
    locks: Locks, tmp_path: Path, start: Callable[[], Other]
) -> None:
    """Further locks of one directory, made and closed, do not take the lead from the process."""
    other = start()
    assert locks.try_lead()
    for _ in range(3):
        Locks(f"{tmp_path}/../{tmp_path.name}").close()
    assert len(locks._opened.descriptors) == 1
    assert other.ask("locks.try_lead()") == "False"


def test_a_file_that_is_opened_twice_is_not_closed(
    locks: Locks, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, start: Callable[[], Other]
) -> None:
    """A file that came to its path just before it was opened again does not cost the lead."""
    other = start()
    assert locks.try_lead()
    with monkeypatch.context() as patch:
        patch.setattr(os, "stat", lambda *_, **__: os.lstat(tmp_path))
        Locks(str(tmp_path)).close()
    assert other.ask("locks.try_lead()") == "False"


def test_closed_locks_are_an_error(locks: Locks) -> None:
    """Locks that were closed lead no more, and say so when they shall."""
    locks.try_lead()
    locks.close()
    assert not locks.is_leading
    with pytest.raises(ValueError, match="closed"):
        locks.try_lead()


@needs_proc
def test_locks_leave_no_descriptor(tmp_path: Path) -> None:
    """The file is closed with the last locks of it."""
    for _ in range(5):
        one = Locks(str(tmp_path))
        one.try_lead()
        other = one.another()
        one.close()
        one.close()
        assert descriptors(tmp_path) == 1
        other.close()
        assert descriptors(tmp_path) == 0


def test_the_file_is_private(locks: Locks) -> None:
    """Only the user may open the file, and programs that are started do not inherit it."""
    assert Path(locks.path).stat().st_mode & 0o777 == 0o600
    assert not os.get_inheritable(locks._opened.descriptor)


@pytest.mark.parametrize("kind", ["link", "folder", "pipe"])
def test_what_is_no_file_of_locks_is_refused(tmp_path: Path, kind: str) -> None:
    """A symbolic link, a folder or a pipe in the place of the file raises OSError at once."""
    path = tmp_path / "lock"
    if kind == "link":
        path.symlink_to(tmp_path / "elsewhere")
    elif kind == "folder":
        path.mkdir()
    else:
        os.mkfifo(path)
    with pytest.raises(OSError):  # noqa: PT011 -- the system's
        Locks(str(tmp_path))
    assert not (tmp_path / "elsewhere").exists()


def test_a_file_system_without_locks_is_an_error_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where no file can be locked, it is the constructor that raises."""

    def refuse(*_: object) -> None:
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(fcntl, "lockf", refuse)
    with pytest.raises(OSError, match=os.strerror(errno.ENOLCK)):
        Locks(str(tmp_path))


def test_a_system_without_locks_is_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without POSIX locks, as on Windows, locks cannot be made."""
    monkeypatch.setattr(sys, "platform", "win32")
    with pytest.raises(OSError, match="no locks"):
        Locks(str(tmp_path))


@pytest.mark.parametrize("is_watched", [True, False])
def test_another_leads_once_the_leader_is_killed(
    locks: Locks,
    start: Callable[[], Other],
    monkeypatch: pytest.MonkeyPatch,
    is_watched: bool,
) -> None:
    """A process that waits leads after the leader was killed, also where its end is not seen."""
    if not is_watched:
        monkeypatch.delattr(os, "pidfd_open", raising=False)
    other = start()
    assert other.ask("locks.try_lead()") == "True"
    waiting = threading.Thread(target=locks.wait_to_lead, daemon=True)
    waiting.start()
    other.kill()
    waiting.join(SOON)
    assert locks.is_leading


@needs_pidfd
def test_the_end_of_the_leader_is_seen_at_once(
    locks: Locks, start: Callable[[], Other], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A process that waits wakes because the leader ends, not after a while."""
    monkeypatch.setattr(module, "_HANDED_OVER", 1_000.0)
    other = start()
    assert other.ask("locks.try_lead()") == "True"
    leading: list[bool] = []
    waiting = threading.Thread(target=lambda: leading.append(locks.wait_to_lead()), daemon=True)
    waiting.start()
    other.kill()
    waiting.join(SOON)
    assert leading == [True]


def test_another_leads_once_the_leader_stops(locks: Locks, start: Callable[[], Other]) -> None:
    """A process that waits leads after the leader stopped, also if that one lives on."""
    other = start()
    assert other.ask("locks.try_lead()") == "True"
    other.send("locks.stop_leading()")
    assert locks.wait_to_lead()
    assert other.receive() == "None"
    assert other.ask("locks.try_lead()") == "False"


def test_a_process_that_waits_can_be_interrupted(locks: Locks, start: Callable[[], Other]) -> None:
    """What there is to read from the descriptor ends the waiting, and nothing leads then."""
    other = start()
    assert other.ask("locks.try_lead()") == "True"
    receiver, sender = os.pipe()
    os.write(sender, b"!")
    assert not locks.wait_to_lead(receiver)
    assert not locks.is_leading
    os.close(receiver)
    os.close(sender)


def test_a_process_that_waits_is_no_deadlock_for_the_application(
    locks: Locks, start: Callable[[], Other], tmp_path: Path
) -> None:
    """A leader may sleep for a lock of the application that a process has which waits to lead.

    The kernel would fail it with EDEADLK if the other one slept for a lock here.
    """
    other = start()
    assert locks.try_lead()
    application = tmp_path / "application"
    application.touch()
    assert other.ask(f"lock_and_wait({str(application)!r})") == "None"
    assert other.ask("__import__('time').sleep(0.1)") == "None"  # it sleeps in there by now
    failed: list[OSError] = []

    def sleep_for_lock() -> None:
        try:
            with application.open("w") as file:
                fcntl.lockf(file, fcntl.LOCK_EX)
        except OSError as error:
            failed.append(error)

    thread = threading.Thread(target=sleep_for_lock, daemon=True)
    thread.start()
    thread.join(0.1)
    assert other.ask("fcntl.lockf(held[0], fcntl.LOCK_UN)") == "None"
    thread.join(SOON)
    assert not thread.is_alive()
    assert failed == []


@pytest.mark.parametrize("hooks", [True, False], ids=["Python", "C"])
def test_a_forked_child_leads_nothing(locks: Locks, hooks: bool) -> None:
    """A child does not lead although its parent does, and one that leads does not keep the lead.

    A fork by C, as uWSGI does it, calls no hook of Python.
    """
    assert locks.try_lead()
    with locks.try_fold() as folds:
        assert folds

        def child() -> bool:
            with locks.try_fold() as folds:
                return not (folds or locks.is_leading or locks.try_lead())

        fork = os.fork if hooks else ctypes.PyDLL(None).fork
        assert in_fork(child, fork)
    assert locks.is_leading


@pytest.mark.parametrize("held", ["guard", "fold_guard"])
def test_a_child_waits_for_no_thread_of_its_parent(locks: Locks, held: str) -> None:
    """A guard that another thread held at the fork is free in the child."""
    guard = module._current.guard if held == "guard" else locks._opened.fold_guard
    holding, done = threading.Event(), threading.Event()

    def hold() -> None:
        with guard:
            holding.set()
            done.wait(SOON)

    thread = threading.Thread(target=hold)
    thread.start()
    holding.wait(SOON)

    def child() -> bool:
        signal.alarm(5)
        with locks.try_fold() as folds:
            return folds and locks.try_lead()

    try:
        assert in_fork(child)
    finally:
        done.set()
        thread.join()


def test_a_child_takes_over_from_its_parent(tmp_path: Path) -> None:
    """A forked child that waits leads once its parent has ended, and it uses the same file."""
    program = """
import os, sys
from hypertrace.metrics.shared.locks import Locks
locks = Locks(sys.argv[1])
assert locks.try_lead()
locks.address = "127.0.0.1:4343"
if not os.fork():
    print(locks.wait_to_lead(), locks.address, flush=True)
os._exit(0)
"""
    run = subprocess.run(
        [sys.executable, "-c", program, str(tmp_path)],
        capture_output=True,
        text=True,
        timeout=SOON,
        check=False,
    )
    assert (run.stdout, run.stderr) == ("True 127.0.0.1:4343\n", "")


def test_one_thread_of_one_process_folds(locks: Locks, start: Callable[[], Other]) -> None:
    """While a thread folds, no other thread or process does, and afterwards any may."""
    other = start()
    fold = "fold()"
    with locks.try_fold() as first:
        with locks.another().try_fold() as second:
            assert (first, second) == (True, False)
        assert other.ask(fold) == "False"
    with locks.try_fold() as again:
        assert again
    assert other.ask(fold) == "True"
    with locks.try_fold() as third:
        assert not third


def test_a_process_may_lead_and_another_fold(locks: Locks, start: Callable[[], Other]) -> None:
    """The two locks do not exclude each other."""
    assert locks.try_lead()
    assert start().ask("fold()") == "True"


def test_a_fold_that_fails_frees_the_lock(locks: Locks) -> None:
    """An exception in the block goes through, and leaves the lock free."""
    with pytest.raises(ZeroDivisionError), locks.try_fold():
        raise ZeroDivisionError
    with locks.try_fold() as again:
        assert again


def test_the_address_is_known_to_all(locks: Locks, start: Callable[[], Other]) -> None:
    """Any process reads where the leader serves, and a shorter address leaves nothing behind."""
    other = start()
    assert locks.address == ""
    assert locks.try_lead()
    for address in ["[2001:db8::1]:65535", f"{'x' * 253}:4343", "a:1", ""]:
        locks.address = address
        assert locks.address == address
        assert other.ask("locks.address") == address
    assert other.ask("locks.try_lead()") == "False"


def test_only_the_leader_publishes_an_address(locks: Locks) -> None:
    """A process that does not lead cannot change the address."""
    with pytest.raises(RuntimeError, match="only the process that leads"):
        locks.address = "127.0.0.1:1"


def test_a_signal_handler_may_use_the_locks(locks: Locks) -> None:
    """A handler that interrupts a thread inside the locks is not stopped by it."""
    handled: list[bool] = []

    def handle(*_: object) -> None:
        handled.append(locks.another().try_lead())

    before = signal.signal(signal.SIGUSR1, handle)
    try:
        with module._current.guard:
            signal.raise_signal(signal.SIGUSR1)
    finally:
        signal.signal(signal.SIGUSR1, before)
    assert handled == [True]


def test_many_processes_that_wait_lead_one_after_the_other(
    locks: Locks, start: Callable[[], Other]
) -> None:
    """Each time the leader is killed, one of the others leads, until there is none."""
    assert locks.try_lead()
    others = [start() for _ in range(4)]
    for other in others:
        other.send("locks.wait_to_lead()")
    locks.stop_leading()
    probe = locks.another()
    while others:
        deadline = time.monotonic() + SOON
        while (pid := probe._leader()) not in [other.process.pid for other in others]:
            assert time.monotonic() < deadline
        leader = next(other for other in others if other.process.pid == pid)
        assert leader.receive() == "True"
        leader.kill()
        others.remove(leader)
    assert probe.wait_to_lead()
    probe.close()
