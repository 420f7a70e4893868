"""Process: what the application takes from the machine."""

from grafana_foundation_sdk.models import dashboard

from hypertrace_prometheus.exposition.process import THREADS

from . import queries
from .board import board
from .events import STARTED
from .graphs import graph
from .panels import bars, number
from .parts import BUSY, BYTES, NUMBER, RATIO, Panel, Size
from .queries import (
    EACH_WORKER,
    INSTANCE,
    Query,
    busiest,
    busiest_rate,
    by_worker,
    increase,
    largest,
    legend,
    rate,
    series,
    top,
    total,
)

UID = "hypertrace-process"

# Of the collectors that prometheus_client brings.
CPU = "process_cpu_seconds_total"
RESIDENT = "process_resident_memory_bytes"
VIRTUAL = "process_virtual_memory_bytes"
OPEN_FILES = "process_open_fds"
MOST_FILES = "process_max_fds"
PYTHON = "python_info"
COLLECTIONS = "python_gc_collections_total"
COLLECTED = "python_gc_objects_collected_total"
UNCOLLECTABLE = "python_gc_objects_uncollectable_total"
GENERATION = "generation"

_STAT = Size(6, 3)
_HALF = Size(12, 8)
_THIRD = Size(8, 8)
_VERSION = ("implementation", "version")


def process() -> dashboard.Dashboard:
    """Make the dashboard."""
    return board(
        UID,
        "Hypertrace / Process",
        "Processor, memory, files, threads and garbage collection of the traced processes.",
        [
            ("", _numbers()),
            ("Machine", _machine()),
            ("Workers", _workers()),
            ("Garbage collection", _collector()),
        ],
    )


def _numbers() -> list[Panel]:
    return [
        number(
            "Youngest process",
            "For how long the process that started last has been running. A value that falls back "
            "again and again is a process that crashes and is restarted, or a worker that its "
            "server replaces after some requests.",
            Query(f"min(time() - {series(STARTED)})"),
            unit="dtdurations",
            size=_STAT,
            nothing="none",
        ),
        number(
            "Restarts",
            "How often processes were restarted in this time range, each worker of a server by "
            "itself. Without workers each restart sets the counts back to zero, which rates know "
            "how to read.",
            Query(f"sum(changes({series(STARTED)}[{queries.RANGE}]))"),
            unit=NUMBER,
            size=_STAT,
            limits=(1, 3),
        ),
        number(
            "File limit used",
            "How near the fullest process is to the number of files and sockets it may have open. "
            "At 100 % it can accept no connection and open no file.",
            Query(f"max({series(OPEN_FILES)} / {series(MOST_FILES)})"),
            unit=RATIO,
            size=_STAT,
            limits=(0.7, 0.9),
            decimals=1,
        ),
        bars(
            "Python",
            "Targets by their Python. Two versions are right during an upgrade, and only then.",
            Query(
                top(f"count by ({', '.join(_VERSION)}) ({series(PYTHON)})"),
                legend(*_VERSION, between=" "),
            ),
            unit=NUMBER,
            size=_STAT,
        ),
    ]


def _machine() -> list[Panel]:
    return [
        graph(
            "CPU",
            "Processors in use: 1 is one of them, all the time. Pure Python cannot use more than "
            "one at once; a flat line at 1 is a process that can do no more. Workers have a line "
            "each, with their number.",
            Query(busiest_rate(series(CPU), *EACH_WORKER), legend(*EACH_WORKER, between=" ")),
            unit=NUMBER,
            label="cores",
            size=_HALF,
            limits=BUSY,
        ),
        graph(
            "Memory",
            "What the processes hold in RAM. A saw is garbage collection; a staircase without end "
            "is a leak.",
            by_worker(RESIDENT),
            unit=BYTES,
            size=_HALF,
        ),
        graph(
            "Address space",
            "What the processes have reserved. Only of interest where it grows while memory does "
            "not: threads, mappings of files.",
            by_worker(VIRTUAL),
            unit=BYTES,
            size=_THIRD,
        ),
        graph(
            "Open files",
            "Files and sockets the processes have open. A line that never falls is something that "
            "is never closed.",
            by_worker(OPEN_FILES),
            unit=NUMBER,
            label="files",
            whole=True,
            size=_THIRD,
        ),
        graph(
            "Threads",
            "Threads of the processes. It should follow the load and come back; steps upward are "
            "pools made again and again.",
            by_worker(THREADS),
            unit=NUMBER,
            label="threads",
            whole=True,
            size=_THIRD,
        ),
    ]


def _workers() -> list[Panel]:
    ended = series(queries.WORKERS, queries.FOLDED)
    return [
        graph(
            "Workers",
            "Processes of a target that count together and live. Empty where each process counts "
            "for itself.",
            Query(largest(series(queries.WORKERS, queries.LIVE), INSTANCE), legend(INSTANCE)),
            unit=NUMBER,
            label="workers",
            whole=True,
            size=_HALF,
        ),
        graph(
            "Workers that ended",
            "How many ended lately, by target. Some of them all the time: a limit of requests for "
            "each worker, or workers that crash. What they counted is kept.",
            Query(
                busiest(total(increase(ended, queries.STEP), INSTANCE), ended, INSTANCE),
                legend(INSTANCE),
            ),
            unit=NUMBER,
            label="workers",
            whole=True,
            size=_HALF,
            at_least=1,
        ),
    ]


def _collector() -> list[Panel]:
    return [
        graph(
            "Collections",
            "How often the garbage collector runs, by generation. Many of generation 2 cost time: "
            "they look at all objects.",
            _by_generation(rate(series(COLLECTIONS))),
            unit="count:runs/s",
            size=_THIRD,
        ),
        graph(
            "Objects collected",
            "Objects in cycles that only the collector could free. A lot of them: break the "
            "cycles, and memory falls at once.",
            _by_generation(rate(series(COLLECTED))),
            unit="count:objects/s",
            size=_THIRD,
            at_least=1,
        ),
        graph(
            "Objects that cannot be collected",
            "Objects the collector found and could not free. Anything above zero is a leak.",
            _by_generation(series(UNCOLLECTABLE)),
            unit=NUMBER,
            label="objects",
            whole=True,
            size=_THIRD,
            at_least=1,
        ),
    ]


def _by_generation(selected: str) -> Query:
    return Query(total(selected, GENERATION), f"generation {legend(GENERATION)}")
