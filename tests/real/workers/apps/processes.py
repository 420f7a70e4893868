"""Program that works in child processes of one kind: `processes.py KIND`."""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from answers import FOLDER, answer, wait_for
from counted import work

if TYPE_CHECKING:
    from collections.abc import Callable

CALLS = 20


def do(number: int = 0) -> int:
    """Do some work, and return the process that did it."""
    work.do()
    time.sleep(0.002)
    return os.getpid()


def idle() -> None:
    """Work, and then wait to be killed."""
    for number in range(CALLS):
        do(number)
    (FOLDER / "idle").touch()
    wait_for("end")


def child() -> None:
    """Work, and then answer."""
    for number in range(CALLS):
        do(number)
    answer()


def in_processes(start: Callable[[Callable[[], None]], int], join: Callable[[int], Any]) -> None:
    """Work in a child that is killed, and in two that answer."""
    killed = start(idle)
    wait_for("idle")
    os.kill(killed, signal.SIGKILL)
    join(killed)
    children = [start(child), start(child)]
    answer()
    for pid in children:
        join(pid)


def with_multiprocessing(method: str) -> None:
    """Work in processes of `multiprocessing`."""
    context: Any = multiprocessing.get_context(method)
    started = {}

    def start(target: Callable[[], None]) -> int:
        process = context.Process(target=target)
        process.start()
        started[process.pid] = process
        return int(process.pid)

    in_processes(start, lambda pid: started[pid].join())


def with_fork() -> None:
    """Work in forked processes."""

    def start(target: Callable[[], None]) -> int:
        pid = os.fork()
        if pid == 0:
            target()
            os._exit(0)
        return pid

    in_processes(start, lambda pid: os.waitpid(pid, 0))


def with_pool(method: str) -> None:
    """Work in a pool whose processes end after some tasks."""
    with multiprocessing.get_context(method).Pool(2, maxtasksperchild=7) as pool:
        pool.map(do, range(3 * CALLS), chunksize=1)
        answers = pool.map_async(answer, [None, None], chunksize=1)
        answer()
        answers.get()


def with_executor(method: str) -> None:
    """Work in an executor, one of whose processes is killed, and in one that follows it."""
    context = multiprocessing.get_context(method)
    with ProcessPoolExecutor(2, context) as executor:
        workers = list(executor.map(do, range(CALLS)))
        os.kill(workers[-1], signal.SIGKILL)
        while Path(f"/proc/{workers[-1]}").exists():  # the executor waits for it
            time.sleep(0.01)
        with suppress(BrokenProcessPool):
            executor.submit(os.getpid).result()
    with ProcessPoolExecutor(2, context) as executor:
        list(executor.map(do, range(2 * CALLS)))
        answers = [executor.submit(answer), executor.submit(answer)]
        answer()
        for each in answers:
            each.result()


if __name__ == "__main__":
    for _ in range(5):
        do()
    kind, how = f"{sys.argv[1]}-".split("-")[:2]
    if kind == "fork":
        with_fork()
    elif kind == "multiprocessing":
        with_multiprocessing(how)
    elif kind == "pool":
        with_pool(how)
    else:
        with_executor(how)
