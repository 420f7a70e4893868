"""Receivers of line protocol: servers with HTTP, and sockets that take lines."""

from __future__ import annotations

import errno
import gzip
import re
import socket
import time
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Protocol, TypeAlias

from hypertrace.exporters.answers import SHOWN, RefusedError, check

if TYPE_CHECKING:
    import http.client
    from collections.abc import Callable, Iterator, Mapping
    from contextlib import AbstractContextManager

    Send: TypeAlias = Callable[[bytes], None]

_DROPPED = re.compile(r"dropped=([1-9]\d*)")
"""What InfluxDB says when it has written a part of a batch."""


class Receiver(Protocol):
    """Where batches are sent."""

    size: int
    """Bytes of a batch at the most."""

    def connected(self) -> AbstractContextManager[Send]:
        """Connect for as long as the context lasts, and give a function that sends one batch.

        Raises:
            OSError: there is no connection, so nothing was sent.
        """


class HttpReceiver:
    """A server that takes POST requests. It is asked directly: proxies are not used."""

    size = 500_000  # servers and proxies refuse large requests, some from 1 MB on

    def __init__(
        self,
        make_connection: Callable[[], http.client.HTTPConnection],
        path: str,
        make_headers: Callable[[], Mapping[str, str]],
        *,
        compress: bool,
    ) -> None:
        """Keep what a request needs.

        Args:
            make_connection: returns a connection that is not open.
            path: of the requests, with its query.
            make_headers: returns headers, such as those with the credentials as they are now.
            compress: whether to compress what is sent.
        """
        self._make_connection = make_connection
        self._path = path
        self._make_headers = make_headers
        self._compress = compress

    @contextmanager
    def connected(self) -> Iterator[Send]:
        """Connect."""
        headers = {"Content-Type": "text/plain; charset=utf-8", **self._make_headers()}
        if self._compress:
            headers["Content-Encoding"] = "gzip"
        connection = self._make_connection()
        try:
            connection.connect()
            yield partial(self._post, connection, headers)
        finally:
            connection.close()

    def _post(
        self, connection: http.client.HTTPConnection, headers: Mapping[str, str], data: bytes
    ) -> None:
        body = gzip.compress(data, compresslevel=1, mtime=0) if self._compress else data
        connection.request("POST", self._path, body, headers)
        response = connection.getresponse()
        answer = response.read(SHOWN * 4).decode("utf-8", "replace")
        if not response.isclosed():  # there is more: the next request connects again
            connection.close()
        try:
            check(response.status, response.reason, answer)
        except RefusedError as refused:
            if match := _DROPPED.search(answer):
                refused.amount = int(match[1])
            connection.close()
            raise


class StreamReceiver:
    """A listener for lines on a TCP or Unix stream, which does not answer."""

    size = 65_536

    def __init__(self, connect: Callable[[], socket.socket]) -> None:
        """Keep how to connect."""
        self._connect = connect

    @contextmanager
    def connected(self) -> Iterator[Send]:
        """Connect."""
        with self._connect() as connection:
            yield connection.sendall
            connection.shutdown(socket.SHUT_WR)


class DatagramReceiver:
    """A listener for lines in UDP or Unix datagrams, which does not answer."""

    size = 1_432  # what fits into a packet of Ethernet

    _BURST = 32
    """Packets between two pauses: a receiver's buffer may have room for a hundred."""
    _PAUSE = 0.001

    def __init__(self, connect: Callable[[], socket.socket]) -> None:
        """Keep how to connect."""
        self._connect = connect
        self._packets = 0

    @contextmanager
    def connected(self) -> Iterator[Send]:
        """Connect, which sends nothing yet."""
        with self._connect() as connection:
            yield partial(self._send, connection)

    def _send(self, connection: socket.socket, data: bytes) -> None:
        self._packets += 1
        if not self._packets % self._BURST:
            time.sleep(self._PAUSE)
        try:
            connection.send(data)
        except OSError as error:
            if error.errno == errno.EMSGSIZE:
                raise RefusedError(f"a line of {len(data)} bytes fits into no datagram") from None
            raise


def connect_tcp(host: str, port: int, timeout: float) -> socket.socket:
    """Return a TCP connection."""
    return socket.create_connection((host, port), timeout)


def connect_udp(host: str, port: int, timeout: float) -> socket.socket:
    """Return a UDP socket that sends to a host, looked up now."""
    family, kind, number, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_DGRAM)[0]
    return _connected(socket.socket(family, kind, number), address, timeout)


def connect_unix(path: str, kind: socket.SocketKind, timeout: float) -> socket.socket:
    """Return a connection to a Unix socket, of streams or datagrams."""
    return _connected(socket.socket(socket.AF_UNIX, kind), path, timeout)


def _connected(made: socket.socket, address: object, timeout: float) -> socket.socket:
    try:
        made.settimeout(timeout)
        made.connect(address)  # type: ignore[arg-type]  # a path, or what getaddrinfo returns
    except BaseException:
        made.close()
        raise
    return made
