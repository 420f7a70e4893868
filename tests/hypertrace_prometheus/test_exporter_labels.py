"""Label values on the pages of an exporter."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from prometheus_client.parser import text_string_to_metric_families as parse_text

from hypertrace import swallowed_errors
from hypertrace.metrics.labels import Labeller
from hypertrace_prometheus.exposition.render import render

from ..traced_classes import Network, Swarm
from .pages import parse_openmetrics

if TYPE_CHECKING:
    from .running import Export


@pytest.mark.parametrize(
    "value",
    ["\ud800", "a\nb", 'a"b', "a\\b", "a\0b", "é" * 10_000_000, b"\xff" * 10_000_000, b"\\"],
    ids=["surrogate", "newline", "quote", "backslash", "NUL", "10 MB", "10 MB of bytes", "bytes"],
)
def test_awkward_values_leave_a_page_that_can_be_read(export: Export, value: str | bytes) -> None:
    """After any value in any place, both formats are read back with that value in them."""
    exporter = export(allowed_props=["topic"])
    for _ in range(2):
        Swarm({"topic": value}, Network(topic=value)).connect(value, topic=value)
    expected = Labeller({}, 256, object_ids=False).text(value)
    assert len(expected) <= 256
    openmetrics = render(exporter.registry, openmetrics=True).decode()
    for families in (parse_text(exporter.metrics()), parse_openmetrics(openmetrics)):
        (sample,) = [s for f in families for s in f.samples if s.name == "function_counter_total"]
        assert sample.value == 2
        for name in ("object_props_topic", "parent_object_props_topic", "caller_props_topic"):
            assert sample.labels[name] == expected
    assert swallowed_errors() == 0


def test_what_is_not_allowed_is_on_no_page(export: Export) -> None:
    """Without allowed props no value of a prop gets out."""
    exporter = export()
    Swarm({"topic": "secret"}, Network(topic="secret")).connect(topic="secret")
    assert "secret" not in exporter.metrics()
    assert "secret" not in render(exporter.registry, openmetrics=True).decode()
