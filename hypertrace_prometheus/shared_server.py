"""Shared server: the metrics server of several processes, one of which serves at a time.

The processes have the locks of one run directory. The one that leads binds the port; the others
stand by, each in a daemon thread that sleeps until the leader has ended. Without locks, a process
serves by itself. In both cases a port that is in use is tried again until it is free.
"""

from __future__ import annotations

import errno
import logging
import socket
import threading
from contextlib import suppress
from time import monotonic, sleep
from typing import TYPE_CHECKING

from hypertrace.forks import around_fork, wait_for_system

from .http.addresses import check_address, check_bindable, joined, target
from .http.port_holder import port_holder
from .http.server import MetricsServer

if TYPE_CHECKING:
    from hypertrace.metrics.shared.locks import Locks

    from .http.server import Routes, Security

THREAD_NAME = "hypertrace-standby"

_HANDOVER = 0.2
"""Seconds in which a port is tried again before it counts as in use: of a leader that ends, the
kernel may release the locks a moment before the port."""
_MOMENT = 0.01
_FIRST_PAUSE, _LONGEST_PAUSE = 1.0, 15.0
"""Seconds between two attempts to bind a port that is in use."""
_PUBLISHED = 1.0
"""Seconds to wait for the address of a leader that is just binding a free port."""
_FORK_TIMEOUT = 0.1
"""Seconds that a fork waits for a thread that is just binding."""
_STOP_TIMEOUT = 1.0

_logger = logging.getLogger("hypertrace_prometheus")


class SharedServer:
    """Serves in one process of a program, and in the next one when that has ended.

    A forked child does not serve. With locks it stands by, as any other process of the program
    does. The thread that stands by ends before the process forks, and starts again afterwards.

    Any thread, and any signal handler, may call all methods.
    """

    def __init__(  # noqa: PLR0913 -- a setting each
        self,
        routes: Routes,
        *,
        host: str,
        port: int,
        security: Security,
        locks: Locks | None = None,
        strict_port: bool = False,
    ) -> None:
        """Serve, or stand by if another process serves already.

        Args:
            routes: as in `MetricsServer`; called again in each process that begins to serve.
            host: as in `MetricsServer`.
            port: as in `MetricsServer`. With 0, the free port of the first leader is that of all:
                the one that takes over binds it again.
            security: TLS and credentials.
            locks: of the run directory of the program; None if it shares none.
            strict_port: raise where the port is in use by another program, instead of a warning.

        Raises:
            OSError: the port is reserved, the host is not one of this machine, or with
                `strict_port` the port is in use. A process that stands by raises it, too.
            ValueError: the port is out of range, or the host is empty.
            TypeError: an argument of the wrong type.
            RuntimeError: the system has no thread left.
        """
        check_address(host, port)
        self._routes, self._security = routes, security
        self._host, self._port = host, port
        # Until another one is known.
        self._address = target(host, port) if port else None
        self._server: MetricsServer | None = None
        self._thread: _Thread | None = None
        self._stopped = False
        self._failing_since: float | None = None
        self._locks = None if locks is None else locks.another()
        try:
            self._begin(strict=strict_port)
        except BaseException:
            self.stop()
            raise
        _running.add(self)

    @property
    def host(self) -> str:
        """The address that it listens on, as given."""
        return self._host

    @property
    def port(self) -> int | None:
        """The port that the leader listens on; None if that is not known within a second."""
        address = self._known_address()
        return None if address is None else int(address.rpartition(":")[2])

    @property
    def url(self) -> str | None:
        """Where the leader is reached from this machine, without a path; None as in `port`."""
        address = self._known_address()
        return None if address is None else f"{self._security.scheme}://{address}"

    @property
    def is_serving(self) -> bool:
        """Whether it is this process that serves."""
        return self._server is not None

    def stop(self) -> None:
        """Free the port, stand by no more, and let another process serve."""
        _running.discard(self)
        self._stopped = True
        self.end_thread(_STOP_TIMEOUT)
        server, self._server = self._server, None
        if server is not None:
            server.stop()
        if self._locks is not None:
            self._locks.close()

    def _begin(self, *, strict: bool) -> None:
        if self._locks is not None and not self._locks.try_lead():
            check_bindable(self._host, self._port)
        else:
            try:
                self._bind()
            except OSError as error:
                if strict or error.errno != errno.EADDRINUSE:
                    raise
                self._report(error)
            else:
                return
        self._start_thread()

    def _bind(self) -> None:
        """Serve.

        Raises:
            OSError: as `MetricsServer` raises it.
            RuntimeError: the system has no thread left.
        """
        port = self._port or self._last_port()
        try:
            server = self._bound(port)
        except OSError as error:
            if self._port == port or error.errno != errno.EADDRINUSE:
                raise
            server = self._bound(self._port)  # another program has the free port of before
        self._server, self._address = server, server.address
        self._publish(server.address)

    def _bound(self, port: int) -> MetricsServer:
        deadline = monotonic() + (0.0 if self._locks is None else _HANDOVER)
        while True:
            try:
                return MetricsServer(
                    self._routes, host=self._host, port=port, security=self._security
                )
            except OSError as error:
                if error.errno != errno.EADDRINUSE or monotonic() > deadline:
                    raise
            sleep(_MOMENT)

    def _last_port(self) -> int:
        """Return the port of the last leader, 0 if there was none at this host."""
        address = "" if self._locks is None else self._locks.address
        _, _, port = address.rpartition(":")
        return int(port) if port.isdigit() and target(self._host, int(port)) == address else 0

    def _publish(self, address: str) -> None:
        if self._locks is not None:
            with suppress(OSError, RuntimeError, ValueError):  # it is stopped just now
                self._locks.address = address

    def _known_address(self) -> str | None:
        """Return `host:port` of the process that serves, as this machine reaches it."""
        locks = self._locks
        if locks is None or self._server is not None:
            return self._address
        deadline = monotonic() + _PUBLISHED
        with suppress(ValueError):  # it is stopped just now
            while not (address := locks.address):
                if self._address is not None or monotonic() > deadline:
                    return self._address
                sleep(_MOMENT)
            return address
        return self._address

    def serve_once_possible(self, thread: _Thread) -> None:
        """Wait for the lead, and for the port; runs in the thread."""
        while not self._stopped:
            if self._locks is not None and not self._locks.wait_to_lead(thread.interrupt):
                return
            try:
                self._bind()
            except (OSError, RuntimeError) as error:
                self._report(error)
                if thread.sleep(self._pause()):
                    return
            else:
                _logger.info("The metrics are served on %s by this process now", self._address)
                self._failing_since = None
                break
        if self._stopped:  # by a thread that did not wait for this one
            self.stop()

    def _report(self, error: Exception) -> None:
        """Warn when attempts to serve begin to fail, not at each of them."""
        if self._failing_since is not None:
            return
        self._failing_since = monotonic()
        self._publish("")
        reason = str(error.strerror or error) if isinstance(error, OSError) else str(error)
        if isinstance(error, OSError) and error.errno == errno.EADDRINUSE:
            where = joined(self._host, self._port)
            holder = port_holder(self._port) or "another program"
            reason = f"cannot serve metrics on {where}: the port is in use by {holder}"
        _logger.warning(
            "%s. Counting goes on, and it is tried again until it succeeds. To serve elsewhere, "
            "pass another port (0 picks a free one); to get an error instead, strict_port=True",
            reason,
        )

    def _pause(self) -> float:
        """Return seconds until the next attempt: one at first, and more the longer it fails."""
        failing = monotonic() - (self._failing_since or monotonic())
        return min(max(_FIRST_PAUSE, failing / 4), _LONGEST_PAUSE)

    def _start_thread(self) -> None:
        thread = _Thread(self, after=self._thread)
        thread.start()
        self._thread = thread

    def end_thread(self, timeout: float) -> None:
        """Let the thread end that stands by, and wait for it for some seconds at most."""
        if self._thread is not None:
            self._thread.end(timeout)

    def resume(self) -> None:
        """Start the thread again that ended before a fork."""
        if self._thread is not None and self._server is None and not self._stopped:
            self._try_to_start_thread()

    def restart_in_child(self) -> None:
        """Stand by in a forked child; without locks, do nothing there any more."""
        self._server = None
        if self._thread is not None:
            self._thread.close()
            self._thread = None
        self._failing_since = None
        if self._locks is not None and not self._stopped:
            self._try_to_start_thread()

    def _try_to_start_thread(self) -> None:
        try:
            self._start_thread()
        except (OSError, RuntimeError) as error:
            _logger.warning("This process cannot stand by to serve metrics: %s", error)


class _Thread(threading.Thread):
    """The daemon thread of a process that stands by, or tries a port again."""

    def __init__(self, server: SharedServer, *, after: _Thread | None) -> None:
        super().__init__(name=THREAD_NAME, daemon=True)
        self._shared_server = server
        self._before = after if after is not None and after.is_alive() else None
        self._receiver, self._sender = socket.socketpair()
        self._sender.settimeout(0)

    @property
    def interrupt(self) -> int:
        """A descriptor that has something to read once the thread shall end."""
        return self._receiver.fileno()

    def start(self) -> None:
        try:
            super().start()
        except RuntimeError:
            self.close()
            raise

    def run(self) -> None:
        try:
            if self._before is not None:  # it was just binding when it was to end
                self._before.join()
                self._before = None
            if not self._shared_server.is_serving:
                self._shared_server.serve_once_possible(self)
        except ValueError:  # the locks were closed: the server is stopped
            pass
        except Exception:
            _logger.exception("This process cannot stand by to serve metrics")
        finally:
            self.close()

    def sleep(self, seconds: float) -> bool:
        """Sleep, and return whether the thread shall end."""
        self._receiver.settimeout(seconds)
        try:
            return bool(self._receiver.recv(1, socket.MSG_PEEK))
        except TimeoutError:
            return False

    def end(self, timeout: float) -> None:
        """Let the thread end, and wait for it for some seconds at most."""
        with suppress(OSError):  # it has ended, or was asked before
            self._sender.send(b"!")
        if self is not threading.current_thread():
            self.join(timeout)
            if not self.is_alive():
                wait_for_system(self.native_id)

    def close(self) -> None:
        self._receiver.close()
        self._sender.close()


_running: set[SharedServer] = set()
"""Those that were not stopped. They are kept: a program may well hold none of them."""


def _before_fork() -> None:
    for server in tuple(_running):
        server.end_thread(_FORK_TIMEOUT)


def _after_fork_in_parent() -> None:
    for server in tuple(_running):
        server.resume()


def _after_fork_in_child() -> None:
    for server in tuple(_running):
        server.restart_in_child()


around_fork(
    before=_before_fork,
    after_in_parent=_after_fork_in_parent,
    after_in_child=_after_fork_in_child,
)
