"""Checkout of a shop: metrics declared on its events, others counted in code, and a handler.

    python examples/checkout.py           serves its metrics on http://127.0.0.1:4348/metrics
    python examples/checkout.py --once    prints them and ends

It always does the same work, so the numbers are known; only how long it takes varies a little.
"""

import argparse
from contextlib import suppress
from queue import Queue
from threading import Event

from hypertrace import SpanEvent, TraceEvent, Tracer, attach, set_trace_function
from hypertrace.metrics import Counter, Distribution, LastValue, Metrics, Sum, Summary
from hypertrace_prometheus import PrometheusExporter

PRICES = {"tea": 4, "cup": 9, "pot": 25}
CUSTOMERS = [
    ("gold", ["tea", "cup"], "card"),
    ("basic", ["pot"], "card"),
    ("gold", ["tea", "tea", "pot"], "invoice"),
    ("basic", ["cup"], "coins"),
]
"""The tier of each, what he or she buys, and how that is paid."""

DECLARED = [
    Counter(
        "checkouts_total",
        of="Cart.checkout",
        tags=["tier", "method", "result"],  # a prop of the cart, a prop of the call, a fact
        description="Checkouts, by the tier of the customer and how they ended.",
    ),
    Sum(
        "revenue_total",
        of="Cart.checkout",
        value="price",
        tags=["tier"],
        keep=lambda event: isinstance(event, SpanEvent) and event.result == "ok",
        description="What was paid.",
    ),
    LastValue("last_price", of="Cart.checkout", value="price", workers="latest"),
    Distribution("cart_items", of="Cart.checkout", value="items", buckets=[1, 2, 4, 8]),
    Summary("checkout_seconds", of="Cart.checkout", quantiles=[0.5, 0.99]),
]
"""What the page says about the events of `Cart`, which knows nothing about metrics."""


class RefusedError(Exception):
    """The shop does not take what a customer pays with."""


class Cart:
    """What one customer is going to buy."""

    def __init__(self, tier: str, items: list[str]) -> None:
        self.tracer = Tracer(self, {"tier": tier})
        self.items = items

    def checkout(self, method: str) -> int:
        """Return what the items cost, paid with `method`."""
        price = sum(PRICES[item] for item in self.items)
        with self.tracer.span(method=method, items=len(self.items), price=price):
            if method == "coins":
                raise RefusedError
        return price


class Office:
    """Sends confirmations. It has no tracer: its code counts, and its queue is read."""

    def __init__(self, metrics: Metrics) -> None:
        self.waiting: Queue[int] = Queue()
        self._sent = metrics.counter("confirmations_total", ["channel"])
        metrics.gauge("confirmations_waiting", read=self.waiting.qsize)

    def send_one(self) -> None:
        """Send the confirmation that waits longest: large ones as a letter."""
        price = self.waiting.get()
        self._sent.inc(channel="letter" if price > PRICES["pot"] else "mail")


def report(event: TraceEvent) -> None:
    """Print a checkout that failed; a handler, called in its own thread."""
    if isinstance(event, SpanEvent) and event.exception is not None:
        print(f"Refused: {event.caller.props}", flush=True)


def main() -> None:
    """Run the checkout with tracing on."""
    parser = argparse.ArgumentParser(description="A checkout with declared metrics.")
    parser.add_argument("--once", action="store_true", help="print the metrics and end")
    parser.add_argument("--port", type=int, default=4348, help="where to serve the metrics")
    arguments = parser.parse_args()

    metrics = Metrics(declared=DECLARED)
    set_trace_function(metrics)  # before the objects that hold tracers
    office = Office(metrics)
    with PrometheusExporter(arguments.port, metrics=metrics) as exporter:
        with attach(report, of="Cart.checkout", queue=100):
            for tier, items, method in CUSTOMERS:
                with suppress(RefusedError):
                    office.waiting.put(Cart(tier, items).checkout(method))
        office.send_one()
        print(f"The metrics are at {exporter.url}", flush=True)
        if arguments.once:
            print(exporter.metrics())
        else:
            with suppress(KeyboardInterrupt):
                Event().wait()


if __name__ == "__main__":
    main()
