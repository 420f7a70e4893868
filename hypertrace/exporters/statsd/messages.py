"""Messages of DogStatsD: events and service checks, as lines that no text can break."""

from __future__ import annotations

import logging
import re
import time
from collections.abc import Iterable, Mapping
from contextlib import suppress
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Literal, TypeAlias, get_args

from hypertrace import suppress_tracing
from hypertrace.inspection import type_name
from hypertrace.metrics.labels import RESULT

from .lines import tag_pair, tags_text
from .packets import LONGEST_LINE

if TYPE_CHECKING:
    from hypertrace.metrics import EventPoint

    from .datadog import Environment

AlertType: TypeAlias = Literal["error", "warning", "info", "success"]
Priority: TypeAlias = Literal["normal", "low"]
Status: TypeAlias = Literal["ok", "warning", "critical", "unknown"]
MessageTags: TypeAlias = "Mapping[str, object] | Iterable[str] | None"
"""Values by name, or texts as `"name:value"` and `"name"`."""

STATUSES: tuple[Status, ...] = get_args(Status)
"""In the order of their numbers."""

LONGEST_TITLE = 100
"""Characters of a title that Datadog shows."""
_LONGEST_HOST = 255
_LONGEST_FIELD = 100
"""Bytes of other fields, which Datadog cuts there, too."""
_LONGEST_NAME = 200
_END_OF_TIME = 1 << 62
_UNTITLED = "event"
_MORE = "…"

_ALERTS: Mapping[object, AlertType] = {"error": "error", "cancelled": "warning"}
"""Alert types of spans, by how they ended."""

_NO_FIELD = re.compile(r"[^ -{}~]")
"""What would end a field of a line, or is no ASCII."""
_BREAKS = re.compile("\r\n|[\n\r]")

_logger = logging.getLogger("hypertrace.exporters")


class Messages:
    """Makes lines of events and service checks. Immutable; any thread may use it.

    It never raises for what it is given: any value becomes text, and one that has no meaning is
    left out, and logged once.
    """

    def __init__(self, labels: Mapping[str, str], environment: Environment, limit: int) -> None:
        """Know what all lines have.

        Args:
            labels: of the process, which are tags of each line.
            environment: what each line has besides.
            limit: bytes of a line.
        """
        self._tags: dict[str, str] = {**environment.tags, **labels}
        self._origin = environment.origin
        self._limit = limit

    def event(  # noqa: PLR0913 -- a field each
        self,
        title: object,
        text: object,
        *,
        alert_type: object,
        priority: object,
        tags: object,
        aggregation_key: object,
        source_type_name: object,
        hostname: object,
        date_happened: object,
    ) -> bytes:
        """Return the line of an event; `StatsdExporter.event` describes it."""
        fields = {
            "d": str(_seconds(date_happened)),
            "h": _field(hostname, _LONGEST_HOST),
            "k": _field(aggregation_key, _LONGEST_FIELD),
            "p": _one_of("priority", priority, ("normal", "low")),
            "s": _field(source_type_name, _LONGEST_FIELD),
            "t": _one_of("alert_type", alert_type, get_args(AlertType)),
        }
        end = self._end(fields, tags)
        room = self._limit - len(end) - len(f"_e{{{self._limit},{self._limit}}}:|")
        shown = _text(title)[:LONGEST_TITLE] or _UNTITLED
        head = _cut(_one_line(shown), room)
        body = _cut(_one_line(_text(text)), room - len(head))
        return b"_e{%d,%d}:%b|%b%b" % (len(head), len(body), head, body, end)

    def of_point(self, point: EventPoint) -> bytes:
        """Return the line of an event that was traced.

        Tags that are texts are its tags; all, with numbers, are lines of its text.
        """
        said = {**point.tags} if point.value == 1 else {"value": point.value, **point.tags}
        return self.event(
            point.name,
            "\n".join([f"{name}: {value}" for name, value in said.items()]),
            alert_type=_ALERTS.get(point.tags.get(RESULT), "info"),
            priority="normal",
            tags={name: value for name, value in point.tags.items() if isinstance(value, str)},
            aggregation_key=point.name,
            source_type_name="",
            hostname="",
            date_happened=point.time // 1_000_000_000,
        )

    def service_check(  # noqa: PLR0913 -- a field each
        self,
        name: object,
        status: object,
        *,
        message: object,
        tags: object,
        hostname: object,
        timestamp: object,
    ) -> bytes:
        """Return the line of a service check; `StatsdExporter.service_check` describes it."""
        fields = {"d": str(_seconds(timestamp)), "h": _field(hostname, _LONGEST_HOST)}
        end = self._end(fields, tags)
        called = _field(name, _LONGEST_NAME) or "_"
        line = f"_sc|{called}|{_status_number(status)}".encode() + end
        # Last, as the protocol has it: a receiver may take all that follows for the message. One
        # that divides a line at each `|` would take what follows one for other fields.
        said = _one_line(_text(message)).replace("m:", r"m\:").replace("|", "_")
        room = self._limit - len(line) - len("|m:")
        return line + b"|m:" + _cut(said, room) if said and room > 0 else line

    def _end(self, fields: Mapping[str, str], tags: object) -> bytes:
        """Return what follows the text of an event, or the status of a service check."""
        text = "".join([f"|{name}:{value}" for name, value in fields.items() if value])
        end = text + self._origin
        fitting: list[tuple[str, str]] = []
        room = (self._limit - len(end)) // 2 - len("|#")
        for pair in {**self._tags, **_pairs(tags)}.items():
            name, value = tag_pair(*pair)
            size = len(name) + len(value) + len(":,")
            if size <= room:
                fitting.append((name, value))
                room -= size
        return f"{text}{tags_text(fitting)}{self._origin}".encode()


def _text(value: Any) -> str:
    """Return a value as text that has UTF-8."""
    kind = type(value)
    try:
        if value is None:
            return ""
        if issubclass(kind, str):
            text = str.__str__(value)  # a subclass may have another method
        else:
            text = str.__str__(suppress_tracing(str, value))
    except Exception:  # noqa: BLE001 -- the `__str__` of an application may raise anything
        return f"<unprintable {type_name(kind)}>"
    # Cut first: more characters than a line has bytes are never sent.
    return text[: LONGEST_LINE + 1].encode("utf-8", "backslashreplace").decode()


def _one_line(text: str) -> str:
    r"""Return a text with `\n` for each line break, which receivers make one of again."""
    return _BREAKS.sub(r"\\n", text)


def _cut(text: str, size: int) -> bytes:
    """Return the bytes of a text; of a longer one what fits, with an ellipsis at its end."""
    whole = text.encode()
    if len(whole) <= size:
        return whole
    more = _MORE.encode()
    if size < len(more):
        return b""
    part = whole[: size - len(more)].decode("utf-8", "ignore")
    return part.removesuffix("\\").encode() + more  # without one half of a line break


def _field(value: object, size: int) -> str:
    return _NO_FIELD.sub("_", _text(value))[:size]


def _pairs(tags: Any) -> dict[str, str]:
    if tags is None:
        return {}
    try:
        if isinstance(tags, Mapping):
            pairs = [(_text(name), _text(value)) for name, value in tags.items()]
            return {name: value for name, value in pairs if name and value}
        if isinstance(tags, str):
            tags = [tags]
        texts = [_text(tag).partition(":") for tag in tags]
        return {name: value for name, _, value in texts if name}
    except Exception:  # noqa: BLE001 -- whatever is no mapping, and no list
        _report_value("tags", type_name(type(tags)), "a mapping, or a list as ['team:shop']")
        return {}


def _seconds(value: Any) -> int:
    """Return a time in whole seconds since the epoch; this moment for None."""
    if value is not None:
        with suppress(Exception):  # whatever is no number
            seconds = suppress_tracing(int, value)
            if 0 <= seconds < _END_OF_TIME:
                return seconds
        _report_value("time", type_name(type(value)), "seconds since the epoch")
    return int(time.time())


def _one_of(name: str, value: object, known: tuple[str, ...]) -> str:
    """Return a value if it is one of some; else empty text, and log it."""
    if value is None:
        return ""
    text = _text(value)
    if text in known:
        return text
    _report_value(name, repr(text[:_LONGEST_FIELD]), ", ".join(map(repr, known)))
    return ""


def _status_number(status: object) -> int:
    if type(status) is int and 0 <= status < len(STATUSES):
        return status
    name = _text(status)
    if name not in STATUSES:
        shown, known = repr(name[:_LONGEST_FIELD]), ", ".join(map(repr, STATUSES))
        _report(
            f"The status {shown} of a service check is sent as 'unknown': use {known}, or 0 to 3"
        )
        name = "unknown"
    return STATUSES.index(name)


def report_unsupported() -> None:
    """Log once that a message is not sent for want of DogStatsD."""
    _report("An event or a service check is not sent: it needs tags='dogstatsd'")


def _report_value(name: str, given: str, wanted: str) -> None:
    _report(f"A message of DogStatsD goes without its {name}, which is {given}: use {wanted}")


@lru_cache(64)
def _report(message: str) -> None:
    with suppress(Exception):  # a broken log handler must not reach the application
        suppress_tracing(_logger.warning, message)
