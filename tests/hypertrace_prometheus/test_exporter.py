"""Trace function that counts for Prometheus: what it may be given, and where it stands."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from prometheus_client import CollectorRegistry, generate_latest

from hypertrace import (
    Tracer,
    clear_trace_function,
    fan_out,
    get_trace_function,
    set_trace_function,
    swallowed_errors,
)
from hypertrace.metrics import CountingOptions, Metrics
from hypertrace_prometheus import PrometheusExporter

from ..traced_classes import Swarm
from .pages import by, total

if TYPE_CHECKING:
    from hypertrace import TraceEvent

    from .running import Export


def test_a_stopped_exporter_may_still_be_called(export: Export) -> None:
    """Tracers that go on after `stop()` see nothing of it; old call sites and new ones."""
    exporter = export()
    swarm = Swarm()
    swarm.connect()
    exporter.stop()
    swarm.connect()
    swarm.plain()
    Swarm().connect("new")
    assert exporter.metrics() == ""
    assert swallowed_errors() == 0


def test_one_exporter_can_replace_another(export: Export) -> None:
    """From then on the new one counts, and the old one keeps what it had."""
    registry = CollectorRegistry()
    first = export(registry=registry)
    swarm = Swarm()
    swarm.connect()
    assert total(first) == 1
    first.stop()
    second = export(registry=registry, allowed_props=["topic"])
    for _ in range(2):
        swarm.connect(topic="a")
    assert by("caller_props_topic", second) == {"a": 2}
    clear_trace_function()
    swarm.connect(topic="a")
    set_trace_function(second)
    swarm.connect(topic="a")
    assert total(second) == 3


def test_two_exporters_at_once(export: Export) -> None:
    """Through `fan_out` both count all, each with its own labels."""
    bare, rich = export(), export(allowed_props=["topic"])
    set_trace_function(fan_out(bare, rich))
    swarm = Swarm()
    for topic in ("a", "b", "a"):
        swarm.connect(topic=topic)
        swarm.plain()
    assert by("caller_props_topic", bare) == {None: 6}
    assert by("caller_props_topic", rich) == {"a": 2, "b": 1, None: 3}


def test_two_exporters_of_which_one_distinguishes_objects(export: Export) -> None:
    """Through `fan_out`, too, calls are counted under the object they were made on."""
    bare, rich = export(), export(object_ids=True)
    set_trace_function(fan_out(bare, rich))
    swarms = [Swarm() for _ in range(3)]
    for number, swarm in enumerate(swarms, 1):
        for _ in range(number):
            swarm.connect()
    assert total(bare) == 6
    assert by("object_id", rich) == {
        str(swarm.tracer.object_id): number for number, swarm in enumerate(swarms, 1)
    }


def test_an_exporter_beside_a_plain_function(export: Export) -> None:
    """Through `fan_out` an exporter counts beside any callable, also one that raises."""
    exporter = export(allowed_props=["topic"])
    events: list[TraceEvent] = []

    def fail(_: TraceEvent) -> None:
        raise RuntimeError("a mistake in a trace function")

    set_trace_function(fan_out(fail, exporter, events.append))
    swarm = Swarm()
    for topic in ("a", "b", "a"):
        swarm.connect(topic=topic)
    assert by("caller_props_topic", exporter) == {"a": 2, "b": 1}
    assert len(events) == swallowed_errors() == 3


@pytest.mark.parametrize(
    ("settings", "error", "message"),
    [
        ({"allowed_props": "topic"}, TypeError, r"several names: \['topic'\], not 'topic'"),
        ({"allowed_props": ["topic", ""]}, ValueError, "allowed_props has an empty name"),
        ({"allowed_props": [7]}, TypeError, r"allowed_props must be names \(str\), not 7"),
        ({"allowed_props": ["a", "a"]}, ValueError, "'a' and 'a' would both become"),
        (
            {"allowed_props": ["user-id", "user_id"]},
            ValueError,
            "'user-id' and 'user_id' would both become the label object_props_user_id",
        ),
        ({"counter_name": ""}, ValueError, "counter_name '' is no name of a metric"),
        ({"counter_name": "9x"}, ValueError, "counter_name '9x' .* no digit first"),
        ({"counter_name": "a-b"}, ValueError, "counter_name 'a-b' is no name of a metric"),
        ({"counter_name": "a b\n"}, ValueError, r"counter_name 'a b\\n' is no name"),
        ({"counter_name": "größe"}, ValueError, "counter_name 'größe' is no name"),
        ({"counter_name": "_total"}, ValueError, "counter_name '_total' is no name of a metric"),
        ({"counter_name": None}, TypeError, "counter_name must be a str, not None"),
        ({"counter_name": b"x"}, TypeError, "counter_name must be a str, not b'x'"),
        ({"port": -1}, ValueError, "port must be from 0 to 65535 .*, not -1"),
        ({"port": 65_536}, ValueError, "port must be from 0 to 65535 .*, not 65536"),
        ({"port": True}, TypeError, "port must be an int from 0 to 65535, not True"),
        ({"port": "4343"}, TypeError, "port must be an int from 0 to 65535, not '4343'"),
        ({"port": 4343.0}, TypeError, "port must be an int from 0 to 65535, not 4343.0"),
        ({"port": 0, "host": ""}, ValueError, "host must not be empty"),
        ({"port": 0, "host": None}, TypeError, "host must be a str"),
        ({"max_series": 0}, ValueError, "max_series must be 1 or more, not 0"),
        ({"max_series": -5}, ValueError, "max_series must be 1 or more, not -5"),
        ({"max_series": "10"}, TypeError, "max_series must be an int, not '10'"),
        ({"max_series": True}, TypeError, "max_series must be an int, not True"),
        ({"max_series": 1e4}, TypeError, "max_series must be an int, not 10000.0"),
        ({"max_series": None}, TypeError, "max_series must be an int, not None"),
        ({"max_label_length": 15}, ValueError, "max_label_length must be 16 or more, not 15"),
        ({"max_label_length": "16"}, TypeError, "max_label_length must be an int, not '16'"),
    ],
    ids=str,
)
def test_a_mistake_in_the_settings_raises_at_once(
    settings: dict[str, Any], error: type[Exception], message: str
) -> None:
    """A bad argument is refused, the message says what was wrong, and nothing is left behind."""
    registry = CollectorRegistry()
    with pytest.raises(error, match=message):
        PrometheusExporter(registry=registry, **settings)
    assert generate_latest(registry) == b""


def test_settings_are_given_by_name() -> None:
    """All but the port are keyword arguments, so that a call can be read."""
    with pytest.raises(TypeError, match="positional"):
        PrometheusExporter(0, "127.0.0.1")  # type: ignore[call-arg,arg-type]


@pytest.mark.parametrize(
    "name",
    [
        "hypertrace_series",
        "python_info",
        "process_calls_total",
        "function_duration_seconds",
        "function_duration_seconds_count",
        "function_exceptions",
        "function_in_progress",
        "function_edges_total",
    ],
)
def test_a_counter_is_not_named_like_another_metric_of_the_page(name: str) -> None:
    """A counter's name that begins like those of the exporter's other metrics is refused."""
    with pytest.raises(ValueError, match="begins like"):
        PrometheusExporter(counter_name=name)


# --- one Metrics, any number of exporters -----------------------------------------------


def test_an_exporter_owns_metrics_or_is_given_them() -> None:
    """Without `metrics` it makes them; with it, it shows those."""
    metrics = Metrics(allowed_props=["topic"])
    with PrometheusExporter(metrics=metrics) as given, PrometheusExporter() as owner:
        assert given.forwards_to is metrics
        assert isinstance(owner.forwards_to, Metrics)
        assert owner.forwards_to is not metrics


def test_counting_arguments_go_to_the_metrics() -> None:
    """Each of them is an argument of the exporter, too, and has its effect."""
    with PrometheusExporter(counter_name="calls_total", max_series=7, upstream=True) as exporter:
        lines = exporter.metrics().splitlines()
    assert 'hypertrace_series_limit{metric="calls_total"} 7' in lines
    assert 'hypertrace_series_limit{metric="function_edges_total"} 7' in lines


@pytest.mark.parametrize("argument", CountingOptions.__annotations__)
def test_metrics_together_with_a_counting_argument_is_an_error(argument: str) -> None:
    """What is counted is settled where the `Metrics` is made; the error names both arguments."""
    registry = CollectorRegistry()
    options: dict[str, Any] = {argument: ()}
    message = f"metrics together with {argument}: .*pass {argument} to Metrics"
    with pytest.raises(ValueError, match=message):
        PrometheusExporter(metrics=Metrics(), registry=registry, **options)
    assert generate_latest(registry) == b""


def test_all_arguments_that_do_not_go_together_are_named() -> None:
    """The error lists each of them."""
    with pytest.raises(ValueError, match="metrics together with max_series and upstream"):
        PrometheusExporter(metrics=Metrics(), max_series=5, upstream=False)


@pytest.mark.parametrize("metrics", [Metrics, "metrics", 7, True, PrometheusExporter], ids=str)
def test_what_is_no_metrics_is_refused(metrics: Any) -> None:
    """The error says what is wanted."""
    with pytest.raises(TypeError, match=r"metrics must be an instance of .*Metrics, .* not "):
        PrometheusExporter(metrics=metrics)


@pytest.mark.parametrize(
    "others",
    [{}, {"metrics": Metrics()}, {"max_series": 5}],
    ids=["alone", "metrics", "max_series"],
)
def test_an_unknown_argument_is_one_of_the_exporter(others: dict[str, Any]) -> None:
    """The error names the exporter that was called, as that of any function does."""
    message = r"PrometheusExporter\(\) got an unexpected keyword argument 'allowed_prop'"
    with pytest.raises(TypeError, match=message):
        PrometheusExporter(allowed_prop=["x"], **others)  # type: ignore[call-arg]


def test_an_exporter_shows_methods_of_an_exporter_only() -> None:
    """What counts is reached through `forwards_to`; users find no recorders and no series here."""
    with PrometheusExporter() as exporter:
        shown = {name for name in dir(exporter) if not name.startswith("_")}
    assert shown == {
        "asgi_app",
        "forwards_to",
        "metrics",
        "port",
        "push",
        "registry",
        "run",
        "stop",
        "url",
        "write_textfile",
        "wsgi_app",
    }


def test_two_exporters_of_one_metrics_agree(export: Export) -> None:
    """Both pages have the same lines of what is counted, and each event is counted once."""
    metrics = Metrics(allowed_props=["topic"], upstream=True)
    with (
        PrometheusExporter(metrics=metrics, collect_defaults=False) as one,
        PrometheusExporter(metrics=metrics, collect_defaults=False) as other,
    ):
        for function in (metrics, one, other, fan_out(one, other), fan_out(metrics, one)):
            set_trace_function(function)
            swarm = Swarm()
            with Tracer("outer").span():
                swarm.connect(topic="a")
                with swarm.tracer.span() as span:
                    span.set(topic="b")
        assert one.metrics() == other.metrics()
        assert total(one) == 5 * 3
        assert by("caller_props_topic", other) == {"a": 5, "b": 5, None: 5}
        assert swallowed_errors() == 0


def test_metrics_stay_when_one_of_their_exporters_is_stopped() -> None:
    """The others go on to show them."""
    metrics = Metrics()
    set_trace_function(metrics)
    first = PrometheusExporter(metrics=metrics, collect_defaults=False)
    swarm = Swarm()
    swarm.connect()
    first.stop()
    swarm.connect()
    with PrometheusExporter(metrics=metrics, collect_defaults=False) as second:
        assert total(second) == 2
    assert first.metrics() == ""


def test_an_exporter_is_the_trace_function_that_was_set(export: Export) -> None:
    """Though events go straight to its metrics, it is what `get_trace_function` returns."""
    exporter = export()
    assert get_trace_function() is exporter


def test_an_exporter_costs_nothing_on_the_way_of_an_event(
    export: Export, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither alone nor in a `fan_out` is it called for an event: its metrics are bound."""
    exporter = export(allowed_props=["topic"])

    def fail(*_: object) -> None:
        raise AssertionError("an event took the long way")

    monkeypatch.setattr(PrometheusExporter, "__call__", fail)
    monkeypatch.setattr(Metrics, "__call__", fail)
    for function in (exporter, fan_out(exporter, Metrics()), fan_out(exporter)):
        set_trace_function(function)
        swarm = Swarm()
        for topic in ("a", "b"):
            swarm.connect(topic=topic)
            with swarm.tracer.span(topic=topic):
                pass
    assert total(exporter) == 3 * 4
    assert swallowed_errors() == 0
