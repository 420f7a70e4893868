"""urllib3: each request that it sends, with its retries and redirects.

The metrics are those of `http_clients`; connections and name look-ups are measured, too. A request
begins when a pool is asked for it, waits for a connection included, and ends when its body has been
read, closed or dropped. What other libraries send by urllib3, as boto3 does, counts; what requests
sends counts once, also if both integrations are installed.

Options: `group_redirects`, `max_hosts` as of `HttpClient`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .http_clients import HttpClient
from .urllib3_attempts import patch_attempts

if TYPE_CHECKING:
    from collections.abc import Callable

    from .patches import Patches


class Integration(HttpClient):
    """The integration of urllib3."""

    def patch(self, patches: Patches) -> None:
        """Measure what urllib3 sends.

        Args:
            patches: replaces its functions.
        """
        from urllib3.poolmanager import PoolManager

        patch_attempts(patches, self)
        if self.group_redirects:
            patches.replace(PoolManager, "urlopen", self._urlopen)

    def _urlopen(self, urlopen: Callable[..., Any]) -> Callable[..., Any]:
        def grouped(manager: Any, *args: Any, **kwargs: Any) -> Any:
            with self.redirects():
                return urlopen(manager, *args, **kwargs)

        return grouped
