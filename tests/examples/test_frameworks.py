"""Applications of frameworks: what their pages of metrics show is what was asked for."""

from __future__ import annotations

import importlib.util
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections import Counter
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest
from prometheus_client.parser import text_string_to_metric_families

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

DEADLINE = 30.0


def _free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port: int = free.getsockname()[1]
        return port


def _ask(url: str, method: str = "GET") -> int:
    """Return the status of an answer; 0 while no server answers."""
    try:
        with urllib.request.urlopen(urllib.request.Request(url, method=method)) as answer:
            answer.read()
            return int(answer.status)
    except urllib.error.HTTPError as error:
        return error.code
    except OSError:
        return 0


@contextmanager
def _running(root: Path, name: str, path: str, *needs: str) -> Iterator[tuple[str, str]]:
    """Run an example until the end of the block; give its address and that of its metrics."""
    for module in needs:
        if importlib.util.find_spec(module) is None:
            if os.environ.get("HYPERTRACE_EVERY_SERVER"):
                pytest.fail(f"{module} is missing: pip install --group integrations")
            pytest.skip(f"needs {module}: pip install --group integrations")
    ports = _free_port(), _free_port()
    environment = {**os.environ, "PORT": str(ports[0]), "METRICS_PORT": str(ports[1])}
    program = subprocess.Popen(
        [sys.executable, root / "examples" / name],
        env=environment,
        stdout=subprocess.DEVNULL,
        start_new_session=True,
    )
    site, metrics = (f"http://127.0.0.1:{port}" for port in ports)
    try:
        deadline = time.monotonic() + DEADLINE
        while not (_ask(f"{metrics}/metrics") and _ask(site + path)):
            assert time.monotonic() < deadline, f"{name} does not answer"
            time.sleep(0.05)
        yield site, metrics
    finally:
        program.send_signal(signal.SIGTERM)
        program.wait(DEADLINE)


REQUESTS = (
    "http_server_request_duration_seconds_count",
    *("http_request_method", "http_route", "http_response_status_code", "error_type"),
)
ENTRIES = "entry_duration_seconds_count", "kind", "name", "result"
QUERIES = "db_client_operation_duration_seconds_count", "db_collection_name", "db_operation_name"
MODELS = "model_events_total", "app", "model", "action"


def _counts(metrics: str, name: str, *labels: str) -> Counter[tuple[str, ...]]:
    """Return the samples of one name on a page, by the values of some labels."""
    with urllib.request.urlopen(f"{metrics}/metrics") as answer:
        page = answer.read().decode()
    found: Counter[tuple[str, ...]] = Counter()
    for family in text_string_to_metric_families(page):
        for sample in family.samples:
            if sample.name == name:
                found[tuple(sample.labels.get(label, "") for label in labels)] += int(sample.value)
    return found


def test_the_shop_counts_the_requests_of_both_workers(root: Path) -> None:
    """`python examples/flask_shop.py` shows each route, its statuses and its errors."""
    with _running(root, "flask_shop.py", "/", "flask", "gunicorn") as (site, metrics):
        before = _counts(metrics, *REQUESTS)
        for _ in range(20):
            assert _ask(f"{site}/items/1") == 200
        for item in range(30, 35):
            assert _ask(f"{site}/items/{item}") == 404
            assert _ask(f"{site}/nothing/{item}") == 404
        assert _ask(f"{site}/items/1/buy", "POST") == 200
        assert _ask(f"{site}/items/9/buy", "POST") == 500
        after = _counts(metrics, *REQUESTS)
        assert after - before == {
            ("GET", "/items/<int:item>", "200", ""): 20,
            ("GET", "/items/<int:item>", "404", ""): 5,
            ("GET", "<unmatched>", "404", ""): 5,
            ("POST", "/items/<int:item>/buy", "200", ""): 1,
            ("POST", "/items/<int:item>/buy", "500", "KeyError"): 1,
        }
        entries = _counts(metrics, *ENTRIES)
        assert entries["http", "POST /items/<int:item>/buy", "error"] == 1


def test_the_site_counts_requests_queries_and_changes(root: Path) -> None:
    """`python examples/django_site.py` shows the patterns of URLs, statements and models."""
    with _running(root, "django_site.py", "/", "django") as (site, metrics):
        for title in ("Emma", "Momo"):
            assert _ask(f"{site}/books/?title={title}", "POST") == 200
        for name in ("Ann", "Bo", "Cleo"):
            assert _ask(f"{site}/books/hello/{name}") == 200
        requests = _counts(metrics, *REQUESTS)
        assert requests["POST", "/books/", "200", ""] == 2
        assert requests["GET", "/books/hello/<str:name>", "200", ""] == 3
        queries = _counts(metrics, *QUERIES)
        assert queries["library_book", "INSERT"] == 2
        assert queries["library_book", "SELECT"] == 2
        assert _counts(metrics, *MODELS) == {("library", "Book", "create"): 2}
