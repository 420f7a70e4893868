"""Values of StatsD: that their weights are the counts of buckets, and that they add up."""

from __future__ import annotations

import math
import random
from bisect import bisect_left
from collections import Counter
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hypertrace.exporters.statsd.values import estimates, grouped
from hypertrace.metrics.samples import NOTHING, Sample

if TYPE_CHECKING:
    from collections.abc import Sequence

    from hypertrace.exporters.statsd.values import Group

BOUNDS = (0.1, 1.0, 5.0)
VALUES = st.lists(st.floats(0, 20), max_size=80)


def counted(values: Sequence[float]) -> list[int]:
    """Count values in buckets."""
    found = Counter(bisect_left(BOUNDS, value) for value in values)
    return [found[bucket] for bucket in range(len(BOUNDS) + 1)]


def weights(groups: Sequence[Group]) -> list[int]:
    """Add the weights of each bucket up."""
    found: Counter[int] = Counter()
    for bucket, weight, values in groups:
        for value in values:
            assert weight > 0
            found[bisect_left(BOUNDS, value) if bucket is None else bucket] += weight
    return [found[bucket] for bucket in range(len(BOUNDS) + 1)]


def total(groups: Sequence[Group]) -> float:
    """Add the values up, with their weights."""
    return sum(weight * sum(values) for _, weight, values in groups)


@given(values=VALUES, most=st.sampled_from([1, 20]))
def test_all_samples_are_sent_as_they_are(values: list[float], most: int) -> None:
    """If there are as many as were counted."""
    groups = grouped(BOUNDS, counted(values), sum(values), Sample(len(values), values), most)
    assert groups == ([(None, 1, values)] if values else [])


@given(own=VALUES, others=VALUES, later=VALUES, most=st.sampled_from([1, 20]))
def test_values_of_other_processes_are_estimates(
    own: list[float], others: list[float], later: list[float], most: int
) -> None:
    """Counts are exact, samples are sent as they are, and all add up, whatever came."""
    counts, whole = counted(own + others), sum(own) + sum(others)
    # What came after the counts were read is not sent.
    sample = Sample(len(own + later), own + later)
    groups = grouped(BOUNDS, counts, whole, sample, most)
    assert weights(groups) == counts
    if not later:
        assert total(groups) == pytest.approx(whole, abs=1e-6)
        sent = Counter(value for _, weight, values in groups if weight == 1 for value in values)
        assert not Counter(own) - sent


@given(values=st.lists(st.floats(0, 20), min_size=60), others=VALUES, seed=st.integers())
def test_some_samples_stand_for_all(values: list[float], others: list[float], seed: int) -> None:
    """Counts are exact for any of them, also where other processes have counted, too."""
    some = random.Random(seed).sample(values, 20)
    counts, whole = counted(values + others), sum(values) + sum(others)
    groups = grouped(BOUNDS, counts, whole, Sample(len(values), some), 1)
    assert weights(groups) == counts
    assert len(groups) <= 4 * len(counts)


def test_some_of_many_samples_have_the_right_sum() -> None:
    """An eighth of the values are estimates, which make it exact."""
    chance = random.Random(1)
    for _ in range(20):
        values = [chance.lognormvariate(-1, 1) for _ in range(5_000)]
        some = chance.sample(values, 100)
        counts = counted(values)
        groups = grouped(BOUNDS, counts, sum(values), Sample(5_000, some), 1)
        assert weights(groups) == counts
        assert total(groups) == pytest.approx(sum(values), rel=1e-9)
        sent = {value for _, _, some in groups for value in some}
        assert len(sent & set(some)) == 100


@given(
    counts=st.lists(st.integers(0, 10_000), min_size=4, max_size=4),
    fraction=st.floats(0, 1),
    above=st.floats(0, 100),
)
def test_the_values_of_buckets_add_up(counts: list[int], fraction: float, above: float) -> None:
    """Whatever came in: each value is in its bucket, and all together have the sum."""
    lows = (0.0, *BOUNDS)
    inner = zip(lows, BOUNDS, counts, strict=False)
    whole = sum(count * (low + fraction * (high - low)) for low, high, count in inner)
    whole += counts[-1] * (BOUNDS[-1] + above)
    found = estimates(BOUNDS, counts, whole)
    assert sum(c * v for c, v in zip(counts, found, strict=True)) == pytest.approx(whole, abs=1e-9)
    for low, high, value in zip(lows, (*BOUNDS, math.inf), found, strict=True):
        assert low - 1e-9 <= value <= high + 1e-9
    for most in (1, 20):
        assert weights(grouped(BOUNDS, counts, whole, NOTHING, most)) == counts


def test_buckets_below_zero_and_no_buckets_have_values() -> None:
    """A first bucket that ends below zero stands at its bound; without bounds there is the mean."""
    assert estimates((-1.0, 1.0), (2, 1, 0), -1.5)[0] == -1
    assert estimates((), (4,), 6.0) == [1.5]
    assert estimates((), (0,), 0.0) == [0]
