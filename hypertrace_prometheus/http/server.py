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


class MetricsServer:
    """Serves views by their path until it is stopped.

    The constructor binds the port and starts one daemon thread, which starts up to 16 more to
    respond to requests; none of them keeps a program alive at its end. On loopback, requests that
    name another host are refused. A forked child does not serve, and keeps neither the port nor a
    connection open.

    Attributes:
        host: the address it listens on, as given.
        port: the port it listens on.
        url: where it is reached from this machine, without a path.
    """

    def __init__(  # noqa: PLR0913 -- one argument for each setting
        self,
        routes: Routes,
        *,
        host: str = "127.0.0.1",
        port: int = 0,
        certfile: File | None = None,
        keyfile: File | None = None,
        client_ca: File | None = None,
        auth: str | None = None,
    ) -> None:
        """Bind the port and start to serve. All files are read here, once.

        Args:
            routes: returns the views by their path. Called once, with `host:port` as this machine
                reaches the server. The views run in the threads of the server.
            host: an address of this machine or a name of one. With the default only this machine
                can connect. With any address beyond loopback, and neither `client_ca` nor `auth`, a
                warning is logged, once for each address.
            port: 0 to 65535; 0 picks a free one.
            certfile: PEM file with the certificate of the server, for TLS 1.2 or later.
            keyfile: PEM file with its key, not encrypted.
            client_ca: PEM file with authorities. Only clients with a certificate of one of them are
                served.
            auth: `"file:PATH"` or `"env:NAME"`, where the credentials are that a client must send
                one of: a line each, `name:password` or `Bearer TOKEN`.

        Raises:
            OSError: the port is in use or reserved, or the host is not one of this machine. The
                message names both and says what to do; `errno` is the system's. Or a file cannot be
                read; `filename` names it.
            ValueError: the port is out of range, the host is empty, a file or the variable has
                wrong content, or half of TLS is missing.
            TypeError: an argument of the wrong type.
        """
        check_address(host, port)
        context = make_context(certfile, keyfile, client_ca)
        guards: list[Guard] = [] if auth is None else [CredentialsGuard(auth)]
        listener = listen(host, port)
        try:
            self.host = host
            self.port: int = listener.getsockname()[1]
            address = target(host, self.port)
            self.url = f"{'http' if context is None else 'https'}://{address}"
            if is_loopback(listener):
                guards.insert(0, HostGuard(host))
            elif client_ca is None and auth is None:
                _warn_that_it_is_open(host)
            self._view = guarded(routed(routes(address)), guards)
            self._connections = Connections(listener, self._respond, context)
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
