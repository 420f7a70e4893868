"""JSON lines exporter: one line of JSON for each interval, with what came in during it."""

from __future__ import annotations

import inspect
import io
import json
import os
import stat
import time
from contextlib import suppress
from math import isfinite
from typing import TYPE_CHECKING, Any, TypeAlias

from hypertrace.metrics import ExponentialReading, HistogramReading, SummaryReading

from .push import PushExporter

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import Unpack

    from hypertrace.metrics import CountingOptions, Family, Metrics, Reading
    from hypertrace.metrics.reading import Value

    Write: TypeAlias = Callable[[str], object]

_encode = json.JSONEncoder(separators=(",", ":"), allow_nan=False).encode

_NO_WAITING = getattr(os, "O_NONBLOCK", 0)
_AS_IT_IS = getattr(os, "O_BINARY", 0)
"""On Windows: else it changes line breaks."""


class JsonLinesExporter(PushExporter):
    """Writes what was counted as lines of JSON, one for each interval.

    A line has the `time` of the reading; the `pid` of the process and when the exporter `started`
    in it; a `sequence` number from 1; the `labels` of the process, if it has any; and `metrics`: a
    list of points with `name`, `kind`, `unit` if it has one, `labels` (those that have a value)
    and, as the kind has it, `value`, or `count` and `sum` with `buckets`: a count for each upper
    bound, the last of which is `null` for infinity. Summaries have `quantiles` instead: a value for
    each, `null` if there was none in the window. Native histograms have their `schema`, `zero`:
    threshold and count, and `positive` and `negative`: a count for each index of a bucket that is
    not empty. Times are in seconds since the epoch. Lines are ASCII.

    Counters, histograms, and `count` and `sum` of summaries are what came in since the line before:
    adding up all lines gives the totals. Series without change are left out. Gauges and quantiles
    are as they are. A line may be written again
    after a failure that happened too late, with what came in meanwhile: of lines with the same
    `pid`, `started` and `sequence` the last one counts.

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
                be rotated; a text file or anything else with `write(text)`; a logger, standard or
                of structlog, which gets the line at INFO; or a function of the line. It is called
                in the thread of the exporter, also in forked children.
            metrics: what to read; None makes one.
            interval: seconds between two lines.
            counting: arguments of `Metrics` for the one that is made.

        Raises:
            OSError: the path cannot be opened.
            TypeError: `to` is none of these, or as in `PushExporter`.
            ValueError: a file that is not open for writing, or as in `PushExporter`.
            RuntimeError: as in `PushExporter`.
        """
        self._write = _writer(to)
        super().__init__(metrics, counting, interval=interval)

    def begin(self) -> None:
        """Count lines from 1."""
        self._started = time.time()
        self._sequence = 1

    def encode(self, reading: Reading) -> str:
        """Return the line, without a line break at its end."""
        return encode(reading, pid=os.getpid(), started=self._started, sequence=self._sequence)

    def send(self, encoded: str) -> None:
        """Write the line."""
        self._write(encoded)
        self._sequence += 1
        self.count_bytes(len(encoded) + 1)


def encode(reading: Reading, **facts: object) -> str:
    """Return a reading as one line of JSON, without a line break at its end.

    Args:
        reading: what the line says.
        facts: what it says besides.
    """
    # Point by point: other threads stand still while one call encodes all of them.
    points = [_encode(point) for family in reading.families for point in _points(family)]
    labels = {"labels": reading.labels} if reading.labels else {}
    head = _encode({"time": reading.time, **facts, **labels})
    return f'{head[:-1]},"metrics":[{",".join(points)}]}}'


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


def _numbers(value: Value) -> dict[str, Any]:
    if isinstance(value, int | float):
        return {"value": _finite(value)}
    return {"count": value.count, "sum": _finite(value.sum), **_parts(value)}


def _parts(value: HistogramReading | ExponentialReading | SummaryReading) -> dict[str, Any]:
    if isinstance(value, HistogramReading):
        return {"buckets": list(zip((*value.bounds, None), value.counts, strict=True))}
    if isinstance(value, SummaryReading):
        return {"quantiles": [(at, _finite(found)) for at, found in value.quantiles.items()]}
    return {
        "schema": value.schema,
        "zero": [value.zero_threshold, value.zero_count],
        "positive": sorted(value.positive.items()),
        "negative": sorted(value.negative.items()),
    }


def _finite(value: float) -> float | None:
    """Return a number as JSON has it, which knows no infinity."""
    return value if isfinite(value) else None


def _writer(to: Any) -> Write:
    if isinstance(to, str | os.PathLike):
        return _appender(to)
    if isinstance(to, type):
        raise TypeError(f"to must be an object, and {to.__name__} is a class: make one of it")
    if _can_be_called(getattr(to, "write", None)):
        return _file_writer(to)
    if _can_be_called(getattr(to, "info", None)):
        # Asked for each time: structlog makes the method as it is configured by then.
        return lambda line: to.info(line)  # noqa: PLW0108 -- as above
    if _can_be_called(to):
        return to  # type: ignore[no-any-return]  # what it returns is ignored
    raise TypeError(
        "to must be a path, a text file or anything else with write(), a logger, or a function of "
        f"the line that is no coroutine or generator function, not {to!r}"
    )


_NOT_RUN = inspect.iscoroutinefunction, inspect.isgeneratorfunction, inspect.isasyncgenfunction
"""Whether a function does nothing when it is called, and is to be awaited or iterated."""


def _can_be_called(function: Any) -> bool:
    """Whether a function does something when it is called."""
    called = getattr(function, "__call__", None)  # noqa: B004 -- the method itself is looked at
    return callable(function) and not any(
        is_kind(one) for is_kind in _NOT_RUN for one in (function, called)
    )


def _file_writer(file: Any) -> Write:
    if isinstance(file, io.RawIOBase | io.BufferedIOBase):
        raise TypeError(f"to must be a text file, and {file!r} takes bytes: open it as text")
    if isinstance(file, io.IOBase) and not file.writable():
        raise ValueError(f"to must be open for writing, which {file!r} is not")
    flush = getattr(file, "flush", None)

    def write(line: str) -> None:
        file.write(f"{line}\n")
        if callable(flush):
            flush()

    return write


def _appender(path: Any) -> Write:
    absolute = os.path.abspath(path)  # noqa: PTH100 -- the program may change its folder later
    os.close(_open(absolute))  # raises now what would fail later
    return lambda line: _append(absolute, f"{line}\n".encode())


def _open(path: str) -> int:
    # Without waiting for a reader, as a named pipe would.
    flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | _NO_WAITING | _AS_IT_IS
    return os.open(path, flags, 0o666)


def _append(path: str, line: bytes) -> None:
    descriptor = _open(path)
    try:
        if stat.S_ISREG(os.fstat(descriptor).st_mode):
            _append_to_file(descriptor, line if _ends_a_line(path) else b"\n" + line)
        else:
            _write_all(descriptor, line)
    finally:
        os.close(descriptor)


def _append_to_file(descriptor: int, line: bytes) -> None:
    # One system call for a whole line: those of several processes do not mix.
    written = os.write(descriptor, line)
    if written == len(line):
        return
    end = os.lseek(descriptor, 0, os.SEEK_CUR)
    if end == os.fstat(descriptor).st_size:  # no other process has appended meanwhile
        os.ftruncate(descriptor, end - written)
    raise OSError(f"no room for a line of {len(line)} bytes")


def _ends_a_line(path: str) -> bool:
    """Whether a file is empty or ends in a line break, unlike after a process was killed.

    While another process writes, it may seem not to; then an empty line is written between the two.
    """
    with suppress(OSError), open(path, "rb") as file:  # noqa: PTH123 -- as fast as it gets
        if file.seek(0, os.SEEK_END):
            file.seek(-1, os.SEEK_END)
            return file.read(1) == b"\n"
    return True


def _write_all(descriptor: int, line: bytes) -> None:
    """Write to a pipe or a terminal, which may take a part at a time."""
    os.set_blocking(descriptor, True)
    while line:
        line = line[os.write(descriptor, line) :]
