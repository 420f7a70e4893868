"""Kinds of declared metrics: what they hold, how they are shown, and which mistakes they refuse."""

from __future__ import annotations

import pickle
import re
from copy import deepcopy
from dataclasses import FrozenInstanceError, replace
from functools import partial
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hypertrace.metrics import (
    Counter,
    Declaration,
    Distribution,
    LastValue,
    Sum,
    Summary,
    declarations,
)
from hypertrace.metrics.declared.kinds import MODES, WORKERS, DeclaredMetric
from hypertrace.metrics.declared.units import _FAMILIES

KINDS = {one.__name__: one for one in (Counter, Sum, LastValue, Distribution, Summary)}


def declared(kind: str, name: str = "", **options: Any) -> DeclaredMetric:
    """Declare a metric, with a name and a value that are right if the test is not about them."""
    right = "x_total" if kind in {"Counter", "Sum"} else "x"
    if kind in {"Sum", "LastValue"}:
        options = {"value": "size"} | options
    return KINDS[kind](name or right, **options)


# --- what they hold ---------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "shown"),
    [
        ("Counter", "counter"),
        ("Sum", "counter"),
        ("LastValue", "gauge"),
        ("Distribution", "histogram"),
        ("Summary", "summary"),
    ],
)
def test_a_kind_is_a_declaration_of_a_metric(kind: str, shown: str) -> None:
    """Without options it is about all events, and has no labels."""
    one = declared(kind)
    assert isinstance(one, Declaration)
    assert (one.kind, one.labels, one.description, one.of, one.id) == (shown, (), "", None, None)
    assert (one.tags, one.tag_values, one.keep, one.drop, one.max_series) == ((), (), *[None] * 3)
    with pytest.raises(FrozenInstanceError):
        one.name = "y"  # type: ignore[misc]


def test_options_are_held_so_that_they_cannot_change() -> None:
    """Lists become tuples, tags pairs of label and path, mappings of values sets of pairs."""
    texts = {200: "ok"}
    tags = ["result", "user-id"]
    one = Counter("x_total", tags=tags, tag_values={"user_id": texts})
    tags.append("later")
    texts[500] = "error"
    assert one.tags == (("result", "result"), ("user_id", "user-id"))
    assert one.labels == ("result", "user_id")
    assert one.tag_values == (("user_id", frozenset({(200, "ok")})),)
    assert Distribution("x", buckets=[1, 2.5, float("inf")]).buckets == (1.0, 2.5)
    assert Summary("x", quantiles=[0.9, 0]).quantiles == (0.0, 0.9)


def test_buckets_above_are_added_to_those_of_the_metrics() -> None:
    """Only those that are above them."""
    one = Distribution("x", buckets_above=[1, 60])
    assert one.bounds((0.5, 10.0)) == (0.5, 10.0, 60.0)
    assert one.bounds((0.5,)) == (0.5, 1.0, 60.0)
    assert Distribution("x").bounds((0.5,)) == (0.5,)


def test_distributions_and_summaries_are_of_durations_unless_they_have_a_value() -> None:
    """Their unit is then seconds, as spans have it."""
    for one in (Distribution("x"), Summary("x"), Sum("x_total", value="busy")):
        assert (one.value in {"duration", "busy"}, one.unit) == (True, "seconds")
    assert Distribution("x", value="size", buckets=[1]).unit == ""
    converted = Summary("x", unit=("seconds", "milliseconds"))
    assert (converted.unit, converted.converted_from) == ("milliseconds", "seconds")


def test_a_gauge_shows_the_sum_of_the_workers_unless_it_says_otherwise() -> None:
    """Values replace each other, unless they are to be added."""
    one = LastValue("x", value="size")
    assert (one.mode, one.workers) == ("set", "sum")
    assert [LastValue("x", value="v", mode=mode).mode for mode in MODES] == list(MODES)
    assert [LastValue("x", value="v", workers=w).workers for w in WORKERS] == list(WORKERS)


# --- equal, hashed, shown ---------------------------------------------------------------


def test_equal_declarations_are_equal_and_have_one_hash() -> None:
    """The form in which an option was given makes no difference, its value does."""
    one = Sum("x_total", value="size", tags=["a"], unit=("bytes", "kilobytes"))
    same = Sum("x_total", value="size", tags={"a": "a"}, unit=["bytes", "kilobytes"])  # type: ignore[arg-type]
    assert one == same
    assert hash(one) == hash(same)
    others = [
        Sum("x_total", value="size", tags=["a"], unit="kilobytes"),
        Sum("x_total", value="size", tags=["b"], unit=("bytes", "kilobytes")),
        Counter("x_total", tags=["a"]),
    ]
    assert all(other != one for other in others)
    assert {len} == {Counter("x_total", keep=len).keep}  # type: ignore[arg-type]
    assert Counter("x_total", keep=len) == Counter("x_total", keep=len)  # type: ignore[arg-type]


def test_a_copy_under_another_name_is_the_same_otherwise() -> None:
    """`dataclasses.replace`, copies and pickles keep the conversion of a unit, too."""
    one = Sum(
        "x_total",
        value="size",
        unit=("bytes", "kilobytes"),
        tags={"a": "call.b"},
        tag_values={"a": {1: "one"}},
    )
    renamed = replace(one, name="shop_x_total")
    assert renamed.converted_from == "bytes"
    assert replace(renamed, name="x_total") == one
    assert deepcopy(one) == one
    assert pickle.loads(pickle.dumps(one)) == one


@pytest.mark.parametrize(
    "text",
    [
        "Counter('logins_total', of='Auth.login', tags=('result', 'provider'))",
        "Sum('sent_total', of='Swarm.send', value='size', unit=('bytes', 'kilobytes'))",
        "LastValue('depth', of='Queue.*', tags=('queue',), value='depth', workers='max')",
        "Distribution('checkout_seconds', tags={'tier': 'object.tier'}, buckets=(0.1, 1.0))",
        "Summary('payload', id='up*', value='size', unit='bytes', quantiles=(0.5,), max_age=60.0)",
        "Counter('x_total', tags=('code',), tag_values={'code': {200: 'ok', 500: 'error'}})",
        "Counter('x_total', tags={'call_size': 'call.size'}, description='X.', max_series=5)",
        "Distribution('x', value='call.size', native=True)",
    ],
)
def test_a_declaration_is_shown_as_it_can_be_written(text: str) -> None:
    """What is not the default is shown, and nothing else."""
    assert repr(eval(text, dict(KINDS))) == text


NAMES = st.from_regex(r"[a-z][a-z0-9_]{0,8}[a-z0-9]", fullmatch=True).filter(
    lambda name: not name.endswith(("_bucket", "_count", "_created", "_info", "_sum", "_total"))
)
PROPS = st.sampled_from(["size", "user-id", "a.b", "call.size", "object.tier", "parent.x", "größe"])
PATHS = PROPS | st.sampled_from(
    ["class", "function", "file", "id", "result", "exception", "raised"]
)
RAW = st.none() | st.booleans() | st.integers() | st.text(max_size=3)
LABELS = st.from_regex(r"[a-z]_[a-z0-9]{1,5}", fullmatch=True)
UNITS = st.sampled_from(["", "euros", "bytes"]) | st.sampled_from(_FAMILIES).flatmap(
    lambda family: st.tuples(*[st.sampled_from(sorted(family))] * 2)
)
FLOATS = st.floats(-1e9, 1e9)


@st.composite
def metrics(draw: st.DrawFn) -> DeclaredMetric:
    """Draw any declaration without functions."""
    kind = draw(st.sampled_from(sorted(KINDS)))
    tags = draw(st.dictionaries(LABELS, PATHS, max_size=3))
    texts = st.dictionaries(RAW, st.text(max_size=3), max_size=3)
    options: dict[str, Any] = {
        "of": draw(st.none() | st.sampled_from(["Cart.*", "*", "[AB]?.x", "*.f"])),
        "id": draw(st.none() | st.text(max_size=4).filter(lambda text: "[" not in text)),
        "tags": tags,
        "tag_values": {label: draw(texts) for label in tags if draw(st.booleans())},
        "description": draw(st.text(max_size=5)),
        "max_series": draw(st.none() | st.integers(1)),
    }
    if kind != "Counter":
        options |= {"value": draw(PROPS), "unit": draw(UNITS)}
    if kind == "LastValue":
        options |= {
            "mode": draw(st.sampled_from(MODES)),
            "workers": draw(st.sampled_from(WORKERS)),
        }
    if kind == "Distribution":
        if draw(st.booleans()):
            options["native"] = True
        else:
            options["buckets"] = sorted(draw(st.sets(FLOATS, min_size=1, max_size=4)))
    if kind == "Summary":
        options["quantiles"] = draw(st.lists(st.floats(0, 1), min_size=1, max_size=3, unique=True))
        options["max_age"] = draw(st.integers(1) | st.floats(0.1, 1e9))
    end = "_total" if kind in {"Counter", "Sum"} else ""
    return KINDS[kind](f"x_{draw(NAMES)}{end}", **options)


@settings(suppress_health_check=[HealthCheck.too_slow])  # a busy machine is slow
@given(metrics())
def test_what_is_shown_makes_an_equal_declaration(metric: DeclaredMetric) -> None:
    """`repr` can be pasted, whatever the options are."""
    again = eval(repr(metric), dict(KINDS))
    assert again == metric
    assert hash(again) == hash(metric)
    assert repr(again) == repr(metric)
    assert (again.labels, again.unit, again.converted_from) == (
        metric.labels,
        metric.unit,
        metric.converted_from,
    )


# --- mistakes ---------------------------------------------------------------------------


async def coroutine_function(event: object) -> bool:
    return bool(event)


MISTAKES: list[tuple[str, dict[str, Any], type[Exception], str]] = [
    # Names.
    ("Counter", {"name": "9x_total"}, ValueError, "'9x_total' is no name of a metric"),
    ("Counter", {"name": "a-b_total"}, ValueError, "letters, digits and '_'"),
    ("Counter", {"name": None}, TypeError, "the name must be a str, not None"),
    ("Counter", {"name": "logins"}, ValueError, "must end in '_total', .* 'logins_total'"),
    ("Sum", {"name": "bytes"}, ValueError, "must end in '_total', .* 'bytes_total'"),
    ("LastValue", {"name": "depth_total"}, ValueError, "only those of Counter .* write 'depth'"),
    ("Distribution", {"name": "x_bucket"}, ValueError, "ends like a part of a metric of another"),
    ("Summary", {"name": "x_count"}, ValueError, "ends like a part of .* choose another end"),
    ("Counter", {"name": "hypertrace_x_total"}, ValueError, "begins like the metrics .* choose"),
    ("LastValue", {"name": "process_x"}, ValueError, "begins like the metrics"),
    ("LastValue", {"name": "python_x"}, ValueError, "begins like the metrics"),
    ("Counter", {"name": "function_counter_total"}, ValueError, "built-in counter of calls"),
    # Patterns.
    ("Counter", {"of": ""}, ValueError, "of='' can match nothing: it is empty; leave it out"),
    ("Counter", {"of": " Cart.*"}, ValueError, "spaces at its ends; write 'Cart.*'"),
    ("Counter", {"of": "checkout"}, ValueError, r"no '\.' in it.* 'checkout\.\*' .*'\*.checkout'"),
    ("Counter", {"of": "[z-a].x"}, ValueError, "a set of characters in it is empty"),
    ("Counter", {"of": "??"}, ValueError, "'Class.function' is longer"),
    ("Counter", {"of": ["Cart.*"]}, TypeError, "of must be a pattern .*, not \\['Cart"),
    ("Counter", {"id": 5}, TypeError, "id must be a pattern on the trace id, .*, not 5"),
    ("Counter", {"id": "[z-a]"}, ValueError, r"id='\[z-a\]' can match nothing"),
    # Tags.
    ("Counter", {"tags": "result"}, TypeError, "tags must be names .*, not 'result'"),
    ("Counter", {"tags": [5]}, TypeError, r"tags must be names \(str\), not 5"),
    ("Counter", {"tags": [""]}, ValueError, "tags has '', which is no name of a prop"),
    ("Counter", {"tags": [" a"]}, ValueError, "tags has ' a', .* leave out the spaces"),
    ("Counter", {"tags": ["object.tier"]}, ValueError, "a label: tags={'tier': 'object.tier'}"),
    ("Counter", {"tags": {"a": "call."}}, ValueError, "names no prop; write call.NAME"),
    ("Counter", {"tags": {"a": "objct.x"}}, ValueError, "did you mean 'object.x'.*'call.objct.x'"),
    ("Counter", {"tags": {"a": "obj.x"}}, ValueError, "did you mean 'object.x'"),
    ("Counter", {"tags": {"a-b": "x"}}, ValueError, "'a-b', which Prometheus .* write {'a_b': 'x'"),
    ("Counter", {"tags": ["9x"]}, ValueError, "no digit first; write {'_9x': '9x'}"),
    ("Counter", {"tags": ["a-b", "a_b"]}, ValueError, "'a-b' and 'a_b' would both .* label 'a_b'"),
    *(
        ("Counter", {"tags": [name]}, ValueError, f"label '{name}', which belongs to Prometheus")
        for name in ("le", "quantile", "job", "instance", "__x")
    ),
    ("Counter", {"tags": ["password"]}, ValueError, "'password', which looks like a secret"),
    ("Counter", {"tags": {"a": "call.api_key"}}, ValueError, "tag_values={'a': …}, with str"),
    (
        "Counter",
        {"tags": ["token"], "tag_values": {"token": {"a": "b"}}},
        ValueError,
        "'token', which looks like a secret",
    ),
    (
        "Counter",
        {"tags": ["result"], "tag_values": {"reslt": str}},
        ValueError,
        "tag_values has 'reslt', .*; did you mean 'result'\\? It has 'result'",
    ),
    ("Counter", {"tag_values": {"a": str}}, ValueError, "no label of the metric; it has none"),
    ("Counter", {"tag_values": [1]}, TypeError, r"tag_values must map labels .*, not \[1\]"),
    (
        "Counter",
        {"tags": ["a"], "tag_values": {"a": {1: 2}}},
        TypeError,
        "maps 1 to 2, which is no text; write '2'",
    ),
    (
        "Counter",
        {"tags": ["a"], "tag_values": {"a": "b"}},
        TypeError,
        "must be a function of the value, or map values to texts, not 'b'",
    ),
    # Values.
    ("Sum", {"value": None}, TypeError, "value is missing: .*Counter counts events without one"),
    ("LastValue", {"value": None}, TypeError, "value is missing"),
    ("Counter", {"value": "size"}, TypeError, "'size' is not for a Counter.*Sum adds values"),
    ("Sum", {"value": 5}, TypeError, "value must be the name of a prop, .*, not 5"),
    ("Sum", {"value": "result"}, ValueError, "'result' is a fact.*'call.result'"),
    ("Sum", {"value": "objct.size"}, ValueError, "did you mean 'object.size'"),
    ("Sum", {"value": coroutine_function}, TypeError, "value must be a plain function"),
    # Units.
    ("Sum", {"unit": 5}, TypeError, "unit must be a text, .*, not 5"),
    ("Sum", {"unit": "a b"}, ValueError, "'a b' is no unit that Prometheus takes"),
    ("Sum", {"unit": "milisecond"}, ValueError, "did you mean 'milliseconds'"),
    ("Sum", {"unit": ("ms", "seconds")}, ValueError, "did you mean 'milliseconds'.*nanoseconds, "),
    ("Sum", {"unit": ("px", "seconds")}, ValueError, "'px' cannot be converted: those that can"),
    ("Sum", {"unit": "MiB"}, ValueError, "did you mean 'mebibytes'"),
    ("Sum", {"unit": ("byte", "kilobytes")}, ValueError, "did you mean 'bytes'"),
    ("Sum", {"unit": (1, "bytes")}, TypeError, "a pair must be two names .*, not 1"),
    ("Sum", {"unit": ("bytes",)}, TypeError, r"or a pair that converts, .*, not \('bytes',\)"),
    (
        "Sum",
        {"unit": ("bytes", "seconds")},
        ValueError,
        "bytes cannot be converted to seconds, but to kilobytes",
    ),
    ("Counter", {"unit": ("bytes", "kilobytes")}, ValueError, "a Counter has none; Sum adds"),
    ("Summary", {"unit": "milliseconds"}, ValueError, "'duration' of a span is in seconds; leave"),
    ("Summary", {"unit": ("days", "hours")}, ValueError, r"unit=\('seconds', 'milliseconds'\)"),
    # Functions and the rest.
    ("Counter", {"keep": "x"}, TypeError, "keep must be a function of the event or None, not 'x'"),
    ("Counter", {"drop": coroutine_function}, TypeError, "drop must be a plain function"),
    ("Counter", {"description": None}, TypeError, "description must be a str, not None"),
    ("Counter", {"max_series": 0}, ValueError, "max_series must be 1 or more, not 0"),
    ("Counter", {"max_series": True}, TypeError, "max_series must be an int or None, not True"),
    ("Counter", {"tag": ["a"]}, TypeError, "Counter takes no 'tag'; did you mean 'tags'"),
    ("Counter", {"labelnames": ["a"]}, TypeError, "did you mean 'tags'"),
    ("Summary", {"percentiles": [0.5]}, TypeError, "did you mean 'quantiles'"),
    ("Counter", {"percentiles": [0.5]}, TypeError, "no 'percentiles'; it takes"),
    ("Counter", {"buckets": [1]}, TypeError, "Counter takes no 'buckets'"),
    # Those of one kind.
    ("LastValue", {"mode": "ad"}, ValueError, "mode 'ad': did you mean 'add'.*'set', 'add'"),
    ("LastValue", {"mode": None}, TypeError, "mode None: it is one of 'set', 'add'"),
    ("LastValue", {"workers": "lastest"}, ValueError, "did you mean 'latest'"),
    ("LastValue", {"workers": 1}, TypeError, "workers 1: it is one of 'sum', 'max'"),
    (
        "LastValue",
        {"workers": "each", "tags": ["worker"]},
        ValueError,
        "label 'worker', which workers='each' adds",
    ),
    ("Distribution", {"buckets": []}, ValueError, "buckets has no bounds; leave it out"),
    ("Distribution", {"buckets": [2, 1]}, ValueError, "must ascend, and 1.0 follows 2.0"),
    ("Distribution", {"buckets": ["1"]}, TypeError, "buckets: '1' is no number"),
    ("Distribution", {"buckets": "1"}, TypeError, "buckets must be several numbers, .*, not '1'"),
    ("Distribution", {"buckets": [float("nan")]}, ValueError, "buckets: nan is not finite"),
    ("Distribution", {"value": "size"}, ValueError, "buckets is missing: .*native=True"),
    ("Distribution", {"native": 1}, TypeError, "native must be True or False, not 1"),
    (
        "Distribution",
        {"native": True, "buckets": (1, 2)},
        ValueError,
        "buckets excludes native=True: .*give one of the two",
    ),
    ("Distribution", {"buckets_above": []}, ValueError, "buckets_above has no bounds"),
    ("Distribution", {"buckets_above": None}, TypeError, "buckets_above must be several numbers"),
    ("Distribution", {"buckets_above": (1,), "native": True}, ValueError, "of the Metrics alone"),
    ("Distribution", {"buckets_above": (1,), "buckets": (1,)}, ValueError, "Metrics alone"),
    ("Summary", {"quantiles": []}, ValueError, "quantiles is empty; leave it out"),
    ("Summary", {"quantiles": [99]}, ValueError, "from 0 to 1, not 99; for percent write 0.99"),
    ("Summary", {"quantiles": [-0.1]}, ValueError, "from 0 to 1, not -0.1"),
    ("Summary", {"quantiles": [0.5, 0.5]}, ValueError, "a number twice"),
    ("Summary", {"quantiles": 0.5}, TypeError, "quantiles must be several numbers, .*, not 0.5"),
    ("Summary", {"quantiles": [True]}, TypeError, "quantiles: True is no number"),
    ("Summary", {"max_age": 0}, ValueError, "max_age must be more than 0 seconds, not 0"),
    ("Summary", {"max_age": "600"}, TypeError, "max_age is a number of seconds: '600' is no"),
    ("Summary", {"max_age": float("inf")}, ValueError, "max_age is a number .*: inf is not finite"),
]


@pytest.mark.parametrize(
    ("kind", "options", "error", "message"),
    MISTAKES,
    ids=[f"{kind}-{'-'.join(options)}-{n}" for n, (kind, options, *_) in enumerate(MISTAKES)],
)
def test_a_mistake_is_an_error_where_it_is_declared(
    kind: str, options: dict[str, Any], error: type[Exception], message: str
) -> None:
    """The error names the metric, the value and the way out."""
    make: Any = KINDS[kind] if "name" in options else partial(declared, kind)
    with pytest.raises(error, match=message) as raised:
        make(**options)
    assert re.match(rf"{kind} ", str(raised.value))


@pytest.mark.parametrize("one", declarations.BUILT_IN + declarations.HEALTH, ids=lambda o: o.name)
def test_no_declared_metric_takes_the_name_of_a_built_in_one(one: Declaration) -> None:
    """Whatever the kind is."""
    for kind in KINDS:
        with pytest.raises(ValueError, match=r"begins like|built-in|ends"):
            declared(kind, one.name)


def test_what_looks_like_a_mistake_and_is_none_is_taken() -> None:
    """Each message names a way out, which works."""
    Counter("x_total", tags=["session_id"], tag_values={"session_id": str})
    Counter("x_total", tags={"a": "call.objct.x"})
    Counter("x_total", tags=["token_count", "http.method"], id="")
    Counter("x_total", of="*checkout")
    Distribution("x", value="size", native=True)
    Distribution("x", value="wait", unit=("milliseconds", "seconds"))
    Sum("x_total", value="call.result", unit="requests")
    LastValue("x", value=len, unit=("percent", "ratio"))  # type: ignore[arg-type]
