"""Packets of StatsD: lines that are sent together."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Sequence

LONGEST_LINE = 8192
"""Bytes: the buffer of receivers, which would cut a longer line."""


class Packet(NamedTuple):
    """Lines that are sent together.

    Attributes:
        text: the lines.
        end: how many lines are in this packet and the ones before.
    """

    text: bytes
    end: int


def pack(lines: Sequence[bytes], limit: int) -> list[Packet]:
    """Fill packets with lines; one that is longer than the limit is alone.

    Args:
        lines: each stays in one packet, or is left out if it is longer than `LONGEST_LINE`.
        limit: bytes of a packet.
    """
    packets: list[Packet] = []
    held: list[bytes] = []
    size = -1
    for at, line in enumerate(lines):
        length = len(line) + 1
        if length > LONGEST_LINE + 1:
            continue
        size += length
        if size > limit and held:
            packets.append(Packet(b"\n".join(held), at))
            held, size = [], length - 1
        held.append(line)
    if held:
        packets.append(Packet(b"\n".join(held), len(lines)))
    return packets
