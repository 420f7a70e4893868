"""TLS of the metrics server: its context, and a channel over a socket."""

from __future__ import annotations

import os
import ssl
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias, TypeVar

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable

T = TypeVar("T")

File: TypeAlias = "str | os.PathLike[str]"

_PIECE = 65536
_RECORD_HEAD = 5
_HANDSHAKE = 0x16


def make_context(
    certfile: File | None, keyfile: File | None, client_ca: File | None
) -> ssl.SSLContext | None:
    """Return the TLS context of a server, or None if no file is given.

    Args:
        certfile: PEM file with the certificate, and those between it and its authority.
        keyfile: PEM file with the key of the certificate, not encrypted.
        client_ca: PEM file with the certificates of the authorities; a client must show a
            certificate of one of them. No other authority is trusted, nor those of the system.

    Raises:
        ValueError: an argument is missing, a file has wrong content, or the key belongs to another
            certificate. The message names the argument and the file.
        OSError: a file cannot be read; its `filename` says which.
        TypeError: an argument is no path.
    """
    files = {"certfile": certfile, "keyfile": keyfile, "client_ca": client_ca}
    for name, file in files.items():
        _check_path(name, file)
    if certfile is None and keyfile is None and client_ca is None:
        return None
    if certfile is None or keyfile is None:
        given = " and ".join(name for name, file in files.items() if file is not None)
        missing = " and ".join(name for name in ("certfile", "keyfile") if files[name] is None)
        raise ValueError(f"{given} without {missing}: TLS needs both certfile and keyfile")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    # Not left to the OpenSSL configuration of the system.
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.options |= ssl.OP_NO_RENEGOTIATION
    _load_pair(context, certfile, keyfile)
    if client_ca is not None:
        _require_client_certificates(context, client_ca)
    return context


def _check_path(name: str, file: object) -> None:
    if file is not None and not isinstance(file, str | os.PathLike):
        raise TypeError(f"{name} must be a path, as a str or os.PathLike, not {file!r}")


def _load_pair(context: ssl.SSLContext, certfile: File, keyfile: File) -> None:
    encrypted = f"keyfile {os.fspath(keyfile)!r} is encrypted; give a key without a passphrase"

    def refuse() -> str:  # without it, OpenSSL would ask on the terminal
        raise ValueError(encrypted)

    for file in (certfile, keyfile):
        _check_readable(file)
    try:
        context.load_cert_chain(certfile, keyfile, password=refuse)
    except ssl.SSLError as error:
        raise ValueError(
            f"certfile {os.fspath(certfile)!r} and keyfile {os.fspath(keyfile)!r} are no PEM "
            f"certificate and its key ({error.reason or 'unreadable'})"
        ) from error


def _require_client_certificates(context: ssl.SSLContext, client_ca: File) -> None:
    _check_readable(client_ca)
    try:
        context.load_verify_locations(cafile=client_ca)
    except ssl.SSLError as error:
        raise ValueError(
            f"client_ca {os.fspath(client_ca)!r} is no PEM file of certificates "
            f"({error.reason or 'unreadable'})"
        ) from error
    context.verify_mode = ssl.CERT_REQUIRED


def _check_readable(file: File) -> None:
    """Raise the OSError of the system, which names the file; the one of OpenSSL does not."""
    with Path(file).open("rb"):
        pass


class Channel:
    """TLS over a socket from which bytes were read already. Its methods block.

    An `ssl.SSLSocket` cannot be given bytes that were read before, and after another thread shuts
    it down, it sends the rest unencrypted.
    """

    def __init__(self, context: ssl.SSLContext, sock: socket.socket, received: bytearray) -> None:
        """Do the handshake.

        Args:
            context: of the server.
            sock: where to read and write.
            received: what was read from it before.

        Raises:
            OSError: the client closed the connection, or does not speak TLS. So do all methods.
        """
        self._socket = sock
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._incoming.write(received)
        self._tls = context.wrap_bio(self._incoming, self._outgoing, server_side=True)
        self._do(self._tls.do_handshake)

    def recv(self, size: int) -> bytes:
        """Return the next bytes, at most so many."""
        return self._do(partial(self._tls.read, size))

    def sendall(self, data: bytes) -> None:
        """Send all of `data`."""
        view = memoryview(data)
        for start in range(0, len(view), _PIECE):
            self._do(partial(self._tls.write, view[start : start + _PIECE]))

    def _do(self, step: Callable[[], T]) -> T:
        while True:
            try:
                return step()
            except ssl.SSLWantReadError:
                pass
            finally:  # after a failure it holds the alert that says why
                self._socket.sendall(self._outgoing.read())
            received = self._socket.recv(_PIECE)
            if not received:
                raise ConnectionAbortedError("the client hung up")
            self._incoming.write(received)


def begins_with_a_record(received: bytearray) -> bool:
    """Whether the first TLS record of a client has arrived.

    Raises:
        ConnectionAbortedError: it is no TLS.
    """
    if received[0] != _HANDSHAKE:
        raise ConnectionAbortedError("the client does not speak TLS")
    length = int.from_bytes(received[3:_RECORD_HEAD], "big")
    return len(received) >= _RECORD_HEAD + length
