"""Exporters in general: metrics that they own or are given, and events that go to them."""

from __future__ import annotations

from typing import Any

import pytest

from hypertrace import Caller, TracedObject, TraceEvent, Tracer, fan_out, set_trace_function
from hypertrace.exporters.exporter import Exporter
from hypertrace.metrics import Metrics

from .recording import calls_in

EVENT = TraceEvent("id", TracedObject("Thing", 1), None, Caller("f", "app.py", "app", 1, 1))


def test_an_exporter_makes_its_metrics() -> None:
    """Without metrics an exporter makes some, with the arguments that are theirs."""
    exporter = Exporter(None, {"counter_name": "calls_total"})
    exporter(EVENT)
    assert list(exporter.forwards_to.read().family("calls_total").values) == [1]


def test_several_exporters_read_the_same_metrics() -> None:
    """Exporters that are given metrics count in them, whichever gets an event."""
    metrics = Metrics()
    one, other = Exporter(metrics, {}), Exporter(metrics, {})
    one(EVENT)
    other(EVENT)
    assert one.forwards_to is other.forwards_to is metrics
    assert calls_in(metrics.read()) == 2


def test_metrics_and_what_they_count_are_not_given_together() -> None:
    """Metrics that are given with arguments for others are an error that names both."""
    with pytest.raises(ValueError, match="metrics together with max_series and upstream: "):
        Exporter(Metrics(), {"max_series": 5, "upstream": True})


@pytest.mark.parametrize("metrics", [Metrics, "metrics", Exporter(None, {})])
def test_metrics_are_metrics(metrics: Any) -> None:
    """What is no `Metrics` is refused."""
    with pytest.raises(TypeError, match=r"metrics must be an instance of .*Metrics, .* not "):
        Exporter(metrics, {})


def test_an_unknown_argument_is_refused_like_by_any_function() -> None:
    """An argument that metrics do not take is an error that names it and the exporter."""
    unknown: Any = {"max_serie": 5}
    with pytest.raises(TypeError, match=r"Exporter\(\) got an unexpected keyword .* 'max_serie'"):
        Exporter(None, unknown)


def test_an_exporter_is_stopped_by_a_with_statement() -> None:
    """An exporter is a context manager that stops it at the end, also after an error."""
    stopped = []

    class Stopping(Exporter):
        def stop(self) -> None:
            stopped.append(self)

    exporter = Stopping(None, {})
    with pytest.raises(LookupError), exporter as entered:
        raise LookupError
    assert [entered] == stopped == [exporter]


def test_exporters_of_the_same_metrics_count_once() -> None:
    """A fan-out to exporters of the same metrics, and to these, counts each event once."""
    metrics = Metrics()
    exporters = Exporter(metrics, {}), Exporter(metrics, {})
    set_trace_function(fan_out(*exporters, metrics, fan_out(*exporters)))
    tracer = Tracer("object")
    for _ in range(3):
        tracer.trace()
        with tracer.span(topic="a"):
            pass
    assert calls_in(metrics.read()) == 6


def test_exporters_of_different_metrics_count_each() -> None:
    """A fan-out to exporters that have their own metrics counts in all of them."""
    exporters = Exporter(None, {}), Exporter(None, {})
    set_trace_function(fan_out(*exporters))
    tracer = Tracer("object")
    tracer.trace()
    with tracer.span():
        pass
    assert [calls_in(one.forwards_to.read()) for one in exporters] == [2, 2]
