"""Series of functions: the labels under which calls are counted."""

from __future__ import annotations

import enum
from typing import TYPE_CHECKING, Any

import pytest

from hypertrace import Tracer, set_trace_function, swallowed_errors
from hypertrace.metrics import Metrics

from ...traced_classes import FILE, Network, Swarm
from .readings import by, labels_of, only, samples, total

if TYPE_CHECKING:
    from hypertrace import TraceEvent

    from .conftest import Count


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


def test_a_call_is_counted_by_class_function_and_file(count: Count) -> None:
    """A bare `trace()` has three labels, and each call of the method adds one."""
    metrics = count()
    swarm = Swarm()
    for _ in range(5):
        swarm.connect()
    labels = {
        "object_classname": "Swarm",
        "caller_functionname": "connect",
        "caller_filename": FILE,
    }
    assert samples(metrics) == [(labels, 5)]


def test_all_that_is_known_becomes_a_label(count: Count) -> None:
    """Id, parent and the allowed props of object, parent and call are labels."""
    metrics = count(allowed_props=["topic", "peer-id"], object_ids=True)
    network = Network(topic="all", secret="s")
    swarm = Swarm({"topic": "books", "other": 1}, network)
    swarm.connect("dial", {"peer-id": "p", "password": "x"}, topic="now")
    assert only(metrics) == {
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


def test_nothing_is_allowed_by_default(count: Count) -> None:
    """Without allowed props no value of a prop gets out."""
    metrics = count()
    Swarm({"topic": "secret"}, Network(topic="secret")).connect(topic="secret")
    assert "secret" not in str(labels_of(metrics))
    assert "secret" not in str([list(family.points) for family in metrics.read().families])


def test_a_parent_can_be_changed_and_removed(count: Count) -> None:
    """Later calls have the labels of the new parent, or none."""
    metrics = count(allowed_props=["topic"])
    swarm = Swarm(None, Network(topic="a"))
    swarm.connect()
    swarm.tracer.set_parent(Network(topic="b").tracer)
    swarm.connect()
    swarm.connect()
    swarm.tracer.set_parent(None)
    swarm.connect()
    assert by("parent_object_props_topic", metrics) == {"a": 1, "b": 2, None: 1}
    assert by("parent_object_classname", metrics) == {"Network": 3, None: 1}


def test_objects_with_equal_labels_share_a_series(count: Count) -> None:
    """Without object_ids it makes no difference which object was called."""
    metrics = count(allowed_props=["topic"])
    for topic in ("a", "b", "a"):
        Swarm({"topic": topic}).connect()
    assert by("object_props_topic", metrics) == {"a": 2, "b": 1}
    assert len(samples(metrics)) == 2


def test_ids_distinguish_calls_of_one_line(count: Count) -> None:
    """The id given to a call is a label, and two methods with one id are not merged."""
    metrics = count()
    swarm = Swarm()
    for trace_id in ("a", "b", "a"):
        swarm.connect(trace_id)
    swarm.tracer.trace("a")
    assert by("id", metrics) == {"a": 3, "b": 1}
    assert len(samples(metrics)) == 3


def test_values_that_are_equal_but_other_texts_are_other_series(count: Count) -> None:
    """1, True and 1.0 are distinguished, the first time and every time."""
    metrics = count(allowed_props=["topic"])
    swarm = Swarm()
    for _ in range(3):
        for value in (1, True, 1.0, "1", Color.RED, "red", b"red", None, ""):
            swarm.connect(topic=value)
    assert by("caller_props_topic", metrics) == {
        "1": 6,
        "True": 3,
        "1.0": 3,
        "red": 9,
        None: 6,
    }
    assert len(samples(metrics)) == 5


def test_ids_that_are_equal_but_other_texts_are_other_series(count: Count) -> None:
    """An id of a wrong type is counted under its text, every time."""
    metrics = count()
    swarm = Swarm()
    for _ in range(3):
        for value in (1, True, 1.0, "1", ["x"]):
            swarm.connect(value)
    assert by("id", metrics) == {"1": 6, "True": 3, "1.0": 3, "['x']": 3}


def test_values_that_raise_are_counted(count: Count) -> None:
    """A value that can do nothing but raise is counted as unprintable, wherever it stands."""
    metrics = count(allowed_props=["topic"])
    value = Unprintable()
    swarm = Swarm({"topic": value}, Network(topic=value))
    for _ in range(2):
        swarm.connect(topic=value)
    swarm.connect({"topic": value})
    labels = only(metrics)
    for name in ("object_props_topic", "parent_object_props_topic", "caller_props_topic"):
        assert labels[name] == "<unprintable Unprintable>"
    assert total(metrics) == 3
    assert swallowed_errors() == 0


def test_label_values_are_cut_at_the_length_set(count: Count) -> None:
    """`max_label_length` bounds every label made of a value."""
    metrics = count(allowed_props=["topic"], max_label_length=16)
    for _ in range(2):
        Swarm({"topic": "o" * 99}).connect("i" * 99, topic="c" * 99)
    labels = only(metrics)
    assert labels["object_props_topic"] == "o" * 15 + "…"
    assert labels["caller_props_topic"] == "c" * 15 + "…"
    assert labels["id"] == "i" * 15 + "…"


def test_an_event_counts_like_the_call_it_describes(count: Count) -> None:
    """Called with an event, as a plain trace function is, `Metrics` counts the same series."""
    metrics = count(allowed_props=["topic"])
    plain = Metrics(allowed_props=["topic"])

    def forward(event: TraceEvent) -> None:
        plain(event)

    swarm = Swarm({"topic": "a"}, Network(topic="b"))
    for function in (metrics, forward):
        set_trace_function(function)
        for _ in range(2):
            swarm.connect("x", topic="c")
            swarm.connect()
            swarm.plain()
    assert sorted(samples(metrics), key=str) == sorted(samples(plain), key=str)
    assert total(plain) == 6


@pytest.mark.parametrize(
    ("names", "label"),
    [("/t/ipykernel_7/{}.py", "<notebook>"), ("<stdin-{}>", "<stdin>"), ("<stdin>", "<stdin>")],
)
def test_code_that_is_edited_and_run_again_makes_no_new_series(
    names: str, label: str, count: Count
) -> None:
    """However often a cell or an input is edited, its calls are one series of each function."""
    metrics = count()
    interactive = {"Tracer": Tracer, "__name__": "__main__"}
    for number in range(5):
        source = f"def f(): tracer.trace()\ntracer = Tracer('cell'); f(); version = {number}"
        exec(compile(source, names.format(number), "exec"), interactive)
    labels = {"object_classname": "cell", "caller_functionname": "f", "caller_filename": label}
    assert samples(metrics) == [(labels, 5)]


def test_one_code_object_in_two_modules_is_counted_in_the_file_of_each(count: Count) -> None:
    """Modules that run code of one `compile()` have their own labels."""
    metrics = count()
    source = """
class Plugin:
    def __init__(self):
        self.tracer = Tracer(self)
    def run(self):
        self.tracer.trace()
        with self.tracer.span("span"):
            pass
"""
    compiled = compile(source, "/nowhere/plugins/plugin.py", "exec")
    for module in ("plugins.plugin", "plugin"):
        names = {"Tracer": Tracer, "__name__": module}
        exec(compiled, names)
        plugin: Any = names["Plugin"]
        for _ in range(2):
            plugin().run()
    files = {"plugins/plugin.py": 4, "plugin.py": 4}
    assert by("caller_filename", metrics) == files
