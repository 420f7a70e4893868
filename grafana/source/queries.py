"""PromQL, put together from the names that the exporter gives its metrics and labels."""

from dataclasses import dataclass

from hypertrace.metrics import declarations, labels
from hypertrace_prometheus.dashboards.integrated import ENTRIES
from hypertrace_prometheus.exposition.failures import FAILED as _FAILED

CALLS = declarations.CALLS.name
DURATIONS = f"{declarations.DURATIONS.name}_count"
BUCKETS = f"{declarations.DURATIONS.name}_bucket"
EXCEPTIONS = declarations.EXCEPTIONS.name
IN_PROGRESS = declarations.IN_PROGRESS.name
EDGES = declarations.EDGES.name
SERIES = declarations.SERIES.name
SERIES_LIMIT = declarations.SERIES_LIMIT.name
OVERFLOWED = declarations.OVERFLOWED.name
SWALLOWED = declarations.SWALLOWED.name
INVALID = declarations.INVALID.name
DROPPED = declarations.DROPPED.name
UNQUEUED = declarations.UNQUEUED.name
SILENT = declarations.SILENT.name
FAILED = _FAILED.name
EXPORTS_SENT = declarations.EXPORTS_SENT.name
EXPORTS_FAILED = declarations.EXPORTS_FAILED.name
EXPORTS_DROPPED = declarations.EXPORTS_DROPPED.name
EXPORTS_BYTES = declarations.EXPORTS_BYTES.name
EXPORTS_SECONDS = declarations.EXPORTS_SECONDS.name
EXPORTS_LAST_SUCCESS = declarations.EXPORTS_LAST_SUCCESS.name
WORKERS = declarations.WORKERS.name
BUILD = declarations.BUILD.name

METRIC = declarations.SERIES.labels[0]
COLLECTOR = _FAILED.labels[0]
EXPORTER = declarations.EXPORTS_SENT.labels[0]
LIVE, FOLDED = (f'{declarations.STATE}="{state}"' for state in ("live", "folded"))
CLASS = labels.CLASS
FUNCTION = labels.FUNCTION
FILE = labels.FILE
TRACE_ID = labels.TRACE_ID
PARENT_CLASS = labels.PARENT_CLASS
RESULT = labels.RESULT
EXCEPTION = labels.EXCEPTION
FROM_CLASS, FROM_FUNCTION, TO_CLASS, TO_FUNCTION = labels.EDGE

# Labels that Prometheus adds, and variables of Grafana.
INSTANCE = "instance"
STEP = "$__rate_interval"
RANGE = "$__range"

EACH_WORKER = (INSTANCE, labels.WORKER)
"""Labels of a process. Where counts are not shared it has the first one only."""

SHARES = {"p50": 0.5, "p95": 0.95, "p99": 0.99}
"""Quantiles of durations that are shown, by what they are called."""

TOP = 10
"""How many lines a graph has at the most: more cannot be distinguished."""

SCOPE = ('job=~"$job"', f'{INSTANCE}=~"$instance"')
"""Matchers of the targets that a dashboard looks at."""


@dataclass(frozen=True)
class Query:
    """A question to Prometheus, and what the lines of its answer are called."""

    expression: str
    legend: str = ""
    ref: str = "A"


def series(metric: str, *matchers: str) -> str:
    """Select the series of a metric among the targets that are looked at."""
    return f"{metric}{{{', '.join((*SCOPE, *matchers))}}}"


def firing() -> str:
    """Select the alerts that fire; those of no instance are of all."""
    return f'ALERTS{{job=~"$job", {INSTANCE}=~"$instance|", alertstate="firing"}}'


def rate(selected: str, window: str = STEP) -> str:
    """Per second, over a window."""
    return f"rate({selected}[{window}])"


def increase(selected: str, window: str = RANGE) -> str:
    """How much a counter rose over a window."""
    return f"increase({selected}[{window}])"


def total(expression: str, *by: str) -> str:
    """Sum, by some labels."""
    return f"sum by ({', '.join(by)}) ({expression})" if by else f"sum({expression})"


def top(expression: str, count: int = TOP) -> str:
    """Keep the series with the highest values; for queries at one moment only."""
    return f"topk({count}, {expression})"


def busiest(expression: str, selected: str, *by: str, count: int = TOP) -> str:
    """Keep the series whose counter rose most over the whole time range.

    A plain `topk` decides again at each step, so that a graph gets many more lines than it asks
    for, with holes in them.

    Args:
        expression: has the labels `by`.
        selected: the series of the counter.
        by: labels that distinguish the lines of the graph.
        count: how many to keep.
    """
    ranked = top(total(f"increase({selected}[{RANGE}] @ end())", *by), count)
    return f"{expression} and {ranked}"


def busiest_rate(selected: str, *by: str, count: int = TOP) -> str:
    """Rates of the series whose counter rose most."""
    return busiest(total(rate(selected), *by), selected, *by, count=count)


def largest(selected: str, *by: str, count: int = TOP) -> str:
    """Sums of the gauges that are highest at the end of the time range."""
    ranked = top(total(f"{selected} @ end()", *by), count)
    return f"{total(selected, *by)} and {ranked}"


def quantile(share: float, selected: str, *by: str, window: str = STEP) -> str:
    """Quantile of a histogram, given the series of its buckets."""
    return f"histogram_quantile({share}, {total(rate(selected, window), 'le', *by)})"


def limit_used(*by: str, at: str = "") -> str:
    """Share of the series it may hold that the fullest metric holds."""
    share = f"{series(SERIES)} {at} / {series(SERIES_LIMIT)} {at}".replace("  ", " ").rstrip()
    return f"max by ({', '.join(by)}) ({share})" if by else f"max({share})"


def processes() -> str:
    """How many processes there are: the live workers of a target, at least the one that answers."""
    of_target = ("job", INSTANCE)
    workers = total(series(WORKERS, LIVE), *of_target)
    answering = f"count by ({', '.join(of_target)}) ({series(BUILD)})"
    return f"sum(clamp_min({workers}, 1) or {answering})"


def error_ratio(*matchers: str, by: tuple[str, ...] = (), window: str = STEP) -> str:
    """Share of spans that ended with an error; 0 where none did."""
    failed = series(DURATIONS, *matchers, f'{RESULT}="error"')
    return ratio(failed, series(DURATIONS, *matchers), *by, window=window)


def ratio(part: str, whole: str, *by: str, window: str = STEP) -> str:
    """Share that the series of one counter have of others; 0 where they are not there."""
    every = total(rate(whole, window), *by)
    return f"({total(rate(part, window), *by)} or 0 * {every}) / ({every} > 0)"


def or_zero(expression: str, label: str = "", selected: str = "") -> str:
    """Make one series of 0 where there is none, as a counter is not there before it counts.

    Args:
        expression: may give nothing.
        label: the label that names the lines; that of 0 is called none.
        selected: the series; if there are some at any time of the time range, there is no 0.
    """
    zero = f"0 * count({series(BUILD)})"
    if label:
        zero = f'label_replace({zero}, "{label}", "none", "", "")'
    if selected:
        zero = f"({zero} unless on () present_over_time({selected}[{RANGE}] @ end()))"
    return f"{expression} or on () {zero}"


def for_each_entry(selected: str) -> str:
    """How often a counter rises for each entry, on average."""
    entries = series(f"{ENTRIES}_count")
    return f"{total(rate(selected))} / ({total(rate(entries))} > 0)"


def highest(selected: str, *by: str) -> Query:
    """A line for each of the gauges that are highest, or one of 0."""
    return Query(or_zero(largest(selected, *by), by[0], selected), legend(*by, between=" "))


def legend(*names: str, between: str = ".") -> str:
    """Name a line by the values of its labels."""
    return between.join(f"{{{{{name}}}}}" for name in names)


def steepest(selected: str, *by: str) -> Query:
    """A line for each of those whose counter rose most, called by its labels."""
    return Query(busiest_rate(selected, *by), legend(*by))


def by_process(metric: str) -> Query:
    """A line for each of the processes whose gauge is highest."""
    return Query(largest(series(metric), INSTANCE), legend(INSTANCE))


def by_worker(metric: str) -> Query:
    """A line for each worker whose gauge is highest; one a target where there are no workers."""
    return Query(largest(series(metric), *EACH_WORKER), legend(*EACH_WORKER, between=" "))
