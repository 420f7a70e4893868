"""Which `Host` a request may name.

A page on the web can let its own name resolve to 127.0.0.1 and so ask, through the browser of
someone who works here, a server that listens on loopback (DNS rebinding). The browser then sends
the page's name as `Host`, which is what gives it away.
"""

from __future__ import annotations

import re
from http import HTTPStatus
from ipaddress import ip_address
from typing import TYPE_CHECKING

from ..endpoint import text_answer

if TYPE_CHECKING:
    from collections.abc import Callable
    from wsgiref.types import WSGIEnvironment

    from ..endpoint import Answer

# A host in brackets or without a colon, and perhaps a port. Two headers arrive joined by a comma.
_AUTHORITY = re.compile(r"(?:\[([0-9a-f:.]+)\]|([a-z0-9._-]+))(?::[0-9]*)?", re.IGNORECASE)


def host_guard(host: str) -> Callable[[WSGIEnvironment], Answer | None]:
    """Return a function that refuses what names another host than this machine.

    Args:
        host: what the server listens on: a name or address of loopback.

    `localhost` and every loopback address are let in besides, at any port; so is a request
    without `Host`, which no browser sends.
    """
    ours = {"localhost", host.lower()}

    def refusal(environ: WSGIEnvironment) -> Answer | None:
        named = environ.get("HTTP_HOST")
        if named is None or _is_ours(named, ours):
            return None
        return text_answer(HTTPStatus.MISDIRECTED_REQUEST, "This server has another name.\n")

    return refusal


def _is_ours(named: str, ours: set[str]) -> bool:
    match = _AUTHORITY.fullmatch(named)
    if match is None:
        return False
    name = (match[1] or match[2]).lower()
    return name in ours or _is_loopback(name)


def _is_loopback(name: str) -> bool:
    try:
        return ip_address(name).is_loopback
    except ValueError:
        return False
