"""Tools of the programs: reading pages, waiting, and threads that start together."""

import faulthandler
import http.client
import os
import signal
import socket
import threading
import time
from collections.abc import Callable
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from hypertrace import Tracer

COUNTER = "function_counter_total"
_WATCHDOG = 1  # faulthandler's
OVERFLOW = 'object_classname="<overflow>"'


class Swarm:
    """Traced in the ways that the core has its own paths for."""

    def __init__(self, props: dict[str, object] | None = None) -> None:
        self.tracer = Tracer(self, props)

    def connect(self) -> None:
        self.tracer.trace()

    def dial(self) -> None:
        self.tracer.trace("dial")

    def meet(self, peer: object) -> None:
        self.tracer.trace(peer=peer)

    def join(self) -> None:
        with self.tracer.span():
            pass


def samples(page: str) -> dict[str, float]:
    """Return the value of each line of a page, by its name and labels."""
    lines = (line.rpartition(" ") for line in page.splitlines() if line[:1] not in {"", "#"})
    return {series: float(value) for series, _, value in lines}


def counts(page: str, name: str = COUNTER) -> dict[str, int]:
    """Return the values of one metric, by the labels."""
    start = name + "{"
    return {
        series[len(start) : -1]: int(value)
        for series, value in samples(page).items()
        if series.startswith(start)
    }


def in_threads(number: int, work: Callable[[int], object]) -> None:
    """Call something in several threads at once, with the number of each; raise what one raises."""
    errors: list[BaseException] = []
    start = threading.Barrier(number)

    def run(thread: int) -> None:
        try:
            start.wait()
            work(thread)
        except BaseException as error:  # noqa: BLE001 -- reported by the thread that started this
            errors.append(error)

    threads = [threading.Thread(target=run, args=(thread,)) for thread in range(number)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for error in errors:
        raise error


@contextmanager
def repeating(work: Callable[[], object], pause: float = 0.0) -> Any:
    """Call something again and again in a thread while the block runs; raise what it raises."""
    errors: list[BaseException] = []
    over = threading.Event()

    def run() -> None:
        try:
            work()
            while not over.wait(pause):
                work()
        except BaseException as error:  # noqa: BLE001 -- reported by the thread that started this
            errors.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()
    for error in errors:
        raise error


def get(port: int, path: str = "/metrics", **options: Any) -> tuple[int, dict[str, str], bytes]:
    """Return status, headers and body of an answer of the metrics server.

    Args:
        port: where it listens on loopback.
        path: what is asked for.
        options: `source`, the address to ask from; `headers`; `timeout` in seconds.
    """
    source = options.get("source", "127.0.0.1")
    connection = http.client.HTTPConnection(
        "127.0.0.1", port, timeout=options.get("timeout", 10), source_address=(source, 0)
    )
    try:
        connection.request("GET", path, headers=options.get("headers", {}))
        answer = connection.getresponse()
        return answer.status, {k.lower(): v for k, v in answer.getheaders()}, answer.read()
    finally:
        connection.close()


def connected(port: int, said: bytes = b"") -> socket.socket:
    """Return a connection to the metrics server that has sent something."""
    client = socket.create_connection(("127.0.0.1", port), timeout=30)
    client.sendall(said)
    return client


def watch_by_alarm(seconds: int) -> None:
    """Show where each thread is after so many seconds, and end; for programs that fork.

    The thread that `faulthandler` watches with otherwise is missed by a child, which hangs when it
    ends. A child sets its own alarm.
    """
    faulthandler.cancel_dump_traceback_later()
    faulthandler.register(signal.SIGALRM, chain=True)
    signal.alarm(seconds)


def sockets() -> int:
    """Return how many sockets this process has open."""
    return sum(_target(file).startswith("socket:") for file in Path("/proc/self/fd").iterdir())


def descriptors() -> int:
    """Return how many descriptors this process has open."""
    return len(list(Path("/proc/self/fd").iterdir()))


def threads() -> int:
    """Return how many threads this process has, those that Python does not know among them."""
    return len(list(Path("/proc/self/task").iterdir()))


def threads_at_rest() -> int:
    """Return the same once the system has taken back those that ended."""
    until(lambda: threads() <= threading.active_count() + _WATCHDOG, 1)
    return threads()


def resident() -> float:
    """Return how much memory this process has, in MB."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


def until(condition: Callable[[], bool], seconds: float) -> float:
    """Wait until something holds; return how long that took, or more than `seconds`."""
    start = time.monotonic()
    while not condition() and time.monotonic() < start + seconds:
        time.sleep(0.005)
    return time.monotonic() - start


def _target(link: Path) -> str:
    try:
        return str(link.readlink())
    except OSError:  # the descriptor that lists them
        return ""
