"""Values of StatsD: which ones stand for those of a histogram, and each for how many."""

from __future__ import annotations

from bisect import bisect_left
from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from hypertrace.metrics.samples import Sample

_CORRECTING = 8
"""One in so many of the values that samples stand for is an estimate, which makes the sum right."""


Group: TypeAlias = "tuple[int | None, int, Sequence[float]]"
"""Values of equal weight: index of the bucket of all of them, None if each is in its own; how many
values each of them stands for; and the values, in the unit of the metric."""


def grouped(
    bounds: Sequence[float], counts: Sequence[int], total: float, sample: Sample, most: int
) -> list[Group]:
    """Return values for those of a histogram: their weights add up to the counts of the buckets.

    They are the samples as far as there are some, and estimates for the rest. So they add up to
    `total`, unless samples had to be left out and the others are too far from their mean.

    Args:
        bounds: upper bounds of the buckets, without infinity.
        counts: how many values are in each bucket, the last one up to infinity.
        total: sum of all values.
        sample: of the values that this process has added.
        most: how many estimates there are, or one for each bucket.
    """
    seen, samples = sample
    number = sum(counts)
    if seen == len(samples) == number and _are_in(bounds, counts, samples):
        return [(None, 1, samples)] if number else []
    groups: list[Group] = []
    rest = [*counts]
    for bucket, values in _by_bucket(bounds, samples).items():
        del values[max(0, counts[bucket]) :]  # of after the reading
        if values:
            share = _share(len(values), counts[bucket], sample, number)
            rest[bucket] -= share
            for weight, some in _divided(share, values):
                groups.append((bucket, weight, some))
                total -= weight * sum(some)
    left = sum(rest)
    for bucket, value in enumerate(estimates(bounds, rest, total) if left else ()):
        if (count := rest[bucket]) > 0:
            parts = min(count, max(1, round(count * most / left)))
            groups += [(bucket, *each) for each in _divided(count, [value] * parts)]
    return groups


def estimates(bounds: Sequence[float], counts: Sequence[int], total: float) -> list[float]:
    """Return a value for each bucket that stands for those in it.

    All are at the same fraction of the width of their buckets: the one with which they add up to
    `total`. What is above the last bound is estimated from what the others leave of it.

    Args:
        bounds: upper bounds of the buckets, without infinity. The first bucket begins at 0, or has
            no width if its bound is negative.
        counts: how many values are in each bucket, the last one up to infinity.
        total: sum of all values.
    """
    lows = [min(0.0, *bounds[:1]), *bounds] if bounds else [0.0]
    widths = [high - low for low, high in zip(lows, bounds, strict=False)]
    base = sum(count * low for count, low in zip(counts, lows, strict=True))
    rest = total - base - sum(c * w for c, w in zip(counts, widths, strict=False)) / 2
    widths.append(max(0.0, 2 * rest / counts[-1]) if counts[-1] else 0.0)
    span = sum(count * width for count, width in zip(counts, widths, strict=True))
    fraction = min(1.0, max(0.0, (total - base) / span)) if span else 0.0
    return [low + fraction * width for low, width in zip(lows, widths, strict=True)]


def _are_in(bounds: Sequence[float], counts: Sequence[int], values: Sequence[float]) -> bool:
    """Return whether as many values have these counts in buckets."""
    if len(values) == 1:
        return counts[bisect_left(bounds, values[0])] == 1
    found = [0] * len(counts)
    for value in values:
        found[bisect_left(bounds, value)] += 1
    return found == [*counts]


def _by_bucket(bounds: Sequence[float], values: Sequence[float]) -> dict[int, list[float]]:
    found: dict[int, list[float]] = {}
    for value in values:
        found.setdefault(bisect_left(bounds, value), []).append(value)
    return found


def _share(held: int, count: int, sample: Sample, of_all: int) -> int:
    """Return for how many values of a bucket the samples in it stand.

    Args:
        held: how many samples these are.
        count: how many values are in the bucket.
        sample: all samples.
        of_all: how many values are in all buckets.
    """
    if sample.seen == len(sample.values):
        return held  # each for itself; the others are of other processes
    if sample.seen < of_all:
        count = min(count, round(held * sample.seen / len(sample.values)))
    return count - (count - held) // _CORRECTING


def _divided(count: int, values: Sequence[float]) -> Iterator[tuple[int, Sequence[float]]]:
    """Yield values with whole weights that add up to a count, which is not below their number."""
    each, more = divmod(count, len(values))
    if more:
        yield each + 1, values[:more]
    yield each, values[more:]
