"""Counts of hypertrace in Prometheus: the exporter, its metrics server and its dashboards."""

from importlib.util import find_spec as _find_spec

from .exporter import PrometheusExporter

__all__ = ["PrometheusExporter"]

# Not imported before an exporter is made, but missed at once.
if _find_spec("prometheus_client") is None:
    raise ModuleNotFoundError(
        'hypertrace_prometheus needs more: pip install "hypertrace[prometheus]"',
        name="prometheus_client",
    )
