"""JSON lines exporter: one line of JSON for each interval, with what came in during it."""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING, Any, TypeAlias

from hypertrace.metrics import HistogramReading

from .push import PushExporter

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import Unpack

    from hypertrace.metrics import CountingOptions, Family, Metrics, Reading

    Write: TypeAlias = Callable[[str], object]


class JsonLinesExporter(PushExporter):
    """Writes what was counted as lines of JSON, one for each interval.

    A line has the `time` of the reading in seconds since the epoch, the `pid`, a `sequence` number
    from 1 for each process, and `metrics`: a list of points with `name`, `kind`, `labels` (those
    that have a value) and, as the kind has it, `value`, or `count`, `sum` and `buckets`: a count
    for each upper bound, the last one of `null` for infinity. Counters and histograms are what came
    in since the line before, so adding up all lines gives the totals; series without change are
    left out. Gauges are as they are.

    The thread, failures, forks and the end of the program are as in `PushExporter`.
    """

    def __init__(
        self,
        to: object,
        *,
        metrics: Metrics | None = None,
        interval: float = 10.0,
        **counting: Unpack[CountingOptions],
    ) -> None:
        """Start to write.

        Args:
            to: a path, to whose end each line is appended, opened again each time, so that it may
                be rotated; a file or anything else with `write(text)`; a logger, standard or of
                structlog, which gets the line at INFO; or a function of the line.
            metrics: what to read; None makes one.
            interval: seconds between two lines.
            counting: arguments of `Metrics` for the one that is made.

        Raises:
            OSError: the path cannot be opened.
            TypeError: `to` is none of these, or as in `PushExporter`.
            ValueError: as in `PushExporter`.
        """
        self._write = _writer(to)
        self._lines = os.getpid(), 0  # and how many it has written
        super().__init__(metrics, counting, interval=interval)

    def send(self, reading: Reading) -> None:
        """Write one line."""
        pid, written = self._lines
        if pid != os.getpid():
            pid, written = os.getpid(), 0
        self._write(encode(reading, pid=pid, sequence=written + 1))
        self._lines = pid, written + 1


def encode(reading: Reading, **facts: object) -> str:
    """Return a reading as one line of JSON, without a line break at its end.

    Args:
        reading: what the line says.
        facts: what it says besides.
    """
    points = [point for family in reading.families for point in _points(family)]
    line = {"time": reading.time, **facts, "metrics": points}
    return json.dumps(line, separators=(",", ":"), ensure_ascii=False)


def _points(family: Family) -> Iterator[dict[str, Any]]:
    unit = {"unit": family.unit} if family.unit else {}
    for point in family.points:
        pairs = zip(family.label_names, point.labels, strict=True)
        yield {
            "name": family.name,
            "kind": family.kind,
            **unit,
            "labels": {name: value for name, value in pairs if value},
            **_numbers(point.value),
        }


def _numbers(value: float | HistogramReading) -> dict[str, Any]:
    if not isinstance(value, HistogramReading):
        return {"value": value}
    bounds = (*value.bounds, None)
    return {
        "count": value.count,
        "sum": value.sum,
        "buckets": [list(pair) for pair in zip(bounds, value.counts, strict=True)],
    }


def _writer(to: Any) -> Write:
    if isinstance(to, str | os.PathLike):
        path = os.path.abspath(to)  # noqa: PTH100 -- the program may change its folder later
        _append(path, "")
        return lambda line: _append(path, f"{line}\n")
    if callable(write := getattr(to, "write", None)):
        return lambda line: _write_and_flush(write, getattr(to, "flush", None), line)
    if callable(info := getattr(to, "info", None)):
        return lambda line: info("%s", line) if hasattr(to, "handlers") else info(line)
    if callable(to):
        return to
    raise TypeError(
        "to must be a path, a file or anything else with write(), a logger, or a function of the "
        f"line, not {to!r}"
    )


def _append(path: str, text: str) -> None:
    # One system call for a whole line: those of several processes do not mix.
    descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o666)
    try:
        data = text.encode()
        written = os.write(descriptor, data)
        if written < len(data):
            os.ftruncate(descriptor, os.fstat(descriptor).st_size - written)
            raise OSError(f"no room for {len(data)} bytes in {path}")
    finally:
        os.close(descriptor)


def _write_and_flush(write: Write, flush: Callable[[], object] | None, line: str) -> None:
    write(f"{line}\n")
    if flush is not None:
        flush()
