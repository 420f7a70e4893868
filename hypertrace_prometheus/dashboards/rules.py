"""Recording and alerting rules for Prometheus, for any names of metrics."""

from collections.abc import Sequence
from typing import Any, NamedTuple, Self

from hypertrace.metrics import labels
from hypertrace.metrics.declarations import (
    BUILD,
    CALLS,
    DURATIONS,
    EXCEPTIONS,
    EXPORTS_DROPPED,
    EXPORTS_LAST_SUCCESS,
    OVERFLOWED,
    SERIES,
    SERIES_LIMIT,
    SWALLOWED,
)
from hypertrace.metrics.names import Names
from hypertrace_prometheus.exposition.failures import FAILED

from . import integrated

Rule = dict[str, Any]
Group = dict[str, Any]

ERROR_RATIO = 0.05
"""Share of entries, or spans, that may end with an error."""
SLOW = 1.0
"""Seconds that 95 of 100 entries that people wait for, or spans of a function, may take."""
UNHURRIED = ("job", "command")
"""Kinds of entries that may take longer."""
FILLED = 0.8
"""Share of the limit that series may take."""
UNSENT = 600
"""Seconds that an exporter may take from one success to the next."""
REGULAR = 0.1
"""Calls a second from which a function, or an entry, is missed when its calls stop."""

_RAISED = "raised"
"""Label of exceptions: `inside` where one only passes, so that it is an error in one place."""
_CANCELLATIONS = "CancelledError|Cancelled|GeneratorExit"

_CLASS = ("job", labels.CLASS)
_FUNCTION = ("job", labels.CLASS, labels.FUNCTION)
_ENTRY = ("job", integrated.KIND, integrated.ENTRY)
_NAME = f"{{{{ $labels.{labels.CLASS} }}}}.{{{{ $labels.{labels.FUNCTION} }}}}"
_OF_ENTRY = f"{{{{ $labels.{integrated.KIND} }}}} {{{{ $labels.{integrated.ENTRY} }}}}"
_OF_CLASS = f"{{{{ $labels.{labels.CLASS} }}}}"
_PROCESS = "{{ $labels.instance }}"
_EXPORTER = f"{{{{ $labels.{EXPORTS_DROPPED.labels[0]} }}}}"
_PERCENT = "{{ $value | humanizePercentage }}"


class _Metrics(NamedTuple):
    """Names of what is read and recorded."""

    calls: str
    durations: str
    exceptions: str
    calls_of_classes: str
    calls_of_functions: str
    p95: str
    errors: str
    entries: str
    rate_of_entries: str
    p95_of_entries: str
    errors_of_entries: str

    @classmethod
    def of(cls, shown: Names) -> Self:
        calls, durations = shown.of(CALLS.name), shown.of(DURATIONS.name)
        level = f"{calls.removesuffix('_total')}:rate5m"
        entries = shown.of(integrated.ENTRIES)
        return cls(
            calls,
            durations,
            shown.of(EXCEPTIONS.name),
            f"class:{level}",
            f"function:{level}",
            f"function:{durations}:p95_5m",
            # With the prefix, so that the alerts of two applications are each of one.
            f"class:{shown.of('function_errors')}:ratio_rate5m",
            entries,
            f"entry:{entries}_count:rate5m",
            f"entry:{entries}:p95_5m",
            f"entry:{shown.of('entry_errors')}:ratio_rate5m",
        )


def groups(shown: Names | None = None) -> list[Group]:
    """Return all groups of rules; those that record come first, the alerts read what they made.

    Args:
        shown: what the exporter calls the metrics; None as by default.
    """
    metrics = _Metrics.of(Names() if shown is None else shown)
    return [
        {"name": "hypertrace-recording", "rules": _recording(metrics)},
        {"name": "hypertrace-alerts", "rules": _alerts(metrics)},
    ]


def text(made: Sequence[Group]) -> str:
    """Return groups as a file of rules."""
    return "\n".join(("groups:", *_lines(made))) + "\n"


def total(by: Sequence[str], expression: str) -> str:
    """Sum by labels."""
    return f"sum by ({', '.join(by)}) ({expression})"


def _recording(metrics: _Metrics) -> list[Rule]:
    return [
        {"record": metrics.calls_of_classes, "expr": _rate(metrics.calls, _CLASS)},
        {"record": metrics.calls_of_functions, "expr": _rate(metrics.calls, _FUNCTION)},
        {"record": metrics.p95, "expr": _p95(metrics.durations, _FUNCTION)},
        {
            "record": metrics.errors,
            "expr": _error_ratio(metrics.durations, _CLASS, inside=metrics.exceptions),
        },
        {
            "record": metrics.rate_of_entries,
            "expr": _rate(f"{metrics.entries}_count", _ENTRY),
        },
        {"record": metrics.p95_of_entries, "expr": _p95(metrics.entries, _ENTRY)},
        {"record": metrics.errors_of_entries, "expr": _error_ratio(metrics.entries, _ENTRY)},
    ]


def _p95(durations: str, by: Sequence[str]) -> str:
    return f"histogram_quantile(0.95, {_rate(f'{durations}_bucket', (*by, 'le'))})"


def _error_ratio(durations: str, by: Sequence[str], inside: str = "") -> str:
    """Share that ended with an error: without errors it is 0, without spans it is not there.

    Args:
        durations: the histogram.
        by: labels.
        inside: the counter of exceptions, if those that only pass are not to count.
    """
    spans = f"{durations}_count"
    errors = total(by, f'rate({spans}{{{labels.RESULT}="error"}}[5m])')
    every = total(by, f"rate({spans}[5m])")
    failed = f"({errors} or 0 * {every})"
    if inside:
        matchers = f'{_RAISED}="inside", {labels.EXCEPTION}!~"{_CANCELLATIONS}"'
        passing = total(by, f"rate({inside}{{{matchers}}}[5m])")
        failed = f"clamp_min({failed} - ({passing} or 0 * {every}), 0)"
    return f"{failed} / ({every} > 0)"


def _alerts(metrics: _Metrics) -> list[Rule]:
    return [*_alerts_of_entries(metrics), *_alerts_of_functions(metrics), *_alerts_of_health()]


def _alerts_of_entries(metrics: _Metrics) -> list[Rule]:
    unhurried = "|".join(UNHURRIED)
    return [
        _alert(
            "HypertraceErrorRatio",
            f"{metrics.errors_of_entries} > {ERROR_RATIO}",
            "10m",
            f"{_PERCENT} of {_OF_ENTRY} end with an error",
            "See its errors on the Overview, and the exceptions by type on the Class explorer.",
        ),
        _alert(
            "HypertraceSlow",
            f'{metrics.p95_of_entries}{{{integrated.KIND}!~"{unhurried}"}} > {SLOW}',
            "10m",
            f"{_OF_ENTRY} takes {{{{ $value | humanizeDuration }}}} (p95)",
            "See on the Overview which functions are slow, and what is in progress.",
        ),
        _alert(
            "HypertraceEntrySilent",
            _silent(metrics.rate_of_entries, metrics),
            "5m",
            f"{_OF_ENTRY} was asked for regularly, and no longer is",
            "Nothing has asked for it for 15 minutes, while functions of its job are called.",
        ),
    ]


def _alerts_of_functions(metrics: _Metrics) -> list[Rule]:
    """Make the alerts for jobs without entries: in others, all that a failure passes would fire."""
    without_entries = f"unless on (job) {metrics.rate_of_entries}"
    silent = _silent(metrics.calls_of_functions, metrics)
    silent_entries = _silent(metrics.rate_of_entries, metrics)
    return [
        _alert(
            "HypertraceErrorRatio",
            f"{metrics.errors} > {ERROR_RATIO} {without_entries}",
            "10m",
            f"{_PERCENT} of the spans of {_OF_CLASS} end with an error",
            "See the exceptions by type on the Class explorer.",
        ),
        _alert(
            "HypertraceSlow",
            f"{metrics.p95} > {SLOW} {without_entries}",
            "10m",
            f"{_NAME} takes {{{{ $value | humanizeDuration }}}} (p95)",
            "See the durations on the Class explorer, and what is in progress.",
        ),
        _alert(
            "HypertraceFunctionSilent",
            # An entry that is silent is the cause of functions that are.
            f"{silent} unless on (job) ({silent_entries})",
            "5m",
            f"{_NAME} was called regularly, and no longer is",
            "Nothing has called it for 15 minutes, while other functions of the job are called.",
        ),
    ]


def _silent(rate: str, metrics: _Metrics) -> str:
    regular = f"avg_over_time({rate}[1h] offset 15m) > {REGULAR}"
    # Not while the whole job is silent: then it is down, or not in use.
    alive = f"sum by (job) (max_over_time({metrics.calls_of_functions}[15m])) > 0"
    return f"({regular}) unless (max_over_time({rate}[15m]) > 0) and on (job) ({alive})"


def _alerts_of_health() -> list[Rule]:
    series = f"{SERIES.name} / {SERIES_LIMIT.name}"
    return [
        _alert(
            "HypertraceSeriesNearLimit",
            f"{series} > {FILLED}",
            "15m",
            f"{_PROCESS} holds {_PERCENT} of the series it may, in {{{{ $labels.metric }}}}",
            "Allow fewer props or ids where the series come from (Exporter health), or raise "
            "max_series.",
        ),
        _alert(
            "HypertraceSeriesOverflow",
            f"increase({OVERFLOWED.name}[10m]) > 0",
            "0m",
            f"{_PROCESS} counts new label sets of {{{{ $labels.metric }}}} together",
            "The limit of series is reached: totals are right, single series are too low.",
        ),
        _alert(
            "HypertraceSwallowedErrors",
            f"increase({SWALLOWED.name}[10m]) > 0",
            "0m",
            f"{_PROCESS} has errors inside tracing",
            "The application goes on as if nothing happened; its log has them (logger hypertrace).",
        ),
        _alert(
            "HypertraceFailedCollections",
            f"changes({FAILED.name}[10m]) > 1",  # once may be chance
            "0m",
            f"{_PROCESS} lacks metrics of {{{{ $labels.{FAILED.labels[0]} }}}}",
            "This collector of its registry raises, hangs or repeats a series; the log says where "
            "(logger hypertrace_prometheus).",
        ),
        _alert(
            "HypertraceExportFails",
            f"time() - {EXPORTS_LAST_SUCCESS.name} > {UNSENT}",
            "1m",
            f"{_EXPORTER} of {_PROCESS} has sent nothing for {{{{ $value | humanizeDuration }}}}",
            "Its receiver is down, refuses or hangs; the log has the reason (logger "
            "hypertrace.exporters). Raise the limit of this rule if its interval is longer.",
        ),
        _alert(
            "HypertraceExportDrops",
            f"increase({EXPORTS_DROPPED.name}[10m]) > 0",
            "0m",
            f"{_EXPORTER} of {_PROCESS} gives up lines or events",
            "Its receiver refuses them, they are too long, or a queue is full; the log has the "
            "reason (logger hypertrace.exporters).",
        ),
        _alert(
            "HypertraceTargetDown",
            f"up == 0 and on (job, instance) last_over_time({BUILD.name}[1d])",
            "5m",
            f"{_PROCESS} does not answer Prometheus",
            "Its process is down, busy, or serves its metrics elsewhere.",
            severity="critical",
        ),
    ]


def _alert(  # noqa: PLR0913, PLR0917 -- the parts of an alert
    name: str, expr: str, lasting: str, summary: str, description: str, severity: str = "warning"
) -> Rule:
    return {
        "alert": name,
        "expr": expr,
        "for": lasting,
        "labels": {"severity": severity},
        "annotations": {"summary": summary, "description": description},
    }


def _rate(metric: str, by: Sequence[str]) -> str:
    return total(by, f"rate({metric}[5m])")


def _lines(value: object, indent: str = "  ") -> list[str]:
    """Return the YAML of nested lists and mappings of texts, as far as rules need it."""
    lines: list[str] = []
    if isinstance(value, list):
        for item in value:
            first, *rest = _lines(item, indent + "  ")
            lines += [f"{indent}- {first.strip()}", *rest]
    elif isinstance(value, dict):
        for name, item in value.items():
            if isinstance(item, list | dict):
                lines += [f"{indent}{name}:", *_lines(item, indent + "  ")]
            else:
                lines.append(f"{indent}{name}: {_quoted(item)}")
    return lines


def _quoted(value: object) -> str:
    return "'" + str(value).replace("'", "''") + "'"
