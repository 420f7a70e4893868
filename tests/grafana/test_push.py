"""Bringing dashboards into Grafana, against a small server that looks at the requests."""

import json
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from hypertrace.cli.main import main
from hypertrace.metrics.names import Names
from hypertrace_prometheus.dashboards.grafana import GrafanaError, push
from hypertrace_prometheus.dashboards.templates import Dashboard, dashboards

TOKEN = "glsa_secret"
BOARDS: list[Dashboard] = [{"uid": "one", "title": "One"}, {"uid": "two", "title": "Two", "id": 7}]


@dataclass
class Grafana:
    """What the fake was asked, and what it answers instead of what it should."""

    url: str = ""
    asked: list[dict[str, Any]] = field(default_factory=list)
    strangers: int = 0
    status: int = 200
    body: bytes | None = None
    headers: dict[str, str] = field(default_factory=dict)


@pytest.fixture
def grafana() -> Iterator[Grafana]:
    """Run a server that takes dashboards as Grafana's API documents it."""
    fake = Grafana()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            length = int(self.headers["Content-Length"])
            asked = json.loads(self.rfile.read(length))
            right = (
                self.path == "/sub/api/dashboards/db"
                and self.headers["Authorization"] == f"Bearer {TOKEN}"
                and self.headers["Content-Type"] == "application/json"
            )
            uid = asked["dashboard"]["uid"]
            answer = json.dumps({"status": "success", "uid": uid, "url": f"/sub/d/{uid}/x"})
            status, body = (fake.status, fake.body) if right else (401, b"")
            if right:
                fake.asked.append(asked)
            self.send_response(status)
            for name, value in fake.headers.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(answer.encode() if body is None else body)

        def do_GET(self) -> None:
            fake.strangers += 1
            self.send_response(200)
            self.end_headers()

        def log_message(self, *arguments: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        fake.url = f"http://127.0.0.1:{server.server_port}/sub"
        yield fake
        server.shutdown()
        thread.join()


def test_each_dashboard_is_posted(grafana: Grafana) -> None:
    """Each is one request in Grafana's form, over one of the same uid; its address comes back."""
    root = grafana.url.removesuffix("/sub")
    assert push(BOARDS, grafana.url, TOKEN) == [f"{root}/sub/d/one/x", f"{root}/sub/d/two/x"]
    message = "hypertrace dashboards push"
    assert grafana.asked == [
        {"dashboard": {**board, "id": None}, "overwrite": True, "message": message}
        for board in BOARDS
    ]


def test_a_folder_may_be_chosen(grafana: Grafana) -> None:
    """The folder's uid goes along with each request; a slash after the address does no harm."""
    push(BOARDS, f"{grafana.url}/", TOKEN, folder="traces")
    assert [asked["folderUid"] for asked in grafana.asked] == ["traces", "traces"]


@pytest.mark.parametrize(
    ("status", "body", "said"),
    [
        (401, b'{"message": "Invalid API key"}', "does not know the token"),
        (401, b'{"message": "Invalid API key"}', "(Invalid API key)"),
        (403, b"{}", "role Editor"),
        (404, b"<html>", "no Grafana at this address"),
        (412, b'{"message": "name exists"}', "of this name in the folder already"),
        (500, b"oops", "HTTP 500: Grafana did not take it"),
        (200, b"<html>", "what answers at"),
        (200, b"[]", "is no Grafana"),
        (200, b"{}", "is no Grafana"),
        (200, b"[" * 100_000, "is no Grafana"),
        (404, b"[" * 100_000, "no Grafana at this address"),
        (200, b'{"url": 7}', "is no Grafana"),
        (200, b'{"url": "/d/one/\\u001b[2J"}', "is no Grafana"),
        (200, b'{"url": "/d/one, or http://elsewhere.example/"}', "is no Grafana"),
        (200, b'{"url": "//elsewhere.example/d/one"}', "is no Grafana"),
        (200, b'{"url": "https://elsewhere.example/d/one"}', "is no Grafana"),
        (200, b'{"url": "javascript:alert()"}', "is no Grafana"),
        (500, b'{"message": "' + b"x" * 10_000 + b'"}', f"({'x' * 300} ...)"),
    ],
    ids=lambda value: repr(value)[:50],
)
def test_a_refusal_is_reported(grafana: Grafana, status: int, body: bytes, said: str) -> None:
    """The answer of Grafana is reported with the name of the dashboard and what to do."""
    grafana.status, grafana.body = status, body
    with pytest.raises(GrafanaError, match=r"^One: ") as caught:
        push(BOARDS, grafana.url, TOKEN)
    assert said in str(caught.value)
    assert TOKEN not in str(caught.value)


def test_a_redirect_is_not_followed(grafana: Grafana) -> None:
    """The token goes to the address that was given and to no other; the error names the other."""
    grafana.status, grafana.headers = 302, {"Location": f"{grafana.url}/login"}
    with pytest.raises(GrafanaError, match=r"Grafana is elsewhere: http://127.*/login"):
        push(BOARDS, grafana.url, TOKEN)
    assert grafana.strangers == 0


def test_an_answer_without_end_is_not_read_to_the_end(grafana: Grafana) -> None:
    """Of an answer that is far longer than Grafana's only the start is read, and it is refused."""
    grafana.body = b'{"url": "/d/one/x"' + b" " * (1 << 22) + b"}"
    with pytest.raises(GrafanaError, match="is no Grafana"):
        push(BOARDS, grafana.url, TOKEN)


def test_a_refusal_that_breaks_off_is_reported(grafana: Grafana) -> None:
    """Where the body of a refusal is shorter than announced, the status is still reported."""
    grafana.status, grafana.body = 403, b"{"
    grafana.headers = {"Content-Length": "100"}
    with pytest.raises(GrafanaError, match="role Editor"):
        push(BOARDS, grafana.url, TOKEN)


def test_a_missing_server_is_reported(free_port: Any) -> None:
    """An address where nothing listens is an error that names it."""
    with pytest.raises(GrafanaError, match=r"http://127\.0\.0\.1:\d+ cannot be reached: "):
        push(BOARDS, f"http://127.0.0.1:{free_port()}", TOKEN)


@pytest.mark.parametrize(
    "url",
    [
        "localhost:3000",
        "file:///etc/passwd",
        "http://",
        "http://localhost:port",
        "http://[::1",
        "",
    ],
)
def test_what_is_no_address_is_refused(url: str) -> None:
    """Only HTTP is spoken; the error shows what an address looks like."""
    with pytest.raises(ValueError, match="looks like http://localhost:3000"):
        push(BOARDS, url, TOKEN)


@pytest.mark.parametrize("token", ["", "two\nlines", "gänse"])
def test_what_is_no_token_is_refused(token: str) -> None:
    """A token that cannot be sent is not sent, and not shown."""
    with pytest.raises(ValueError, match="the token is empty, or has characters"):
        push(BOARDS, "http://127.0.0.1", token)


def test_the_command_pushes_all(grafana: Grafana, capsys: pytest.CaptureFixture[str]) -> None:
    """`dashboards push` brings all dashboards, as the options adapt them, and prints where."""
    options = ["--url", grafana.url, "--token", TOKEN, "--prop", "topic"]
    assert main(["dashboards", "push", *options, "--counter-name", "calls"]) == 0
    expected = dashboards(Names(counter_name="calls"), ["topic"])
    assert [asked["dashboard"] for asked in grafana.asked] == [
        {**board, "id": None} for board in expected.values()
    ]
    printed = capsys.readouterr().out.splitlines()
    assert [line.split("/")[-2] for line in printed] == [b["uid"] for b in expected.values()]


def test_the_token_may_come_from_the_environment(
    grafana: Grafana, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without --token it is that of GRAFANA_TOKEN, so that it stays out of the shell's history."""
    monkeypatch.setenv("GRAFANA_TOKEN", TOKEN)
    assert main(["dashboards", "push", "--url", grafana.url]) == 0
    assert len(grafana.asked) == 10


def test_without_a_token_the_command_says_so(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A missing token is reported in one line, and the exit code is 1."""
    monkeypatch.delenv("GRAFANA_TOKEN", raising=False)
    assert main(["dashboards", "push"]) == 1
    assert "GRAFANA_TOKEN" in capsys.readouterr().err


def test_a_failure_is_one_line(grafana: Grafana, capsys: pytest.CaptureFixture[str]) -> None:
    """What Grafana refuses ends the command with code 1 and one line."""
    assert main(["dashboards", "push", "--url", grafana.url, "--token", "wrong"]) == 1
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.count("\n") == 1
    assert "does not know the token" in captured.err


@pytest.mark.parametrize(
    ("status", "body", "headers"),
    [
        (500, b'{"message": "\\u001b]0;title\\u0007\\u009b2J\\r\\n"}', {}),
        (302, b"", {"Location": "http://elsewhere.example/\x1b[2J\x9b"}),
    ],
    ids=["message", "redirect"],
)
def test_a_server_cannot_control_the_terminal(
    status: int,
    body: bytes,
    headers: dict[str, str],
    grafana: Grafana,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Control characters in an answer are escaped."""
    grafana.status, grafana.body, grafana.headers = status, body, headers
    assert main(["dashboards", "push", "--url", grafana.url, "--token", TOKEN]) == 1
    printed = capsys.readouterr().err
    assert printed.removesuffix("\n").isprintable()
    assert r"\x1b" in printed
    assert r"\x9b" in printed
