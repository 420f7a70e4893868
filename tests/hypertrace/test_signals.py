"""Signals: what is called before SIGTERM ends the process, and by whom."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

import hypertrace
from hypertrace import signals
from hypertrace.signals import before_sigterm

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.skipif(os.name != "posix", reason="this system has no such signals")

SETTING = """
import os, signal, sys, threading, time
from hypertrace import COMPILED
from hypertrace.signals import before_sigterm


def say(text):
    os.write(1, text.encode() + b" ")


def terminate(pid):
    os.kill(pid, signal.SIGTERM)
    for _ in range(300):  # a handler of Python runs between two steps
        time.sleep(0.1)
"""


def run(code: str) -> tuple[str, int]:
    """Run a program; return what it printed, and how it ended."""
    where = str(Path(hypertrace.__file__).parent.parent)
    done = subprocess.run(
        [sys.executable, "-P", "-W", "ignore::DeprecationWarning", "-c", SETTING + code],
        env={**os.environ, "PYTHONPATH": where},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.stderr == ""
    return done.stdout.strip(), done.returncode


@pytest.fixture
def default() -> Iterator[None]:
    """Let SIGTERM have its default action, and the handler of the tests after that."""
    before = signal.signal(signal.SIGTERM, signal.SIG_DFL)
    yield
    signal.signal(signal.SIGTERM, before)


def test_it_is_called_once_and_the_signal_ends_the_process() -> None:
    """The last call is the one that holds."""
    code = """
assert before_sigterm(lambda: say("first"), 1)
assert before_sigterm(lambda: say("second"), 1)
terminate(os.getpid())
"""
    assert run(code) == ("second", -signal.SIGTERM)


def test_it_is_called_once_however_often_the_signal_comes() -> None:
    """Some programs signal a process, and then its group."""
    code = """
def work():
    say("called")
    time.sleep(0.5)


def send():
    while True:
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(0.05)


before_sigterm(work, 30)
threading.Thread(target=send, daemon=True).start()
for _ in range(300):
    time.sleep(0.1)
"""
    assert run(code) == ("called", -signal.SIGTERM)


def test_an_error_does_not_keep_the_process() -> None:
    """However the function ends, the signal ends the process."""
    code = """
threading.excepthook = sys.excepthook = lambda *_: None
before_sigterm(lambda: 1 / 0, 1)
terminate(os.getpid())
"""
    assert run(code) == ("", -signal.SIGTERM)


def test_a_handler_may_be_put_in_its_place_and_back() -> None:
    """As servers do for as long as they run, and raise the signal again afterwards."""
    code = """
before_sigterm(lambda: say("last"), 1)
before = signal.signal(signal.SIGTERM, lambda *_: say("own"))
os.kill(os.getpid(), signal.SIGTERM)
time.sleep(0.1)
signal.signal(signal.SIGTERM, before)
signal.raise_signal(signal.SIGTERM)
time.sleep(60)
"""
    assert run(code) == ("own last", -signal.SIGTERM)


def test_a_handler_may_call_what_was_there_before() -> None:
    """As handlers that are chained do."""
    code = """
before_sigterm(lambda: say("last"), 1)
before = signal.getsignal(signal.SIGTERM)


def handle(*arguments):
    say("own")
    before(*arguments)


signal.signal(signal.SIGTERM, handle)
terminate(os.getpid())
"""
    assert run(code) == ("own last", -signal.SIGTERM)


def test_a_signal_to_a_child_is_the_childs() -> None:
    """Also in the moment before the child watches for itself; the parent goes on."""
    code = """
before_sigterm(lambda: say(f"{os.getpid() == parent}"), 1)
parent = os.getpid()
for _ in range(20):
    if (child := os.fork()) == 0:
        for _ in range(300):
            time.sleep(0.1)
        os._exit(0)
    os.kill(child, signal.SIGTERM)
    if not COMPILED:  # Python forgets signals that come in this moment
        time.sleep(0.1)
        os.kill(child, signal.SIGTERM)
    assert os.WTERMSIG(os.waitpid(child, 0)[1]) == signal.SIGTERM
say("parent")
"""
    said, status = run(code)
    assert (said.split().count("True"), said.split()[-1], status) == (0, "parent", 0)


def test_a_process_without_its_descriptors_ends_at_once() -> None:
    """A program may close them all, and use their numbers: nothing is written there."""
    code = """
import socket

before_sigterm(lambda: None, 1)
os.closerange(3, 1000)
sockets = [socket.socketpair() for _ in range(20)]
terminate(os.getpid())
"""
    assert run(code) == ("", -signal.SIGTERM)


@pytest.mark.skipif(not hypertrace.COMPILED, reason="a handler of Python cannot be interrupted so")
def test_a_function_that_hangs_is_ended_by_another_signal() -> None:
    """Once its time is over; before that a further signal changes nothing."""
    code = """
def hang():
    say("hangs")
    time.sleep(60)


before_sigterm(hang, 0.5)
start = time.monotonic()
for _ in range(300):
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(0.1)
    say("goes on")
"""
    said, status = run(code)
    assert status == -signal.SIGTERM
    assert 2 <= said.count("goes on") < 100


@pytest.mark.skipif(not hypertrace.COMPILED, reason="there is a thread with the compiled core")
def test_there_is_no_thread_at_a_fork() -> None:
    """It ends before a fork, and is there again in parent and child."""
    code = """
alive = []
before_sigterm(lambda: None, 1)
os.register_at_fork(after_in_child=lambda: None)
assert threading.active_count() == 2
for _ in range(20):
    if (child := os.fork()) == 0:
        os._exit(threading.active_count() != 2)
    assert os.waitpid(child, 0)[1] == 0
    assert threading.active_count() == 2
"""
    before = """
import os, threading
alive = []
os.register_at_fork(before=lambda: alive.append(threading.active_count()))
"""
    where = str(Path(hypertrace.__file__).parent.parent)
    program = before + SETTING + code + "assert alive == [1] * 20, alive"
    subprocess.run(
        [sys.executable, "-P", "-c", program], env={**os.environ, "PYTHONPATH": where}, check=True
    )


def test_the_first_process_of_a_container_goes_on(
    monkeypatch: pytest.MonkeyPatch, default: None
) -> None:
    """Linux does not end it by a signal without a handler: the next SIGTERM calls it again."""
    sent: list[int] = []
    called: list[None] = []
    monkeypatch.setattr(os, "getpid", lambda: 1)
    monkeypatch.setattr(os, "kill", lambda _, number: sent.append(number))
    handler = signals._Handler(lambda: called.append(None))
    for times in (1, 2):
        handler(signal.SIGTERM, None)
        assert (len(sent), len(called)) == (times, times)
        assert signal.getsignal(signal.SIGTERM) is handler


@pytest.mark.parametrize("handler", [signal.SIG_IGN, lambda *_: None], ids=["ignored", "handled"])
def test_what_handles_or_ignores_it_stays(handler: signal.Handlers, default: None) -> None:
    """The application, or the server that runs it, wants it so."""
    signal.signal(signal.SIGTERM, handler)
    assert not before_sigterm(lambda: None, 1)
    assert signal.getsignal(signal.SIGTERM) is handler


def test_another_thread_cannot_call_it(default: None) -> None:
    """The error says where to call it."""
    raised: list[str] = []

    def work() -> None:
        try:
            before_sigterm(lambda: None, 1)
        except RuntimeError as error:
            raised.append(str(error))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join(30)
    assert raised == ["signals are handled in the main thread: call this there"]
