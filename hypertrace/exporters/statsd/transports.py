"""Transports of StatsD: UDP, TCP and Unix datagrams, and which address means which."""

from __future__ import annotations

import errno
import os
import re
import socket
import struct
import time
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol
from urllib.parse import urlsplit

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

PORT = 8125
TIMEOUT = 1.5
"""Seconds to connect, and to wait for room to send."""
_CONFIRMED = 1.0
"""Seconds that a TCP receiver has to read all of it, and to close the connection."""
_REFUSED = 0.02
"""Seconds in which a host says that no receiver has the port: a round trip in one network."""
_BURST, _PAUSE, _PAUSES = 10, 0.02, 1.0
"""Packets after which a UDP receiver gets time to read, and seconds: its buffer has room for some
90. All pauses take a second at the most, so that the last reading gets out when a program ends."""


_HALF_BREAK = re.compile(rb"[\xc2-\xf4][\x80-\xbf]*\x8a[\x80-\xbf]*")
"""A character in UTF-8 of which a line break is left where the highest bit of each byte is dropped,
as Node.js does, which runs the StatsD daemon, with what comes over TCP."""


def _replaced(character: re.Match[bytes]) -> bytes:
    return b"?" * len(character[0])  # as long: events say how many bytes they have


class Transport(Protocol):
    """Sends packets; opens what it needs each time, so that no process shares a socket."""

    @property
    def limit(self) -> int:
        """Bytes of a packet."""

    def deliver(self, packets: Sequence[bytes]) -> Iterator[int]:
        """Send, and yield how many of the packets the receiver has.

        Raises:
            OSError: the others were not sent.
        """


@dataclass(frozen=True)
class Udp:
    """Datagrams to a host. The address is looked up each time."""

    host: str
    port: int
    limit: int = 1432

    def deliver(self, packets: Sequence[bytes]) -> Iterator[int]:
        """Send to the first of the host's addresses that does not refuse it."""
        error: OSError | None = None
        for family, kind, protocol, _, address in socket.getaddrinfo(
            self.host, self.port, type=socket.SOCK_DGRAM
        ):
            sent = 0
            pause = min(_PAUSE, _PAUSES * _BURST / max(1, len(packets)))
            try:
                with socket.socket(family, kind, protocol) as receiver:
                    receiver.settimeout(TIMEOUT)
                    receiver.connect(address)
                    for packet in packets:
                        receiver.send(packet)
                        sent += 1
                        if not sent % _BURST:
                            time.sleep(pause)
                    _check_not_refused(receiver)
            except ConnectionError as refused:
                # For all of them: how many came before the answer depends on the way.
                error = refused
            except OSError as other:
                error = other
                if sent:
                    break
            else:
                error = None
                break
        else:
            sent = 0
        yield sent
        if error is not None:
            raise error


def _check_not_refused(receiver: socket.socket) -> None:
    """Raise if the host has said that no receiver has the port; silence means nothing."""
    receiver.settimeout(_REFUSED)
    with suppress(TimeoutError):
        receiver.recv(1)


@dataclass(frozen=True)
class Tcp:
    """One connection for each reading."""

    host: str
    port: int
    limit: int = 65_536

    def deliver(self, packets: Sequence[bytes]) -> Iterator[int]:
        """Send all, and wait until the receiver has read it."""
        if packets:
            with socket.create_connection((self.host, self.port), TIMEOUT) as receiver:
                for packet in packets:
                    receiver.sendall(_HALF_BREAK.sub(_replaced, packet) + b"\n")
                receiver.shutdown(socket.SHUT_WR)
                _wait_until_closed(receiver)
        yield len(packets)


def _wait_until_closed(receiver: socket.socket) -> None:
    """Wait for a receiver that reads slowly, not for one that says something all the time.

    It has all in its buffer: sent again, it would count twice.
    """
    deadline = time.monotonic() + _CONFIRMED
    with suppress(TimeoutError):
        while (left := deadline - time.monotonic()) > 0:
            receiver.settimeout(left)
            if not receiver.recv(4096):
                return


@dataclass(frozen=True)
class Unix:
    """Datagrams to a socket in the file system; a stream where that is a socket for one."""

    path: str
    limit: int = 8192

    def deliver(self, packets: Sequence[bytes]) -> Iterator[int]:
        """Send one after the other, and wait where the receiver's buffer is full."""
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as receiver:
            receiver.settimeout(TIMEOUT)
            try:
                receiver.connect(self.path)
            except OSError as error:
                if error.errno != errno.EPROTOTYPE:
                    raise
                yield from UnixStream(self.path).deliver(packets)
                return
            for number, packet in enumerate(packets, 1):
                receiver.send(packet)
                yield number


@dataclass(frozen=True)
class UnixStream:
    """Connection to a socket in the file system: packets, each after its length, to an agent."""

    path: str
    limit: int = 8192

    def deliver(self, packets: Sequence[bytes]) -> Iterator[int]:
        """Send one after the other, and wait where the receiver's buffer is full."""
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as receiver:
            receiver.settimeout(TIMEOUT)
            receiver.connect(self.path)
            for number, packet in enumerate(packets, 1):
                receiver.sendall(struct.pack("<I", len(packet)) + packet)
                yield number


def address_from_environment() -> str:
    """Return the address that the environment has: Datadog's variables, then those of StatsD.

    Raises:
        ValueError: it has one that cannot be used; the message names the variables.
    """
    if url := os.environ.get("DD_DOGSTATSD_URL"):
        return _checked(url, "DD_DOGSTATSD_URL")
    for names in (("DD_AGENT_HOST", "DD_DOGSTATSD_PORT"), ("STATSD_HOST", "STATSD_PORT")):
        host, port = map(os.environ.get, names)
        # Kubernetes sets STATSD_PORT for a service of this name, which need not be meant.
        if host or (port and names[1].startswith("DD_")):
            host = host or "127.0.0.1"
            host = f"[{host}]" if ":" in host else host
            return _checked(f"udp://{host}:{port or PORT}", " and ".join(names))
    return f"udp://127.0.0.1:{PORT}"


def _checked(address: str, variables: str) -> str:
    try:
        transport_of(address)
    except ValueError as error:
        raise ValueError(f"from the environment, by {variables}: {error}") from None
    return address


def transport_of(address: object) -> Transport:
    """Return what sends to an address.

    Args:
        address: `udp://host:port`, `tcp://host:port`, `unix:///path`, or `host:port` for UDP; as
            Datadog's clients, also `unixgram:///path` and `unixstream:///path`.

    Raises:
        TypeError: it is no `str`.
        ValueError: it is none of these, or this system has no Unix sockets.
    """
    if not isinstance(address, str):
        raise TypeError(f"address must be a str, not {address!r}")
    if "\\" in address or "pipe://" in address:
        raise ValueError(
            f"address {address!r} is a named pipe of Windows, which is not supported; let the "
            "agent receive UDP, and use 'udp://host:port'"
        )
    try:
        parts = urlsplit(address if "://" in address else f"udp://{address}")
        host, port = parts.hostname, PORT if parts.port is None else parts.port
    except ValueError as error:  # of the port, or of brackets
        raise _not_an_address(address) from error
    rest = parts.query or parts.fragment or parts.username or parts.password
    if parts.scheme in _UNIX and parts.path and not (parts.netloc or rest):
        if not hasattr(socket, "AF_UNIX"):
            raise ValueError(f"address {address!r}: this system has no Unix sockets; use UDP")
        return _UNIX[parts.scheme](parts.path)
    if not host or not port or parts.path not in ("", "/") or rest:
        raise _not_an_address(address)
    if parts.scheme == "udp":
        return Udp(host, port)
    if parts.scheme == "tcp":
        return Tcp(host, port)
    raise _not_an_address(address)


_UNIX: dict[str, Callable[[str], Transport]] = {
    "unix": Unix,
    "unixgram": Unix,
    "unixstream": UnixStream,
}


def _not_an_address(address: str) -> ValueError:
    return ValueError(
        "address must be 'udp://host:port', 'tcp://host:port', 'unix:///path', "
        f"'unixstream:///path' or 'host:port', not {address!r}"
    )
