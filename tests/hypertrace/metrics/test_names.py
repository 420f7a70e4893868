"""Names under which metrics are shown."""

from dataclasses import replace
from typing import Any

import pytest

from hypertrace import Tracer, set_trace_function
from hypertrace.metrics import Counter, LastValue, Metrics, Sum
from hypertrace.metrics.declarations import (
    BUILT_IN,
    CALLS,
    DURATIONS,
    EXCEPTIONS,
    HEALTH,
    IN_PROGRESS,
    SERIES,
)
from hypertrace.metrics.names import Names

from .readings import values_in


def test_without_arguments_names_stay() -> None:
    """Each declaration is shown as it is, as the same object."""
    names = Names()
    assert all(names.shown(one) is one for one in BUILT_IN)


def test_a_prefix_stands_before_the_metrics_of_functions_and_no_others() -> None:
    """Those of the counting itself keep their names."""
    reading = Metrics(prefix="shop_", upstream=True).read()
    health = {one.name for one in HEALTH}
    shown = [family.name for family in reading.families if family.name not in health]
    assert sorted(shown) == sorted(f"shop_{one.name}" for one in BUILT_IN)


def test_a_metric_is_renamed_without_the_prefix() -> None:
    """The name in `names` is the whole name; all else of the declaration stays."""
    metrics = Metrics(prefix="shop_", names={DURATIONS.name: "took_seconds"})
    reading = metrics.read()
    assert reading.families[0].name == "shop_function_counter_total"
    assert reading.families[1].declaration == replace(DURATIONS, name="took_seconds")


def test_counter_name_is_the_whole_name() -> None:
    """The prefix is not put before it, as not before other names that are given."""
    assert Names(prefix="shop_", counter_name="calls_total").of(CALLS.name) == "calls_total"


def test_a_declared_metric_gets_prefix_or_name() -> None:
    """Metrics that are declared later have the prefix, too, and may be renamed before that."""
    names = Names(prefix="shop_", names={"logins_total": "sign_ins_total"})
    assert names.of("orders_total") == "shop_orders_total"
    assert names.of("logins_total") == "sign_ins_total"


def test_a_declared_counter_may_be_shown_without_its_end() -> None:
    """For dashboards that ask for an old name; it is still what was declared."""
    declared = Counter("logins_total", of="Auth.login", tags=["result"])
    metrics = Metrics(declared=[declared], names={"logins_total": "logins"}, workers=False)
    declaration = metrics.read().family("logins").declaration
    assert isinstance(declaration, Counter)
    assert (declaration.of, declaration.labels) == (declared.of, declared.labels)
    assert declared.name == "logins_total"
    metrics.declare(Counter("logins_total", of="Auth.login", tags=["result"]))


def test_invalid_values_are_counted_under_the_shown_name() -> None:
    """Those of events and of instruments, as all health is: a query finds both by one name."""
    metrics = Metrics(
        declared=[Sum("sent_total", value="size"), LastValue("depth", value="size")],
        prefix="shop_",
        names={"depth": "queue_depth"},
    )
    set_trace_function(metrics)
    metrics.counter("paid_total").inc(-1)
    Tracer(object()).trace(size="much")
    family = metrics.read().family("hypertrace_invalid_values_total")
    assert {tuple(point) for point in family.points} == {
        (("shop_sent_total",), 1),
        (("queue_depth",), 1),
        (("shop_paid_total",), 1),
    }


def test_what_is_counted_is_under_the_shown_names() -> None:
    """Calls, durations, exceptions, open spans and edges are counted; health names them so."""
    names = {EXCEPTIONS.name: "failures_total"}
    metrics = Metrics(prefix="shop_", names=names, upstream=True)
    set_trace_function(metrics)
    tracer = Tracer("Cart")
    with pytest.raises(KeyError), tracer.span(), tracer.span():
        raise KeyError
    reading = metrics.read()
    assert values_in(reading, "shop_function_counter_total") == {(): 2}
    assert values_in(reading, "failures_total") == {(): 2}
    assert len([*reading.family("shop_function_duration_seconds").points]) == 1
    assert len([*reading.family("shop_function_in_progress").points]) == 1
    assert len([*reading.family("shop_function_edges_total").points]) == 1
    assert values_in(reading, SERIES.name, "metric") == {
        ("shop_function_counter_total",): 1,
        ("shop_function_duration_seconds",): 1,
        ("failures_total",): 2,  # one where it was raised, and one that it passed through
        ("shop_function_edges_total",): 1,
    }


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"prefix": None}, TypeError, "prefix must be a str, not None"),
        ({"prefix": b"x_"}, TypeError, "prefix must be a str, not b'x_'"),
        ({"prefix": "shop"}, ValueError, "'shop' .*make 'shopfunction_.*; let it .* '_': 'shop_'"),
        ({"prefix": "shop-"}, ValueError, "prefix 'shop-' is no name of a metric"),
        ({"prefix": "9_"}, ValueError, "prefix '9_' .* no digit first"),
        ({"prefix": "process_"}, ValueError, "prefix 'process_' begins like the metrics"),
        ({"prefix": "hypertrace_"}, ValueError, "choose another"),
        ({"names": ["x"]}, TypeError, r"names must map names .*\"calls_total\"}, not \['x'\]"),
        ({"names": {CALLS.name: None}}, TypeError, r"names\['function_.*'\] must be a str"),
        ({"names": {CALLS.name: "a-b"}}, ValueError, r"names\['function_.*'\] 'a-b' is no name"),
        ({"names": {CALLS.name: ""}}, ValueError, r"names\['function_.*'\] '' is no name"),
        ({"names": {CALLS.name: "python_x"}}, ValueError, "'python_x' begins like the metrics"),
        ({"names": {CALLS.name: "x_sum"}}, ValueError, "'x_sum' ends like a part .* another end"),
        ({"names": {7: "x"}}, TypeError, "the metric to rename, must be a str, not 7"),
        ({"names": {"hypertrace_series": "x"}}, ValueError, "rename, 'hypertrace_series' begins"),
        (
            {"names": {"function_calls_total": "x"}},
            ValueError,
            "names has 'function_calls_total', and no metric .* are function_counter_total, ",
        ),
        (
            {"prefix": "a_", "names": {"a_function_in_progress": "x"}},
            ValueError,
            "'a_function_in_progress' with its prefix; write 'function_in_progress'",
        ),
        (
            {"counter_name": "a_total", "names": {CALLS.name: "b_total"}},
            ValueError,
            r"counter_name 'a_total' together with names\['function_counter_total'\] 'b_total'",
        ),
        (
            {"names": {IN_PROGRESS.name: "open_total"}},
            ValueError,
            "'function_in_progress' would be shown as 'open_total', and only counters end in",
        ),
        (
            {"names": {EXCEPTIONS.name: "x_total", CALLS.name: "x_total"}},
            ValueError,
            "'function_counter_total' and 'function_exceptions_total' would both be shown as 'x",
        ),
        (
            {"names": {CALLS.name: "x_total", IN_PROGRESS.name: "x"}},
            ValueError,
            "would both be shown as 'x'",
        ),
        (
            {"names": {DURATIONS.name: "x", CALLS.name: "x_count_total"}},
            ValueError,
            "would both be shown as 'x_count'",
        ),
    ],
    ids=str,
)
def test_a_name_that_cannot_be_is_refused(
    arguments: dict[str, Any], error: type[Exception], message: str
) -> None:
    """The error names the value, and says what to do."""
    with pytest.raises(error, match=message):
        Metrics(**arguments)


def test_declared_metrics_are_checked_beside_the_others() -> None:
    """One that would be shown under a name that is taken is refused."""
    names = Names(names={"logins_total": "function_counter_total"})
    names.check([replace(CALLS, name="orders_total")])
    with pytest.raises(ValueError, match="'function_counter_total' and 'logins_total' would both"):
        names.check([replace(CALLS, name="logins_total")])


def test_metrics_may_swap_their_names() -> None:
    """Only what is shown must differ."""
    names = Names(names={CALLS.name: EXCEPTIONS.name, EXCEPTIONS.name: CALLS.name})
    assert names.shown(CALLS).name == EXCEPTIONS.name
