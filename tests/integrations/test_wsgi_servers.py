"""Servers of WSGI: the figures of several workers equal the tally of the application."""

from __future__ import annotations

import socket
import sys
import threading
import urllib.error
import urllib.request
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from hypertrace import COMPILED

from ..real.workers.conftest import need, serve, start  # noqa: F401 -- fixtures
from ..real.workers.programs import DEADLINE, get

if TYPE_CHECKING:
    from ..real.workers.conftest import Serve
    from ..real.workers.programs import Program, Site

GUNICORN = (
    sys.executable,
    Path(sys.executable).with_name("gunicorn"),
    "--workers=3",
    "--bind=127.0.0.1:PORT",
)
UWSGI = (
    Path(sys.executable).with_name("uwsgi"),
    f"--home={sys.prefix}",
    "--http-socket=127.0.0.1:PORT",
    "--master",
    "--die-on-term",
    "--processes=3",
    # The pure core notices a fork by C late; until then, several processes count in one file.
    *(() if COMPILED else ("--py-call-osafterfork",)),
)
FLASK, DJANGO = "measured_flask:app", "measured_django:application"
LABELS = ("http_request_method", "http_route", "http_response_status_code", "error_type")
ROUNDS = 25


def _ask(url: str, method: str = "GET") -> None:
    request = urllib.request.Request(url, method=method, data=b"a" if method == "POST" else None)
    try:
        with urllib.request.urlopen(request, timeout=DEADLINE) as answer:
            answer.read()
    except urllib.error.HTTPError as error:
        error.read()
        error.close()


def _go_away(site: Site) -> None:
    """Ask for a large answer, and close the connection in the middle of it."""
    with socket.create_connection(("127.0.0.1", int(site.url.rpartition(":")[2])), 30) as client:
        client.sendall(b"GET /big HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
        assert client.recv(100)


def _load(site: Site, client: int) -> None:
    for number in range(ROUNDS):
        _ask(f"{site.url}/items/{number}")
        _ask(f"{site.url}/items/{number}", "HEAD")
        _ask(f"{site.url}/boom")
        _ask(f"{site.url}/no/{client}/{number}")
    _ask(f"{site.url}/file")
    _go_away(site)


def _tally(program: Program) -> tuple[set[str], Counter[tuple[str, ...]]]:
    """Return the processes that answered, and the labels of their requests."""
    lines = [line.split(" ") for line in (program.folder / "requests").read_text().splitlines()]
    return {pid for pid, *_ in lines}, Counter(tuple(labels) for _, *labels in lines)


def _shown(page: str) -> Counter[tuple[str, ...]]:
    found: Counter[tuple[str, ...]] = Counter()
    for family in text_string_to_metric_families(page):
        for sample in family.samples:
            if sample.name == "http_server_request_duration_seconds_count":
                found[tuple(sample.labels.get(name, "") for name in LABELS)] += int(sample.value)
    return found


@pytest.mark.parametrize(
    "command",
    [
        (*GUNICORN, "--worker-class=sync", FLASK),
        (*GUNICORN, "--worker-class=gthread", "--threads=3", "--preload", FLASK),
        (*GUNICORN, "--worker-class=gevent", FLASK),
        (*GUNICORN, "--worker-class=sync", DJANGO),
        (*UWSGI, f"--module={FLASK}"),
    ],
    ids=["flask-sync", "flask-threads", "flask-gevent", "django", "flask-uwsgi"],
)
def test_the_figures_are_the_tally_of_the_application(
    need: Any,  # noqa: F811
    serve: Serve,  # noqa: F811
    command: tuple[str | Path, ...],
) -> None:
    """Each request is counted once, those that fail or are cut off included, on every page."""
    need("gunicorn", "flask", "django", "gevent", "uwsgidecorators")
    site = serve(*command)
    clients = [threading.Thread(target=_load, args=(site, number)) for number in range(4)]
    for client in clients:
        client.start()
    for client in clients:
        client.join(4 * DEADLINE)

    def equal() -> bool:
        _, expected = _tally(site.program)
        assert expected.total() >= 4 * (4 * ROUNDS + 2)
        assert _shown(get(f"{site.url}/metrics").text) == expected
        return True

    site.program.wait(equal)
    workers, expected = _tally(site.program)
    assert len(workers) > 1
    assert expected["GET", "/big", "200", "cancelled"] == 4
    site.kill(int(min(workers)))
    for _ in range(6):
        assert site.program.wait(lambda: _shown(get(f"{site.url}/metrics").text)) == expected
