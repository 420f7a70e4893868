"""Connections of the metrics server: one loop receives the requests, workers respond to them.

Only the loop accepts and closes connections, so no lock is needed: a forked child, a signal handler
or a `stop()` at any moment finds nothing locked. The loop reads without waiting, and a worker is
busy only with a request that has arrived, or with a TLS handshake that has begun. Each connection
has a deadline; past it the loop shuts the connection down, which wakes a worker that waits for its
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

    # The connection, None for a socket of the server itself, and what to do.
    Event = tuple[Connection | None, Callable[[], None]]

_WORKERS = 16
_WORKERS_PER_CLIENT = 8
"""Workers that one client may keep busy, so that another client finds a free one."""
_MAX_OPEN = 512

_GRACE = 0.5
"""Seconds for running requests when the server stops."""
_LAST_GRACE = 0.2
"""Seconds for the workers to end after that."""
_TICK = 0.2
"""Seconds between two checks of the deadlines."""
_PAUSE = 0.02
"""Seconds until the next attempt when the system has no descriptor left."""
_BATCH = 8
"""Connections that are read from, and that are closed, in one turn of the loop. Each time the loop
releases the interpreter, a busy application may keep it for 5 ms, and a scrape waits."""

# Unlike epoll, it registers without a system call, and shares nothing with a forked child.
_Selector = getattr(selectors, "PollSelector", selectors.SelectSelector)

_logger = logging.getLogger("hypertrace_prometheus")


class Connections:
    """Accepts the connections of a listener and serves them, from `start()` to `stop()`."""

    def __init__(
        self,
        listener: socket.socket,
        respond: Respond,
        tls: ssl.SSLContext | None,
    ) -> None:
        """Prepare to serve.

        Args:
            listener: a listening socket, which is closed here.
            respond: returns the response to the head of a request (cut off if it is too long), its
                client, and the time when it had arrived. It runs in the workers.
            tls: the context of the connections, None for plain ones.
        """
        self._listener = listener
        self._respond = respond
        self._tls = tls
        # In the order in which they were accepted.
        self._open: dict[Connection, None] = {}
        self._waiting: dict[Connection, None] = {}
        self._working: dict[Connection, threading.Thread] = {}
        self._done: deque[Connection] = deque()
        self._stopping = False
        self._is_behind = False
        self._wake_receiver, self._wake_sender = socket.socketpair()
        self._selector = _Selector()
        for sock, act in ((listener, self._accept), (self._wake_receiver, self._clear_wake_ups)):
            sock.settimeout(0)
            self._selector.register(sock, selectors.EVENT_READ, (None, act))
        self._wake_sender.settimeout(0)
        self._loop = threading.Thread(target=self._run, name="hypertrace-metrics", daemon=True)
        _all.add(self)

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

        Workers get a moment to finish. One that hangs is left behind, its connection aborted.
        Called in a worker, this returns at once, and the loop ends later; so it does while the
        interpreter shuts down, when no other thread runs any more.
        """
        self._stopping = True
        self._wake()
        own = (self._loop, *tuple(self._working.values()))
        if not sys.is_finalizing() and threading.current_thread() not in own:
            self._loop.join()

    def abandon(self) -> None:
        """Close every socket in this process; connections of other processes stay open."""
        _all.discard(self)
        sockets = (connection.socket for connection in self._open)
        wake_up = (self._wake_receiver, self._wake_sender)
        for each in (self._listener, *wake_up, self._selector, *sockets):
            with suppress(OSError):
                each.close()

    def _run(self) -> None:
        try:
            while not self._stopping:
                self._turn()
            self._shut_down()
        finally:
            self.abandon()

    def _turn(self) -> None:
        for _, act in self._events():
            act()
        self._finish_done()
        self._end_overdue()
        while connection := self._next_waiting():
            self._start_worker(connection)

    def _events(self) -> list[Event]:
        """Return what to do now: clients with few connections first, and of them the newest."""
        seconds = 0 if self._is_behind else _TICK if self._open else None
        try:
            events = [key.data for key, _ in reversed(self._selector.select(seconds))]
        except OSError:  # no memory, or more sockets than the process may have open by now
            self._back_off()
            return []
        now, crowd = monotonic(), Counter(connection.client for connection in self._open)
        for connection, _ in events:
            if connection:  # one left for a later turn arrived now, and may share a collection
                connection.notice(now)
        events.sort(key=lambda event: crowd[event[0].client] if event[0] else 0)
        return events[:_BATCH]

    def _shut_down(self) -> None:
        self._selector.unregister(self._listener)
        with suppress(OSError):  # frees the port even if a child process inherited it
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for connection in self._idle():
            self._close(connection)
        for seconds in (_GRACE, _LAST_GRACE):
            end = monotonic() + seconds
            for connection, worker in self._working.items():
                worker.join(max(0.0, end - monotonic()))
                if worker.is_alive():
                    connection.abort()

    def _wake(self) -> None:
        with suppress(OSError):  # enough bytes are there already, or the loop has ended
            self._wake_sender.send(b"!")

    def _clear_wake_ups(self) -> None:
        with suppress(OSError):
            self._wake_receiver.recv(_WORKERS)

    def _accept(self) -> None:
        for _ in range(_MAX_OPEN):
            try:
                sock, address = self._listener.accept()
            except (BlockingIOError, ConnectionError):
                return
            except OSError:  # the process has no descriptor left
                self._back_off()
                return
            if len(self._open) >= _MAX_OPEN:
                self._make_room()
            connection = Connection(sock, address, self._tls)
            self._open[connection] = None
            self._watch(connection, self._receive)

    def _back_off(self) -> None:
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
            if connection in self._open:  # another event of this turn may have closed it
                act(connection)

        self._selector.register(connection.socket, selectors.EVENT_READ, (connection, on_event))

    def _receive(self, connection: Connection) -> None:
        try:
            if not connection.receive():
                return
        except BlockingIOError:
            return
        except OSError:
            self._close(connection)
            return
        self._selector.unregister(connection.socket)
        connection.wait_for_worker()
        self._waiting[connection] = None

    def _next_waiting(self) -> Connection | None:
        """Return the oldest waiting request of the client that keeps the fewest workers busy."""
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
            connection.serve(self._respond)
        except Exception:
            # Most often the client hung up, which is normal.
            _logger.debug("The connection from %s failed", connection.client, exc_info=True)
        finally:
            self._done.append(connection)
            self._wake()

    def _finish_done(self) -> None:
        while self._done:
            connection = self._done.popleft()
            self._working.pop(connection).join()
            if connection.is_served:
                connection.end()
                self._watch(connection, self._drain)
            else:
                self._close(connection)

    def _drain(self, connection: Connection) -> None:
        if not connection.drain():
            self._close(connection)

    def _end_overdue(self) -> None:
        now = monotonic()
        overdue = [each for each in self._open if each.deadline <= now]
        self._is_behind = len(overdue) > _BATCH
        for connection in overdue[:_BATCH]:
            if connection in self._working:
                connection.abort()
            else:
                self._close(connection)

    def _close(self, connection: Connection) -> None:
        del self._open[connection]
        self._waiting.pop(connection, None)
        with suppress(KeyError, ValueError):  # it is not registered
            self._selector.unregister(connection.socket)
        connection.socket.close()


_all: WeakSet[Connections] = WeakSet()


def _close_in_child() -> None:
    for connections in tuple(_all):
        connections.abandon()


after_fork_in_child(_close_in_child)
