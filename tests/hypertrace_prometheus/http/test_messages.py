"""HTTP messages: which bytes are a request, and what every response has."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from http import HTTPStatus
from random import Random
from typing import TYPE_CHECKING

import pytest

from hypertrace_prometheus.http.messages import encode, parse
from hypertrace_prometheus.http.views import Request, Response, text_response

from ..wire import PATHS, exchange

if TYPE_CHECKING:
    from hypertrace_prometheus.http.server import MetricsServer

NO_REQUEST = [
    b"ECHO\r\n\r\n",
    b"GET ECHO ECHO ECHO\r\n\r\n",
    b"GET / HTTP/9.9ECHO\r\n\r\n",
    b"GET / HTTP/9.9\r\n\r\n",
    b"GET /metrics\r\n\r\n",  # HTTP/0.9, whose answers have no headers
    b"GET /metrics HTTP/0.9\r\n\r\n",
    b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    b"GET http://[ECHO HTTP/1.1\r\n\r\n",
    b"GET /" + b"ECHO" * 20_000 + b" HTTP/1.1\r\n\r\n",
    b"GET / HTTP/1.1\r\n" + b"ECHO: 1\r\n" * 200 + b"\r\n",
    b"GET / HTTP/1.1\r\nECHO: " + b"1" * 70_000 + b"\r\n\r\n",
    b"GET / HTTP/1.1\r\nECHO: " + b"1" * 70_000,
    b"ECHO" * 20_000,
    b"\x16\x03\x01ECHO\x00\r\n\r\n",
    b"\r\n\r\n",
    b"\n\n",
    b"\0\n\n",
]


def parsed(answer: bytes) -> tuple[int, dict[str, str], bytes]:
    head, end, body = answer.partition(b"\r\n\r\n")
    assert end, answer
    first, *lines = head.decode("ascii").split("\r\n")
    match = re.fullmatch(r"HTTP/1\.1 (\d\d\d) [A-Z][A-Za-z -]+", first)
    assert match, first
    headers = [line.split(": ", 1) for line in lines]
    names = [name for name, _ in headers]
    assert len(names) == len(set(names)), names
    return int(match[1]), dict(headers), body


def check(answer: bytes) -> int:
    """Check what every response has; return its status."""
    status, headers, body = parsed(answer)
    assert headers["Server"] == "hypertrace"
    assert headers["Connection"] == "close"
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert headers["Cache-Control"] == "no-store"
    assert headers["Content-Type"].partition(";")[0] in {
        "text/plain",
        "text/html",
        "application/openmetrics-text",
    }
    assert len(body) in {0, int(headers["Content-Length"])}
    return status


@pytest.mark.parametrize("request_", NO_REQUEST)
def test_what_is_no_request_is_refused(
    server: MetricsServer, capfd: pytest.CaptureFixture[str], request_: bytes
) -> None:
    """Bytes that are no request get a 4xx response that repeats nothing; nothing is printed."""
    answer = exchange(server, request_)
    assert 400 <= check(answer) < 500
    assert b"ECHO" not in answer
    assert b"Traceback" not in answer
    assert exchange(server, b"GET /-/healthy HTTP/1.1\r\n\r\n").endswith(b"ok")
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize(
    ("line", "status"),
    [
        (b"GET /metrics HTTP/1.1", 200),
        (b"HEAD /metrics HTTP/1.1", 200),
        (b"GET /nothing HTTP/1.1", 404),
        (b"POST / HTTP/1.1", 405),
        (b"GET / HTTP/3", 400),
        (b"GET /" + b"x" * 66_000 + b" HTTP/1.1", 414),
        (b"GET / HTTP/1.1\r\nHost: evil.example", 421),
        (b"GET / HTTP/1.1\r\n" + b"a: b\r\n" * 101, 431),
    ],
)
def test_every_answer_is_guarded(server: MetricsServer, line: bytes, status: int) -> None:
    """Every response has a type that is not guessed, is not stored, and ends the connection."""
    assert check(exchange(server, line + b"\r\n\r\n")) == status


@pytest.mark.parametrize("end", [b"\r\n", b"\n"])
def test_lines_may_end_in_either_way(server: MetricsServer, end: bytes) -> None:
    """A bare line feed ends a line, too, as older tools send it."""
    answer = exchange(server, end.join([b"GET /-/healthy HTTP/1.1", b"Host: localhost", b"", b""]))
    assert answer.endswith(b"\r\n\r\nok")


def test_there_is_no_interim_answer(server: MetricsServer) -> None:
    """A client that waits for `100 Continue` is refused at once: the body is never read."""
    answer = exchange(server, b"POST / HTTP/1.1\r\nExpect: 100-continue\r\n\r\n")
    assert check(answer) == 405


def test_only_the_first_request_is_answered(server: MetricsServer) -> None:
    """A client that sends several at once, to keep the connection, gets one whole answer."""
    request = b"GET /-/healthy HTTP/1.1\r\nConnection: keep-alive\r\n\r\n"
    answer = exchange(server, request + request)
    assert answer.count(b"HTTP/1.1 ") == 1
    assert answer.endswith(b"\r\n\r\nok")


def parsed_request(head: bytes) -> Request:
    request = parse(head, "192.0.2.7", 12.5)
    assert isinstance(request, Request)
    return request


def test_a_request_has_its_parts_its_client_and_its_time() -> None:
    """Method, path and query are those of the first line; the escapes of the path are decoded."""
    request = parsed_request(b"GET /x%20y?a=%20&b HTTP/1.1\r\nAccept: text/plain\r\n\r\n")
    assert request == Request("GET", "/x y", "a=%20&b", {"accept": "text/plain"}, "192.0.2.7", 12.5)


@pytest.mark.parametrize(
    ("lines", "headers"),
    [
        (b"", {}),
        (b"ACCEPT: a\r\naccept: b\r\nAccept:c\r\n", {"accept": "a,b,c"}),
        (b"Accept: a,\r\n b\r\n", {"accept": "a, b"}),
        (b"Empty:\r\nSpaces:   x  \r\n", {"empty": "", "spaces": "x"}),
        (b"Latin: \xe9\r\n", {"latin": "\xe9"}),
    ],
)
def test_headers_are_found_by_lower_case_name(lines: bytes, headers: dict[str, str]) -> None:
    """Names are in lower case; a header that was sent several times is one, joined by commas."""
    found = parsed_request(b"GET / HTTP/1.1\r\n" + lines + b"\r\n").headers
    assert {name: value.rstrip() for name, value in found.items()} == headers


@pytest.mark.parametrize(
    ("target", "path", "host"),
    [
        (b"/metrics#part", "/metrics", "b"),
        (b"//metrics", "/metrics", "b"),
        (b"*", "*", "b"),
        (b"http://a:80/metrics", "/metrics", "a:80"),
        (b"http://a", "", "a"),
        (b"http:///metrics", "/metrics", "b"),
    ],
)
def test_a_target_may_be_a_whole_url(target: bytes, path: str, host: str) -> None:
    """The host of a whole URL replaces the header `Host`; of a path, there is no host."""
    request = parsed_request(b"GET " + target + b" HTTP/1.1\r\nHost: b\r\n\r\n")
    assert (request.path, request.headers["host"]) == (path, host)


@pytest.mark.parametrize("size", [65_536, 66_000, 130_000])
def test_a_target_that_is_too_long_is_refused_however_it_arrives(size: int) -> None:
    """A first line of 64 KiB or more gets status 414, also if the whole head arrived with it."""
    response = parse(b"GET /" + b"x" * size + b" HTTP/1.1\r\n\r\n", "", 0.0)
    assert isinstance(response, Response)
    assert response.status == 414


def test_a_refused_head_request_gets_no_body() -> None:
    """The refusal of a HEAD request has the headers of the one of a GET request, without body."""
    lines = b" / HTTP/1.1\r\n" + b"a: b\r\n" * 101 + b"\r\n"
    get, head = (parse(method + lines, "", 0.0) for method in (b"GET", b"HEAD"))
    assert isinstance(get, Response)
    assert isinstance(head, Response)
    assert (head.status, head.headers, head.body) == (431, get.headers, b"")
    assert get.body


def test_a_response_is_the_last_of_its_connection() -> None:
    """The bytes of a response are its status, its headers, a date and the end, then the body."""
    status, headers, body = parsed(encode(text_response(HTTPStatus.NOT_FOUND, "body\n")))
    assert (status, body) == (404, b"body\n")
    assert list(headers) == ["Server", "Date", "Content-Type", "Connection"]
    assert headers["Connection"] == "close"
    age = datetime.now(UTC) - parsedate_to_datetime(headers["Date"])
    assert abs(age.total_seconds()) < 60


def test_any_bytes_get_a_proper_answer(server: MetricsServer) -> None:
    """Thousands of odd heads get whole responses: no status from 500 on, no echo, no other path."""
    draw = Random(7)
    respond = server._connections._respond
    seen = set()
    for _ in range(3000):
        head, path = odd_head(draw)
        answer = respond(head, "127.0.0.1", 0.0)
        status = check(answer)
        seen.add(status)
        assert status < 500, head
        assert MARK not in answer, head
        assert status != 200 or path in [*PATHS, "//metrics"], head
    assert {200, 400, 404, 405, 414, 421, 431} <= seen


MARK = b"x7Qz9"


def odd_head(draw: Random) -> tuple[bytes, str]:
    """Return the head of a request, and the path that it asks for where it is one."""
    path = draw.choice(
        [*PATHS, *PATHS, "/x7Qz9", "/metrics/x7Qz9", "/%00", "//metrics", "*", "/é%"]
    )
    method = draw.choice([b"GET"] * 5 + [b"HEAD", b"POST", b"get", MARK, b"CONNECT", b"\x00\xff"])
    before = draw.choice([b""] * 6 + [b"http://localhost", b"http://" + MARK, b"//" + MARK])
    query = draw.choice([b"", b"", b"?name[]=" + MARK, b"?" + MARK * 50, b"#" + MARK, b"?%%=&&"])
    version = draw.choice([b" HTTP/1.1"] * 8 + [b" HTTP/1.0", b"", b" HTTP/9", b" " + MARK])
    lines = [method + b" " + before + path.encode() + query + version]
    lines += [odd_header(draw) for _ in range(draw.choice([0, 1, 2, 5]))]
    if draw.random() < 0.02:
        lines += [MARK + b": 1"] * 200
    if draw.random() < 0.02:
        lines[draw.choice([0, -1])] += MARK * 14_000
    end = draw.choice([b"\r\n"] * 4 + [b"\n"])
    head = end.join([*lines, b"", b""]) + draw.choice([b"", b"", b"", lines[0], MARK, b"\0" * 9])
    if draw.random() < 0.1:
        spot = draw.randrange(len(head))
        head = head[:spot] + draw.randbytes(3) + head[spot + draw.choice([0, 3]) :]
        path = "/metrics"  # or whatever the bytes made of it: no path of ours has the mark in it
    return head, path if before != b"//" + MARK else ""


NAMES = (
    b"Host|Accept|Accept-Encoding|Content-Length|Transfer-Encoding|Expect|Connection|Authorization"
    b"|Content-Type|x7Qz9| folded||A B|\0"
).split(b"|")
VALUES = (
    b"x7Qz9||localhost|-1|99999999999|chunked|100-continue|keep-alive|gzip|gzip;q=0|,;=\0|Basic !!"
    b"|text/plain;version=abc|application/openmetrics-text|\xff\xfe|\xc3|close, upgrade"
).split(b"|")


def odd_header(draw: Random) -> bytes:
    return draw.choice(NAMES) + draw.choice([b": ", b":", b" : ", b""]) + draw.choice(VALUES)
