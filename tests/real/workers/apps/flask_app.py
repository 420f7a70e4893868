"""Flask application with the metrics mounted at /metrics."""

from __future__ import annotations

import os
from typing import Any

from counted import exporter, work
from flask import Flask
from werkzeug.middleware.dispatcher import DispatcherMiddleware

app = Flask(__name__)


def ready() -> str:
    """Do nothing."""
    return "ready"


def do_work() -> str:
    """Do some work."""
    work.do()
    return "done"


def name_worker(response: Any) -> Any:
    """Add a header with the pid of the worker."""
    response.headers["X-Worker"] = str(os.getpid())
    return response


app.add_url_rule("/ready", view_func=ready)
app.add_url_rule("/work", view_func=do_work)
app.after_request(name_worker)
app.wsgi_app = DispatcherMiddleware(app.wsgi_app, {"/metrics": exporter.wsgi_app})  # type: ignore[method-assign]  # as Flask's documentation does
