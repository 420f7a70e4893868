"""Counts of hypertrace in Prometheus: the exporter, its metrics server and its command line."""

try:
    from .exporter import PrometheusExporter
except ModuleNotFoundError as error:
    if error.name != "prometheus_client":
        raise
    message = 'hypertrace_prometheus needs more: pip install "hypertrace[prometheus]"'
    raise ModuleNotFoundError(message, name=error.name) from error

__all__ = ["PrometheusExporter"]
