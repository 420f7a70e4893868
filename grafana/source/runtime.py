"""Runtime: event loops, garbage collection, and what the system says of the processes."""

from grafana_foundation_sdk.models import dashboard

from hypertrace_prometheus.dashboards import integrated
from hypertrace_prometheus.dashboards.integrated import (
    CPU_MODE,
    FAULT,
    GENERATION,
    SWITCH,
    THREAD,
)

from . import queries
from .board import board
from .graphs import graph
from .panels import heat, number
from .parts import BUSY, BYTES, NUMBER, RATIO, SECONDS, Panel, Size
from .queries import INSTANCE, SHARES, Query, busiest, legend, rate, series, total

UID = "hypertrace-runtime"

_STAT = Size(4, 3)
_HALF = Size(12, 8)
_THIRD = Size(8, 8)
_NO_LOOP = "No event loop runs"
_NO_PAUSES = "Without the compiled core pauses are not measured"


def runtime() -> dashboard.Dashboard:
    """Make the dashboard."""
    return board(
        UID,
        "Hypertrace / Runtime",
        "Event loops, garbage collection and processes: what delays all work at once.",
        [
            ("", _numbers()),
            ("Event loops", _loops()),
            ("Garbage collection", _garbage()),
            ("Processes", _processes()),
        ],
    )


def _quantile(metric: str, share: float, *by: str) -> str:
    return f"{queries.quantile(share, series(f'{metric}_bucket'), *by)} >= 0"


def _numbers() -> list[Panel]:
    return [
        number(
            "Event loop lag, p99",
            "How late a loop calls back, at the worst. All requests of the loop wait as long: "
            "something blocks it, as a computation, or a driver that is not asynchronous.",
            Query(_quantile(integrated.LAGS, 0.99)),
            unit=SECONDS,
            size=_STAT,
            limits=(0.05, 0.25),
            nothing="no loop",
        ),
        number(
            "Tasks",
            "Tasks of event loops that are not done. A number that only rises is a leak.",
            Query(total(series(integrated.TASKS))),
            unit=NUMBER,
            size=_STAT,
            decimals=0,
            nothing="no loop",
        ),
        number(
            "GC pause, p99",
            "How long the process stands still for a collection of garbage, at the worst.",
            Query(_quantile(integrated.PAUSES, 0.99)),
            unit=SECONDS,
            size=_STAT,
            limits=(0.05, 0.25),
            nothing="none",
        ),
        number(
            "Time in GC",
            "Share of the time that the processes stand still for collections of garbage. Above a "
            "few percent: freeze what lives long (`gc.freeze()`), or raise the threshold.",
            Query(
                f"{total(rate(series(f'{integrated.PAUSES}_sum')))} / "
                f"{total(series(queries.WORKERS, queries.LIVE))}"
            ),
            unit=RATIO,
            size=_STAT,
            limits=(0.05, 0.2),
            decimals=2,
            nothing="none",
        ),
        number(
            "Memory",
            "What the processes hold in RAM, all together. Look for a level that rises day by day.",
            Query(total(series(integrated.MEMORY))),
            unit=BYTES,
            size=_STAT,
        ),
        number(
            "File limit used",
            "How near the processes are to the number of files and sockets they may have open.",
            Query(f"max({series(integrated.FILES)} / {series(integrated.MOST_FILES)})"),
            unit=RATIO,
            size=_STAT,
            limits=(0.7, 0.9),
            decimals=1,
        ),
    ]


def _loops() -> list[Panel]:
    return [
        graph(
            "Event loop lag",
            "From when a callback is due to its call, by the loop's own clock of once a second. "
            "Peaks of p99 alone are single requests that block the others.",
            *(
                Query(_quantile(integrated.LAGS, share), name, ref)
                for ref, (name, share) in zip("ABC", SHARES.items(), strict=True)
            ),
            unit=SECONDS,
            size=_THIRD,
            logarithmic=True,
        ),
        graph(
            "Tasks by thread",
            "Tasks that are not done, of the main thread and of others. It should follow the load "
            "and come back.",
            queries.highest(series(integrated.TASKS), THREAD),
            unit=NUMBER,
            label="tasks",
            whole=True,
            size=_THIRD,
        ),
        graph(
            "Event loops",
            "Loops that run. More than there are workers: threads that have their own.",
            queries.highest(series(integrated.LOOPS), THREAD),
            unit=NUMBER,
            label="loops",
            whole=True,
            size=_THIRD,
        ),
    ]


def _garbage() -> list[Panel]:
    return [
        heat(
            "GC pauses",
            "How many collections took how long; the darker, the more. The upper band is "
            "generation 2, which looks at all objects.",
            total(queries.increase(series(f"{integrated.PAUSES}_bucket"), queries.STEP), "le"),
            size=_HALF,
        ),
        graph(
            "Time in GC by generation",
            "Seconds a second that the processes stand still. Rising with memory: generation 2.",
            _by_generation(rate(series(f"{integrated.PAUSES}_sum"))),
            unit=RATIO,
            size=_HALF,
            stacked=True,
            nothing=_NO_PAUSES,
        ),
        graph(
            "Collections by generation",
            "How often the garbage collector runs. Many of generation 2 cost time: they look at "
            "all objects.",
            _by_generation(rate(series(integrated.COLLECTIONS))),
            unit="count:runs/s",
            size=_THIRD,
        ),
        graph(
            "Objects freed by generation",
            "Objects in cycles that only the collector could free. A lot of them: break the "
            "cycles, and memory falls at once.",
            _by_generation(rate(series(integrated.COLLECTED))),
            unit="count:objects/s",
            size=_THIRD,
            at_least=1,
        ),
        graph(
            "Objects that cannot be freed",
            "Objects the collector found and could not free. Anything above zero is a leak.",
            _by_generation(series(integrated.UNCOLLECTABLE)),
            unit=NUMBER,
            label="objects",
            whole=True,
            size=_THIRD,
            at_least=1,
        ),
    ]


def _by_generation(selected: str) -> Query:
    return Query(total(selected, GENERATION), f"generation {legend(GENERATION)}")


def _processes() -> list[Panel]:
    cpu = series(integrated.CPU)
    return [
        graph(
            "CPU by mode",
            "Processors in use: `user` is the application, `system` is what it asks of the "
            "kernel. Much of `system` is input and output in small pieces.",
            Query(total(rate(cpu), CPU_MODE), legend(CPU_MODE)),
            unit=NUMBER,
            label="cores",
            size=_THIRD,
            stacked=True,
        ),
        graph(
            "CPU by target",
            "Processors in use by the workers of a target, all together. At the number of workers "
            "it can do no more.",
            Query(busiest(total(rate(cpu), INSTANCE), cpu, INSTANCE), legend(INSTANCE)),
            unit=NUMBER,
            label="cores",
            size=_THIRD,
            limits=BUSY,
        ),
        _by_type(
            "Context switches",
            "How often another thread ran: `voluntary` ones wait for input and output, "
            "`involuntary` ones were stopped, as there are more threads than processors.",
            integrated.SWITCHES,
            SWITCH,
            "count:switches/s",
        ),
        _by_worker(
            "Memory by worker",
            "What the processes hold in RAM. A staircase without end is a leak.",
            integrated.MEMORY,
            BYTES,
        ),
        _by_worker(
            "Address space by worker",
            "What the processes have reserved. Only of interest where it grows while memory does "
            "not: threads, mappings of files.",
            integrated.ADDRESSES,
            BYTES,
        ),
        _by_type(
            "Page faults",
            "How often memory was not in place. `major` ones read the disk: the machine has too "
            "little memory.",
            integrated.FAULTS,
            FAULT,
            "count:faults/s",
        ),
        _by_worker(
            "Threads by worker",
            "It should follow the load and come back; steps upward are pools made again and again.",
            integrated.THREADS,
            NUMBER,
            "threads",
        ),
        _by_worker(
            "Open files by worker",
            "Files and sockets. A line that never falls is something that is never closed.",
            integrated.FILES,
            NUMBER,
            "files",
        ),
        _by_worker(
            "Uptime by worker",
            "For how long each process has been running. A fall is a restart, or a worker that "
            "was replaced.",
            integrated.UPTIME,
            SECONDS,
        ),
    ]


def _by_worker(title: str, description: str, metric: str, unit: str, label: str = "") -> Panel:
    return graph(
        title,
        description,
        queries.by_worker(metric),
        unit=unit,
        label=label,
        whole=bool(label),
        size=_THIRD,
    )


def _by_type(title: str, description: str, metric: str, label: str, unit: str) -> Panel:
    return graph(
        title,
        description,
        Query(total(rate(series(metric)), label), legend(label)),
        unit=unit,
        size=_THIRD,
    )
