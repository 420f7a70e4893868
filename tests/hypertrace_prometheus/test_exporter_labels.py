"""Under which labels an exporter counts a call."""

from __future__ import annotations

import enum
from typing import TYPE_CHECKING

import pytest
from prometheus_client.parser import text_string_to_metric_families as parse_text

from hypertrace import set_trace_function, swallowed_errors
from hypertrace_prometheus import PrometheusExporter
from hypertrace_prometheus.exposition.render import render

from ..traced_classes import FILE, Network, Swarm
from .pages import by, only, parse_openmetrics, samples, total

if TYPE_CHECKING:
    from hypertrace import TraceEvent

    from .running import Export


class Color(enum.StrEnum):
    RED = "red"


class Unprintable:
    """Raises for whatever is asked of it."""

    def __str__(self) -> str:
        raise RuntimeError("no text")

    def __hash__(self) -> int:
        raise RuntimeError("no hash")

    def __eq__(self, _: object) -> bool:
        raise RuntimeError("no comparison")

    def __format__(self, _: str) -> str:
        raise RuntimeError("no format")

    def __len__(self) -> int:
        raise RuntimeError("no length")


def test_a_call_is_counted_by_class_function_and_file(export: Export) -> None:
    """A bare `trace()` has three labels, and each call of the method adds one."""
    exporter = export()
    swarm = Swarm()
    for _ in range(5):
        swarm.connect()
    labels = {
        "object_classname": "Swarm",
        "caller_functionname": "connect",
        "caller_filename": FILE,
    }
    assert samples(exporter) == [(labels, 5)]


def test_all_that_is_known_becomes_a_label(export: Export) -> None:
    """Id, parent and the allowed props of object, parent and call are labels."""
    exporter = export(allowed_props=["topic", "peer-id"], object_ids=True)
    network = Network(topic="all", secret="s")
    swarm = Swarm({"topic": "books", "other": 1}, network)
    swarm.connect("dial", {"peer-id": "p", "password": "x"}, topic="now")
    assert only(exporter) == {
        "object_classname": "Swarm",
        "object_id": str(swarm.tracer.object_id),
        "object_props_topic": "books",
        "caller_functionname": "connect",
        "caller_filename": FILE,
        "caller_props_topic": "now",
        "caller_props_peer_id": "p",
        "id": "dial",
        "parent_object_classname": "Network",
        "parent_object_id": str(network.tracer.object_id),
        "parent_object_props_topic": "all",
    }


def test_nothing_is_allowed_by_default(export: Export) -> None:
    """Without allowed props no value of a prop gets out."""
    exporter = export()
    Swarm({"topic": "secret"}, Network(topic="secret")).connect(topic="secret")
    assert "secret" not in exporter.metrics()


def test_a_parent_can_be_changed_and_removed(export: Export) -> None:
    """Later calls have the labels of the new parent, or none."""
    exporter = export(allowed_props=["topic"])
    swarm = Swarm(None, Network(topic="a"))
    swarm.connect()
    swarm.tracer.set_parent(Network(topic="b").tracer)
    swarm.connect()
    swarm.connect()
    swarm.tracer.set_parent(None)
    swarm.connect()
    assert by("parent_object_props_topic", exporter) == {"a": 1, "b": 2, None: 1}
    assert by("parent_object_classname", exporter) == {"Network": 3, None: 1}


def test_objects_with_equal_labels_share_a_series(export: Export) -> None:
    """Without object_ids it makes no difference which object was called."""
    exporter = export(allowed_props=["topic"])
    for topic in ("a", "b", "a"):
        Swarm({"topic": topic}).connect()
    assert by("object_props_topic", exporter) == {"a": 2, "b": 1}
    assert len(samples(exporter)) == 2


def test_ids_tell_calls_of_one_line_apart(export: Export) -> None:
    """The id given to a call is a label, and two methods with one id are not merged."""
    exporter = export()
    swarm = Swarm()
    for trace_id in ("a", "b", "a"):
        swarm.connect(trace_id)
    swarm.tracer.trace("a")
    assert by("id", exporter) == {"a": 3, "b": 1}
    assert len(samples(exporter)) == 3


def test_values_that_are_equal_but_other_texts_are_other_series(export: Export) -> None:
    """1, True and 1.0 are told apart, the first time and every time."""
    exporter = export(allowed_props=["topic"])
    swarm = Swarm()
    for _ in range(3):
        for value in (1, True, 1.0, "1", Color.RED, "red", b"red", None, ""):
            swarm.connect(topic=value)
    assert by("caller_props_topic", exporter) == {
        "1": 6,
        "True": 3,
        "1.0": 3,
        "red": 9,
        None: 6,
    }
    assert len(samples(exporter)) == 5


def test_ids_that_are_equal_but_other_texts_are_other_series(export: Export) -> None:
    """An id of a wrong type is counted under its text, every time."""
    exporter = export()
    swarm = Swarm()
    for _ in range(3):
        for value in (1, True, 1.0, "1", ["x"]):
            swarm.connect(value)
    assert by("id", exporter) == {"1": 6, "True": 3, "1.0": 3, "['x']": 3}


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
    expected = exporter._labeller.text(value)
    assert len(expected) <= 256
    openmetrics = render(exporter.registry, openmetrics=True).decode()
    for families in (parse_text(exporter.metrics()), parse_openmetrics(openmetrics)):
        (sample,) = [s for f in families for s in f.samples if s.name == "function_counter_total"]
        assert sample.value == 2
        for name in ("object_props_topic", "parent_object_props_topic", "caller_props_topic"):
            assert sample.labels[name] == expected
    assert swallowed_errors() == 0


def test_values_that_raise_are_counted(export: Export) -> None:
    """A value that can do nothing but raise is counted as unprintable, wherever it stands."""
    exporter = export(allowed_props=["topic"])
    value = Unprintable()
    swarm = Swarm({"topic": value}, Network(topic=value))
    for _ in range(2):
        swarm.connect(topic=value)
    swarm.connect({"topic": value})
    labels = only(exporter)
    for name in ("object_props_topic", "parent_object_props_topic", "caller_props_topic"):
        assert labels[name] == "<unprintable Unprintable>"
    assert total(exporter) == 3
    assert swallowed_errors() == 0


def test_label_values_are_cut_at_the_length_set(export: Export) -> None:
    """`max_label_length` bounds every label made of a value."""
    exporter = export(allowed_props=["topic"], max_label_length=16)
    for _ in range(2):
        Swarm({"topic": "o" * 99}).connect("i" * 99, topic="c" * 99)
    labels = only(exporter)
    assert labels["object_props_topic"] == "o" * 15 + "…"
    assert labels["caller_props_topic"] == "c" * 15 + "…"
    assert labels["id"] == "i" * 15 + "…"


def test_an_event_counts_like_the_call_it_tells_of(export: Export) -> None:
    """Called with an event, as a plain trace function is, an exporter counts the same series."""
    exporter = export(allowed_props=["topic"])
    plain = PrometheusExporter(collect_defaults=False, allowed_props=["topic"])

    def forward(event: TraceEvent) -> None:
        plain(event)

    swarm = Swarm({"topic": "a"}, Network(topic="b"))
    for function in (exporter, forward):
        set_trace_function(function)
        for _ in range(2):
            swarm.connect("x", topic="c")
            swarm.connect()
            swarm.plain()
    assert sorted(samples(exporter), key=str) == sorted(samples(plain), key=str)
    assert total(plain) == 6
