"""Wire format of protobuf."""

from __future__ import annotations

import pytest

from hypertrace_prometheus.exposition.protobuf import BLOCK, NUMBER, block, tag, varint, zigzag


@pytest.mark.parametrize(
    ("number", "encoded"),
    [
        (0, "00"),
        (127, "7f"),
        (128, "8001"),
        (300, "ac02"),
        ((1 << 64) - 1, "ffffffffffffffffff01"),
        (-1, "ffffffffffffffffff01"),
        (-(1 << 63), "80808080808080808001"),
    ],
)
def test_integers_have_seven_bits_a_byte(number: int, encoded: str) -> None:
    """The lowest bits come first, and a negative number is that of its 64 bits."""
    assert varint(number).hex() == encoded


@pytest.mark.parametrize(("number", "unsigned"), [(0, 0), (-1, 1), (1, 2), (-2, 3), (-300, 599)])
def test_signed_integers_near_zero_are_short(number: int, unsigned: int) -> None:
    """Numbers below and above zero take turns."""
    assert zigzag(number) == varint(unsigned)


def test_a_field_has_its_number_and_its_length() -> None:
    """A field is a tag of its number and type, and a block has its length before it."""
    assert tag(1, NUMBER) == b"\x08"
    assert tag(16, BLOCK) == b"\x82\x01"
    assert block(tag(2, BLOCK), b"testing") == bytes.fromhex("120774657374696e67")
