"""Django sites: their HTTP requests, by the patterns of their URLs.

`install("django")` measures all requests that a server of WSGI or ASGI passes to the site, from the
call of its handler, with all middleware, to the last byte of the answer; see `http_server` for the
metrics, `wsgi` and `asgi` for answers.

The route is that of `request.resolver_match`, as `/items/<int:id>/`, with the prefixes of
`include()`; of `re_path`, the expression. It is `<unmatched>` where no pattern fits, and where
middleware answers before the URL is resolved. An exception of a view or of middleware that Django
answers with its page for status 500 is the type of error. The test client of Django calls no
handler of a server: it is not measured.
"""

from __future__ import annotations

import sys
from functools import partial
from types import MethodType
from typing import TYPE_CHECKING, Any

from hypertrace._failures import swallow

from .asgi import AsgiServer
from .http_server import EXCLUDED, KEY, UNMATCHED, HttpServer
from .wsgi import measured

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from .http_server import Request
    from .patches import Patches


class Integration(HttpServer):
    """What is measured of Django sites."""

    def __init__(
        self,
        *,
        exclude: Iterable[str] = EXCLUDED,
        body_sizes: bool = False,
        native: bool = False,
    ) -> None:
        """Declare the metrics; the arguments are those of `HttpServer`."""
        super().__init__(exclude=exclude, body_sizes=body_sizes, native=native)
        # Only what resolves URLs knows routes.
        self._asgi = AsgiServer(
            exclude=self.exclude, body_sizes=body_sizes, native=native, route_of=lambda _: None
        )

    def patch(self, patches: Patches) -> None:
        """Replace the handlers of servers, and what resolves URLs.

        Args:
            patches: replaces it.
        """

        def resolve(function: Callable[..., Any]) -> Callable[..., Any]:
            def resolve_request(handler: Any, request: Any) -> Any:
                match = function(handler, request)
                self._note_route(request, match)
                return match

            return resolve_request

        def failed(request: Any = None, **_: Any) -> None:
            try:
                measured_request, error = _request_of(request), sys.exc_info()[1]
                if measured_request is not None and error is not None:
                    measured_request.fail(error)
            except Exception as error:  # noqa: BLE001 -- the application must see nothing
                swallow(error, self)

        def patch_base() -> None:
            from django.core.handlers.base import BaseHandler
            from django.core.signals import got_request_exception

            patches.replace(BaseHandler, "resolve_request", resolve)
            got_request_exception.connect(failed, weak=False)
            patches.then(lambda: got_request_exception.disconnect(failed))

        patches.when_imported("django.core.handlers.base", patch_base)
        for kind, make in (("WSGIHandler", self._of_wsgi), ("ASGIHandler", self._of_asgi)):
            module = f"django.core.handlers.{kind[:4].lower()}"
            patches.when_imported(module, partial(_replace_call, patches, module, kind, make))

    def _of_wsgi(self, function: Callable[..., Any]) -> Callable[..., Any]:
        def __call__(handler: Any, environ: Any, start_response: Any) -> Any:  # noqa: N807
            application = MethodType(function, handler)
            return measured(self, application, environ, start_response, UNMATCHED)

        return __call__

    def _of_asgi(self, function: Callable[..., Any]) -> Callable[..., Any]:
        async def __call__(handler: Any, scope: Any, receive: Any, send: Any) -> None:  # noqa: N807
            await self._asgi.measure(MethodType(function, handler), scope, receive, send)

        return __call__

    def _note_route(self, request: Any, match: Any) -> None:
        try:
            measured_request = _request_of(request)
            if measured_request is not None:
                route = f"/{match.route.lstrip('^/')}"
                measured_request.route = self.route_below(request.META["SCRIPT_NAME"], route)
        except Exception as error:  # noqa: BLE001 -- the application must see nothing
            swallow(error, self)


def _replace_call(
    patches: Patches, module: str, kind: str, make: Callable[[Callable[..., Any]], Any]
) -> None:
    patches.replace(getattr(sys.modules[module], kind), "__call__", make)


def _request_of(request: Any) -> Request | None:
    """Return what is measured of a request of Django."""
    scope = getattr(request, "scope", None)
    found: Request | None = (request.META if scope is None else scope).get(KEY)
    return found
