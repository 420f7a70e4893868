"""InfluxDB exporter: counts as line protocol, for InfluxDB 1 to 3, Telegraf, VictoriaMetrics."""

from .exporter import InfluxExporter

__all__ = ["InfluxExporter"]
