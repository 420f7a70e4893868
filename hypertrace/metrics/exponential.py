"""Exponential buckets: each is wider than the one before by the same factor.

A value is known up to a relative error, whatever its size, and the buckets of any number of
processes add up to those that one process would have.
"""

from __future__ import annotations

import math
from collections import Counter
from decimal import Context, Decimal, localcontext
from functools import lru_cache
from typing import TYPE_CHECKING

from hypertrace.bucket_cells import key_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

OCTAVES = 64
"""Buckets reach from `2**-OCTAVES` to `2**OCTAVES`."""

SMALLEST = 2.0**-OCTAVES
"""Values up to it, about 5e-20, on either side of 0 are counted as 0."""

LARGEST = 2.0**OCTAVES
"""Values above it, about 1.8e19, are counted in the last bucket; those below `-LARGEST` in the
first one."""

SUMMARY_DIVISIONS = 35
"""Buckets for each power of two in summaries: each ends 2.0 % above its start, so that its middle
is within 1 % of all values in it."""


_LEAST_PAGE = 32


class Scale:
    """Buckets that divide each power of two into equally many; any thread may use it.

    Bucket `i` has the values above `base ** (i - 1)` and up to `base ** i`, where `base` is
    `2 ** (1 / divisions)`. Limits at powers of two are exact, and the others are rounded down, so
    that each float is in the bucket it belongs to. With `2 ** schema` divisions the buckets are
    those of the native histograms of Prometheus, and of the exponential histograms of
    OpenTelemetry.

    The key of a bucket is a number that ascends with the values: 0 for the values near 0, above it
    for positive values, and below it for negative ones.

    Attributes:
        divisions: how many buckets a power of two has.
        error: at most how far `value()` is from a value in a bucket, relative to that value.
        limits: lower limits of the buckets from 0.5 up to 1.
        page_size: how many buckets a page has, in memory and in files: whole powers of two, and
            at least 32 buckets.
    """

    __slots__ = ("_first", "_last", "divisions", "error", "limits", "page_size")

    divisions: int
    error: float
    limits: tuple[float, ...]
    page_size: int

    def __init__(self, divisions: int) -> None:
        """Find the limits.

        Args:
            divisions: how many buckets a power of two has.
        """
        # From 0.5 on, as `frexp` returns fractions.
        with localcontext(Context(prec=40)):
            exponents = (Decimal(i) / divisions - 1 for i in range(divisions))
            self.limits = tuple(_rounded_down(2**exponent) for exponent in exponents)
        self.divisions = divisions
        self.page_size = divisions * -(-_LEAST_PAGE // divisions)
        base = 2 ** (1 / divisions)
        self.error = (base - 1) / (base + 1)
        self._last = OCTAVES * divisions
        self._first = -self._last

    def key(self, value: float) -> int:
        """Return the key of the bucket that a finite value is in."""
        return key_of(value, self.limits, OCTAVES)

    def index(self, value: float) -> int:
        """Return the index of the bucket of a value above `SMALLEST`."""
        return self.index_of(self.key(value))

    def limit(self, index: int) -> float:
        """Return the largest value that is in a bucket.

        Args:
            index: of the bucket.
        """
        octave, division = divmod(index, self.divisions)
        return math.ldexp(self.limits[division], octave + 1)

    def index_of(self, key: int) -> int:
        """Return the index of the bucket with a key that is not 0; see `limit`."""
        return abs(key) + self._first

    def key_of(self, index: int) -> int:
        """Return the key of the bucket of positive values with an index."""
        return index - self._first

    def value(self, key: int) -> float:
        """Return the value that stands for all in a bucket: at most `error` away from any."""
        if not key:
            return 0.0
        index = self.index_of(key)
        lower, upper = self.limit(index - 1), self.limit(index)
        middle = 2 * lower * (upper / (lower + upper))
        return middle if key > 0 else -middle

    def quantiles(self, counts: Mapping[int, int], wanted: Iterable[float]) -> dict[float, float]:
        """Return quantiles of the values in buckets, each within `error` of a value.

        A quantile `q` of `n` values is the smallest one that is no smaller than `q * n` of them.
        Without values it is no number.

        Args:
            counts: how many values each bucket has, by its key.
            wanted: from 0, for the smallest value, to 1 for the largest.
        """
        keys = sorted(key for key, count in counts.items() if count)
        total = sum(counts[key] for key in keys)
        found = dict.fromkeys(wanted, math.nan)
        position, below = -1, 0
        for quantile in sorted(found) if total else ():
            rank = _rank(quantile, total)
            while below < rank:
                position += 1
                below += counts[keys[position]]
            found[quantile] = self.value(keys[position])
        return found


def _rounded_down(number: Decimal) -> float:
    nearest = float(number)
    return nearest if nearest <= number else math.nextafter(nearest, 0)


def _rank(quantile: float, total: int) -> int:
    """Return the place of a quantile among ascending values, from 1 on."""
    # 0.07 * 100 is a little more than 7.
    return min(total, max(1, math.ceil(quantile * total * (1 - 1e-12))))


@lru_cache(maxsize=16)
def scale_of(divisions: int) -> Scale:
    """Return the scale with so many buckets for each power of two."""
    return Scale(divisions)


def scale_of_schema(schema: int) -> Scale:
    """Return the buckets that Prometheus and OpenTelemetry have for a schema from 0 to 8."""
    return scale_of(1 << schema)


def plus(one: Mapping[int, int], other: Mapping[int, int]) -> dict[int, int]:
    """Return the counts of both, by bucket."""
    total = Counter(one)
    total.update(other)
    return dict(total)


def since(counts: Mapping[int, int], previous: Mapping[int, int]) -> dict[int, int]:
    """Return what was added to counts after `previous`, by bucket, without empty ones."""
    before = previous.get
    added = ((key, count - before(key, 0)) for key, count in counts.items())
    return {key: count for key, count in added if count}
