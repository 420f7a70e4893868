"""Client of Grafana's HTTP API: brings dashboards into a Grafana that runs."""

import json
import re
from collections.abc import Iterable
from contextlib import suppress
from http.client import HTTPException, HTTPMessage
from typing import IO, Any
from urllib.error import HTTPError, URLError
from urllib.parse import urljoin, urlsplit
from urllib.request import HTTPRedirectHandler, Request, build_opener

from .templates import Dashboard

_SECONDS = 30
_MOST_BYTES = 1 << 20
"""Read of an answer; those of Grafana have some hundred."""
_MOST_SHOWN = 300
"""Characters of an answer that go into an error message."""
_VISIBLE = re.compile("[!-~]+")
_REASONS = {
    401: "it does not know the token; make one under Administration, Service accounts",
    403: "the token may not write dashboards; its service account needs the role Editor",
    404: "there is no Grafana at this address, or no such folder",
    412: "it has a dashboard of this name in the folder already; delete or rename that one",
}
_NO_GRAFANA = (ValueError, TypeError, KeyError, RecursionError)
"""Raised by an answer of any other server; the last one if it is nested too deeply."""


class GrafanaError(Exception):
    """Grafana did not take a dashboard. The message says which, why, and what to do."""


class _Stay(HTTPRedirectHandler):
    """Follows no redirect: the token is for the address that the user gave, and no other."""

    def redirect_request(  # noqa: PLR0913, PLR0917 -- urllib's signature
        self,
        req: Request,
        fp: IO[bytes],
        code: int,
        msg: str,
        headers: HTTPMessage,
        newurl: str,
    ) -> None:
        del req, fp, code, msg, headers, newurl


def push(
    dashboards: Iterable[Dashboard], url: str, token: str, folder: str | None = None
) -> list[str]:
    """Bring dashboards into a Grafana, in place of those with the same `uid`; return their URLs.

    Args:
        dashboards: as Grafana's JSON has them.
        url: of the Grafana: `http://localhost:3000`, with the path it is served under, if any.
        token: of a service account with the role Editor.
        folder: uid of the folder they go to; by default the one where they are, or General.

    Raises:
        GrafanaError: Grafana cannot be reached, or does not take one. Those before it are there.
        ValueError: the URL is none, or the token cannot be sent.
    """
    if not _is_address(url):
        raise ValueError(f"{url!r} is no address of a Grafana; it looks like http://localhost:3000")
    if not token.isascii() or not token.isprintable() or not token:
        raise ValueError("the token is empty, or has characters in it that no token has")
    return [_push(each, url, token, folder) for each in dashboards]


def _is_address(url: str) -> bool:
    with suppress(ValueError):  # no port, or a broken IPv6 address
        parts = urlsplit(url)
        return parts.scheme in {"http", "https"} and bool(parts.hostname) and parts.port != 0
    return False


def _push(dashboard: Dashboard, url: str, token: str, folder: str | None) -> str:
    body: dict[str, Any] = {
        "dashboard": dashboard | {"id": None},
        "overwrite": True,
        "message": "hypertrace dashboards push",
    }
    if folder is not None:
        body["folderUid"] = folder
    request = Request(  # noqa: S310 -- push() has looked at the scheme
        f"{url.rstrip('/')}/api/dashboards/db",
        data=json.dumps(body).encode(),
        headers={"Authorization": f"Bearer {token}", "Content-Type": "application/json"},
        method="POST",
    )
    title = dashboard["title"]
    try:
        with build_opener(_Stay).open(request, timeout=_SECONDS) as answer:
            return _address(_parsed(answer)["url"], url)
    except HTTPError as error:
        with error:
            raise GrafanaError(f"{title}: {_reason(error)}") from error
    except URLError as error:
        raise GrafanaError(f"{url} cannot be reached: {error.reason}") from error
    except (OSError, HTTPException) as error:
        raise GrafanaError(f"{title}: no answer from {url}: {_start(repr(error))}") from error
    except _NO_GRAFANA as error:
        raise GrafanaError(f"{title}: what answers at {url} is no Grafana") from error


def _parsed(answer: IO[bytes]) -> Any:
    return json.loads(answer.read(_MOST_BYTES))


def _start(text: str) -> str:
    return text if len(text) <= _MOST_SHOWN else f"{text[:_MOST_SHOWN]} ..."


def _address(path: object, url: str) -> str:
    """Return where a dashboard is, if that is a place in the Grafana at `url`.

    Raises:
        TypeError, ValueError: it is not, so the answer is not Grafana's.
    """
    if not isinstance(path, str) or not _VISIBLE.fullmatch(path):
        raise TypeError(path)
    address = urljoin(url, path)
    if urlsplit(address)[:2] != urlsplit(url)[:2]:
        raise ValueError(address)
    return address


def _reason(error: HTTPError) -> str:
    if location := error.headers.get("Location"):
        return f"Grafana is elsewhere: {_start(location)} (if you know this address, push there)"
    said = ""
    with suppress(*_NO_GRAFANA, OSError, HTTPException):  # it may be another server's page
        said = f" ({_start(str(_parsed(error)['message']))})"
    return f"HTTP {error.code}: {_REASONS.get(error.code, 'Grafana did not take it')}{said}"
