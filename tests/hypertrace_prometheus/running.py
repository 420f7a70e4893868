"""Runners of what the tests of the exporter test."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

from ..running import LONG, growth, in_threads

if TYPE_CHECKING:
    from hypertrace_prometheus import PrometheusExporter

__all__ = ["LONG", "Export", "growth", "in_threads"]


class Export(Protocol):
    """Makes an exporter and sets it; the fixture `export` gives one."""

    def __call__(self, *arguments: Any, **settings: Any) -> PrometheusExporter: ...
