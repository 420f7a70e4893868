"""Console exporter: events, or what was counted, as lines for people."""

from __future__ import annotations

import json
import os
import sys
from collections import deque
from datetime import UTC, datetime, timedelta
from math import isfinite
from typing import TYPE_CHECKING, Any, TypeAlias

from .events import MAX_EVENTS
from .push import PushExporter
from .writers import writer_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from typing import Unpack

    from hypertrace.metrics import CountingOptions, EventPoint, Family, Metrics, Reading
    from hypertrace.metrics.declared.selections import Selected, Tag
    from hypertrace.metrics.reading import Value

    _Gauges: TypeAlias = dict[tuple[str, tuple[str, ...]], Value]

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_CLASS, _FUNCTION, _FILE, _ID = "object_classname", "caller_functionname", "caller_filename", "id"
_SHORTER = {"object_props_": "", "caller_props_": "", "parent_object_props_": "parent."}
"""Beginnings of labels, and what is shown instead."""
_UNITS = {1.0: "s", 1e-3: "ms", 1e-6: "µs"}

_DIM, _BOLD, _RED, _END = "\x1b[2m", "\x1b[1m", "\x1b[31m", "\x1b[0m"


class ConsoleExporter(PushExporter):
    """Shows events, or what was counted, as lines for people.

        13:47:25.123 Checkout.pay card 4.21 ms channel=web amount=12.5 result=ok
        13:47:30.000 function_counter_total +3 Checkout.pay card channel=web

    With `events` there is a line for each event, and none for readings. Without them there is one
    for each series that changed in an interval: how much was added to a counter; how many values a
    distribution or a summary got, and their mean; the value of a gauge. Times are local ones.

    Lines have colours on a terminal, unless the environment has `NO_COLOR`. Characters that are not
    printable are escaped.

    The thread, failures, forks and the end of the program are as in `PushExporter`.
    """

    def __init__(
        self,
        to: object = None,
        *,
        events: Iterable[Selected] = (),
        max_events: int = MAX_EVENTS,
        metrics: Metrics | None = None,
        interval: float = 1.0,
        **counting: Unpack[CountingOptions],
    ) -> None:
        """Start to show.

        Args:
            to: as in `JsonLinesExporter`; None is stderr.
            events: what selects the events that are shown: patterns on `Class.function`,
                `EventPattern`, or declared metrics.
            max_events: how many of them may wait to be shown.
            metrics: what to read; None makes one.
            interval: seconds for which events and counts are collected before they are shown.
            counting: arguments of `Metrics` for the one that is made.

        Raises:
            OSError: the path cannot be opened.
            TypeError: `to` is none of these, or as in `PushExporter`.
            ValueError: a file that is not open for writing, or as in `PushExporter`.
            RuntimeError: as in `PushExporter`.
        """
        to = sys.stderr if to is None else to
        self._write = writer_of(to)
        self._look = Look(
            has_colours=has_colours(to), encoding=getattr(to, "encoding", None) or "utf-8"
        )
        super().__init__(metrics, counting, interval=interval, events=events, max_events=max_events)

    def begin(self) -> None:
        """Forget the values that gauges had."""
        self._gauges: _Gauges = {}
        self._read_gauges: _Gauges = {}

    def encode(self, reading: Reading) -> list[str]:
        """Return the lines of the series that changed; none if events are selected."""
        if self._events.are_selected:
            return []
        self._read_gauges = {}
        time = round(reading.time * 1_000) * 1_000_000
        return [
            self._look.line(time, family.name, change, dict(zip(names, labels, strict=True)))
            for family, names in ((each, each.label_names) for each in reading.families)
            if not family.name.startswith("hypertrace_")
            for labels, value in family.points
            if (change := self._change(family, labels, value))
        ]

    def send(self, encoded: list[str]) -> None:
        """Write the lines."""
        for line in encoded:
            self._show(line)
        self._gauges = self._read_gauges

    def encode_events(self, points: Sequence[EventPoint]) -> deque[str]:
        """Return the lines of events."""
        return deque(map(self._look.event, points))

    def send_events(self, encoded: deque[str]) -> None:
        """Write the lines; those that were written are not part of the next attempt."""
        while encoded:
            self._show(encoded[0])
            encoded.popleft()

    def _show(self, line: str) -> None:
        self._write(line)
        self.count_bytes(len(line.encode(errors="replace")) + 1)

    def _change(self, family: Family, labels: tuple[str, ...], value: Value) -> str:
        """Return how a series changed; nothing if it did not."""
        if not isinstance(value, int | float):
            mean = _number(value.sum / value.count, family.unit) if value.count else ""
            return f"+{value.count} mean {mean}" if mean else ""
        if family.kind == "counter":
            return f"+{_number(value)}"
        key = family.name, labels
        self._read_gauges[key] = value
        return "" if self._gauges.get(key) == value else _number(value, family.unit)


class Look:
    """What lines look like, and in which encoding they must be."""

    def __init__(self, *, has_colours: bool, encoding: str) -> None:
        self._has_colours = has_colours
        self._encoding = encoding

    def event(self, point: EventPoint) -> str:
        """Return the line of an event."""
        tags = dict(point.tags)
        # Names of declared metrics have no dot.
        is_function = "." in point.name
        value = "" if is_function else _number(point.value)
        if is_function and isinstance(duration := tags.pop("duration", None), float):
            value = _number(duration, "seconds")
        for label in (_CLASS, _FUNCTION) if is_function else ():
            tags.pop(label, None)
        return self.line(point.time, point.name, value, tags)

    def line(self, time: int, name: str, value: str, tags: Mapping[str, Tag]) -> str:
        """Return a line.

        Args:
            time: nanoseconds since the epoch.
            name: of the metric or the function.
            value: as it is shown.
            tags: with their values; those without one are left out.
        """
        others = dict(tags)
        function = [str(others.pop(label, "")) for label in (_CLASS, _FUNCTION)]
        id = others.pop(_ID, "")
        others.pop(_FILE, None)
        parts = [
            self._painted(_DIM, _clock(time)),
            self._painted(_BOLD, _shown(name)),
            _shown(".".join(filter(None, function))),
            _text(id),
            value,
            *(self._tag(label, tag) for label, tag in others.items() if tag != ""),
        ]
        line = " ".join(filter(None, parts))
        return line.encode(self._encoding, "backslashreplace").decode(self._encoding)

    def _tag(self, label: str, tag: Tag) -> str:
        shown = f"{_shown(_short(label))}={_text(tag)}"
        is_error = (label == "result" and tag == "error") or label == "exception"
        return self._painted(_RED, shown) if is_error else shown

    def _painted(self, colour: str, text: str) -> str:
        return f"{colour}{text}{_END}" if self._has_colours else text


def has_colours(to: Any) -> bool:
    """Return whether lines may have colours: a terminal shows them, and nothing says not to."""
    isatty = getattr(to, "isatty", None)
    if not callable(isatty) or os.environ.get("NO_COLOR") or os.environ.get("TERM") == "dumb":
        return False
    return isatty() is True


def _clock(time: int) -> str:
    moment = (_EPOCH + timedelta(microseconds=time // 1_000)).astimezone()
    return moment.isoformat(timespec="milliseconds")[11:23]


def _short(label: str) -> str:
    for beginning, shorter in _SHORTER.items():
        if label.startswith(beginning):
            return shorter + label.removeprefix(beginning)
    return label


def _text(tag: Tag) -> str:
    if not isinstance(tag, str):
        return str(tag).lower() if isinstance(tag, bool) else _number(tag)
    is_word = tag.isprintable() and not any(sign in tag for sign in ' ="\\')
    return tag if is_word else _shown(json.dumps(tag, ensure_ascii=False))


def _shown(text: str) -> str:
    """Return a text without characters that a terminal would act on."""
    return "".join(
        each if each.isprintable() else each.encode("unicode_escape").decode() for each in text
    )


def _number(value: float, unit: str = "") -> str:
    if unit != "seconds" or not isfinite(value):
        return f"{value:.6g}" if isinstance(value, float) else str(value)
    for size, name in _UNITS.items():
        if abs(value) >= size:
            return f"{value / size:.3g} {name}"
    return f"{value / 1e-6:.3g} µs" if value else "0 s"
