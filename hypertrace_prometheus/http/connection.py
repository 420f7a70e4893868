"""Connection of the metrics server, with its deadline."""

from __future__ import annotations

import socket
import struct
from contextlib import suppress
from math import inf
from time import monotonic
from typing import TYPE_CHECKING, Any

from .addresses import client_of
from .messages import HEAD_END, MAX_HEAD
from .tls import Channel, begins_with_a_record

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable
    from typing import TypeAlias

    # From the head of a request, its client, and the time when it had arrived.
    Respond: TypeAlias = Callable[[bytes, str, float], bytes]

_REQUEST_TIME = 4.0
"""Seconds for a client to send its request."""
_RESPONSE_TIME = 4.0
"""Seconds for a client to receive the response."""
_TOTAL_TIME = 6.0
"""Seconds for both and the wait for a worker. The time of the collectors is not included."""
_DRAIN_TIME = 1.0
"""Seconds after the response in which bytes of the client are still read and discarded. If the
socket were closed before they are read, the client might lose the response."""

_ABORT = struct.pack("ii", 1, 0)
"""The linger option with which closing discards what the client has not received."""
# Without this flag, select() says when reading does not wait.
_NO_WAIT = getattr(socket, "MSG_DONTWAIT", 0)


class Connection:
    """A connection of a client, for one request.

    The loop reads without waiting until the request is there, and closes the connection. Between
    the two, one worker reads, writes, and sets the deadline.

    Attributes:
        socket: the connection itself.
        client: what the client is identified by.
        deadline: when it must have ended, by `time.monotonic()`.
        is_served: the whole response was sent.
    """

    def __init__(self, sock: socket.socket, address: Any, tls: ssl.SSLContext | None) -> None:
        """Start the time of the client.

        Args:
            sock: the connection.
            address: what `accept()` returned with it.
            tls: the context to encrypt it with, None for a plain connection.
        """
        self.socket = sock
        self.client = client_of(address)
        self.deadline = inf
        self.is_served = False
        self._tls = tls
        self._received = bytearray()
        self._asked = self._noticed = inf
        self._end = monotonic() + _TOTAL_TIME
        self._set_deadline(_REQUEST_TIME)

    def notice(self, now: float) -> None:
        """Remember since when there is something to `receive()`, perhaps in a later turn."""
        self._noticed = min(self._noticed, now)

    def receive(self) -> bool:
        """Read what has arrived, and return whether a worker can begin.

        It can when the whole head of the request is there, or with TLS the first record.

        Raises:
            BlockingIOError: nothing has arrived.
            OSError: the client hung up, or sent no TLS.
        """
        before = len(self._received)
        self._asked, self._noticed = self._noticed, inf
        self._received += _checked(self.socket.recv(MAX_HEAD, _NO_WAIT))
        if self._tls is not None:
            return begins_with_a_record(self._received)
        return _is_complete(self._received, before)

    def wait_for_worker(self) -> None:
        """Set the deadline to the end of its total time: it waits for other requests now."""
        self._set_deadline(inf)

    def serve(self, respond: Respond) -> None:
        """Send the response to the request; the time that `respond` takes is not the client's."""
        self.socket.settimeout(None)
        channel: socket.socket | Channel = self.socket
        if self._tls is not None:
            self._set_deadline(_REQUEST_TIME)
            channel = Channel(self._tls, self.socket, self._received)
            self._received = _head(channel)
            self._asked = monotonic()
        began = monotonic()
        self.deadline = inf
        try:
            response = respond(bytes(self._received), self.client, self._asked)
        finally:
            self._end += monotonic() - began
            self._set_deadline(_RESPONSE_TIME)
        channel.sendall(response)
        self.is_served = True

    def end(self) -> None:
        """End the response; `drain()` what the client may still send."""
        self._set_deadline(_DRAIN_TIME)
        self._shut_down(socket.SHUT_WR)

    def drain(self) -> bool:
        """Discard what has arrived, and return whether more may arrive."""
        try:
            return bool(self.socket.recv(MAX_HEAD, _NO_WAIT))
        except BlockingIOError:
            return True
        except OSError:
            return False

    def abort(self) -> None:
        """Wake the worker that reads or writes here, and discard what is not sent yet."""
        with suppress(OSError):
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _ABORT)
        self._shut_down(socket.SHUT_RDWR)

    def _set_deadline(self, seconds: float) -> None:
        self.deadline = min(monotonic() + seconds, self._end)

    def _shut_down(self, how: int) -> None:
        with suppress(OSError):  # the client hung up before
            self.socket.shutdown(how)


def _head(channel: Channel) -> bytearray:
    """Wait for the head of a request."""
    head, before = bytearray(), 0
    while not _is_complete(head, before):
        before = len(head)
        head += _checked(channel.recv(MAX_HEAD))
    return head


def _checked(received: bytes) -> bytes:
    if not received:
        raise ConnectionAbortedError("the client hung up in its request")
    return received


def _is_complete(head: bytearray, before: int) -> bool:
    """Whether the head is complete, or too long, when its first `before` bytes were not."""
    return len(head) > MAX_HEAD or bool(HEAD_END.search(head, max(0, before - 2)))
