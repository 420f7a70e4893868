"""StatsD exporter: counts as lines of StatsD, DogStatsD or tagged Graphite names."""

from .exporter import StatsdExporter

__all__ = ["StatsdExporter"]
