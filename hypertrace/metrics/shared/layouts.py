"""Layouts: a code for each cell of what a series counts, in the order of the cells.

`c` is a count, `f` a sum of floats. `v` begins a gauge: how often it was updated, which is added as
a count, and five cells `g` that are not. `n` begins a histogram: how many values, two sums `s`, and
the buckets `b`. A `g` alone is a number of living workers. `w` begins a slot of a window: a stamp,
which is a time in microseconds since the epoch, and counts `x`. Those of the latest stamp are
added; a stamp of a time to come is that of a clock which was set back since, and is left out.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Sequence

COUNT: Final = b"c"
NUMBER: Final = b"fc"
"""A sum, and how many amounts are in it."""
GAUGE: Final = b"vggggg"
"""Updates; two pairs of a value and its time; updates that were begun."""
SPANS: Final = b"ccc"
"""Spans that started, left and arrived."""

_HISTOGRAM = b"nss"


def histogram_layout(bounds: Sequence[float]) -> bytes:
    """Return the layout of a histogram with bounds of buckets, without infinity."""
    return _HISTOGRAM + b"b" * (len(bounds) + 1)


def page_layout(size: int, slots: int) -> bytes:
    """Return the layout of a page of buckets; see `hypertrace.bucket_cells`.

    Args:
        size: how many buckets it has.
        slots: how many slots it has; 0 for none.
    """
    return slots * (b"w" + b"x" * size) or b"c" * size
