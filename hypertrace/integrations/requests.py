"""requests: each request that a session sends, with its redirects and the retries of its adapter.

The metrics are those of `http_clients`; connections and name look-ups are measured, too. A request
begins when the adapter sends it, and ends when its body has been read, closed or dropped: unless
it is streamed, before `get()` returns. Hooks run in between.

An adapter that is no `HTTPAdapter` is measured if it is mounted while this is installed, each of
its requests until its `send()` returns. A library that puts its own answers in the place of all
adapters, as for tests, is not measured: nothing is sent.

Options: `group_redirects`, `max_hosts` as of `HttpClient`.
"""

from __future__ import annotations

from contextvars import ContextVar
from typing import TYPE_CHECKING, Any

from hypertrace._failures import swallow

from .http_clients import ClientRequest, HttpClient, target_of_url
from .urllib3_attempts import for_library, patch_attempts

if TYPE_CHECKING:
    from collections.abc import Callable

    from .http_clients import Target
    from .patches import Patches

_of_adapter: ContextVar[ClientRequest | None] = ContextVar("hypertrace_adapter", default=None)
"""The request that an adapter sends which is no `HTTPAdapter`, but may use one."""


class Integration(HttpClient):
    """The integration of requests."""

    def patch(self, patches: Patches) -> None:
        """Measure what requests sends.

        Args:
            patches: replaces its functions.
        """
        from requests import Session
        from requests.adapters import HTTPAdapter

        patch_attempts(patches)
        patches.replace(HTTPAdapter, "send", self._send_by_urllib3)
        patches.replace(Session, "mount", lambda mount: self._mount(mount, patches, HTTPAdapter))
        if self.group_redirects:
            patches.replace(Session, "send", self._send_all)

    def _send_by_urllib3(self, send: Callable[..., Any]) -> Callable[..., Any]:
        def measured(adapter: Any, *args: Any, **kwargs: Any) -> Any:
            _forget_outer()
            token = for_library.set(self)
            try:
                return send(adapter, *args, **kwargs)
            finally:
                for_library.reset(token)

        return measured

    def _send_all(self, send: Callable[..., Any]) -> Callable[..., Any]:
        def grouped(session: Any, *args: Any, **kwargs: Any) -> Any:
            with self.redirects():
                return send(session, *args, **kwargs)

        return grouped

    def _mount(
        self, mount: Callable[..., Any], patches: Patches, known: type
    ) -> Callable[..., Any]:
        measured_classes: set[type] = set()

        def measured(session: Any, prefix: str, adapter: Any) -> Any:
            try:
                kind = type(adapter)
                if not issubclass(kind, known) and kind not in measured_classes:
                    measured_classes.add(kind)
                    patches.replace(kind, "send", self._send)
            except Exception as error:  # noqa: BLE001 -- the application must see nothing
                swallow(error, self)
            return mount(session, prefix, adapter)

        return measured

    def _send(self, send: Callable[..., Any]) -> Callable[..., Any]:
        def measured(adapter: Any, request: Any, *args: Any, **kwargs: Any) -> Any:
            _forget_outer()
            with self.start(_target, request) as started:
                token = _of_adapter.set(started)
                try:
                    response = send(adapter, request, *args, **kwargs)
                finally:
                    _of_adapter.reset(token)
            started.answered(getattr(response, "status_code", None))
            started.finish()
            return response

        return measured


def _forget_outer() -> None:
    """Do not measure the request of an adapter that lets another one send it."""
    outer = _of_adapter.get()
    if outer is not None:
        outer.abandon()


def _target(request: Any) -> Target:
    return target_of_url(request.method, request.url)
