"""Bringing dashboards into a Grafana that runs, through its HTTP API."""

import json
from collections.abc import Iterable
from contextlib import suppress
from http.client import HTTPException, HTTPMessage
from typing import IO, Any
from urllib.error import HTTPError, URLError
from urllib.parse import urljoin, urlsplit
from urllib.request import HTTPRedirectHandler, Request, build_opener

from .templates import Dashboard

_SECONDS = 30
_REASONS = {
    401: "it does not know the token; make one under Administration, Service accounts",
    403: "the token may not write dashboards; its service account needs the role Editor",
    404: "there is no Grafana at this address, or no such folder",
    412: "it has a dashboard of this name in the folder already; delete or rename that one",
}


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
    parts = urlsplit(url)
    if parts.scheme not in {"http", "https"} or not parts.hostname:
        raise ValueError(f"{url!r} is no address of a Grafana; it looks like http://localhost:3000")
    if not token.isascii() or not token.isprintable() or not token:
        raise ValueError("the token is empty, or has characters in it that no token has")
    return [urljoin(url, _push(each, url, token, folder)) for each in dashboards]


def _push(dashboard: Dashboard, url: str, token: str, folder: str | None) -> str:
    body: dict[str, Any] = {
        "dashboard": dashboard | {"id": None},
        "overwrite": True,
        "message": "hypertrace-prometheus dashboards push",
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
            return str(json.load(answer)["url"])
    except HTTPError as error:
        with error:
            raise GrafanaError(f"{title}: {_reason(error)}") from error
    except URLError as error:
        raise GrafanaError(f"{url} cannot be reached: {error.reason}") from error
    except (OSError, HTTPException) as error:
        raise GrafanaError(f"{title}: no answer from {url}: {error!r}") from error
    except (ValueError, TypeError, KeyError) as error:
        raise GrafanaError(f"{title}: what answers at {url} is no Grafana") from error


def _reason(error: HTTPError) -> str:
    if location := error.headers.get("Location"):
        return f"Grafana is elsewhere: {location} (push there)"
    said = ""
    with suppress(ValueError, TypeError, KeyError, OSError):  # it may be another server's page
        said = f" ({json.load(error)['message']})"
    return f"HTTP {error.code}: {_REASONS.get(error.code, 'Grafana did not take it')}{said}"
