"""Flask shop with two workers of gunicorn; it needs both (`pip install flask gunicorn`).

    python examples/flask_shop.py
        serves http://127.0.0.1:8000/items/1, and the metrics of both workers at
        http://127.0.0.1:4343/metrics

Or as any application is served: `gunicorn --chdir examples --workers 2 flask_shop:app`.
"""

# mypy: disable-error-code="untyped-decorator,misc"
# gunicorn has no types.

from __future__ import annotations

import os
from typing import Any

from flask import Blueprint, Flask, abort
from gunicorn.app.base import BaseApplication

from hypertrace import Tracer, set_trace_function
from hypertrace.integrations import install
from hypertrace_prometheus import PrometheusExporter

install("flask")
set_trace_function(PrometheusExporter(port=int(os.environ.get("METRICS_PORT", "4343"))))

PRICES = {1: 4, 2: 9}


class Cart:
    """What one customer buys: it holds a tracer, so its methods are counted inside requests."""

    def __init__(self) -> None:
        self.tracer = Tracer(self)

    def price(self, item: int) -> int:
        """Return the price of an item; one that is unknown raises `KeyError`."""
        with self.tracer.span():
            return PRICES[item]


app = Flask(__name__)
items = Blueprint("items", __name__, url_prefix="/items")


@items.get("/<int:item>")
def show(item: int) -> dict[str, int]:
    """Show an item, or answer that there is none."""
    if item not in PRICES:
        abort(404)
    return {"item": item, "price": PRICES[item]}


@items.post("/<int:item>/buy")
def buy(item: int) -> dict[str, int]:
    """Buy an item; an unknown one is an error of the shop, status 500."""
    return {"paid": Cart().price(item)}


app.register_blueprint(items)


class Server(BaseApplication):
    """gunicorn, configured by this program."""

    def load_config(self) -> None:
        """Set what `gunicorn --workers 2 --bind ...` sets."""
        self.cfg.set("workers", 2)
        self.cfg.set("bind", f"127.0.0.1:{os.environ.get('PORT', '8000')}")

    def load(self) -> Any:
        """Return the application."""
        return app


if __name__ == "__main__":
    Server().run()
