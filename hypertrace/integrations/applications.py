"""Applications that measure their requests: proxies of those that are given."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from wrapt import ObjectProxy

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    _Proxy = ObjectProxy[Any]
else:
    _Proxy = ObjectProxy  # not generic in wrapt 2.0


class TracedWsgi(_Proxy):
    """An application of WSGI, but for its calls."""

    def __init__(self, application: object, call: Callable[..., Any]) -> None:
        """Measure an application from now on.

        Args:
            application: of WSGI.
            call: is called with it and its arguments in its place.
        """
        super().__init__(_checked(application))
        self._self_call = call

    def __call__(self, *args: Any) -> Any:
        """Call the application."""
        return self._self_call(self.__wrapped__, *args)


class TracedAsgi(_Proxy):
    """An application of ASGI, but for its calls."""

    def __init__(self, application: object, call: Callable[..., Awaitable[None]]) -> None:
        """Measure an application from now on.

        Args:
            application: of ASGI.
            call: as of `TracedWsgi`.
        """
        super().__init__(_checked(application))
        self._self_call = call

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Call the application."""
        await self._self_call(self.__wrapped__, scope, receive, send)


def _checked(application: object) -> object:
    if not callable(application):
        raise TypeError(f"application must be a function or callable object, not {application!r}")
    return application
