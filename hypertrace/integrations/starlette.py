"""Starlette and FastAPI: requests by route, and WebSockets, of every application.

The metrics are those of `http_server` and `websockets`; when a request starts and ends, `asgi`
says. Applications that were made before are measured, too. The route is the template as it stands
in the code, with its converters, below those of the mounts and routers around it:
`/api/items/{id:int}`. A mounted application without routes, such as static files, is one route:
`/static/{path:path}`. All requests without a route are `<unmatched>`: those with status 404, those
that are redirected to a path with or without a slash at its end, and those that a middleware
answers. A request with another method (405) has the route. Hosts are no part of routes.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

from hypertrace._failures import swallow

from .asgi import AsgiServer
from .http_server import EXCLUDED, KEY

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from .asgi import Receive, Scope, Send
    from .http_server import Request
    from .patches import Patches
    from .websockets import EventOf

_ALL_BELOW = "/{path:path}"
_FASTAPI = "fastapi.routing"
_NOTHING: dict[str, Any] = {}
_PREFIX = "hypertrace.mounts"
"""Where a scope has the templates of the mounts that the request has passed."""


class Integration(AsgiServer):
    """What is measured of applications of Starlette and FastAPI."""

    def __init__(
        self,
        *,
        exclude: Iterable[str] = EXCLUDED,
        body_sizes: bool = False,
        native: bool = False,
        event_of: EventOf | None = None,
    ) -> None:
        """Declare the metrics.

        Args:
            exclude: as of `HttpServer`.
            body_sizes: as there.
            native: as there.
            event_of: as of `WebSocketServer`.

        Raises:
            TypeError: an option is wrong.
        """
        super().__init__(
            exclude=exclude,
            body_sizes=body_sizes,
            native=native,
            event_of=event_of,
            route_of=_route_of,
        )
        self._waits_for_fastapi = True

    def patch(self, patches: Patches) -> None:
        """Measure calls of applications, and note the routes that they choose.

        Args:
            patches: replaces what calls them.
        """
        from starlette.applications import Starlette
        from starlette.routing import Host, Mount, Route, WebSocketRoute

        def measuring(original: Callable[..., Any]) -> Callable[..., Any]:
            async def call(app: Any, scope: Scope, receive: Receive, send: Send) -> None:
                if self._waits_for_fastapi and _FASTAPI in sys.modules:
                    self._patch_fastapi(patches)
                # As `measure`, without one more coroutine.
                measured = self.call(scope, receive, send)
                if measured is None:
                    await original(app, scope, receive, send)
                    return
                try:
                    await original(app, scope, measured.receive, measured.send)
                except BaseException as error:
                    measured.end(error)
                    raise
                measured.end(None)

            return call

        patches.replace(Starlette, "__call__", measuring)
        patches.replace(Route, "handle", _noting(_note_route))
        patches.replace(WebSocketRoute, "handle", _noting(_note_route))
        patches.replace(Mount, "handle", _noting(_note_mount))
        patches.replace(Host, "handle", _noting(_note_host))

    def _patch_fastapi(self, patches: Patches) -> None:
        """Note routes of FastAPI, which has its handlers; it is imported after Starlette."""
        self._waits_for_fastapi = False
        try:
            routing = sys.modules[_FASTAPI]
            patches.replace(routing.APIRoute, "handle", _noting(_note_api_route))
            group = getattr(routing, "_FrontendRouteGroup", None)
            if group is not None:
                patches.replace(group, "_match", _noting_frontend)
        except Exception as error:  # noqa: BLE001 -- a request of the application waits
            swallow(error, self)


def _route_of(scope: Scope) -> str | None:
    """Return the path of a route whose class is the application's own."""
    route = scope.get("route")
    path = None if hasattr(route, "routes") else getattr(route, "path", None)
    return scope.get(_PREFIX, "") + path if isinstance(path, str) else None


def _note(scope: Scope, path: str) -> None:
    """Give the request of a scope a route: a path below the mounts that it has passed."""
    request: Request | None = scope.get(KEY)
    if request is not None:
        request.route = scope[_PREFIX] + path if _PREFIX in scope else path


def _note_route(route: Any, scope: Scope) -> None:
    _note(scope, route.path)


def _note_api_route(route: Any, scope: Scope) -> None:
    """Note the path of a route of FastAPI, which has a prefix in each router that includes it.

    Without such a router, FastAPI handles it as one of Starlette.
    """
    context = scope.get("fastapi", _NOTHING).get("effective_route_context")
    if context is not None and context.original_route is route:
        _note(scope, context.path)


def _note_mount(mount: Any, scope: Scope) -> None:
    if KEY in scope:
        scope[_PREFIX] = scope.get(_PREFIX, "") + mount.path
        _note_host(mount, scope)


def _note_host(host: Any, scope: Scope) -> None:
    if not host.routes:
        _note(scope, _ALL_BELOW)


def _noting(note: Callable[[Any, Scope], None]) -> Callable[..., Any]:
    """Return what makes a `handle` that notes its route first."""

    def make(original: Callable[..., Any]) -> Callable[..., Any]:
        async def handle(route: Any, scope: Scope, receive: Receive, send: Send) -> None:
            try:
                note(route, scope)
            except Exception as error:  # noqa: BLE001 -- the application must see nothing
                swallow(error, note)
            await original(route, scope, receive, send)

        return handle

    return make


def _noting_frontend(original: Callable[..., Any]) -> Callable[..., Any]:
    """Return a `_match` that notes the path of a folder of files with its prefix."""

    def match(group: Any, scope: Scope, *, prefix: str) -> Any:
        found = original(group, scope, prefix=prefix)
        try:
            if found[2] is not None:
                _note(scope, (prefix + found[2].path).rstrip("/") + _ALL_BELOW)
        except Exception as error:  # noqa: BLE001 -- the application must see nothing
            swallow(error, _noting_frontend)
        return found

    return match
