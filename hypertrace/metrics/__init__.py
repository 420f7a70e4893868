"""Counts: one trace function holds them, and any number of exporters read them.

Imports the standard library and the core alone.
"""

from .aggregations import DEFAULT_BUCKETS
from .declarations import Declaration
from .declared.gauges import PullGauge
from .declared.instruments import CounterInstrument, GaugeInstrument, ValuesInstrument
from .declared.kinds import Counter, DeclaredMetric, Distribution, LastValue, Sum, Summary
from .declared.registry import declare
from .declared.selections import EventPoint, EventSelection
from .metrics import CountingOptions, Metrics
from .reading import (
    Exemplar,
    ExponentialReading,
    Family,
    HistogramReading,
    Point,
    Reading,
    SummaryReading,
)

__all__ = [  # noqa: RUF022 -- sorted as Python sorts, like that of hypertrace
    "Counter",
    "CounterInstrument",
    "CountingOptions",
    "DEFAULT_BUCKETS",
    "Declaration",
    "DeclaredMetric",
    "Distribution",
    "EventPoint",
    "EventSelection",
    "Exemplar",
    "ExponentialReading",
    "Family",
    "GaugeInstrument",
    "HistogramReading",
    "LastValue",
    "Metrics",
    "Point",
    "PullGauge",
    "Reading",
    "Sum",
    "Summary",
    "SummaryReading",
    "ValuesInstrument",
    "declare",
]
