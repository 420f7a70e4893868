"""A connection of the metrics server, and the time it has."""

from __future__ import annotations

import socket
import struct
from contextlib import suppress
from math import inf
from time import monotonic
from typing import TYPE_CHECKING, Any

from .addresses import client_of
from .messages import HEAD_END
from .tls import Channel, begins_with_a_record

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable
    from typing import TypeAlias

    # From the head of a request, its client, and when it was all there.
    Respond: TypeAlias = Callable[[bytes, str, float], bytes]

_MAX_HEAD = 65536

# Seconds a client gets to send its request, to take the answer, and for both together with the
# time it waits for a worker. What the collectors take is not the client's.
_SENDING = 4.0
_TAKING = 4.0
_IN_ALL = 6.0
# Seconds in which it may still send what nobody reads. Closing on that could cost it the answer.
_LINGERING = 1.0

# Closing with this discards what the client did not take.
_ABORT = struct.pack("ii", 1, 0)
# Where there is no such flag, select() says when reading does not wait.
_NO_WAIT = getattr(socket, "MSG_DONTWAIT", 0)


class Connection:
    """A connection of a client, for one request.

    The loop reads without waiting until there is work, and closes it. A worker that borrows it in
    between reads, writes, and moves the deadline.

    Args:
        sock: the connection.
        address: what `accept()` gave with it.
        tls: what it is encrypted with, None for a plain one.
    """

    def __init__(self, sock: socket.socket, address: Any, tls: ssl.SSLContext | None) -> None:
        self.socket = sock
        self.client = client_of(address)
        self.deadline = inf
        self.answered = False
        self._tls = tls
        self._known = bytearray()
        self._asked = self._noticed = inf
        self._end = monotonic() + _IN_ALL
        self._give(_SENDING)

    def notice(self, now: float) -> None:
        """Note that there is something to `take()`, which may have to wait for others."""
        self._noticed = min(self._noticed, now)

    def take(self) -> bool:
        """Take what has come, and tell whether a worker can begin.

        It can when the whole head of the request is there; with TLS, what the client says first.

        Raises:
            BlockingIOError: nothing has come.
            OSError: nothing will, or nothing that makes sense.
        """
        known = len(self._known)
        self._asked, self._noticed = self._noticed, inf
        self._known += _part(self.socket.recv(_MAX_HEAD, _NO_WAIT))
        if self._tls is not None:
            return begins_with_a_record(self._known)
        return _is_enough(self._known, known)

    def wait_for_worker(self) -> None:
        """Set the deadline to the end of all its time: what it waits for now are others."""
        self._give(inf)

    def answer(self, respond: Respond) -> None:
        """Send what `respond` makes of the head of the request, taking the time that it takes."""
        self.socket.settimeout(None)
        channel: socket.socket | Channel = self.socket
        if self._tls is not None:
            self._give(_SENDING)
            channel = Channel(self._tls, self.socket, self._known)
            self._known = _head(channel)
            self._asked = monotonic()
        began = monotonic()
        self.deadline = inf
        try:
            answer = respond(bytes(self._known), self.client, self._asked)
        finally:
            self._end += monotonic() - began
            self._give(_TAKING)
        channel.sendall(answer)
        self.answered = True

    def end(self) -> None:
        """Tell the client that the answer is over; then `drain()`, as it may not have listened."""
        self._give(_LINGERING)
        self._hang_up(socket.SHUT_WR)

    def drain(self) -> bool:
        """Throw away what has come, and tell whether more may come."""
        try:
            return bool(self.socket.recv(_MAX_HEAD, _NO_WAIT))
        except BlockingIOError:
            return True
        except OSError:
            return False

    def cut_off(self) -> None:
        """Wake the worker that reads or writes here, and forget what the client did not take."""
        with suppress(OSError):
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _ABORT)
        self._hang_up(socket.SHUT_RDWR)

    def _give(self, seconds: float) -> None:
        self.deadline = min(monotonic() + seconds, self._end)

    def _hang_up(self, how: int) -> None:
        with suppress(OSError):  # the client was faster
            self.socket.shutdown(how)


def _head(channel: Channel) -> bytearray:
    """Wait for the head of a request."""
    head, known = bytearray(), 0
    while not _is_enough(head, known):
        known = len(head)
        head += _part(channel.recv(_MAX_HEAD))
    return head


def _part(received: bytes) -> bytes:
    if not received:
        raise ConnectionAbortedError("the client hung up in its request")
    return received


def _is_enough(head: bytearray, known: int) -> bool:
    """Tell whether the head is whole, or too long, if its first `known` bytes were not."""
    return len(head) > _MAX_HEAD or bool(HEAD_END.search(head, max(0, known - 2)))
