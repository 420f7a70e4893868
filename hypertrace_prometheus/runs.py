"""Runs of jobs: when each job has last run, and when it has last succeeded."""

from __future__ import annotations

import re
import time
from typing import TYPE_CHECKING

from .exposition.label_texts import ESCAPES

if TYPE_CHECKING:
    from collections.abc import Mapping
    from types import TracebackType

    from hypertrace.metrics import GaugeInstrument, Metrics

LAST_RUN = "jobs_last_run_timestamp_seconds"
LAST_SUCCESS = "jobs_last_success_timestamp_seconds"
LABEL = "job_name"
"""Of a job: a server of Prometheus sets `job` itself."""

_DESCRIPTIONS = {
    LAST_RUN: "When the job has last ended, in seconds since the epoch.",
    LAST_SUCCESS: "When the job has last ended without an error, in seconds since the epoch.",
}
_ESCAPED = re.compile(r"\\([\\\"n])")


class Run:
    """One run of a job, from the start of a `with` block to its end.

    Its end sets when the job has last run and, if no exception has ended it, when it has last
    succeeded. `SystemExit` with the code 0 or None is a success.
    """

    def __init__(self, metrics: Metrics, job: str) -> None:
        """Prepare a run.

        Args:
            metrics: gets the two gauges.
            job: name of the job.

        Raises:
            TypeError: the name is no `str`.
            ValueError: it is empty, or another metric has the name of one of the gauges.
        """
        if not isinstance(job, str):
            raise TypeError(f"job must be a str, such as 'nightly', not {job!r}")
        if not job:
            raise ValueError("job must be the name of the job, such as 'nightly', and is empty")
        self._job = job
        self._last_run = _gauge(metrics, LAST_RUN)
        self._last_success = _gauge(metrics, LAST_SUCCESS)

    def __enter__(self) -> None:
        """Start."""

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """End; an exception goes on."""
        now = time.time()
        self._last_run.set(now, **{LABEL: self._job})
        if error is None or (isinstance(error, SystemExit) and _is_success(error.code)):
            self._last_success.set(now, **{LABEL: self._job})


def _is_success(code: object) -> bool:
    return code is None or (type(code) in {int, bool} and code == 0)


def _gauge(metrics: Metrics, name: str) -> GaugeInstrument:
    return metrics.gauge(
        name, [LABEL], workers="max", description=_DESCRIPTIONS[name], unit="seconds"
    )


class RunTimes:
    """When jobs have last run and succeeded, read from the lines of a text. Immutable."""

    def __init__(self, values: Mapping[tuple[str, str], Mapping[str, str]]) -> None:
        """Know the times.

        Args:
            values: by the shown name of a gauge and its description, a number for each job.
        """
        self._values = values

    @classmethod
    def read(cls, text: str, metrics: Metrics) -> RunTimes:
        """Return the times that a text has; its other lines are ignored.

        Args:
            text: a page in the text format 0.0.4, perhaps of an earlier program.
            metrics: knows the names that the gauges have on the page.
        """
        values: dict[tuple[str, str], dict[str, str]] = {}
        for name, description in _DESCRIPTIONS.items():
            # Before the first run, with any prefix.
            shown = _shown_name(metrics, name) or f"[a-zA-Z0-9_:]*{name}"
            line = rf'^({shown})\{{{LABEL}="((?:[^"\\\n]|\\.)*+)"\}} ([-+.0-9a-z]+)$'
            for found in re.finditer(line, text, re.MULTILINE):
                jobs = values.setdefault((found[1], description), {})
                jobs[_ESCAPED.sub(_unescaped, found[2])] = found[3]
        return cls(values)

    @property
    def jobs(self) -> list[str]:
        """The names of the jobs."""
        return sorted({job for jobs in self._values.values() for job in jobs})

    def after(self, earlier: RunTimes) -> RunTimes:
        """Return these times, and the earlier ones of jobs that have none here."""
        gauges = {**earlier._values, **self._values}
        return RunTimes(
            {gauge: {**earlier._values.get(gauge, {}), **gauges[gauge]} for gauge in gauges}
        )

    def text(self, job: str | None = None) -> str:
        """Return the gauges in the text format 0.0.4.

        Args:
            job: whose times; None for those of all jobs.
        """
        lines = []
        for (name, description), jobs in self._values.items():
            shown = {one: value for one, value in jobs.items() if job in {None, one}}
            if shown:
                lines += [f"# HELP {name} {description}\n# TYPE {name} gauge\n"]
            lines += [
                f'{name}{{{LABEL}="{one.translate(ESCAPES)}"}} {value}\n'
                for one, value in shown.items()
            ]
        return "".join(lines)


def shown_names(metrics: Metrics) -> frozenset[str]:
    """Return the names that the gauges have on a page; none before the first run."""
    names = {_shown_name(metrics, name) for name in _DESCRIPTIONS}
    return frozenset(name for name in names if name)


def _shown_name(metrics: Metrics, name: str) -> str:
    instrument = metrics.instrument(name)
    return "" if instrument is None else instrument.table.declaration.name


def _unescaped(match: re.Match[str]) -> str:
    return "\n" if match[1] == "n" else match[1]
