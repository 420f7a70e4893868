"""Pages of an exporter, as tests read them."""

from __future__ import annotations

from collections import Counter, defaultdict
from typing import TYPE_CHECKING, Any

from prometheus_client.openmetrics import parser as openmetrics_parser
from prometheus_client.parser import text_string_to_metric_families as parse_text

if TYPE_CHECKING:
    from prometheus_client.core import Metric

    from hypertrace_prometheus import PrometheusExporter

    Values = dict[tuple[Any, ...], float]

CALLS = "function_counter_total"
COUNT = "function_duration_seconds_count"
SUM = "function_duration_seconds_sum"
BUCKET = "function_duration_seconds_bucket"
EXCEPTIONS = "function_exceptions_total"
OPEN = "function_in_progress"
EDGES = "function_edges_total"
OVERFLOW = "<overflow>"


def parse_openmetrics(text: str) -> list[Metric]:
    return list(openmetrics_parser.text_string_to_metric_families(text))  # type: ignore[no-untyped-call]


def samples_of(page: str) -> list[tuple[dict[str, str], float]]:
    found = [sample for family in parse_text(page) for sample in family.samples]
    return [(s.labels, s.value) for s in found if s.name == CALLS]


def samples(exporter: PrometheusExporter) -> list[tuple[dict[str, str], float]]:
    return samples_of(exporter.metrics())


def only(exporter: PrometheusExporter) -> dict[str, str]:
    ((labels, _),) = samples(exporter)
    return labels


def by(name: str, exporter: PrometheusExporter) -> dict[str | None, float]:
    """Sum up the counts by the values of one label."""
    counts: dict[str | None, float] = {}
    for labels, value in samples(exporter):
        counts[labels.get(name)] = counts.get(labels.get(name), 0) + value
    return counts


def total(exporter: PrometheusExporter) -> float:
    return sum(value for _, value in samples(exporter))


def families_of(text: str) -> Counter[str]:
    return Counter(line.split()[2] for line in text.splitlines() if line.startswith("# TYPE "))


def values_in(page: str, name: str, *labels: str) -> Values:
    """Sum up the samples of a name on a page, by the values of some labels."""
    found: Values = defaultdict(float)
    for family in parse_text(page):
        for sample in family.samples:
            if sample.name == name:
                found[tuple(sample.labels.get(label) for label in labels)] += sample.value
    return dict(found)


def values(exporter: PrometheusExporter, name: str, *labels: str) -> Values:
    return values_in(exporter.metrics(), name, *labels)
