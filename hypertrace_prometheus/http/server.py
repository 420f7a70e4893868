"""The metrics server: the metrics of a registry over HTTP, from daemon threads."""

from __future__ import annotations

import logging
from functools import lru_cache
from http import HTTPStatus
from typing import TYPE_CHECKING

from ..endpoint import metrics_view, read_only, text_answer, wsgi_app
from ..index_page import index_page
from .addresses import check_address, is_loopback, listen, target
from .auth import Auth
from .connections import Connections
from .hosts import host_guard
from .messages import Responder
from .tls import make_context

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from typing import TypeAlias
    from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

    from prometheus_client import CollectorRegistry

    from ..endpoint import Answer
    from .tls import File

    Guard: TypeAlias = Callable[[WSGIEnvironment], Answer | None]

_logger = logging.getLogger("hypertrace_prometheus")


class MetricsServer:
    """Serves `/metrics`, `/` and `/-/healthy` until it is stopped.

    The constructor binds the port and starts one daemon thread, and at most 16 more
    while they answer requests; none of them keeps a finished program alive. On loopback,
    requests that name another host are refused. A forked child does not serve, and
    keeps neither the port nor a connection.

    Args:
        registry: what `/metrics` shows; its collectors run in the threads of the server.
        host: an address of this machine or a name of one. The default lets nobody in
            from other machines; on any other, a warning is logged once if there is
            neither `client_ca` nor `auth`.
        port: 0 to 65535; 0 picks a free one.
        certfile: PEM file with the certificate of the server, for TLS 1.2 or later.
        keyfile: PEM file with its key, not encrypted.
        client_ca: PEM file with authorities. Only clients with a certificate of one of
            them are served.
        auth: `"file:PATH"` or `"env:NAME"`, where the credentials are that a client needs
            one of: a line each, `name:password` or `Bearer TOKEN`.

    All files are read here and never again.

    Raises:
        OSError: the port is busy or reserved, or the host is not one of this machine.
            The message names both and says what to do; `errno` is the system's. Or a
            file cannot be read, and `filename` says which.
        ValueError: the port is out of range, the host is empty, a file or the variable
            is not what it should be, or half of TLS is missing.
        TypeError: an argument of the wrong type.
    """

    def __init__(  # noqa: PLR0913 -- a setting each
        self,
        registry: CollectorRegistry,
        *,
        host: str = "127.0.0.1",
        port: int = 0,
        certfile: File | None = None,
        keyfile: File | None = None,
        client_ca: File | None = None,
        auth: str | None = None,
    ) -> None:
        check_address(host, port)
        context = make_context(certfile, keyfile, client_ca)
        guards: list[Guard] = [] if auth is None else [Auth(auth).refusal]
        listener = listen(host, port)
        try:
            self.host = host
            self.port: int = listener.getsockname()[1]
            self._scheme = "http" if context is None else "https"
            if is_loopback(listener):
                guards.insert(0, host_guard(host))
            elif client_ca is None and auth is None:
                _warn_that_it_is_open(host)
            app = _guarded(self._routes(registry), guards)
            respond = Responder(app, (self.host, self.port), context)
            self._connections = Connections(listener, respond, context)
            self._connections.start()
        except BaseException:
            listener.close()
            raise

    @property
    def url(self) -> str:
        """Where the metrics are, as seen from this machine."""
        return f"{self._scheme}://{target(self.host, self.port)}/metrics"

    def stop(self) -> None:
        """Free the port and end every thread of the server.

        May be called from any thread, from a signal handler, while requests run, and more
        than once. Requests under way get half a second to finish; a collector that hangs
        longer is left behind in its daemon thread.
        """
        self._connections.stop()

    def _routes(self, registry: CollectorRegistry) -> WSGIApplication:
        return _route(
            {
                "/": wsgi_app(read_only(lambda _: index_page(target(self.host, self.port)))),
                "/metrics": wsgi_app(metrics_view(registry, bounded=True)),
                "/-/healthy": wsgi_app(read_only(lambda _: text_answer(HTTPStatus.OK, "ok"))),
            }
        )


def _route(routes: Mapping[str, WSGIApplication]) -> WSGIApplication:
    """Return an application that picks one of `routes` by its exact path."""
    paths = " ".join(routes)
    missing = _always(text_answer(HTTPStatus.NOT_FOUND, f"Not here. Try: {paths}\n"))

    def app(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        return routes.get(environ["PATH_INFO"], missing)(environ, start_response)

    return app


def _guarded(app: WSGIApplication, guards: Iterable[Guard]) -> WSGIApplication:
    """Return `app` for the requests that none of `guards` has a refusal for."""

    def guarded(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        for guard in guards:
            refusal = guard(environ)
            if refusal is not None:
                return _always(refusal)(environ, start_response)
        return app(environ, start_response)

    return guarded


def _always(answer: Answer) -> WSGIApplication:
    return wsgi_app(lambda _: answer)


@lru_cache(maxsize=64)
def _warn_that_it_is_open(host: str) -> None:
    """Warn once a process and address."""
    _logger.warning(
        "The metrics server on %s lets everyone who reaches it read the metrics: pass auth, or "
        "certfile, keyfile and client_ca, or host='127.0.0.1' for this machine only",
        host,
    )
