"""Network addresses: of the metrics server, and of its clients."""

from __future__ import annotations

import errno
import os
import socket
from ipaddress import IPv6Network, ip_address
from typing import Any

_MAX_PORT = 65535
_BACKLOG = 1024
"""Connections that the system accepts while the application keeps the interpreter busy."""
# The address at which this machine reaches a server that listens on every interface.
_REACHED_AT = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104  nothing is bound here
_ADVICE = {
    errno.EADDRINUSE: "the port is in use; stop the program that has it, or pass another port"
    " (0 picks a free one)",
    errno.EACCES: "the port is reserved for privileged programs; pass one above 1023"
    " (0 picks a free one)",
    errno.EADDRNOTAVAIL: "this machine has no such address; pass 127.0.0.1 for this machine"
    " only, or the address of one of its interfaces",
}


def check_address(host: object, port: object) -> None:
    """Check that a server may be asked to listen there.

    Raises:
        ValueError: the host is empty, or the port is out of range.
        TypeError: one of them is of another type.
    """
    if not isinstance(host, str):
        raise TypeError(f"host must be a str such as '127.0.0.1', not {host!r}")
    if not host:
        raise ValueError("host must not be empty; pass '0.0.0.0' to listen on every interface")
    if not isinstance(port, int) or isinstance(port, bool):
        raise TypeError(f"port must be an int from 0 to {_MAX_PORT}, not {port!r}")
    if not 0 <= port <= _MAX_PORT:
        raise ValueError(f"port must be from 0 to {_MAX_PORT} (0 picks a free one), not {port}")


def listen(host: str, port: int) -> socket.socket:
    """Return a socket that listens there; programs that the application starts do not inherit it.

    Raises:
        OSError: the port is in use or reserved, or the host is not one of this machine. The message
            names both and says what to do; `errno` is the system's.
    """
    family, address = _resolve(host, port)
    dual = family == socket.AF_INET6 and socket.has_dualstack_ipv6()
    try:
        return socket.create_server(address, family=family, backlog=_BACKLOG, dualstack_ipv6=dual)
    except OSError as error:
        raise _explained(error, host, port) from error


def check_bindable(host: str, port: int) -> None:
    """Check that a server could listen there if the port were free.

    Raises:
        OSError: the port is reserved, or the host is not one of this machine; as `listen` raises.
    """
    family, address = _resolve(host, port)
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        # So it is in no other server's way: it does not listen.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(address)
        except OSError as error:
            if error.errno != errno.EADDRINUSE:
                raise _explained(error, host, port) from error


def is_loopback(listener: socket.socket) -> bool:
    """Whether only programs of this machine reach a listening socket."""
    return ip_address(listener.getsockname()[0].partition("%")[0]).is_loopback


def target(host: str, port: int) -> str:
    """Return `host:port` as this machine reaches it."""
    return joined(_REACHED_AT.get(host, host), port)


def joined(host: str, port: int) -> str:
    """Return `host:port`, with an IPv6 address in brackets."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def client_of(address: Any) -> str:
    """Return what a client is identified by: its address, of an IPv6 one the first 64 bits.

    A client can choose the other 64 bits.

    Args:
        address: what `accept()` returned.
    """
    ip = ip_address(address[0].partition("%")[0])
    if ip.version == 4:  # noqa: PLR2004
        return str(ip)
    return str(ip.ipv4_mapped or IPv6Network((ip, 64), strict=False))


def _explained(error: OSError, host: str, port: int) -> OSError:
    code = error.errno or errno.EIO
    reason = _ADVICE.get(code, os.strerror(code))
    return OSError(code, f"cannot serve metrics on {joined(host, port)}: {reason}")


def _resolve(host: str, port: int) -> tuple[socket.AddressFamily, Any]:
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except (OSError, ValueError) as error:  # ValueError: no name can look like this
        code = error.errno if isinstance(error, OSError) else None
        msg = f"cannot serve metrics on {joined(host, port)}: the host is unknown; check its name"
        raise OSError(code or socket.EAI_NONAME, msg) from error
    family, _, _, _, address = found[0]
    return family, address
