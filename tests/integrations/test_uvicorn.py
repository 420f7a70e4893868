"""uvicorn: the figures of several workers equal the tally of the application."""

from __future__ import annotations

import socket
import sys
import threading
import urllib.error
import urllib.request
from collections import Counter
from contextlib import ExitStack, suppress
from typing import TYPE_CHECKING, Any

from prometheus_client.parser import text_string_to_metric_families

from ..real.workers.conftest import need, serve, start  # noqa: F401 -- fixtures
from ..real.workers.programs import DEADLINE, get

if TYPE_CHECKING:
    from collections.abc import Callable

    from ..real.workers.conftest import Serve
    from ..real.workers.programs import Site

UVICORN = (
    *(sys.executable, "-m", "uvicorn", "--host=127.0.0.1", "--port=PORT", "--workers=3"),
    *("--log-level=warning", "measured_fastapi:app"),
)
REQUESTS = "http_server_request_duration_seconds_count"
REQUEST_LABELS = ("http_request_method", "http_route", "http_response_status_code", "error_type")
MESSAGES = "websocket_server_message_duration_seconds_count"
MESSAGE_LABELS = ("http_route", "websocket_event", "error_type")
ROUNDS = 25
CLIENTS = 4


def _ask(url: str, method: str = "GET") -> None:
    request = urllib.request.Request(url, method=method)
    try:
        with urllib.request.urlopen(request, timeout=DEADLINE) as answer:
            answer.read()
    except urllib.error.HTTPError as error:
        error.close()


def _port(site: Site) -> int:
    return int(site.url.rpartition(":")[2])


def _go_away(site: Site) -> None:
    """Ask for a large answer, and close the connection in the middle of it."""
    with socket.create_connection(("127.0.0.1", _port(site)), DEADLINE) as client:
        client.sendall(b"GET /big HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
        assert client.recv(100)


def _load(site: Site, connect: Callable[[], Any], client: int) -> None:
    for number in range(ROUNDS):
        _ask(f"{site.url}/shop/items/{number}")
        _ask(f"{site.url}/shop/items/{number}", "HEAD")
        _ask(f"{site.url}/boom")
        _ask(f"{site.url}/no/{client}/{number}")
    _go_away(site)
    with connect() as connection:
        for event in ("red", "silent", "green", "red"):
            connection.send(event)
            if event != "silent":
                assert connection.recv() == event
        connection.send("boom")
        with suppress(Exception):  # the server closes it
            connection.recv()


def _in_threads(work: Callable[[int], object]) -> None:
    threads = [threading.Thread(target=work, args=(number,)) for number in range(CLIENTS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(4 * DEADLINE)


def _page(site: Site) -> dict[str, Counter[tuple[str, ...]]]:
    """Return the samples of the page, by name and values of labels."""
    found: dict[str, Counter[tuple[str, ...]]] = {}
    labels = {REQUESTS: REQUEST_LABELS, MESSAGES: MESSAGE_LABELS}
    for family in text_string_to_metric_families(get(f"{site.url}/metrics/").text):
        for sample in family.samples:
            names = labels.get(sample.name, tuple(sorted(sample.labels)))
            values = tuple(sample.labels.get(name, "") for name in names)
            found.setdefault(sample.name, Counter())[values] += int(sample.value)
    return found


def _tally(site: Site) -> tuple[set[str], Counter[tuple[str, ...]], Counter[tuple[str, ...]]]:
    """Return the processes that answered, the labels of requests, and those of messages."""
    lines = (site.program.folder / "requests").read_text().splitlines()
    pids, requests, messages = set(), Counter(), Counter()  # type: ignore[var-annotated]
    for pid, kind, *labels in (line.split(" ") for line in lines):
        pids.add(pid)
        if kind == "message":
            messages[tuple(labels)] += 1
        else:
            requests[kind, *labels] += 1
    return pids, requests, messages


def test_the_figures_are_the_tally_of_the_application(
    need: Any,  # noqa: F811
    serve: Serve,  # noqa: F811
) -> None:
    """Each request and message is counted once, and every worker shows those of all."""
    need("uvicorn", "fastapi", "websockets")
    from websockets.sync.client import connect

    site = serve(*UVICORN)

    def open_one() -> Any:
        return connect(f"ws://127.0.0.1:{_port(site)}/live/tea")

    _in_threads(lambda number: _load(site, open_one, number))

    def equal() -> bool:
        page, (_, requests, messages) = _page(site), _tally(site)
        assert requests.total() >= CLIENTS * (4 * ROUNDS + 2)
        assert page[REQUESTS] == requests
        assert page[MESSAGES] == messages
        assert page["http_server_active_requests"].total() == 0
        assert page["websocket_server_active_connections"].total() == 0
        return True

    site.program.wait(equal)
    workers, requests, messages = _tally(site)
    assert len(workers) > 1
    assert requests["GET", "/big", "200", "cancelled"] == CLIENTS
    assert messages["/live/{room}", "boom", "OwnError"] == CLIENTS
    counted = _page(site)["websocket_server_messages_total"]
    assert counted["/live/{room}", "receive"] == messages.total() == 5 * CLIENTS
    assert counted["/live/{room}", "transmit"] == 3 * CLIENTS

    with ExitStack() as stack:
        for _ in range(6):
            stack.enter_context(open_one())
        site.program.wait(lambda: _page(site)["websocket_server_active_connections"].total() == 6)
    site.program.wait(lambda: _page(site)["websocket_server_active_connections"].total() == 0)
    before = _tally(site)[1]
    site.kill(int(min(workers)))
    for _ in range(6):
        page = site.program.wait(lambda: _page(site))
        assert page[REQUESTS] == before
