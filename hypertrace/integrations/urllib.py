"""urllib: each request that `urllib.request` sends over HTTP, with its redirects.

The metrics are those of `http_clients`; connections and name look-ups are measured, too. A request
begins when its handler opens it, and ends when its body has been read, closed or dropped. The
standard library's `http.client` is not measured where it is used directly.

Options: `group_redirects`, `max_hosts` as of `HttpClient`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .http_clients import HttpClient, target_of_url
from .http_connections import connecting, patch_bodies, patch_lookups

if TYPE_CHECKING:
    from collections.abc import Callable

    from .http_clients import Target
    from .patches import Patches


class Integration(HttpClient):
    """The integration of urllib."""

    def patch(self, patches: Patches) -> None:
        """Measure what openers send.

        Args:
            patches: replaces their functions.
        """
        import http.client
        from urllib.request import AbstractHTTPHandler, OpenerDirector

        patches.replace(AbstractHTTPHandler, "do_open", self._open)
        if self.group_redirects:
            patches.replace(OpenerDirector, "open", self._grouped)
        patches.replace(http.client.HTTPConnection, "connect", connecting)
        if hasattr(http.client, "HTTPSConnection"):
            patches.replace(http.client.HTTPSConnection, "connect", connecting)
        patch_lookups(patches)
        patch_bodies(patches)

    def _open(self, do_open: Callable[..., Any]) -> Callable[..., Any]:
        def measured(handler: Any, http_class: Any, req: Any, **kwargs: Any) -> Any:
            with self.start(_target, req):
                return do_open(handler, http_class, req, **kwargs)

        return measured

    def _grouped(self, open_: Callable[..., Any]) -> Callable[..., Any]:
        def grouped(*args: Any, **kwargs: Any) -> Any:
            with self.redirects():
                return open_(*args, **kwargs)

        return grouped


def _target(request: Any) -> Target:
    return target_of_url(request.get_method(), request.full_url)
