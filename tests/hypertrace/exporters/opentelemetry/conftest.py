"""Fixtures for the tests of OTLP: a receiver, and exporters that end with the test."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import pytest

from hypertrace import set_trace_function
from hypertrace.exporters.opentelemetry import OpenTelemetryExporter

from ..recording import NEVER, exporter_threads, until
from .receiver import Receiver

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


@pytest.fixture(autouse=True)
def _environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in os.environ:
        if name.startswith("OTEL_"):
            monkeypatch.delenv(name)


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    """Give a receiver that answers 200."""
    receiver = Receiver()
    yield receiver
    receiver.stop()


@pytest.fixture
def export(receiver: Receiver) -> Iterator[Callable[..., OpenTelemetryExporter]]:
    """Give a function that makes an exporter to the receiver, and sets it as trace function."""
    made: list[OpenTelemetryExporter] = []

    def make(endpoint: str | None = receiver.url, **settings: Any) -> OpenTelemetryExporter:
        made.append(OpenTelemetryExporter(endpoint, **{"interval": NEVER, **settings}))
        set_trace_function(made[-1])
        return made[-1]

    yield make
    for exporter in made:
        exporter.stop()
    until(lambda: not exporter_threads())
