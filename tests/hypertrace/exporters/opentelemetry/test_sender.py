"""Sender: a request that is too large for a receiver that does not read it."""

from __future__ import annotations

import socket
import time

import pytest
from opentelemetry.sdk.metrics.export import (
    Gauge,
    Metric,
    MetricsData,
    ResourceMetrics,
    ScopeMetrics,
)
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.util.instrumentation import InstrumentationScope

from hypertrace.exporters.opentelemetry.sender import Sender

from ..recording import SOON

LARGE = 20_000_000
"""Bytes that the buffers of the system do not hold."""


def test_a_receiver_that_never_reads_costs_the_timeout() -> None:
    """Also while the request is sent."""
    metric = Metric("gauge", "x" * LARGE, "", Gauge([]))
    scope = ScopeMetrics(InstrumentationScope("hypertrace"), [metric], "")
    data = MetricsData([ResourceMetrics(Resource({}), [scope], "")])
    with socket.create_server(("127.0.0.1", 0)) as server:
        sender = Sender(f"http://127.0.0.1:{server.getsockname()[1]}/", timeout=0.3)
        begin = time.monotonic()
        with pytest.raises(OSError, match="timed out"):
            sender.send(data)
        assert time.monotonic() - begin < SOON
