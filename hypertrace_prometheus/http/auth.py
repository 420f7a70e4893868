"""Who may read the metrics: credentials, and how often a client may guess them."""

from __future__ import annotations

import os
import re
import threading
from base64 import b64decode
from collections import deque
from hashlib import sha256
from hmac import compare_digest
from http import HTTPStatus
from math import ceil
from pathlib import Path
from time import monotonic
from typing import TYPE_CHECKING, NamedTuple

from ..endpoint import text_answer

if TYPE_CHECKING:
    from wsgiref.types import WSGIEnvironment

    from ..endpoint import Answer

_MAX_FAILURES = 10
# Seconds in which a client may fail so often.
_WINDOW = 60.0
_MAX_CLIENTS = 1024

_SOURCE = re.compile(r"(file|env):(.+)", re.DOTALL)
_TOKEN = re.compile(rb"[A-Za-z0-9._~+/-]+=*")
_BASIC, _BEARER = "basic", "bearer"
_CHALLENGES = {
    _BASIC: 'Basic realm="hypertrace", charset="UTF-8"',
    _BEARER: 'Bearer realm="hypertrace"',
}


class Auth:
    """Lets in who sends one of the credentials of a file or an environment variable.

    A client that sent ten wrong ones within a minute is refused whatever it sends, until the
    minute is over. Sending none is no guess, and is only refused. Any thread may ask. What is
    kept of the credentials are digests.

    Args:
        source: `"file:PATH"` or `"env:NAME"`, read once. Each line there is a credential:
            `name:password` for basic authentication, or `Bearer TOKEN`. Empty lines do not count,
            nor those that begin with `#`, nor spaces around a line.

    Raises:
        ValueError: there is no credential, or a line is none. The message names the file or
            variable, and the line, and shows nothing of what is there.
        OSError: the file cannot be read; its `filename` says which.
        TypeError: the source is no `str`.
    """

    def __init__(self, source: str) -> None:
        credentials = _credentials(source)
        self._digests = [credential.digest for credential in credentials]
        schemes = dict.fromkeys(credential.scheme for credential in credentials)
        self._challenges = [("WWW-Authenticate", _CHALLENGES[scheme]) for scheme in schemes]
        self._failures = _Failures()

    def refusal(self, environ: WSGIEnvironment) -> Answer | None:
        """Return what a request gets instead of an answer, None for one that is let in."""
        client = environ["REMOTE_ADDR"]
        seconds = self._failures.seconds_out(client)
        if seconds:
            refusal = text_answer(HTTPStatus.TOO_MANY_REQUESTS, "Too many wrong credentials.\n")
            refusal.headers.append(("Retry-After", str(ceil(seconds))))
            return refusal
        sent = environ.get("HTTP_AUTHORIZATION")
        if sent is not None:
            if self._knows(sent):
                return None
            self._failures.add(client)
        refusal = text_answer(HTTPStatus.UNAUTHORIZED, "This needs credentials.\n")
        refusal.headers.extend(self._challenges)
        return refusal

    def _knows(self, sent: str) -> bool:
        digest = _digest_of(sent)
        # Each is compared, whichever fits: the time tells nothing.
        return sum(compare_digest(digest, known) for known in self._digests) > 0


class _Credential(NamedTuple):
    scheme: str
    digest: bytes


class _Failures:
    """When each client failed of late. The clients that failed longest ago are forgotten first."""

    def __init__(self) -> None:
        # Held for some dictionary operations only, in threads of the server only.
        self._lock = threading.Lock()
        self._times: dict[str, deque[float]] = {}

    def add(self, client: str) -> None:
        with self._lock:
            times = self._times.pop(client, None) or deque(maxlen=_MAX_FAILURES)
            times.append(monotonic())
            self._times[client] = times
            if len(self._times) > _MAX_CLIENTS:
                del self._times[next(iter(self._times))]

    def seconds_out(self, client: str) -> float:
        """Return how long the client stays shut out, 0 if it is not."""
        with self._lock:
            times = self._times.get(client)
            if times is None or len(times) < _MAX_FAILURES:
                return 0.0
            return max(0.0, times[0] + _WINDOW - monotonic())


def _credentials(source: object) -> list[_Credential]:
    if not isinstance(source, str):
        # Not what it is: it may be the secret itself.
        raise TypeError(f"auth must be a str, 'file:PATH' or 'env:NAME', not {type(source)}")
    match = _SOURCE.fullmatch(source)
    if match is None:
        raise ValueError("auth must be 'file:PATH' or 'env:NAME', not the credentials themselves")
    kind, name = match.groups()
    where = f"the file {name!r}" if kind == "file" else f"the environment variable {name!r}"
    # Nothing but digests in a frame that may raise: some tools report its variables.
    found = _from_file(name) if kind == "file" else _from_environment(name)
    for number, credential in found:
        if credential is None:
            raise ValueError(
                f"auth: line {number} of {where} is neither 'name:password' nor 'Bearer TOKEN'"
            )
    if not found:
        raise ValueError(f"auth: {where} has no credentials")
    return [credential for _, credential in found if credential is not None]


def _from_file(name: str) -> list[tuple[int, _Credential | None]]:
    return _parsed(Path(name).read_bytes())


def _from_environment(name: str) -> list[tuple[int, _Credential | None]]:
    return _parsed(os.fsencode(os.environ.get(name, "")))


def _parsed(text: bytes) -> list[tuple[int, _Credential | None]]:
    """Return the lines that count: their number, and the credential, None where there is none."""
    lines = text.removeprefix(b"\xef\xbb\xbf").splitlines()
    stripped = [(number, line.strip()) for number, line in enumerate(lines, 1)]
    return [
        (number, _credential(line))
        for number, line in stripped
        if line and not line.startswith(b"#")
    ]


def _credential(line: bytes) -> _Credential | None:
    if line[:7].lower() == b"bearer ":
        token = line[7:].strip()
        return _Credential(_BEARER, _digest(_BEARER, token)) if _TOKEN.fullmatch(token) else None
    name, _, password = line.partition(b":")
    # A file of two bytes a character, as some Windows tools write, would let nobody in.
    is_text = b"\0" not in line
    return _Credential(_BASIC, _digest(_BASIC, line)) if name and password and is_text else None


def _digest_of(sent: str) -> bytes:
    """Return the digest of what `Authorization` sends, sense or nonsense."""
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
