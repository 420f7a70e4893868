"""Packets of StatsD: lines that are sent together."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from hypertrace.metrics.series import Series

    Amount: TypeAlias = "tuple[tuple[str, Series, str | float], float]"

LONGEST_LINE = 8192
"""Bytes: the buffer of receivers, which would cut a longer line."""


class Line(NamedTuple):
    """Text that stays in one packet.

    Attributes:
        text: of one line, or of several.
        amounts: what it says, by parts of series.
    """

    text: bytes
    amounts: Iterable[Amount] = ()


class Packet(NamedTuple):
    """Lines that are sent together."""

    text: bytes
    lines: Sequence[Line]


def pack(lines: Sequence[Line], limit: int) -> list[Packet]:
    """Fill packets with lines; one that is longer than the limit is alone.

    Args:
        lines: each stays in one packet.
        limit: bytes of a packet.
    """
    packets: list[Packet] = []
    start = size = 0
    for at, line in enumerate(lines):
        length = len(line[0]) + 1
        size += length
        if size > limit + 1 and at > start:
            packets.append(_packet(lines[start:at]))
            start, size = at, length
    if start < len(lines):
        packets.append(_packet(lines[start:]))
    return packets


def _packet(lines: Sequence[Line]) -> Packet:
    return Packet(b"\n".join([line.text for line in lines]), lines)
