"""Metrics server: views over HTTP, served by daemon threads."""

from __future__ import annotations

import logging
from functools import lru_cache
from typing import TYPE_CHECKING

from .access import CredentialsGuard, HostGuard
from .addresses import check_address, is_loopback, listen, target
from .connections import Connections
from .messages import encode, parse
from .tls import make_context
from .views import Response, guarded, respond, routed

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import TypeAlias

    from .tls import File
    from .views import Guard, View

    Routes: TypeAlias = Callable[[str], Mapping[str, View]]

_logger = logging.getLogger("hypertrace_prometheus")


class Security:
    """What secures a metrics server: TLS and credentials, from files that are read once.

    Servers that are made one after the other may have the same, also one in a forked child.

    Attributes:
        context: the context of the connections, None for HTTP in the clear.
        admits_all: whether a client needs neither a certificate nor credentials.
    """

    def __init__(
        self,
        certfile: File | None = None,
        keyfile: File | None = None,
        client_ca: File | None = None,
        auth: str | None = None,
    ) -> None:
        """Read the files.

        Args:
            certfile: PEM file with the certificate of the server, for TLS 1.2 or later.
            keyfile: PEM file with its key, not encrypted.
            client_ca: PEM file with authorities. Only clients with a certificate of one of them are
                served.
            auth: `"file:PATH"` or `"env:NAME"`, where the credentials are that a client must send
                one of: a line each, `name:password` or `Bearer TOKEN`.

        Raises:
            OSError: a file cannot be read; `filename` names it.
            ValueError: a file or the variable has wrong content, or half of TLS is missing.
            TypeError: an argument of the wrong type.
        """
        self.context = make_context(certfile, keyfile, client_ca)
        self._credentials = None if auth is None else CredentialsGuard(auth)
        self.admits_all = client_ca is None and auth is None

    @property
    def scheme(self) -> str:
        """How an URL of the server begins."""
        return "http" if self.context is None else "https"

    def guards(self) -> list[Guard]:
        """Return the guards of a server that begins to serve."""
        return [] if self._credentials is None else [self._credentials.renewed()]


class MetricsServer:
    """Serves views by their path until it is stopped.

    The constructor binds the port and starts one daemon thread, which starts up to 16 more to
    respond to requests; none of them keeps a program alive at its end. On loopback, requests that
    name another host are refused. A forked child does not serve, and keeps neither the port nor a
    connection open.

    Attributes:
        host: the address it listens on, as given.
        port: the port it listens on.
        address: `host:port` as this machine reaches it.
        url: where it is reached from this machine, without a path.
    """

    def __init__(
        self,
        routes: Routes,
        *,
        host: str = "127.0.0.1",
        port: int = 0,
        security: Security | None = None,
    ) -> None:
        """Bind the port and start to serve.

        Args:
            routes: returns the views by their path. Called once, with `host:port` as this machine
                reaches the server. The views run in the threads of the server.
            host: an address of this machine or a name of one. With the default only this machine
                can connect. With any address beyond loopback, and neither `client_ca` nor `auth`, a
                warning is logged, once for each address.
            port: 0 to 65535; 0 picks a free one.
            security: TLS and credentials; None for none.

        Raises:
            OSError: the port is in use or reserved, or the host is not one of this machine. The
                message names both and says what to do; `errno` is the system's.
            ValueError: the port is out of range, or the host is empty.
            TypeError: an argument of the wrong type.
            RuntimeError: the system has no thread left.
        """
        check_address(host, port)
        security = security or Security()
        guards = security.guards()
        listener = listen(host, port)
        try:
            self.host = host
            self.port: int = listener.getsockname()[1]
            address = target(host, self.port)
            self.address = address
            self.url = f"{security.scheme}://{address}"
            if is_loopback(listener):
                guards.insert(0, HostGuard(host))
            elif security.admits_all:
                _warn_that_it_is_open(host)
            self._view = guarded(routed(routes(address)), guards)
            self._connections = Connections(listener, self._respond, security.context)
            self._connections.start()
        except BaseException:
            listener.close()
            raise

    def stop(self) -> None:
        """Free the port and end every thread of the server.

        May be called from any thread, from a signal handler, while requests run, and more than
        once. Running requests get half a second to finish; a view that takes longer is left behind
        in its daemon thread.
        """
        self._connections.stop()

    def _respond(self, head: bytes, client: str, asked: float) -> bytes:
        request = parse(head, client, asked)
        if isinstance(request, Response):  # it was no request
            return encode(request)
        return encode(respond(self._view, request))


@lru_cache(maxsize=64)
def _warn_that_it_is_open(host: str) -> None:
    """Warn once for each address."""
    _logger.warning(
        "The metrics server on %s is open: every client that reaches it can read the metrics. Pass "
        "auth, or certfile, keyfile and client_ca, or host='127.0.0.1' for this machine only",
        host,
    )
