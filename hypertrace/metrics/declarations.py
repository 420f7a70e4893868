"""Declarations: what a metric is called, what kind it is, and which labels it has.

A metric is described here and nowhere else. Readings, the names that a counter may not take, the
dashboards and the tables of the documentation follow from it.
"""

from __future__ import annotations

import re
from dataclasses import KW_ONLY, dataclass
from typing import Literal, TypeAlias

from . import labels

Kind: TypeAlias = Literal["counter", "gauge", "histogram", "summary", "info"]

_NAME = re.compile(r"[a-zA-Z_][a-zA-Z0-9_]*")
SUFFIXES = ("_bucket", "_count", "_created", "_info", "_sum")
"""Ends of the names that parts of other kinds of metrics have."""


@dataclass(frozen=True)
class Declaration:
    """What one metric is. The kinds that applications declare are subclasses.

    Attributes:
        kind: `counter`, `gauge`, `histogram`, `summary` or `info`.
        name: of the metric, as Prometheus shows it.
        description: one sentence for people who read the metric.
        unit: of its values, as `seconds`; empty if they are counts.
        labels: names of the labels it adds; a metric of functions has those of the function, too.
    """

    kind: Kind
    name: str
    _: KW_ONLY
    description: str
    unit: str = ""
    labels: tuple[str, ...] = ()


CALLS = Declaration(
    "counter",
    "function_counter_total",  # "counter" in it, as dashboards for the JavaScript exporter ask
    description="How often a traced line ran.",
)
DURATIONS = Declaration(
    "histogram",
    "function_duration_seconds",
    description="How long spans took, by how they ended.",
    unit="seconds",
    labels=(labels.RESULT,),
)
EXCEPTIONS = Declaration(
    "counter",
    "function_exceptions_total",
    description="Exceptions that ended spans; with raised='here' each of them once.",
    labels=(labels.EXCEPTION, labels.RAISED),
)
IN_PROGRESS = Declaration(
    "gauge",
    "function_in_progress",
    description="Spans that have not ended yet.",
)
EDGES = Declaration(
    "counter",
    "function_edges_total",
    description="Spans that started in other spans, by both functions.",
    labels=labels.EDGE,
)

BUILT_IN = (CALLS, DURATIONS, EXCEPTIONS, IN_PROGRESS, EDGES)
"""The metrics of traced functions, in the order in which they are shown."""

_METRIC = "metric"

SERIES = Declaration(
    "gauge",
    "hypertrace_series",
    description="Series held, of each metric.",
    labels=(_METRIC,),
)
SERIES_LIMIT = Declaration(
    "gauge",
    "hypertrace_series_limit",
    description="Series held at the most, of each metric.",
    labels=(_METRIC,),
)
OVERFLOWED = Declaration(
    "counter",
    "hypertrace_overflowed_updates_total",
    description="Updates past the limit, counted in the overflow series.",
    labels=(_METRIC,),
)
SWALLOWED = Declaration(
    "counter",
    "hypertrace_swallowed_errors_total",
    description="Errors raised while tracing and swallowed by hypertrace.",
)
INVALID = Declaration(
    "counter",
    "hypertrace_invalid_values_total",
    description="Values that were no finite numbers, or negative in a sum, by the declared metric.",
    labels=(_METRIC,),
)
DROPPED = Declaration(
    "counter",
    "hypertrace_dropped_events_total",
    description="Events dropped because tracing itself caused them.",
)
UNQUEUED = Declaration(
    "counter",
    "hypertrace_dropped_handler_events_total",
    description="Events that handlers lost, as their queues were full or they were detached.",
)
SILENT = Declaration(
    "gauge",
    "hypertrace_silent_tracers",
    description="Tracers made before the trace function was set, and so disabled: set it earlier.",
    labels=(labels.CLASS,),
)
STATE = "state"
WORKERS = Declaration(
    "gauge",
    "hypertrace_workers",
    description="Processes that count together: live, and folded, which are gone.",
    labels=(STATE,),
)
BUILD = Declaration(
    "info",
    "hypertrace_build_info",
    description="Version of hypertrace, and of the Python that runs it.",
    labels=("version", "python", "implementation"),
)

HEALTH = (
    *(SERIES, SERIES_LIMIT, OVERFLOWED, SWALLOWED, INVALID, DROPPED, UNQUEUED, SILENT),
    *(WORKERS, BUILD),
)
"""The metrics of the counting itself."""

_EXPORTER = ("exporter",)

EXPORTS_SENT = Declaration(
    "counter",
    "hypertrace_export_sent_total",
    description="Readings sent, by the exporter.",
    labels=_EXPORTER,
)
EXPORTS_FAILED = Declaration(
    "counter",
    "hypertrace_export_failed_total",
    description="Attempts to send that failed; what they had is part of the next attempt.",
    labels=_EXPORTER,
)
EXPORTS_DROPPED = Declaration(
    "counter",
    "hypertrace_export_dropped_total",
    description="Lines, points and events that were given up: refused, too long, or without room.",
    labels=_EXPORTER,
)
EXPORTS_BYTES = Declaration(
    "counter",
    "hypertrace_export_bytes_total",
    description="Bytes sent, before compression.",
    unit="bytes",
    labels=_EXPORTER,
)
EXPORTS_SECONDS = Declaration(
    "counter",
    "hypertrace_export_seconds_total",
    description="Time spent to encode and to send, in the thread of the exporter.",
    unit="seconds",
    labels=_EXPORTER,
)
EXPORTS_LAST_SUCCESS = Declaration(
    "gauge",
    "hypertrace_export_last_success_timestamp_seconds",
    description="When a reading was sent last; until one is, when the first attempt began.",
    unit="seconds",
    labels=_EXPORTER,
)

EXPORTS = (
    *(EXPORTS_SENT, EXPORTS_FAILED, EXPORTS_DROPPED, EXPORTS_BYTES, EXPORTS_SECONDS),
    EXPORTS_LAST_SUCCESS,
)
"""The metrics of the exporters that push, where there are some."""

OWN = ("hypertrace_", "process_", "python_")
"""Beginnings of the names that an exporter has besides: no other metric is called so."""

RUNTIME = frozenset(
    (
        "process_context_switches_total",
        "process_cpu_time_seconds_total",
        "process_memory_usage_bytes",
        "process_memory_virtual_bytes",
        "process_paging_faults_total",
        "process_thread_count",
        "process_unix_file_descriptor_count",
        "process_unix_file_descriptor_limit",
        "process_uptime_seconds",
    )
)
"""Names of `hypertrace.integrations.runtime` that begin so, or end like a part, all the same.
OpenTelemetry calls the metrics so, and no exporter has them besides."""

_RESERVED = (*OWN, *(one.name.removesuffix("_total") for one in BUILT_IN if one is not CALLS))


def check_metric_name(what: str, name: object) -> None:
    """Check that a metric that an application names can have a name.

    Args:
        what: the name is called in errors, as `counter_name`.
        name: to check.

    Raises:
        TypeError: it is no `str`.
        ValueError: Prometheus refuses it, or another metric has it. The message says why.
    """
    check_name(what, name, _RESERVED)
    if isinstance(name, str) and name.endswith(SUFFIXES) and name not in RUNTIME:
        raise ValueError(
            f"{what} {name!r} ends like a part of a metric of another type "
            f"({', '.join(SUFFIXES)}); choose another end, '_total' if it only rises"
        )


def check_counter_name(name: object) -> None:
    """Check that the counter of calls can have a name; see `check_metric_name`."""
    check_metric_name("counter_name", name)


def check_name(what: str, name: object, reserved: tuple[str, ...] = OWN) -> None:
    """Check that a metric can have a name, but for the end of it.

    Args:
        what: is checked, for the message.
        name: of the metric.
        reserved: beginnings that it may not have.

    Raises:
        TypeError: it is no `str`.
        ValueError: Prometheus refuses it, or it begins in a reserved way. The message says why.
    """
    if not isinstance(name, str):
        raise TypeError(f"{what} must be a str, not {name!r}")
    if not _NAME.fullmatch(name.removesuffix("_total")):
        raise ValueError(
            f"{what} {name!r} is no name of a metric: it takes letters, digits and '_', "
            "and no digit first"
        )
    if name.startswith(reserved) and name not in RUNTIME:
        raise ValueError(
            f"{what} {name!r} begins like the metrics that the exporter has besides "
            f"({', '.join(reserved)}); choose another"
        )
