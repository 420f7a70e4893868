"""Exponential buckets: which one a value is in, and quantiles of them."""

from __future__ import annotations

import math
import random
from collections import Counter
from fractions import Fraction
from typing import TYPE_CHECKING

import pytest

from hypertrace.metrics import exponential
from hypertrace.metrics.exponential import (
    LARGEST,
    OCTAVES,
    SMALLEST,
    SUMMARY_DIVISIONS,
    Scale,
    scale_of,
    scale_of_schema,
)

if TYPE_CHECKING:
    from collections.abc import Callable

SCALES = [scale_of(SUMMARY_DIVISIONS), *(scale_of_schema(schema) for schema in range(9))]
QUANTILES = (0.0, 0.001, 0.01, 0.07, 0.25, 0.5, 0.75, 0.9, 0.95, 0.99, 0.999, 1.0)


def of(scale: Scale) -> str:
    return f"{scale.divisions} divisions"


def counted(scale: Scale, values: list[float]) -> dict[int, int]:
    """Give how many values are in each bucket."""
    return Counter(map(scale.key, values))


def exact(values: list[float], quantile: float) -> float:
    """Give the smallest value that is no smaller than such a share of all."""
    rank = math.ceil(Fraction(str(quantile)) * len(values))
    return sorted(values)[max(rank, 1) - 1]


def assert_near(found: dict[float, float], values: list[float]) -> None:
    for quantile, value in found.items():
        expected = exact(values, quantile)
        assert abs(value - expected) <= 0.01 * abs(expected), (quantile, value, expected)


# --- buckets ----------------------------------------------------------------------------


@pytest.mark.parametrize("scale", SCALES, ids=of)
def test_a_limit_is_in_its_bucket_and_the_next_float_is_not(scale: Scale) -> None:
    """A bucket ends with its limit, at every one of the range, on both sides of 0."""
    for index in range(-OCTAVES * scale.divisions + 1, OCTAVES * scale.divisions):
        limit = scale.limit(index)
        above = math.nextafter(limit, math.inf)
        assert (scale.index(limit), scale.index(above)) == (index, index + 1)
        key = scale.key(limit)
        assert (scale.index_of(key), scale.key_of(index)) == (index, key)
        assert (scale.key(above), scale.key(-limit), scale.key(-above)) == (key + 1, -key, -key - 1)


@pytest.mark.parametrize("scale", SCALES, ids=of)
def test_limits_are_the_largest_floats_up_to_the_powers(scale: Scale) -> None:
    """A limit is at most its power of the base, in exact arithmetic, and the next float above."""
    for index in (*range(-scale.divisions, scale.divisions + 1), 5 * scale.divisions + 1):
        limit = scale.limit(index)
        power = Fraction(2) ** index
        assert Fraction(limit) ** scale.divisions <= power
        assert Fraction(math.nextafter(limit, math.inf)) ** scale.divisions > power
        if index % scale.divisions == 0:
            assert limit == 2.0 ** (index // scale.divisions)


def test_limits_of_a_schema_are_those_of_prometheus() -> None:
    """The limits of schema 3 are those of its Go client, up to the last digit of a float."""
    scale = scale_of_schema(3)
    of_go = (
        *(0.5, 0.5452538663326288, 0.5946035575013605, 0.6484197773255048),
        *(0.7071067811865475, 0.7711054127039704, 0.8408964152537144, 0.9170040432046711, 1.0),
    )
    for place, limit in enumerate(of_go):
        assert scale.limit(place - 8) == pytest.approx(limit, rel=3e-16)


@pytest.mark.parametrize("scale", SCALES, ids=of)
def test_buckets_of_a_finer_schema_are_halves(scale: Scale) -> None:
    """Every second limit of a scale with twice as many buckets is one of this scale."""
    finer = scale_of(2 * scale.divisions)
    for index in range(-100, 100):
        assert finer.limit(2 * index) == scale.limit(index)


@pytest.mark.parametrize("scale", SCALES, ids=of)
def test_keys_ascend_with_the_values(scale: Scale) -> None:
    """A larger value has no smaller key; what is outside the range is in the outermost buckets."""
    rng = random.Random(1)
    values = [rng.choice((-1, 1)) * 2 ** rng.uniform(-80, 80) for _ in range(2_000)]
    values += [0.0, -0.0, SMALLEST, -SMALLEST, 5e-324, LARGEST, -LARGEST, 1.7e308, -1.7e308]
    values.sort()
    keys = [scale.key(value) for value in values]
    assert keys == sorted(keys)
    last = 2 * 64 * scale.divisions
    assert (keys[0], keys[-1]) == (-last, last)
    assert {scale.key(value) for value in (0.0, -0.0, SMALLEST, -5e-324)} == {0}
    assert scale.key(math.nextafter(SMALLEST, 1)) == 1
    assert scale.key(LARGEST) == last


@pytest.mark.parametrize("scale", SCALES, ids=of)
def test_the_middle_of_a_bucket_is_near_all_its_values(scale: Scale) -> None:
    """What stands for a bucket is at most `error` away from its ends, on both sides of 0."""
    last = scale.key(LARGEST)
    for key in (*range(1, last, 7), last):
        value = scale.value(key)
        index = scale.index_of(key)
        for end in (math.nextafter(scale.limit(index - 1), math.inf), scale.limit(index)):
            assert abs(value - end) <= scale.error * end * (1 + 1e-12)
        assert scale.value(-key) == -value
    assert scale.value(0) == 0


def test_quantiles_of_summaries_are_within_one_percent() -> None:
    """The error that the documentation promises."""
    assert scale_of(SUMMARY_DIVISIONS).error < 0.00991


# --- quantiles --------------------------------------------------------------------------

RNG = random.Random(2)
_EDGES = [scale_of(SUMMARY_DIVISIONS).limit(i) for i in range(-200, 200)]
DATA: dict[str, list[float]] = {
    "uniform": [RNG.uniform(0, 1000) for _ in range(5_000)],
    "exponential": [RNG.expovariate(5) for _ in range(5_000)],
    "bimodal": [RNG.gauss(*RNG.choice(((0.01, 0.001), (30.0, 2.0)))) for _ in range(5_000)],
    "heavy tail": [RNG.paretovariate(0.5) % 1e18 for _ in range(5_000)],
    "constant": [0.125] * 1_000,
    "one": [7.3],
    "two": [1.0, 1e9],
    "hundred": [float(n) for n in range(1, 101)],
    "limits": [RNG.choice(_EDGES) for _ in range(5_000)],
    "above limits": [math.nextafter(RNG.choice(_EDGES), math.inf) for _ in range(5_000)],
    "below limits": [math.nextafter(RNG.choice(_EDGES), 0) for _ in range(5_000)],
    "tiny and huge": [RNG.choice((6e-20, 1e-9, 1.0, 1e9, 1.8e19)) for _ in range(1_000)],
    "negative": [-RNG.expovariate(5) for _ in range(5_000)],
    "around zero": [RNG.gauss(0, 1) for _ in range(5_000)] + [0.0] * 100,
    "zeros": [0.0, -0.0] * 10,
    "ascending": [1.0001**n for n in range(5_000)],
    "integers": [float(RNG.randrange(-50, 50)) for _ in range(5_000)],
}


@pytest.mark.parametrize("values", DATA.values(), ids=DATA)
def test_quantiles_are_near_the_exact_ones(values: list[float]) -> None:
    """Each is within 1 % of the exact one, whatever the values are."""
    scale = scale_of(SUMMARY_DIVISIONS)
    found = scale.quantiles(counted(scale, values), QUANTILES)
    assert list(found) == list(QUANTILES)
    assert_near(found, values)


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("values", DATA.values(), ids=DATA)
def test_any_split_over_workers_gives_the_same(values: list[float], seed: int) -> None:
    """Buckets that were counted apart add up to those of all values together."""
    rng, scale = random.Random(seed), scale_of(SUMMARY_DIVISIONS)
    parts: list[list[float]] = [[] for _ in range(rng.randrange(1, 9))]
    for value in values:
        rng.choice(parts).append(value)
    together = counted(scale, values)
    total: dict[int, int] = {}
    for part in parts:
        total = exponential.plus(total, counted(scale, part))
    assert total == together
    assert scale.quantiles(total, QUANTILES) == scale.quantiles(together, QUANTILES)


def _random_values(rng: random.Random) -> list[float]:
    kinds: list[Callable[[], float]] = [
        lambda: rng.uniform(-1, 1),
        lambda: rng.lognormvariate(0, 5) % 1e18,
        lambda: rng.choice((-1, 1)) * 2.0 ** rng.randrange(-60, 60),
        lambda: float(rng.randrange(10)),
        lambda: -rng.expovariate(0.001),
    ]
    kinds = rng.sample(kinds, rng.randrange(1, len(kinds)))
    values = [rng.choice(kinds)() for _ in range(rng.randrange(1, 400))]
    return [value if abs(value) > SMALLEST else 0.0 for value in values]


@pytest.mark.parametrize("seed", range(100))
def test_quantiles_of_random_values_are_near_the_exact_ones(seed: int) -> None:
    """So they are for any mixture of values, number of them, and quantiles."""
    rng, scale = random.Random(seed), scale_of(SUMMARY_DIVISIONS)
    values = _random_values(rng)
    wanted = [rng.random() for _ in range(5)]
    found = scale.quantiles(counted(scale, values), wanted)
    assert_near(found, values)


def test_without_values_a_quantile_is_no_number() -> None:
    """As Prometheus' clients have it."""
    found = scale_of(SUMMARY_DIVISIONS).quantiles({3: 0}, (0.5, 0.9))
    assert list(found) == [0.5, 0.9]
    assert all(map(math.isnan, found.values()))


def test_the_difference_of_counts_has_no_empty_buckets() -> None:
    """What was added after an earlier reading, and nothing else."""
    assert exponential.since({1: 5, 2: 3, -4: 1}, {1: 5, 2: 1}) == {2: 2, -4: 1}
