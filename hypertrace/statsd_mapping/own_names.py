"""Own names: the mapping that gives the names of `StatsdExporter` their labels back.

Each rule is found by encoding one series whose label values are marks, and looking where the marks
come out: what the exporter does to names is known by the exporter alone.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from hypertrace.exporters.statsd.lines import Encoder
from hypertrace.metrics import (
    Distribution,
    Family,
    HistogramReading,
    Reading,
    Summary,
    SummaryReading,
)
from hypertrace.metrics.series import Series

from .configuration import Lines, rules_of
from .rules import ANY

if TYPE_CHECKING:
    from collections.abc import Iterator

    from hypertrace.exporters.statsd.lines import Tags
    from hypertrace.metrics import Metrics
    from hypertrace.metrics.reading import Value

_METRIC_TYPES = {"c": "counter", "g": "gauge", "ms": "observer", "h": "observer", "d": "observer"}


def own_rules(metrics: Metrics, prefix: str = "", tags: Tags = "none") -> list[dict[str, Any]]:
    """Return rules for all that a `StatsdExporter` sends, as statsd_exporter has them.

    Args:
        metrics: what it reads.
        prefix: of the exporter.
        tags: of the exporter, `none` or `dogstatsd`, whose labels statsd_exporter finds by itself.

    Raises:
        TypeError: `prefix` is no `str`.
        ValueError: `prefix` is none of an exporter, or statsd_exporter does not take it.
    """
    encoder = Encoder(prefix, tags)
    rules = [
        rule
        for family in metrics.read().families
        for value, more in _values_of(family, metrics.buckets)
        for rule in _rules_of(family, value, more, encoder)
    ]
    try:
        rules_of(rules, Lines(f"prefix {prefix!r}", [1] * len(rules)))
    except ValueError:
        raise ValueError(
            f"prefix {prefix!r} is none that statsd_exporter takes: its parts begin with letters "
            "or '_'; give the exporter another"
        ) from None
    return rules


def _values_of(family: Family, bounds: tuple[float, ...]) -> Iterator[tuple[Value, dict[str, str]]]:
    """Give values that make all lines of a metric, with the labels that these have besides."""
    declaration = family.declaration
    if family.kind == "histogram":
        own = declaration.buckets if isinstance(declaration, Distribution) else None
        bounds = own or bounds
        yield HistogramReading(bounds, (1, *[0] * len(bounds)), bounds[0] or 1.0, {}), {}
    elif family.kind == "summary":
        yield SummaryReading(1, 1.0, {}, {}), {}
        for one in declaration.quantiles if isinstance(declaration, Summary) else ():
            yield SummaryReading(0, 0.0, {one: 1.0}, {}), {"quantile": repr(float(one))}
    else:
        yield 1, {}


def _rules_of(
    family: Family, value: Value, more: dict[str, str], encoder: Encoder
) -> Iterator[dict[str, Any]]:
    """Give a rule for each line that a value makes; `more` are labels that no name has."""
    names = family.label_names
    marks = {f"-{index}-": name for index, name in enumerate(names)}  # in no name of a metric
    series = Series((tuple(marks), ()))
    one = Family(family.declaration, names, [series], [value])
    for line in encoder.encode(Reading(0.0, [one]), {}).texts:
        path, _, rest = line.decode().partition(":")
        parts = path.removeprefix(encoder.prefix).split(".")
        found = [marks[part] for part in parts if part in marks]
        labels = {name: f"${{{found.index(name) + 1}}}" for name in names if name in found}
        ends = [] if more else [part for part in parts[1:] if part not in marks]
        rule = {
            "match": encoder.prefix + ".".join([ANY if part in marks else part for part in parts]),
            "match_metric_type": _METRIC_TYPES[rest.split("|")[1]],
            "name": "_".join((family.name, *ends)),
            "help": family.description,
            "labels": {**labels, **more},
        }
        if isinstance(value, HistogramReading) and rule["match_metric_type"] == "observer":
            rule["observer_type"] = "histogram"
            rule["histogram_options"] = {"buckets": [*value.bounds]}
        yield {key: given for key, given in rule.items() if given}
