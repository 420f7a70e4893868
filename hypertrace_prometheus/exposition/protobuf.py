"""Protobuf: its wire format, as far as messages of metrics need it.

The format: https://protobuf.dev/programming-guides/encoding/
"""

from __future__ import annotations

from functools import lru_cache
from struct import Struct

NUMBER, DOUBLE, BLOCK = 0, 1, 2
"""Wire types: a variable-length integer, a double, and bytes with their length before them."""

packed_double = Struct("<d").pack

_MOST_CACHED = 4096
_ALL_BITS = (1 << 64) - 1


@lru_cache(maxsize=_MOST_CACHED)
def varint(number: int) -> bytes:
    """Return an integer of variable length; a negative one as two's complement of 64 bits."""
    number &= _ALL_BITS
    out = bytearray()
    while number > 0x7F:  # noqa: PLR2004 -- seven bits a byte
        out.append(number & 0x7F | 0x80)
        number >>= 7
    out.append(number)
    return bytes(out)


def zigzag(number: int) -> bytes:
    """Return a signed integer of variable length, short if it is near zero (`sint32`, `sint64`)."""
    return varint(number << 1 if number >= 0 else -number * 2 - 1)


def tag(field: int, wire_type: int) -> bytes:
    """Return what stands before the value of a field."""
    return varint(field << 3 | wire_type)


def block(tag: bytes, content: bytes) -> bytes:
    """Return a field of bytes, text, a message, or packed numbers."""
    return b"%b%b%b" % (tag, varint(len(content)), content)
