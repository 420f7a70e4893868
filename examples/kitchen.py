"""Kitchen in asyncio: spans and `@traced` around coroutines that wait, fail and are cancelled.

    python examples/kitchen.py           serves its metrics on http://127.0.0.1:4346/metrics
    python examples/kitchen.py --once    prints them and ends

It always does the same work, so the numbers are known; only how long it takes varies a little.
"""

import argparse
import asyncio
from collections.abc import AsyncIterator
from contextlib import suppress
from threading import Event

from hypertrace import Tracer, set_trace_function, traced
from hypertrace_prometheus import PrometheusExporter

MINUTE = 0.001
"""Seconds that a minute takes here."""

PATIENCE = 600 * MINUTE
COOKING = {"soup": 10, "pasta": 15, "souffle": 20, "roast": 6000}
"""Minutes. No table waits for the roast."""

TABLES = {
    "window": ["soup", "pasta", "pasta"],
    "corner": ["souffle", "soup"],
    "garden": ["roast", "pasta"],
}


class CollapsedError(Exception):
    """Souffles do."""


class Kitchen:
    """Cooks two dishes at a time."""

    def __init__(self) -> None:
        # Calls of @traced methods carry the props of the tracer that the object holds.
        self.tracer = Tracer(self, {"place": "cellar"})
        self._stoves = asyncio.Semaphore(2)

    @traced(prop_from={"dish": "args.dish"})
    async def cook(self, dish: str) -> str:
        """Return `dish`, or raise `CollapsedError`; a span for each call, from start to end."""
        async with self._stoves:
            await asyncio.sleep(COOKING[dish] * MINUTE)
        if dish == "souffle":
            raise CollapsedError
        return dish


class Waiter:
    """Serves tables, all at once."""

    def __init__(self, kitchen: Kitchen) -> None:
        self.tracer = Tracer(self)
        self._kitchen = kitchen

    async def serve(self, table: str) -> list[str]:
        """Return what came of a table's wishes; tasks that start in the span are inside it."""
        with self.tracer.span(table=table) as span:
            wishes = [asyncio.create_task(self._bring(dish)) for dish in TABLES[table]]
            served = [dish for dish in await asyncio.gather(*wishes) if dish]
            span.set(outcome="all" if len(served) == len(wishes) else "some")
            return served

    async def _bring(self, dish: str) -> str | None:
        with self.tracer.span() as span:
            try:
                async with asyncio.timeout(PATIENCE):
                    return await self._kitchen.cook(dish)
            except (CollapsedError, TimeoutError) as error:
                span.fail(error)  # handled here, and a failure all the same
                return None

    @traced
    async def served(self) -> AsyncIterator[str]:
        """Yield the dishes of one table after the other; one span from the first to the last."""
        for table in TABLES:
            for dish in await self.serve(table):
                yield dish


async def evening() -> list[str]:
    """Serve all tables, and return what came to them."""
    waiter = Waiter(Kitchen())
    return [dish async for dish in waiter.served()]


def main() -> None:
    """Run an evening with tracing on."""
    parser = argparse.ArgumentParser(description="A kitchen in asyncio with spans in it.")
    parser.add_argument("--once", action="store_true", help="print the metrics and end")
    parser.add_argument("--port", type=int, default=4346, help="where to serve the metrics")
    arguments = parser.parse_args()

    exporter = PrometheusExporter(
        arguments.port,
        allowed_props=["place", "dish", "table", "outcome"],
        buckets=[0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 1.28],
        upstream=True,
    )
    set_trace_function(exporter)
    print(f"Served: {', '.join(asyncio.run(evening()))}.")
    print(f"The metrics are at {exporter.url}", flush=True)
    if arguments.once:
        print(exporter.metrics())
    else:
        with suppress(KeyboardInterrupt):
            Event().wait()
    exporter.stop()


if __name__ == "__main__":
    main()
