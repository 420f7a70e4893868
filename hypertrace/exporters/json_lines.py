"""JSON lines exporter: one line of JSON for each interval, with what came in during it."""

from __future__ import annotations

import json
import os
import time
from collections import deque
from datetime import UTC, datetime, timedelta
from math import isfinite
from typing import TYPE_CHECKING, Any

from hypertrace.metrics import ExponentialReading, HistogramReading, SummaryReading

from .events import MAX_EVENTS
from .push import PushExporter
from .writers import writer_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence
    from typing import Unpack

    from hypertrace.metrics import CountingOptions, EventPoint, Family, Metrics, Reading
    from hypertrace.metrics.declared.selections import Selected
    from hypertrace.metrics.reading import Value

_encode = json.JSONEncoder(separators=(",", ":"), allow_nan=False).encode

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_SECOND = 1_000_000_000
_LINES_AT_ONCE = 100


class JsonLinesExporter(PushExporter):
    """Writes what was counted as lines of JSON, one for each interval; and one for each event.

    The line of a reading has the `time` of the reading; the `pid` of the process and when the
    exporter `started` in it; a random `session` of both, and a `sequence` number from 1; the
    `labels` of the process, if it has any; and `metrics`: a list of points with `name`, `kind`,
    `unit` if it has one, `labels` (those that have a value) and, as the kind has it, `value`, or
    `count` and `sum` with `buckets`: a count for each upper bound, the last of which is `null` for
    infinity. Summaries have `quantiles` instead: a value for each, `null` if there was none in the
    window. Native histograms have their `schema`, `zero`: threshold and count, and `positive` and
    `negative`: a count for each index of a bucket that is not empty. Times are in seconds since the
    epoch. Lines are ASCII.

    Counters, histograms, and `count` and `sum` of summaries are what came in since the line before:
    adding up all lines gives the totals. Series without change are left out. Gauges and quantiles
    are as they are. A line may be written again
    after a failure that happened too late, with what came in meanwhile: of lines with the same
    `session` and `sequence` the last one counts.

    The line of an event has its `timestamp` (ISO 8601, UTC), `level` (always `info`), `event` (the
    name of the declared metric, or `Class.function`), `value`, and each of its tags by its name.
    `labels`, `pid`, `session` and `sequence` are those of readings, and a tag that is called like
    one of these keys has a `_` behind its name. Events and readings share the sequence, and so do
    events that were dropped: each number that is missing is a line that was lost.

    The thread, failures, forks and the end of the program are as in `PushExporter`.
    """

    def __init__(
        self,
        to: object,
        *,
        events: Iterable[Selected] = (),
        max_events: int = MAX_EVENTS,
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
            events: what selects the events that have lines: patterns on `Class.function`,
                `EventPattern`, or declared metrics.
            max_events: how many of them may wait to be written.
            metrics: what to read; None makes one.
            interval: seconds between two readings.
            counting: arguments of `Metrics` for the one that is made.

        Raises:
            OSError: the path cannot be opened.
            TypeError: `to` is none of these, or as in `PushExporter`.
            ValueError: a file that is not open for writing, or as in `PushExporter`.
            RuntimeError: as in `PushExporter`.
        """
        self._write = writer_of(to)
        self._lines_at_once = _LINES_AT_ONCE if isinstance(to, str | os.PathLike) else 1
        super().__init__(metrics, counting, interval=interval, events=events, max_events=max_events)

    def begin(self) -> None:
        """Begin a session, whose lines are numbered from 1."""
        self._started = time.time()
        self._session = os.urandom(8).hex()
        self._sequence: int | None = None

    def encode(self, reading: Reading) -> str:
        """Return the line of a reading, without a line break at its end."""
        if self._sequence is None:
            self._sequence = self._events.next_number()
        return encode(
            reading,
            pid=os.getpid(),
            started=self._started,
            session=self._session,
            sequence=self._sequence,
        )

    def send(self, encoded: str) -> None:
        """Write the line."""
        self._write(encoded)
        self._sequence = None
        self.count_bytes(len(encoded) + 1)

    def encode_events(self, points: Sequence[EventPoint]) -> deque[str]:
        """Return the lines of events, without line breaks at their ends.

        A file that is opened each time gets several at once.
        """
        labels = self.forwards_to.labels
        facts: dict[str, object] = {"pid": os.getpid(), "session": self._session}
        if labels:
            facts = {"labels": dict(labels), **facts}
        lines, size = [encode_event(point, facts) for point in points], self._lines_at_once
        return deque("\n".join(lines[at : at + size]) for at in range(0, len(lines), size))

    def send_events(self, encoded: deque[str]) -> None:
        """Write the lines; those that were written are not part of the next attempt."""
        while encoded:
            self._write(encoded[0])
            self.count_bytes(len(encoded.popleft()) + 1)


_KEYS = frozenset(("timestamp", "level", "event", "value", "labels", "pid", "session", "sequence"))
"""Keys of an event's line that are no tags."""


def encode_event(point: EventPoint, facts: Mapping[str, object]) -> str:
    """Return an event as one line of JSON, without a line break at its end.

    Args:
        point: the event.
        facts: what the line says besides.
    """
    tags: dict[str, object] = {}
    for label, value in point.tags.items():
        key = label
        while key in _KEYS or key in tags or (key != label and key in point.tags):
            key += "_"
        tags[key] = value
    return _encode(
        {
            "timestamp": timestamp(point.time),
            "level": "info",
            "event": point.name,
            "value": point.value,
            **tags,
            **facts,
            "sequence": point.number,
        }
    )


def timestamp(time: int) -> str:
    """Return a time as ISO 8601 in UTC, as `2026-11-30T09:30:00.000000001Z`.

    Args:
        time: nanoseconds since the epoch.
    """
    seconds, nanoseconds = divmod(time, _SECOND)
    return f"{(_EPOCH + timedelta(seconds=seconds)).isoformat()[:19]}.{nanoseconds:09d}Z"


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
