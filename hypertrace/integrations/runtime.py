"""Runtime: the process, its garbage collector and its event loops, without code for them.

The process: `process_cpu_time_seconds_total` by mode, `process_memory_usage_bytes` and
`process_memory_virtual_bytes`, `process_thread_count`, `process_context_switches_total` and
`process_paging_faults_total` by type, `process_unix_file_descriptor_count` and
`process_unix_file_descriptor_limit`, `process_uptime_seconds`. They are read when the metrics are;
what a system does not have is absent.

The garbage collector: `cpython_gc_pause_seconds`, `cpython_gc_collections_total`,
`cpython_gc_collected_objects_total` and `cpython_gc_uncollectable_objects_total` by generation.
Pauses are measured from the installation on, with the compiled core only; the others since the
process was started or forked.

Event loops of asyncio and uvloop: `asyncio_event_loop_lag_seconds`, `asyncio_event_loops` and
`asyncio_tasks` by thread, which is `main` or `other`. A loop counts while it runs. One that runs in
another thread when this is installed counts from its next run on.

The names are those of OpenTelemetry where it has some, and none that `prometheus_client` has:
https://opentelemetry.io/docs/specs/semconv/system/process-metrics/
"""

from __future__ import annotations

import gc
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar
from weakref import ref

from hypertrace._failures import swallow
from hypertrace.metrics.declared.gauges import PullCounter
from hypertrace.metrics.declared.registry import equip_all
from hypertrace.metrics.shared.garbage import GENERATIONS, own_garbage
from hypertrace.pauses import PauseTimer

from . import process
from .event_loops import EventLoops

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from hypertrace.metrics import Metrics, PullGauge, ValuesInstrument
    from hypertrace.metrics.declared.gauges import Read

    from .patches import Patches

_T = TypeVar("_T")

GENERATION = "cpython_gc_generation"

PAUSES = (0.00001, 0.0001, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1)
"""Bounds of buckets, in seconds."""
LAGS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)
"""As above."""


class _Figure(NamedTuple):
    """A gauge, or a counter if the name ends in `_total`, that is read when the metrics are."""

    name: str
    description: str
    read: Read
    label: str = ""
    unit: str = ""


_PROCESS = (
    _Figure(
        "process_cpu_time_seconds_total",
        "Time that processors worked for the process.",
        process.cpu_seconds,
        label="cpu_mode",
        unit="seconds",
    ),
    _Figure(
        "process_memory_usage_bytes",
        "Memory that the process has in RAM.",
        process.resident_memory,
        unit="bytes",
    ),
    _Figure(
        "process_memory_virtual_bytes",
        "Addresses that the process has reserved.",
        process.virtual_memory,
        unit="bytes",
    ),
    _Figure("process_thread_count", "Threads of the process.", process.threads),
    _Figure(
        "process_context_switches_total",
        "How often the system let another thread run.",
        process.context_switches,
        label="process_context_switch_type",
    ),
    _Figure(
        "process_paging_faults_total",
        "How often a page of memory was not in place.",
        process.page_faults,
        label="system_paging_fault_type",
    ),
    _Figure(
        "process_unix_file_descriptor_count",
        "Files and sockets that are open.",
        process.open_files,
    ),
    _Figure(
        "process_unix_file_descriptor_limit",
        "Files and sockets that may be open.",
        process.most_open_files,
    ),
    _Figure(
        "process_uptime_seconds",
        "Time since the process was started.",
        process.uptime,
        unit="seconds",
    ),
)
_GARBAGE = (
    _Figure(
        "cpython_gc_collections_total",
        "Collections of garbage.",
        lambda: dict(enumerate(own_garbage().collections)),
        label=GENERATION,
    ),
    _Figure(
        "cpython_gc_collected_objects_total",
        "Objects that collections of garbage have freed.",
        lambda: dict(enumerate(own_garbage().collected)),
        label=GENERATION,
    ),
    _Figure(
        "cpython_gc_uncollectable_objects_total",
        "Objects that collections of garbage could not free.",
        lambda: dict(enumerate(own_garbage().uncollectable)),
        label=GENERATION,
    ),
)


class Integration:
    """Gives every `Metrics` of the process, those that are made later included, these figures."""

    def __init__(self) -> None:
        """Start without metrics."""
        self._held: dict[ref[Metrics], _Instruments] = {}
        self._loops = EventLoops(self._report_lag)
        self._timer: Any = None if PauseTimer is None else PauseTimer()
        self._figures = (
            *(*_PROCESS, *_GARBAGE),
            _Figure("asyncio_event_loops", "Event loops that run.", self._loops.number, "thread"),
            _Figure("asyncio_tasks", "Tasks that are not done.", self._loops.tasks, "thread"),
        )

    def patch(self, patches: Patches) -> None:
        """Measure from now on.

        Args:
            patches: remembers how to end it.
        """
        patches.then(self._end)
        patches.then(equip_all(self._equip))
        if self._timer is not None:
            gc.callbacks.append(self._timer.time)
            patches.then(lambda: gc.callbacks.remove(self._timer.time))
        self._loops.patch(patches)

    def _equip(self, metrics: Metrics) -> None:
        key = ref(metrics, self._forget)
        if key not in self._held:
            has_pauses = self._timer is not None
            self._held[key] = _Instruments(metrics, self._figures, has_pauses=has_pauses)
            self._update()

    def _forget(self, key: ref[Metrics]) -> None:
        # It runs in a finalizer: there is no lock, and nothing that waits.
        self._held.pop(key, None)
        self._update()

    def _update(self) -> None:
        """Let pauses go to the metrics that there are now."""
        held: list[_Instruments] = []
        while self._timer is not None:
            self._timer.adders = tuple(
                tuple(one.pauses[generation] for one in held if one.pauses)
                for generation in range(GENERATIONS)
            )
            if held == (held := self._instruments()):  # else another thread has changed them
                break

    def _report_lag(self, thread: str, seconds: float) -> None:
        for one in self._instruments():
            if one.lags is not None:
                one.lags.observe(seconds, thread=thread)

    def _instruments(self) -> list[_Instruments]:
        return [*self._held.copy().values()]

    def _end(self) -> None:
        held = self._instruments()
        self._held.clear()
        self._update()
        for one in held:
            one.stop()


class _Instruments:
    """What one `Metrics` has of all this. It does not keep the `Metrics`.

    Attributes:
        lags: gets the lags of event loops; None if the metrics have another one of the name.
        pauses: by the generation, what is called with a pause; empty likewise.
    """

    def __init__(self, metrics: Metrics, figures: Iterable[_Figure], *, has_pauses: bool) -> None:
        pulled = [_tried(_pull, metrics, one) for one in figures]
        self._pulled = [one for one in pulled if one is not None]
        self.lags: ValuesInstrument | None = _tried(_lags_of, metrics)
        self.pauses: Sequence[Callable[[float], object]] = ()
        if has_pauses:
            self.pauses = _tried(_pauses_of, metrics) or ()

    def stop(self) -> None:
        """Read nothing more. Gauges have no value then, and counters keep theirs."""
        for one in self._pulled:
            one.stop()


def _tried(function: Callable[..., _T], *args: Any) -> _T | None:
    """Return what a function returns; None if it raises, as another metric has the name."""
    try:
        return function(*args)
    except Exception as error:  # noqa: BLE001 -- the others are measured all the same
        swallow(error, function)
        return None


def _pull(metrics: Metrics, figure: _Figure) -> PullGauge:
    name, about, read, label, unit = figure
    tags = (label,) if label else ()
    if name.endswith("_total"):
        counter = metrics.counter(name, tags, description=about, unit=unit)
        return metrics._declared.read_gauge(counter, read, tags, PullCounter)
    return metrics.gauge(name, tags, read=read, workers="each", description=about, unit=unit)


def _lags_of(metrics: Metrics) -> ValuesInstrument:
    return metrics.distribution(
        "asyncio_event_loop_lag_seconds",
        ("thread",),
        buckets=LAGS,
        unit="seconds",
        description="Time until an event loop gets round to what another thread asks of it.",
    )


def _pauses_of(metrics: Metrics) -> list[Callable[[float], object]]:
    pauses = metrics.distribution(
        "cpython_gc_pause_seconds",
        (GENERATION,),
        buckets=PAUSES,
        unit="seconds",
        description="Time that collections of garbage took, in which no Python code runs.",
    )
    return [pauses.labels(**{GENERATION: one}).observe for one in range(GENERATIONS)]
