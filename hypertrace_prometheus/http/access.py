"""Access: guards that accept or refuse a request by its credentials, and by the host it names."""

from __future__ import annotations

import os
import re
import threading
from base64 import b64decode, b64encode
from collections import deque
from copy import copy
from hashlib import sha256
from hmac import compare_digest
from http import HTTPStatus
from ipaddress import ip_address
from math import ceil
from pathlib import Path
from time import monotonic
from typing import TYPE_CHECKING, NamedTuple

from .views import text_response

if TYPE_CHECKING:
    from .views import Request, Response

_MAX_FAILURES = 10
_WINDOW = 60.0
"""Seconds in which so many failures of one client are accepted."""
_MAX_CLIENTS = 1024

_SOURCE = re.compile(r"(file|env):(.+)", re.DOTALL)
_TOKEN = re.compile(rb"[A-Za-z0-9._~+/-]+=*")
_BASIC, _BEARER = "basic", "bearer"
_CHALLENGES = {
    _BASIC: 'Basic realm="hypertrace", charset="UTF-8"',
    _BEARER: 'Bearer realm="hypertrace"',
}

# A host in brackets or without a colon, and perhaps a port. Two headers arrive joined by a comma.
_AUTHORITY = re.compile(r"(?:\[([0-9a-f:.]+)\]|([a-z0-9._-]+))(?::[0-9]*)?", re.IGNORECASE)


class HostGuard:
    """Accepts requests that name this machine as their host, and refuses others with status 421.

    A web page can let its own name resolve to 127.0.0.1, and so reach, through the browser of a
    person who works here, a server that listens on loopback (DNS rebinding). The browser then sends
    the name of the page as `Host`.

    Accepted are the host that the server listens on, `localhost` and every loopback address, at any
    port; so is a request without `Host`, which no browser sends.
    """

    def __init__(self, host: str) -> None:
        """Guard a server.

        Args:
            host: what the server listens on: a name or address of loopback.
        """
        self._names = {"localhost", host.lower()}

    def __call__(self, request: Request) -> Response | None:
        """Return the response to a request that names another host, None for any other."""
        host = request.headers.get("host")
        if host is None or self._is_here(host):
            return None
        return text_response(HTTPStatus.MISDIRECTED_REQUEST, "This server has another name.\n")

    def _is_here(self, host: str) -> bool:
        match = _AUTHORITY.fullmatch(host)
        if match is None:
            return False
        name = (match[1] or match[2]).lower()
        return name in self._names or _is_loopback(name)


class CredentialsGuard:
    """Accepts requests with one of the credentials from a file or an environment variable.

    A client that has sent ten wrong credentials within a minute gets status 429, whatever it sends,
    until the minute is over. A request without credentials gets status 401, and does not count as
    wrong. Any thread may call it. It keeps digests of the credentials only.
    """

    def __init__(self, source: str) -> None:
        """Read the credentials, once.

        Args:
            source: `"file:PATH"` or `"env:NAME"`. Each line there is a credential: `name:password`
                for basic authentication, or `Bearer TOKEN`. Empty lines, lines that begin with `#`
                and spaces around a line are ignored.

        Raises:
            ValueError: there is no credential, or a line is none. The message names the file or
                variable, and the line, and shows nothing of its text.
            OSError: the file cannot be read; `filename` names it.
            TypeError: the source is no `str`.
        """
        credentials = _credentials(source)
        self._digests = [credential.digest for credential in credentials]
        schemes = dict.fromkeys(credential.scheme for credential in credentials)
        self._challenges = [("WWW-Authenticate", _CHALLENGES[scheme]) for scheme in schemes]
        self._failures = _Failures()

    def renewed(self) -> CredentialsGuard:
        """Return a guard with these credentials that knows of no failures, for another server.

        A forked child needs it: a thread of its parent may have been in the guard at the fork.
        """
        other = copy(self)
        other._failures = _Failures()  # noqa: SLF001 -- of this class
        return other

    def __call__(self, request: Request) -> Response | None:
        """Return the response to a request that is refused, None for one that is accepted."""
        seconds = self._failures.seconds_blocked(request.client)
        if seconds:
            response = text_response(HTTPStatus.TOO_MANY_REQUESTS, "Too many wrong credentials.\n")
            response.headers.append(("Retry-After", str(ceil(seconds))))
            return response
        sent = request.headers.get("authorization")
        if sent is not None:
            if self._is_known(sent):
                return None
            self._failures.add(request.client)
        response = text_response(HTTPStatus.UNAUTHORIZED, "This needs credentials.\n")
        response.headers.extend(self._challenges)
        return response

    def _is_known(self, sent: str) -> bool:
        digest = _digest_of(sent)
        # Compared with all, so that the time does not depend on which of them it is.
        return sum(compare_digest(digest, known) for known in self._digests) > 0


class _Credential(NamedTuple):
    scheme: str
    digest: bytes


class _Failures:
    """Times of the last failures of each client; those that failed longest ago are dropped."""

    def __init__(self) -> None:
        # Held for a few dictionary operations, and only by threads of the server.
        self._lock = threading.Lock()
        self._times: dict[str, deque[float]] = {}

    def add(self, client: str) -> None:
        with self._lock:
            times = self._times.pop(client, None) or deque(maxlen=_MAX_FAILURES)
            times.append(monotonic())
            self._times[client] = times
            if len(self._times) > _MAX_CLIENTS:
                del self._times[next(iter(self._times))]

    def seconds_blocked(self, client: str) -> float:
        """Return for how long the client is still refused, 0 if it is not."""
        with self._lock:
            times = self._times.get(client)
            if times is None or len(times) < _MAX_FAILURES:
                return 0.0
            return max(0.0, times[0] + _WINDOW - monotonic())


def authorization(argument: str, source: str) -> str:
    """Return the header `Authorization` that a client sends: the first credential of a source.

    Args:
        argument: name of the argument that has the source, for messages.
        source: as of `CredentialsGuard`; it is read now.

    Raises:
        ValueError: there is no credential, or the first line is none. The message shows nothing of
            its text.
        OSError: the file cannot be read; `filename` names it.
        TypeError: the source is no `str`.
    """
    kind, name, where = _checked_source(argument, source)
    header = _header(kind, name)  # as below, frames that raise hold no credential
    if header is None:
        raise ValueError(
            f"{argument}: the first line of {where} is neither 'name:password' nor 'Bearer TOKEN'"
        )
    return header


def _header(kind: str, name: str) -> str | None:
    _, line = next(iter(_lines(kind, name)), (0, b""))
    scheme, secret = _parts(line) or ("", b"")
    if scheme == _BASIC:
        return f"Basic {b64encode(secret).decode()}"
    return f"Bearer {secret.decode()}" if scheme else None


def _credentials(source: object) -> list[_Credential]:
    kind, name, where = _checked_source("auth", source)
    # A frame that raises holds digests only: some tools report the variables of frames.
    found = _parsed(kind, name)
    for number, credential in found:
        if credential is None:
            raise ValueError(
                f"auth: line {number} of {where} is neither 'name:password' nor 'Bearer TOKEN'"
            )
    if not found:
        raise ValueError(f"auth: {where} has no credentials")
    return [credential for _, credential in found if credential is not None]


def _checked_source(argument: str, source: object) -> tuple[str, str, str]:
    """Return kind and name of a source, and what messages call it."""
    if not isinstance(source, str):
        # The message shows the type only: the value may be the secret itself.
        raise TypeError(f"{argument} must be a str, 'file:PATH' or 'env:NAME', not {type(source)}")
    match = _SOURCE.fullmatch(source)
    if match is None:
        raise ValueError(
            f"{argument} must be 'file:PATH' or 'env:NAME', not the credentials themselves"
        )
    kind, name = match.groups()
    where = f"the file {name!r}" if kind == "file" else f"the environment variable {name!r}"
    return kind, name, where


def _parsed(kind: str, name: str) -> list[tuple[int, _Credential | None]]:
    """Return the lines that are not ignored: number, and credential or None if it is none."""
    return [(number, _credential(line)) for number, line in _lines(kind, name)]


def _lines(kind: str, name: str) -> list[tuple[int, bytes]]:
    """Return the lines that are not ignored, with their numbers."""
    from_file = kind == "file"
    text = Path(name).read_bytes() if from_file else os.fsencode(os.environ.get(name, ""))
    lines = text.removeprefix(b"\xef\xbb\xbf").splitlines()
    stripped = [(number, line.strip()) for number, line in enumerate(lines, 1)]
    return [(number, line) for number, line in stripped if line and not line.startswith(b"#")]


def _credential(line: bytes) -> _Credential | None:
    parts = _parts(line)
    return parts and _Credential(parts[0], _digest(*parts))


def _parts(line: bytes) -> tuple[str, bytes] | None:
    """Return the scheme of a credential and its secret, None if it is none."""
    if line[:7].lower() == b"bearer ":
        token = line[7:].strip()
        return (_BEARER, token) if _TOKEN.fullmatch(token) else None
    name, _, password = line.partition(b":")
    # In a file of two bytes a character, as some Windows tools write, no line would ever match.
    is_text = b"\0" not in line
    return (_BASIC, line) if name and password and is_text else None


def _digest_of(sent: str) -> bytes:
    """Return the digest of a value of `Authorization`, which may be malformed."""
    scheme, _, value = sent.partition(" ")
    secret = value.strip().encode("latin-1", "replace")
    if scheme.lower() == _BASIC:
        try:
            secret = b64decode(secret, validate=True)
        except ValueError:
            secret = b""
    return _digest(scheme.lower(), secret)


def _digest(scheme: str, secret: bytes) -> bytes:
    return sha256(scheme.encode("latin-1", "replace") + b" " + secret).digest()


def _is_loopback(name: str) -> bool:
    try:
        return ip_address(name).is_loopback
    except ValueError:
        return False
