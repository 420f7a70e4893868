"""Workers: counts that processes share, beside counts in memory and `prometheus_client`.

`python -m benchmarks workers` takes these figures; they are in docs/workers.md.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
from contextlib import contextmanager
from dataclasses import replace
from math import inf
from pathlib import Path
from typing import TYPE_CHECKING

from hypertrace import COMPILED

from .measure import OURS, Row, compared
from .ours import App, Swarm, exporting
from .scraping import Shelf, milliseconds

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from .measure import Effort

IN_MEMORY = "in the memory of one process"
PEER = "prometheus_client in multiprocess mode"
WORKERS = 64
SERIES = 1_000
RESTARTS = 1_000
RESTARTED_SERIES = 100
PROMISES = {IN_MEMORY: (1.05, 1.0)} if COMPILED else {PEER: (0.4, 0.3)}
_TURNS = 10

_PEER = Path(__file__).parent / "workers_peer.py"


def rows(effort: Effort) -> Iterator[Row]:
    """Measure a count and a span, a scrape of many workers, and what restarts leave."""
    peer = _peer(RESTARTS // 10 if effort.quick else RESTARTS)
    yield from _counted("`trace()` in a worker", "connect", effort, peer["inc"])
    yield from _counted("a span in a worker", "span", effort, peer["observe"])
    yield from _scrape(peer["scrape"])
    yield from _restarts(RESTARTS // 10 if effort.quick else RESTARTS, peer)


def _counted(what: str, method: str, effort: Effort, theirs: float) -> Iterator[Row]:
    """Measure files and memory by turns: only one can be set at a time."""
    turns = replace(effort, rounds=max(1, effort.rounds // _TURNS))
    best = {OURS: inf, IN_MEMORY: inf}
    for _ in range(_TURNS):
        for name, workers in ((OURS, "auto"), (IN_MEMORY, False)):
            with exporting(workers=workers):
                times = turns.nanoseconds({name: getattr(Swarm(App()), method)})
            best[name] = min(best[name], times[name])
    yield from compared(what, best | {PEER: theirs}, PROMISES)


def _scrape(theirs: float) -> Iterator[Row]:
    with exporting(workers="auto") as exporter, _workers(_fill):
        _fill()
        ours = milliseconds({OURS: exporter.metrics})
    what = f"a scrape of {WORKERS} workers with {SERIES:_} series each".replace("_", " ")
    yield from compared(what, ours | {PEER: theirs}, {PEER: (1 / 100, 1 / 200)}, "ms")


def _fill() -> None:
    Shelf().fill(SERIES)


@contextmanager
def _workers(work: Callable[[], None]) -> Iterator[None]:
    """Let forked processes work, and then wait."""
    pids = []
    reading, writing = os.pipe()
    for _ in range(WORKERS):
        if not (pid := os.fork()):
            work()
            os.write(writing, b"x")
            signal.pause()
        pids.append(pid)
    for _ in pids:
        os.read(reading, 1)
    try:
        yield
    finally:
        for pid in pids:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)


def _restarts(times: int, peer: Mapping[str, float]) -> Iterator[Row]:
    with (
        tempfile.TemporaryDirectory() as folder,
        exporting(workers=f"{folder}/counts") as exporter,
    ):
        for number in range(times):
            if not (pid := os.fork()):
                Shelf().fill(RESTARTED_SERIES)
                os.kill(os.getpid(), signal.SIGKILL)
            os.waitpid(pid, 0)
            if number % 10 == 0:
                exporter.metrics()
        exporter.metrics()
        files = list(Path(folder, "counts").iterdir())
        size = sum(file.stat().st_size for file in files) / 1024
    what = f"after {times:_} restarts by `kill -9`: ".replace("_", " ")
    yield Row(f"{what}files", len(files), "", PEER, peer["files"])
    yield Row(f"{what}size", size, "KiB", PEER, peer["size"])


def _peer(restarts: int) -> dict[str, float]:
    """Measure the peer in a process in which its multiprocess mode is on."""
    with tempfile.TemporaryDirectory() as folder:
        sizes = [WORKERS, SERIES, restarts, RESTARTED_SERIES]
        printed = subprocess.check_output(
            [sys.executable, _PEER, *map(str, sizes)],
            env={**os.environ, "PROMETHEUS_MULTIPROC_DIR": folder},
            text=True,
        )
    figures: dict[str, float] = json.loads(printed)
    return figures
