"""The connections of the metrics server: a loop takes the requests in, workers answer them.

The loop alone accepts and closes, so nothing here needs a lock: a forked child, a signal handler, a
`stop()` at any moment finds nothing locked. It reads without waiting, and a worker is busy only
with a request that is there, or with the handshake of TLS that has begun. Each connection has a
deadline, and the loop hangs up on what is past it, which wakes the worker that waits for that
client in a read or a write.
"""

from __future__ import annotations

import logging
import selectors
import socket
import sys
import threading
import time
from collections import Counter, deque
from contextlib import suppress
from time import monotonic
from typing import TYPE_CHECKING
from weakref import WeakSet

from hypertrace.forks import after_fork_in_child

from .connection import Connection

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable

    from .connection import Respond

    # Of which connection, None for the server itself, and what to do.
    Event = tuple[Connection | None, Callable[[], None]]

_WORKERS = 16
# Of which one client may keep so many busy, so that another finds one.
_WORKERS_PER_CLIENT = 8
_MAX_OPEN = 512

# Seconds that the requests under way get when the server stops, and then the workers to end.
_GRACE = 0.5
_LAST_GRACE = 0.2
# Seconds between two looks at the deadlines.
_TICK = 0.2
# Seconds until the next try where the system has no descriptor left.
_PAUSE = 0.02
# So many connections are read from, and so many hung up on, in a turn of the loop: each time it
# lets go of the interpreter, a busy application may have it for 5 ms, and a scrape waits.
_BATCH = 8

# Unlike epoll it watches without a call to the system, and shares nothing with a forked child.
_Selector = getattr(selectors, "PollSelector", selectors.SelectSelector)

_logger = logging.getLogger("hypertrace_prometheus")


class Connections:
    """Takes in what connects to a listener, and answers it, from `start()` to `stop()`.

    Args:
        listener: a listening socket, which is the connections' own from now on.
        respond: returns the answer to the head of a request (cut off where it is too long), its
            client, and when it was all there. It runs in the workers.
        tls: what the connections are encrypted with, None for plain ones.
    """

    def __init__(
        self,
        listener: socket.socket,
        respond: Respond,
        tls: ssl.SSLContext | None,
    ) -> None:
        self._listener = listener
        self._respond = respond
        self._tls = tls
        # In the order they came.
        self._open: dict[Connection, None] = {}
        self._waiting: dict[Connection, None] = {}
        self._working: dict[Connection, threading.Thread] = {}
        self._done: deque[Connection] = deque()
        self._stopping = False
        self._is_behind = False
        self._bell, self._rope = socket.socketpair()
        self._selector = _Selector()
        for end, act in ((listener, self._accept), (self._bell, self._hear)):
            end.settimeout(0)
            self._selector.register(end, selectors.EVENT_READ, (None, act))
        self._rope.settimeout(0)
        self._loop = threading.Thread(target=self._run, name="hypertrace-metrics", daemon=True)
        _ALL.add(self)

    def start(self) -> None:
        """Start the loop in a daemon thread.

        Raises:
            RuntimeError: the system has no thread left. Then everything is closed.
        """
        try:
            self._loop.start()
        except RuntimeError:
            self.abandon()
            raise

    def stop(self) -> None:
        """End the loop, the workers and every connection; from any thread, and more than once.

        Workers get a moment to finish. One that hangs is left behind, with its connection cut.
        In a worker this comes back at once, and the loop ends after it. So it does while the
        interpreter ends: no other thread runs then.
        """
        self._stopping = True
        self._wake()
        ours = (self._loop, *tuple(self._working.values()))
        if not sys.is_finalizing() and threading.current_thread() not in ours:
            self._loop.join()

    def abandon(self) -> None:
        """Close every socket, as far as it is this process's, and hang up on nobody."""
        _ALL.discard(self)
        sockets = (connection.socket for connection in self._open)
        for each in (self._listener, self._bell, self._rope, self._selector, *sockets):
            with suppress(OSError):
                each.close()

    def _run(self) -> None:
        try:
            while not self._stopping:
                self._turn()
            self._wind_up()
        finally:
            self.abandon()

    def _turn(self) -> None:
        for _, act in self._events():
            act()
        self._reap()
        self._hang_up_on_the_late()
        while connection := self._next():
            self._start_worker(connection)

    def _events(self) -> list[Event]:
        """Return what to do now: clients with few connections first, and their newest ones."""
        seconds = 0 if self._is_behind else _TICK if self._open else None
        try:
            events = [key.data for key, _ in reversed(self._selector.select(seconds))]
        except OSError:  # no memory, or more is watched than the process may have open by now
            self._give_way()
            return []
        now, crowd = monotonic(), Counter(connection.client for connection in self._open)
        for connection, _ in events:
            if connection:  # what waits for another turn came now, and may share what is collected
                connection.notice(now)
        events.sort(key=lambda event: crowd[event[0].client] if event[0] else 0)
        return events[:_BATCH]

    def _wind_up(self) -> None:
        self._selector.unregister(self._listener)
        with suppress(OSError):  # it frees the port even where a child got hold of it
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for connection in self._idle():
            self._close(connection)
        for seconds in (_GRACE, _LAST_GRACE):
            end = monotonic() + seconds
            for connection, worker in self._working.items():
                worker.join(max(0.0, end - monotonic()))
                if worker.is_alive():
                    connection.cut_off()

    def _wake(self) -> None:
        with suppress(OSError):  # it rings already, or nobody is left to hear it
            self._rope.send(b"!")

    def _hear(self) -> None:
        with suppress(OSError):
            self._bell.recv(_WORKERS)

    def _accept(self) -> None:
        for _ in range(_MAX_OPEN):
            try:
                sock, address = self._listener.accept()
            except (BlockingIOError, ConnectionError):
                return
            except OSError:  # the application has no descriptor left
                self._give_way()
                return
            if len(self._open) >= _MAX_OPEN:
                self._make_room()
            connection = Connection(sock, address, self._tls)
            self._open[connection] = None
            self._watch(connection, self._take)

    def _give_way(self) -> None:
        self._make_room()
        time.sleep(_PAUSE)

    def _make_room(self) -> None:
        """Close the oldest idle connection of the client that has the most."""
        idle = self._idle()
        for client, _ in Counter(connection.client for connection in idle).most_common(1):
            self._close(next(each for each in idle if each.client == client))

    def _idle(self) -> list[Connection]:
        return [connection for connection in self._open if connection not in self._working]

    def _watch(self, connection: Connection, act: Callable[[Connection], None]) -> None:
        def on_event() -> None:
            if connection in self._open:  # not closed by another event of this turn
                act(connection)

        self._selector.register(connection.socket, selectors.EVENT_READ, (connection, on_event))

    def _take(self, connection: Connection) -> None:
        try:
            if not connection.take():
                return
        except BlockingIOError:
            return
        except OSError:
            self._close(connection)
            return
        self._selector.unregister(connection.socket)
        connection.wait_for_worker()
        self._waiting[connection] = None

    def _next(self) -> Connection | None:
        """Return the oldest request of the client that keeps the fewest workers busy."""
        if not self._waiting or len(self._working) >= _WORKERS:
            return None
        busy = Counter(connection.client for connection in self._working)
        connection = min(self._waiting, key=lambda each: busy[each.client])
        return connection if busy[connection.client] < _WORKERS_PER_CLIENT else None

    def _start_worker(self, connection: Connection) -> None:
        worker = threading.Thread(
            target=self._work, args=(connection,), name="hypertrace-metrics-worker", daemon=True
        )
        del self._waiting[connection]
        self._working[connection] = worker
        try:
            worker.start()
        except RuntimeError:  # the system has no thread left
            del self._working[connection]
            self._close(connection)

    def _work(self, connection: Connection) -> None:
        try:
            connection.answer(self._respond)
        except Exception:
            # Most often the client broke off, which is no news.
            _logger.debug("The connection from %s failed", connection.client, exc_info=True)
        finally:
            self._done.append(connection)
            self._wake()

    def _reap(self) -> None:
        while self._done:
            connection = self._done.popleft()
            self._working.pop(connection).join()
            if connection.answered:
                connection.end()
                self._watch(connection, self._drain)
            else:
                self._close(connection)

    def _drain(self, connection: Connection) -> None:
        if not connection.drain():
            self._close(connection)

    def _hang_up_on_the_late(self) -> None:
        now = monotonic()
        late = [each for each in self._open if each.deadline <= now]
        self._is_behind = len(late) > _BATCH
        for connection in late[:_BATCH]:
            if connection in self._working:
                connection.cut_off()
            else:
                self._close(connection)

    def _close(self, connection: Connection) -> None:
        del self._open[connection]
        self._waiting.pop(connection, None)
        with suppress(KeyError, ValueError):  # it is not watched
            self._selector.unregister(connection.socket)
        connection.socket.close()


_ALL: WeakSet[Connections] = WeakSet()


def _close_in_child() -> None:
    for connections in tuple(_ALL):
        connections.abandon()


after_fork_in_child(_close_in_child)
