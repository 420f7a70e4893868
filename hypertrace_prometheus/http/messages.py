"""HTTP messages: the head of a request as bytes, parsed, and a response as bytes.

Nothing here reads from a connection, so no client can make it wait.
"""

from __future__ import annotations

import re
from email.utils import formatdate
from http import HTTPStatus
from http.client import HTTPException, parse_headers
from io import BytesIO
from urllib.parse import unquote, urlsplit

from .views import Request, Response, complete, text_response

HEAD_END = re.compile(rb"\n\r?\n")

MAX_HEAD = 65_536
"""Bytes of the head of a request, and of each of its lines."""

# HTTP/2 and later begin in another way, and responses to HTTP/0.9 have no headers.
_REQUEST_LINE = re.compile(rb"([!-~]+) +([!-~\x80-\xff]+) +HTTP/1\.[0-9]{1,9}\r?\n")
_LINE_END = re.compile(r"\r\n?|\n")


def parse(head: bytes, client: str, asked: float) -> Request | Response:
    """Return the request, or for bytes that are none the complete response, with a 4xx status.

    The response repeats nothing of the bytes.

    Args:
        head: the head of the request, or its beginning if it is too long; what follows the head is
            ignored.
        client: see `Request`.
        asked: see `Request`.
    """
    line, _, rest = head.partition(b"\n")
    if len(line) >= MAX_HEAD:
        return _refused(HTTPStatus.REQUEST_URI_TOO_LONG)
    match = _REQUEST_LINE.fullmatch(line + b"\n")
    method = match[1].decode("ascii") if match else ""
    if not HEAD_END.search(head):
        return _refused(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE, method)
    if match is None:
        return _refused(HTTPStatus.BAD_REQUEST)
    try:
        url = urlsplit(_target(match[2].decode("latin-1")))
        headers = _headers(rest)
    except ValueError:  # the target is no URL
        return _refused(HTTPStatus.BAD_REQUEST, method)
    except HTTPException:  # a line is too long, or there are more than a hundred
        return _refused(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE, method)
    if url.scheme and url.netloc:  # a whole URL: its host is the one that counts
        headers["host"] = url.netloc
    return Request(method, unquote(url.path), url.query, headers, client, asked)


def encode(response: Response) -> bytes:
    """Return a response as bytes; after it the connection is closed.

    Args:
        response: with all its headers but `Server`, `Date` and `Connection`.
    """
    headers = [
        ("Server", "hypertrace"),
        ("Date", formatdate(usegmt=True)),
        *response.headers,
        ("Connection", "close"),
    ]
    lines = [f"HTTP/1.1 {response.status.value} {response.status.phrase}"]
    lines += [f"{name}: {value}" for name, value in headers]
    return "\r\n".join([*lines, "", ""]).encode("latin-1") + response.body


def _refused(status: HTTPStatus, method: str = "") -> Response:
    return complete(text_response(status, f"{status.phrase}.\n"), method)


def _target(text: str) -> str:
    # Two slashes at the beginning would be taken for those before a host.
    return f"/{text.lstrip('/')}" if text.startswith("//") else text


def _headers(rest: bytes) -> dict[str, str]:
    headers: dict[str, str] = {}
    for raw_name, raw_value in parse_headers(BytesIO(rest)).items():
        name, value = raw_name.lower(), _LINE_END.sub("", raw_value)
        headers[name] = f"{headers[name]},{value}" if name in headers else value
    return headers
