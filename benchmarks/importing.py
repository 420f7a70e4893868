"""Import of `hypertrace`: takes milliseconds, and none of the libraries that exporters need."""

from __future__ import annotations

import os
import subprocess
import sys
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from .measure import Row

if TYPE_CHECKING:
    from collections.abc import Iterator

    from .measure import Effort

ROUNDS = 15
HEAVY = ("wrapt", "asyncio", "http.client", "prometheus_client")

_PROGRAM = """
import sys, time
start = time.perf_counter()
{statement}
took = (time.perf_counter() - start) * 1000
print(took, *[name for name in {forbidden} if name in sys.modules])
"""


def rows(effort: Effort) -> Iterator[Row]:
    """Measure imports in fresh interpreters, the fastest of some.

    Raises:
        RuntimeError: a library was loaded that must not be.
    """
    yield Row("`import hypertrace`", _import("import hypertrace"), "ms", promise=10, goal=5)
    what = "`from hypertrace import Tracer`"
    yield Row(what, _import("from hypertrace import Tracer"), "ms", promise=10, goal=5)
    if effort.quick:
        return
    yield Row("`import hypertrace_prometheus`", _import("import hypertrace_prometheus", ()), "ms")
    yield Row("`import prometheus_client`", _import("import prometheus_client", ()), "ms")


def _import(statement: str, forbidden: tuple[str, ...] = HEAVY) -> float:
    command = [sys.executable, "-c", _PROGRAM.format(statement=statement, forbidden=forbidden)]
    best = float("inf")
    with TemporaryDirectory() as cache:
        # Compiled by the first round, as an installed package is, wherever the sources may lie.
        env = {**os.environ, "PYTHONDONTWRITEBYTECODE": "", "PYTHONPYCACHEPREFIX": cache}
        for _ in range(ROUNDS):
            took, *loaded = subprocess.check_output(command, text=True, env=env).split()
            if loaded:
                raise RuntimeError(f"`{statement}` loads {', '.join(loaded)}")
            best = min(best, float(took))
    return best
