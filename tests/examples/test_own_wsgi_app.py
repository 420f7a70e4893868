"""Web application that serves its metrics itself."""

import runpy
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from werkzeug.test import Client

if TYPE_CHECKING:
    from wsgiref.types import WSGIApplication


@pytest.fixture
def client(root: Path) -> Client:
    """Give a client of the application, without a server."""
    application: WSGIApplication = runpy.run_path(str(root / "examples" / "own_wsgi_app.py"))[
        "application"
    ]
    return Client(application)


def test_the_metrics_stand_beside_the_own_pages(client: Client) -> None:
    """`/metrics` shows how often which greeter greeted."""
    assert client.get("/hello?name=Ada").text == "Hello, Ada!\n"
    assert client.get("/hello?name=Juma&language=sw").text == "Habari, Juma!\n"
    assert client.get("/hello").text == "Hello, stranger!\n"
    page = client.get("/metrics").text
    counts = [line.split("} ") for line in page.splitlines() if '="greet"' in line]
    assert sorted((count, 'language="sw"' in labels) for labels, count in counts) == [
        ("1", True),
        ("2", False),
    ]


def test_the_metrics_are_negotiated(client: Client) -> None:
    """The mounted application answers in OpenMetrics where it is asked for."""
    answer = client.get("/metrics", headers={"Accept": "application/openmetrics-text"})
    assert answer.content_type.startswith("application/openmetrics-text")
    assert answer.text.endswith("# EOF\n")
