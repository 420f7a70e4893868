"""Parsers of packets of StatsD: what a Datadog agent and Graphite make of the lines in them.

They follow the receivers, and share nothing with what makes the lines.
"""

from __future__ import annotations

from typing import NamedTuple

STATUSES = {b"0": "ok", b"1": "warning", b"2": "critical", b"3": "unknown"}


class Metric(NamedTuple):
    """A line of a metric; the value of a set is text."""

    name: str
    values: list[float] | str
    kind: str
    tags: list[str]
    rate: float = 1
    origin: str = ""


class Event(NamedTuple):
    """A line of an event."""

    title: str
    text: str
    tags: list[str]
    fields: dict[str, str]


class Check(NamedTuple):
    """A line of a service check."""

    name: str
    status: str
    tags: list[str]
    fields: dict[str, str]


def parse(packet: bytes) -> list[Metric | Event | Check]:
    """Divide a packet as an agent does.

    Raises:
        ValueError: an agent would not take one of the lines.
    """
    lines = [line.removesuffix(b"\r") for line in packet.split(b"\n")]
    return [_line(line) for line in lines if line]


def _line(line: bytes) -> Metric | Event | Check:
    if line.startswith(b"_e{"):
        return _event(line)
    if line.startswith(b"_sc"):
        return _check(line)
    return _metric(line)


def _metric(line: bytes) -> Metric:
    named, kind, *fields = line.split(b"|")
    name, separator, value = named.partition(b":")
    if not (name and separator and value):
        raise ValueError(f"no name and value: {line!r}")
    if kind not in {b"c", b"g", b"h", b"d", b"s", b"ms"}:
        raise ValueError(f"no type: {line!r}")
    values = value.decode() if kind == b"s" else [float(one) for one in value.split(b":") if one]
    if not values:
        raise ValueError(f"no value: {line!r}")
    tags: list[str] = []
    rate, origin = 1.0, ""
    for field in fields:
        if field.startswith(b"#"):
            tags = field[1:].decode().split(",")
        elif field.startswith(b"@"):
            rate = float(field[1:])
        else:
            origin += f"|{field.decode()}"
    return Metric(name.decode(), values, kind.decode(), tags, rate, origin)


def _event(line: bytes) -> Event:
    header, separator, rest = line.partition(b":")
    title_size, comma, text_size = header[3:-1].partition(b",")
    if not (separator and comma):
        raise ValueError(f"no header: {line!r}")
    end_of_title, size = int(title_size), int(text_size)
    end = end_of_title + 1 + size
    if not end_of_title or len(rest) < end or rest[end_of_title : end_of_title + 1] != b"|":
        raise ValueError(f"the lengths are wrong: {line!r}")
    if rest[end : end + 1] not in {b"", b"|"}:
        raise ValueError(f"the text does not end where it says: {line!r}")
    title, text = rest[:end_of_title], rest[end_of_title + 1 : end]
    tags, fields = _fields(rest[end + 1 :].split(b"|"))
    return Event(_lines(title), _lines(text), tags, fields)


def _check(line: bytes) -> Check:
    _, name, status, *rest = line.split(b"|")
    if not name:
        raise ValueError(f"no name: {line!r}")
    tags, fields = _fields(rest)
    return Check(name.decode(), STATUSES[status], tags, fields)


def _fields(parts: list[bytes]) -> tuple[list[str], dict[str, str]]:
    tags: list[str] = []
    fields: dict[str, str] = {}
    for part in parts:
        if part.startswith(b"#"):
            tags = part[1:].decode().split(",")
        else:
            name, separator, value = part.partition(b":")
            if not separator or name.decode() in fields:
                raise ValueError(f"no field, or one twice: {part!r}")
            fields[name.decode()] = value.decode()
    if "d" in fields:
        int(fields["d"])
    return tags, fields


def _lines(text: bytes) -> str:
    return text.decode().replace("\\n", "\n")


def parse_graphite(line: bytes) -> tuple[str, dict[str, str], str, str]:
    """Divide a line with tags in its name as Graphite does, after a StatsD daemon.

    Returns:
        The name, its tags, the value, and the type.

    Raises:
        ValueError: they would not take it.
    """
    path, separator, rest = line.decode("ascii").partition(":")
    value, bar, kind = rest.partition("|")
    if not (separator and bar and kind in {"c", "g", "ms"}):
        raise ValueError(f"no value: {line!r}")
    float(value)
    name, *parts = path.split(";")
    tags: dict[str, str] = {}
    for part in parts:
        tag, equals, text = part.partition("=")
        if not (tag and equals and text) or text.startswith("~") or set(tag) & set(";!^="):
            raise ValueError(f"no tag: {part!r}")
        tags[tag] = text
    return name, tags, value, kind
