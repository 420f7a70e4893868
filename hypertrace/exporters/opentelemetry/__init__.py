"""OpenTelemetry exporter: counts over OTLP, or beside what the application's SDK exports."""

try:
    from .exporter import OpenTelemetryExporter
    from .producer import with_counts
except ModuleNotFoundError as _error:
    if not (_error.name or "").startswith(("opentelemetry", "requests")):
        raise
    raise ModuleNotFoundError(
        f'{__name__} needs more: pip install "hypertrace[opentelemetry]"', name=_error.name
    ) from _error

__all__ = ["OpenTelemetryExporter", "with_counts"]
