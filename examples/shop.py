"""Small shop: three classes with tracers, and their metrics as Prometheus reads them.

    python examples/shop.py           serves its metrics on http://127.0.0.1:4344/metrics
    python examples/shop.py --once    prints them and ends

It always does the same work, so the numbers are known.
"""

import argparse
from collections import Counter
from contextlib import suppress
from threading import Event

from hypertrace import Tracer, set_trace_function
from hypertrace_prometheus import PrometheusExporter

PRICES = {"tea": 4, "cup": 9, "pot": 25}
CUSTOMERS = [
    ("web", ["tea", "cup"]),
    ("web", ["pot"]),
    ("phone", ["tea", "tea", "pot"]),
    ("web", ["cup"]),
    ("phone", ["tea", "pot", "pot"]),
]
"""How each came, and what he or she wished for."""


class SoldOutError(Exception):
    """The warehouse has none left."""


class Warehouse:
    """What there is to sell."""

    def __init__(self, town: str) -> None:
        self.tracer = Tracer(self, {"town": town})
        self.stock = Counter(tea=100, cup=50, pot=2)

    def take(self, item: str) -> None:
        """Take one `item` from the shelf."""
        if not self.stock[item]:
            self.tracer.trace("take", outcome="sold out")
            raise SoldOutError(item)
        self.tracer.trace("take", outcome="taken")
        self.stock[item] -= 1


class Cart:
    """What one customer is going to buy. Its parent is the shop's tracer."""

    def __init__(self, channel: str, warehouse: Warehouse, *, parent: Tracer) -> None:
        self.tracer = Tracer(self, {"channel": channel}, parent=parent)
        self.warehouse = warehouse
        self.items: list[str] = []

    def add(self, item: str) -> None:
        """Put one `item` into the cart."""
        self.tracer.trace(item=item)
        self.warehouse.take(item)
        self.items.append(item)

    @property
    def total(self) -> int:
        """What everything in the cart costs."""
        self.tracer.trace()
        return sum(PRICES[item] for item in self.items)


class Shop:
    """Sells from one warehouse."""

    def __init__(self, town: str) -> None:
        self.tracer = Tracer(self, {"town": town})
        self.warehouse = Warehouse(town)
        self.takings = 0

    def serve(self, channel: str, wishes: list[str]) -> None:
        """Sell what there is of `wishes` to a customer who came through `channel`."""
        self.tracer.trace()
        cart = Cart(channel, self.warehouse, parent=self.tracer)
        for item in wishes:
            with suppress(SoldOutError):
                cart.add(item)
        self.takings += cart.total


def main() -> None:
    """Run the shop with tracing on."""
    parser = argparse.ArgumentParser(description="A small shop with tracers in it.")
    parser.add_argument("--once", action="store_true", help="print the counts and end")
    parser.add_argument("--port", type=int, default=4344, help="where to serve the metrics")
    arguments = parser.parse_args()

    exporter = PrometheusExporter(arguments.port, allowed_props=["town", "channel", "outcome"])
    # Before the objects: a tracer made while no trace function is set stays silent.
    set_trace_function(exporter)
    shop = Shop("Bergen")
    for channel, wishes in CUSTOMERS:
        shop.serve(channel, wishes)

    print(f"Sold for {shop.takings}. The metrics are at {exporter.url}", flush=True)
    if arguments.once:
        print(exporter.metrics())
    else:
        with suppress(KeyboardInterrupt):
            Event().wait()
    exporter.stop()


if __name__ == "__main__":
    main()
