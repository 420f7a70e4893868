"""Text of hypertrace's own families: each series is rendered once, and its text kept.

The formats: https://prometheus.io/docs/instrumenting/exposition_formats/ (0.0.4) and
https://github.com/prometheus/OpenMetrics/blob/v1.0.0/specification/OpenMetrics.md
"""

from __future__ import annotations

from itertools import accumulate
from typing import TYPE_CHECKING, cast

from prometheus_client.utils import floatToGoString

from .label_texts import render
from .messages import as_histogram

if TYPE_CHECKING:
    from collections.abc import Sequence

    from hypertrace.metrics import Exemplar, Family, HistogramReading, SummaryReading

    from .label_texts import Columns


def lines(family: Family, texts: Columns[str], *, openmetrics: bool) -> list[str]:
    """Return the lines of a family's samples, each with its line break.

    Args:
        family: what to write.
        texts: of its series.
        openmetrics: write the exemplars, too, which only OpenMetrics has.
    """
    if not family.series:
        return []
    if family.kind == "histogram":
        return _histograms(family, texts, openmetrics=openmetrics)
    if family.kind == "summary":
        return _summaries(family, texts)
    name = family.name
    if not family.label_names:
        return [f"{name} {value}\n" for value in family.values]
    return [
        f"{name}{{{common}{rest}}} {value}\n"
        for common, rest, value in zip(texts.commons, texts.rests, family.values, strict=True)
    ]


def _histograms(family: Family, texts: Columns[str], *, openmetrics: bool) -> list[str]:
    found: list[str] = []
    buckets: dict[tuple[float, ...], list[str]] = {}
    values = map(as_histogram, family.values)
    for common, rest, value in zip(texts.commons, texts.rests, values, strict=True):
        if value.bounds not in buckets:
            buckets[value.bounds] = [
                f'le="{bound}"' for bound in [*map(go_number, value.bounds), "+Inf"]
            ]
        one = _histogram(family.name, common + rest, value, buckets[value.bounds])
        if openmetrics:
            for bucket, exemplar in value.exemplars.items():
                one[bucket] = f"{one[bucket][:-1]}{_exemplar(exemplar)}\n"
        found += one
    return found


def _histogram(name: str, labels: str, value: HistogramReading, buckets: list[str]) -> list[str]:
    counts = list(accumulate(value.counts))
    own, before = _braces(labels)
    return [
        *[
            f"{name}_bucket{{{before}{bucket}}} {count}\n"
            for bucket, count in zip(buckets, counts, strict=True)
        ],
        f"{name}_count{own} {counts[-1]}\n",
        f"{name}_sum{own} {value.sum}\n",
    ]


def _summaries(family: Family, texts: Columns[str]) -> list[str]:
    found: list[str] = []
    values = cast("Sequence[SummaryReading]", family.values)
    for common, rest, value in zip(texts.commons, texts.rests, values, strict=True):
        own, before = _braces(common + rest)
        found += [
            *[
                f'{family.name}{{{before}quantile="{go_number(quantile)}"}} {go_number(at)}\n'
                for quantile, at in value.quantiles.items()
            ],
            f"{family.name}_count{own} {value.count}\n",
            f"{family.name}_sum{own} {value.sum}\n",
        ]
    return found


def _braces(labels: str) -> tuple[str, str]:
    """Return labels in braces, none without labels, and as they stand before another label."""
    return (f"{{{labels}}}", f"{labels},") if labels else ("", "")


def go_number(value: float) -> str:
    """Return a number as Prometheus writes it."""
    text: str = floatToGoString(value)  # type: ignore[no-untyped-call]
    return text


def _exemplar(exemplar: Exemplar) -> str:
    labels = render(list(exemplar.labels), list(exemplar.labels.values()))
    return f" # {{{labels}}} {exemplar.value} {exemplar.timestamp:.3f}"
