"""Flask application whose requests are measured, and counted by itself."""

from __future__ import annotations

from typing import Any

from flask import Flask, Response, request, send_file
from measured import OwnError, count, endless, exporter
from werkzeug.middleware.dispatcher import DispatcherMiddleware

app = Flask(__name__)


def ready() -> str:
    """Answer when the site is up."""
    count(request.method, "/ready", 200, "")
    return "ready"


def item(id: int) -> str:
    """Answer."""
    count(request.method, "/items/<int:id>", 200, "")
    return str(id)


def boom() -> str:
    """Raise."""
    count(request.method, "/boom", 500, "OwnError")
    raise OwnError


def file() -> Response:
    """Answer with a file that the server sends."""
    count("GET", "/file", 200, "")
    return send_file(__file__)


def big() -> Response:
    """Answer with more than a client reads."""
    return Response(endless("GET", "/big", 200))


def missing(error: Any) -> tuple[str, int]:
    """Answer what no rule fits."""
    count(request.method, "<unmatched>", 404, "")
    return "no", 404


app.add_url_rule("/ready", view_func=ready)
app.add_url_rule("/items/<int:id>", view_func=item, methods=["GET", "POST"])
app.add_url_rule("/boom", view_func=boom)
app.add_url_rule("/file", view_func=file)
app.add_url_rule("/big", view_func=big)
app.register_error_handler(404, missing)
app.wsgi_app = DispatcherMiddleware(app.wsgi_app, {"/metrics": exporter.wsgi_app})  # type: ignore[method-assign]  # as Flask's documentation does
