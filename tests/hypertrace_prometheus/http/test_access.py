"""Guards: which credentials and which hosts a request must name."""

from __future__ import annotations

import base64
import logging
import socket
import time
import traceback
from typing import TYPE_CHECKING, Any

import pytest

from hypertrace_prometheus.http import access as module
from hypertrace_prometheus.http import server as server_module
from hypertrace_prometheus.http.access import CredentialsGuard, HostGuard, authorization
from hypertrace_prometheus.http.views import Request

from ..wire import ELSEWHERE, HEALTH, PATHS, Start, ask, connect, exchange, read_all

if TYPE_CHECKING:
    from pathlib import Path

    from hypertrace_prometheus.http.server import MetricsServer


SECRET = "4bf92f3577b34da6"
SECRETS = """\
# who may scrape
ada:correct horse
  grace:batt:ery

Bearer staple.token-_~+/==
"""


def basic(name: str, password: str) -> str:
    return "Basic " + base64.b64encode(f"{name}:{password}".encode()).decode()


GOOD = [
    basic("ada", "correct horse"),
    basic("grace", "batt:ery"),
    "Bearer staple.token-_~+/==",
    "bearer   staple.token-_~+/==",
    basic("ada", "correct horse").replace("Basic", "BASIC"),
]
BAD = [
    "",
    "Basic",
    "Bearer",
    "Basic !!!",
    "Basic YQ",
    basic("ada", "wrong"),
    basic("ada", ""),
    basic("", ""),
    basic("stranger", "correct horse"),
    basic("ada", "correct horse "),
    basic("# who may scrape", ""),
    "Basic ada:correct horse",
    "Bearer wrong",
    "Bearer ada:correct horse",
    "Basic staple.token-_~+/==",
    "Digest ada:correct horse",
    "ada:correct horse",
    "staple.token-_~+/==",
    "Bearer staple.token-_~+/==, Bearer staple.token-_~+/==",
]


@pytest.fixture
def secrets(tmp_path: Path) -> str:
    """Give the argument `auth` for a file with three credentials."""
    path = tmp_path / "secrets"
    path.write_text(SECRETS)
    return f"file:{path}"


def request(sent: str | None, client: str = "192.0.2.1") -> Request:
    headers = {} if sent is None else {"authorization": sent}
    return Request("GET", headers=headers, client=client)


def status(guard: CredentialsGuard, sent: str | None, client: str = "192.0.2.1") -> int:
    response = guard(request(sent, client))
    return 200 if response is None else response.status


@pytest.mark.parametrize("sent", GOOD)
def test_each_credential_lets_in(secrets: str, sent: str) -> None:
    """Every name with its password, and every token, is accepted; schemes in any case."""
    assert status(CredentialsGuard(secrets), sent) == 200


@pytest.mark.parametrize("sent", [None, *BAD])
def test_nothing_else_lets_in(secrets: str, sent: str | None) -> None:
    """What is not exactly a credential gets status 401 and a constant text."""
    response = CredentialsGuard(secrets)(request(sent))
    assert response is not None
    assert response.status == 401
    assert response.body == b"This needs credentials.\n"


@pytest.mark.parametrize(
    ("text", "schemes"),
    [("ada:x", ["Basic"]), ("Bearer x", ["Bearer"]), ("Bearer x\nada:x", ["Bearer", "Basic"])],
)
def test_a_response_says_what_would_do(
    monkeypatch: pytest.MonkeyPatch, text: str, schemes: list[str]
) -> None:
    """Status 401 comes with a challenge for each scheme that there is a credential of."""
    monkeypatch.setenv("METRICS_AUTH", text)
    response = CredentialsGuard("env:METRICS_AUTH")(request(None))
    assert response is not None
    challenges = [value for name, value in response.headers if name == "WWW-Authenticate"]
    assert [challenge.split(" ")[0] for challenge in challenges] == schemes
    assert all('realm="hypertrace"' in challenge for challenge in challenges)


@pytest.mark.parametrize("text", ["ada:pass\r\n", "\ufeffada:pass", "\n\n ada:pass \n#"])
def test_files_of_other_editors_will_do(tmp_path: Path, text: str) -> None:
    """Line ends of Windows, a byte order mark and spaces around are not part of a credential."""
    path = tmp_path / "secrets"
    path.write_bytes(text.encode())
    assert status(CredentialsGuard(f"file:{path}"), basic("ada", "pass")) == 200


def test_a_file_in_utf_16_is_an_error(tmp_path: Path) -> None:
    """A file with two bytes a character raises ValueError, as no line of it would ever match."""
    path = tmp_path / "secrets"
    path.write_bytes("ada:pass".encode("utf-16"))
    with pytest.raises(ValueError, match=r"line 1 of .*neither 'name:password'"):
        CredentialsGuard(f"file:{path}")


def test_a_password_may_be_any_text(tmp_path: Path) -> None:
    """A password outside ASCII, or outside UTF-8, is compared byte by byte."""
    path = tmp_path / "secrets"
    path.write_bytes("ada:pässwörd\n".encode() + b"grace:\xff\xfe\n")
    guard = CredentialsGuard(f"file:{path}")
    assert status(guard, basic("ada", "pässwörd")) == 200
    assert status(guard, "Basic " + base64.b64encode(b"grace:\xff\xfe").decode()) == 200
    assert status(guard, basic("ada", "password")) == 401


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("s3cret", 1),
        ("ada:pw\n\ns3cret", 3),
        (":s3cret", 1),
        ("s3cret:", 1),
        ("Bearer", 1),
        ("Bearer ", 1),
        ("Bearer s3cret s3cret", 1),
        ("# all well\nBearer s3crét", 2),
    ],
)
@pytest.mark.parametrize("kind", ["file", "env"])
def test_a_malformed_line_is_an_error(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, kind: str, text: str, line: int
) -> None:
    """A line that is no credential raises ValueError that names its place, and not its text."""
    path = tmp_path / "secrets"
    path.write_text(text)
    monkeypatch.setenv("METRICS_AUTH", text)
    where = str(path) if kind == "file" else "METRICS_AUTH"
    with pytest.raises(ValueError, match=f"line {line} of .*neither 'name:password'") as caught:
        CredentialsGuard(f"{kind}:{where}")
    assert where in str(caught.value)
    shown = traceback.TracebackException.from_exception(caught.value, capture_locals=True)
    ours = [frame for frame in shown.stack if frame.filename == module.__file__]
    assert ours
    assert "s3cr" not in str(caught.value) + repr([frame.locals for frame in ours])


@pytest.mark.parametrize("text", ["", "\n \n", "# ada:pw\n"])
def test_no_credentials_are_an_error(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, text: str
) -> None:
    """A file or variable without credentials raises ValueError that names it."""
    path = tmp_path / "secrets"
    path.write_text(text)
    monkeypatch.setenv("METRICS_AUTH", text)
    with pytest.raises(ValueError, match=r"secrets' has no credentials"):
        CredentialsGuard(f"file:{path}")
    with pytest.raises(ValueError, match="variable 'METRICS_AUTH' has no credentials"):
        CredentialsGuard("env:METRICS_AUTH")


def test_what_is_missing_is_an_error(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A file that is not there raises OSError with its name, a variable ValueError."""
    monkeypatch.delenv("METRICS_AUTH", raising=False)
    with pytest.raises(FileNotFoundError) as caught:
        CredentialsGuard(f"file:{tmp_path}/nothing")
    assert caught.value.filename == f"{tmp_path}/nothing"
    with pytest.raises(ValueError, match="variable 'METRICS_AUTH' has no credentials"):
        CredentialsGuard("env:METRICS_AUTH")


@pytest.mark.parametrize("source", ["ada:s3cret", "s3cret", "", "file:", "env:", "FILE:x"])
def test_credentials_are_no_argument(source: str) -> None:
    """An argument that is no file and no variable raises ValueError that does not repeat it."""
    with pytest.raises(ValueError, match="'file:PATH' or 'env:NAME'") as caught:
        CredentialsGuard(source)
    assert "s3cret" not in str(caught.value)


@pytest.mark.parametrize("source", [b"s3cret", ("ada", "s3cret"), 1])
def test_an_argument_of_another_type_is_an_error(source: Any) -> None:
    """An argument that is no str raises TypeError that does not repeat it."""
    with pytest.raises(TypeError, match="auth must be a str") as caught:
        CredentialsGuard(source)
    assert "s3cret" not in str(caught.value)


def test_nothing_shows_the_credentials(secrets: str, caplog: pytest.LogCaptureFixture) -> None:
    """Neither the text nor the attributes of the object have them, nor does the log."""
    caplog.set_level(logging.DEBUG)
    guard = CredentialsGuard(secrets)
    for sent in BAD:
        guard(request(sent))
    shown = repr(guard) + repr(vars(guard)) + caplog.text
    assert not any(secret in shown for secret in ("correct horse", "batt:ery", "staple"))


def test_every_credential_is_compared(secrets: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A credential is compared with all known ones, as digests of one length, right or wrong."""
    compared: list[tuple[int, int]] = []

    def compare(one: bytes, other: bytes) -> bool:
        compared.append((len(one), len(other)))
        return one == other

    guard = CredentialsGuard(secrets)
    monkeypatch.setattr(module, "compare_digest", compare)
    for sent in [*GOOD, *BAD[:9]]:
        compared.clear()
        guard(request(sent))
        assert compared == [(32, 32)] * 3


def test_guessing_is_limited(secrets: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """After ten failures within a minute an address is refused until the minute is over."""
    now = 1000.0
    monkeypatch.setattr(module, "monotonic", lambda: now)
    guard = CredentialsGuard(secrets)
    for _ in range(10):
        assert status(guard, BAD[5]) == 401
        now += 1
    for sent in (BAD[5], GOOD[0], None):
        response = guard(request(sent))
        assert response is not None
        assert response.status == 429
        assert ("Retry-After", "50") in response.headers
    assert status(guard, GOOD[0], "192.0.2.2") == 200
    now += 49.9
    assert status(guard, GOOD[0]) == 429
    now += 0.2
    assert status(guard, GOOD[0]) == 200


def test_sending_no_credentials_is_no_guess(secrets: str) -> None:
    """A client that sends no credentials is refused each time, but never blocked."""
    guard = CredentialsGuard(secrets)
    assert {status(guard, None) for _ in range(50)} == {401}
    assert status(guard, GOOD[0]) == 200


def test_guesses_over_a_longer_time_are_no_attack(
    secrets: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Only ten failures within one minute count, wherever it begins."""
    now = 1000.0
    monkeypatch.setattr(module, "monotonic", lambda: now)
    guard = CredentialsGuard(secrets)
    for _ in range(30):
        assert status(guard, BAD[5]) == 401
        now += 6.1


def test_what_is_known_of_failures_is_bounded(secrets: str) -> None:
    """However many addresses fail, only the last thousand or so are remembered."""
    guard = CredentialsGuard(secrets)
    for i in range(3000):
        guard(request("Bearer wrong", f"2001:db8:{i:x}::/64"))
    assert len(guard._failures._times) == 1024
    assert f"2001:db8:{2999:x}::/64" in guard._failures._times


def test_nothing_is_shown_without_credentials(start: Start, secrets: str) -> None:
    """Every path and method needs credentials; with them the response is the usual one."""
    server = start(auth=secrets)
    for path in [*PATHS, "/nothing"]:
        for method in ("GET", "HEAD", "POST"):
            code, headers, body = ask(server, path, method)
            assert code == 401, (path, method)
            assert body in {b"", b"This needs credentials.\n"}
            assert headers["WWW-Authenticate"]
    for path in PATHS:
        assert ask(server, path, Authorization=GOOD[0])[0] == 200
        assert ask(server, path, Authorization=GOOD[2])[0] == 200
    assert ask(server, "/nothing", Authorization=GOOD[0])[0] == 404


def test_a_client_is_shut_out_by_its_address(start: Start, secrets: str) -> None:
    """One address that guesses is refused, and another is not."""
    server = start(auth=secrets)
    assert {ask(server, "/metrics", Authorization="Bearer no")[0] for _ in range(10)} == {401}
    code, headers, body = ask(server, "/metrics", Authorization=GOOD[0])
    assert (code, body) == (429, b"Too many wrong credentials.\n")
    assert 50 < int(headers["Retry-After"]) <= 60
    said = HEALTH[:-2] + f"Authorization: {GOOD[0]}\r\n\r\n".encode()
    with connect(server, said, ELSEWHERE) as another:
        assert read_all(another).endswith(b"ok")


def test_two_headers_are_no_credentials(start: Start, secrets: str) -> None:
    """A request that sends several credentials is not searched for a good one."""
    server = start(auth=secrets)
    line = f"Authorization: {GOOD[0]}\r\n"
    answer = exchange(server, f"GET / HTTP/1.1\r\n{line}{line}\r\n".encode())
    assert answer.startswith(b"HTTP/1.1 401 ")


def test_an_unknown_user_is_as_slow_as_a_known_one(secrets: str) -> None:
    """The time that a refusal takes does not depend on whether the name is known."""
    guard = CredentialsGuard(secrets)

    def took(sent: str) -> float:
        start = time.perf_counter()
        for _ in range(200):
            guard._is_known(sent)
        return time.perf_counter() - start

    known, unknown = basic("ada", "x" * 13), basic("abc", "x" * 13)
    times = [(took(known), took(unknown)) for _ in range(15)]
    assert min(a for a, _ in times) / min(b for _, b in times) == pytest.approx(1, abs=0.3)


OURS = [
    "localhost",
    "LocalHost:4343",
    "127.0.0.1",
    "127.0.0.1:80",
    "127.8.9.10:1",
    "[::1]",
    "[::1]:4343",
    "localhost:",
    "Box-7.lan",
    "box-7.lan:4343",
]
FOREIGN = [
    "evil.example",
    "evil.example:4343",
    "localhost.evil.example",
    "127.0.0.1.evil.example",
    "evil.example, localhost",
    "localhost, localhost",
    "localhost:4343@evil.example",
    "user@localhost",
    "localhost/evil.example",
    "local host",
    "localhost:80:80",
    "localhost:x",
    "192.168.0.1",
    "[::2]",
    "[::1",
    "::1",
    "[localhost]",
    "0.0.0.0",
    "",
    ":",
    ":4343",
    "locälhost",
]


@pytest.mark.parametrize("host", OURS)
def test_this_machine_may_be_named(host: str) -> None:
    """Names and addresses of loopback are accepted at any port, and so is the given host."""
    assert HostGuard("Box-7.lan")(Request("GET", headers={"host": host})) is None


@pytest.mark.parametrize("host", FOREIGN)
def test_another_machine_may_not_be_named(host: str) -> None:
    """Any other name, or malformed one, is refused with status 421 and a constant text."""
    response = HostGuard("127.0.0.1")(Request("GET", headers={"host": host}))
    assert response is not None
    assert response.status == 421
    assert response.body == b"This server has another name.\n"


@pytest.mark.parametrize("path", ["/", "/metrics", "/-/healthy", "/nothing"])
@pytest.mark.parametrize(
    "headers",
    [
        b"Host: evil.example",
        b"Host: localhost\r\nHost: evil.example",
        b"Host: evil.example\r\nHost: localhost",
        b"Host: evil.example\r\nX-Forwarded-Host: localhost",
        b"host:evil.example",
    ],
)
def test_a_foreign_name_gets_nothing(server: MetricsServer, path: str, headers: bytes) -> None:
    """On loopback, a web page whose name was made to resolve to this machine gets no page."""
    answer = exchange(server, f"GET {path} HTTP/1.1\r\n".encode() + headers + b"\r\n\r\n")
    assert answer.startswith(b"HTTP/1.1 421 ")
    assert b"jobs_total" not in answer
    assert b"evil" not in answer


@pytest.mark.parametrize(
    ("target", "status"),
    [(b"http://evil.example/metrics", 421), (b"http://localhost/metrics", 200)],
)
def test_a_name_in_the_target_counts(server: MetricsServer, target: bytes, status: int) -> None:
    """Where the target of the request names the host, that is the name."""
    answer = exchange(server, b"GET " + target + b" HTTP/1.1\r\nHost: localhost\r\n\r\n")
    assert answer.startswith(b"HTTP/1.1 %d " % status)


def test_who_names_no_host_is_let_in(server: MetricsServer) -> None:
    """Old tools send no `Host`; browsers always do."""
    assert exchange(server, b"GET /metrics HTTP/1.0\r\n\r\n").startswith(b"HTTP/1.1 200 ")


def test_a_forwarded_name_changes_nothing(server: MetricsServer) -> None:
    """The name that a proxy forwards is ignored."""
    request = b"GET /metrics HTTP/1.1\r\nHost: localhost\r\nX-Forwarded-Host: evil.example\r\n\r\n"
    assert exchange(server, request).startswith(b"HTTP/1.1 200 ")


def test_beyond_loopback_any_name_will_do(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    """A server that listens beyond loopback accepts any name, as it cannot know its own."""

    def everywhere(*_: object) -> socket.socket:
        return socket.create_server(("127.0.0.1", 0))

    monkeypatch.setattr(server_module, "listen", everywhere)
    monkeypatch.setattr(server_module, "is_loopback", lambda _: False)
    server = start(host="0.0.0.0", auth=None)
    request = b"GET /metrics HTTP/1.1\r\nHost: metrics.example\r\n\r\n"
    assert exchange(server, request).startswith(b"HTTP/1.1 200 ")


@pytest.mark.parametrize(
    ("text", "header"),
    [
        (f"# who\n\n  grace:{SECRET}\nBearer {SECRET}\n", basic("grace", SECRET)),
        (f"bearer  {SECRET}", f"Bearer {SECRET}"),
        ("grace:näh", basic("grace", "näh")),
    ],
)
def test_the_first_credential_of_a_source_is_sent(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str, header: str
) -> None:
    """As a client sends it, from a file or a variable."""
    (tmp_path / "auth").write_text(text)
    monkeypatch.setenv("SHOP_AUTH", text)
    assert authorization("push_auth", f"file:{tmp_path / 'auth'}") == header
    assert authorization("push_auth", "env:SHOP_AUTH") == header


@pytest.mark.parametrize("text", ["", "# none\n", SECRET, f"Bearer {SECRET}\x7f"])
def test_a_source_without_a_credential_sends_nothing(
    monkeypatch: pytest.MonkeyPatch, text: str
) -> None:
    """The error names the argument and the variable, and shows nothing of what is there."""
    monkeypatch.setenv("SHOP_AUTH", text)
    with pytest.raises(ValueError, match=r"push_auth: .*'SHOP_AUTH' is neither") as raised:
        authorization("push_auth", "env:SHOP_AUTH")
    assert SECRET not in str(raised.value)
