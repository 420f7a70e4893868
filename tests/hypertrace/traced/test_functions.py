"""Table of functions: each kind of callable, with each ending, traced and not."""

from __future__ import annotations

from collections import Counter
from functools import partial
from typing import TYPE_CHECKING, Any

import pytest

import hypertrace
from hypertrace import (
    SpanEvent,
    TraceEvent,
    clear_trace_function,
    instrument,
    set_trace_function,
    swallowed_errors,
)
from hypertrace.metrics import Metrics

from .kinds import FUNCTIONS
from .programs import DECORATED, ENGINE, PLAIN, capture_spans, counts_of, open_calls

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from .programs import Program

    Shop = Any
    Load = Callable[..., Any]

ENDINGS: dict[str, tuple[str, Any, str | None]] = {
    "returns": ("ok", None, None),
    "raises": ("error", LookupError, "here"),
    "expected": ("error", KeyError, "here"),
    "cancelled": ("cancelled", "CancelledError", "here"),
    "interrupted": ("error", KeyboardInterrupt, "here"),
    "exits": ("ok", SystemExit, None),
    "stops": ("ok", StopIteration, None),
}
"""Result, exception and place of it, of a span without rules, by the ending of the call."""

RULED = {**ENDINGS, "expected": ("ok", KeyError, None), "returns wrong": ("error", None, None)}
"""The same with `expected=(KeyError,)` and `error_if`."""

HELD_ELSEWHERE = {
    *("many, by a partial", "method, bound before", "method, by map", "generic"),
    "managed",
}
"""Kinds whose functions are held by something else than their module or class."""

WITH_RULES = (
    "_names = []; import hypertrace; traced = hypertrace.traced("
    "'ruled', props={'a': 1}, expected=(KeyError,), error_if=lambda result: result == 'wrong')"
)


@pytest.fixture
def load(how: str, program: Program) -> Iterator[Load]:
    """Give a function that loads the program of all kinds, and traces it."""
    handles: list[Any] = []

    def make(first_line: str = DECORATED) -> Any:
        if how == "traced":
            return program.load(FUNCTIONS, first_line)
        shop = program.load(FUNCTIONS, PLAIN)
        options: dict[str, Any] = (
            {}
            if first_line == DECORATED
            else {
                "id": "ruled",
                "props": {"a": 1},
                "expected": (KeyError,),
                "error_if": lambda result: result == "wrong",
            }
        )
        handles.extend(instrument(f"shop:{name}", **options) for name in _names(shop))
        return shop

    yield make
    for handle in handles:
        handle.undo()


def _names(shop: Shop) -> Iterator[str]:
    """Return the names under which functions can be found in their module."""
    for name in dict.fromkeys(shop._names):
        if "<" not in name:
            yield name
    yield "closure"


@pytest.fixture
def kinds(how: str, program: Program) -> list[str]:
    """Give the names of all kinds that can be traced in this way."""
    found = list(program.load(FUNCTIONS).CALLS)
    if how == "instrument" and ENGINE == "closures":
        return [kind for kind in found if kind not in HELD_ELSEWHERE]
    return found


def ended(shop: Shop, kind: str, ending: str) -> str:
    """Call a kind of callable, and say how the call ended."""
    try:
        result = shop.call(kind, ending)
    except BaseException as error:  # noqa: BLE001 -- each is compared
        return type(error).__name__
    return result if isinstance(result, str) else type(result).__name__


def described(event: SpanEvent) -> tuple[object, ...]:
    """Return what of a span is certain."""
    assert event.busy is None
    assert event.duration >= 0
    exception = event.exception
    named = "CancelledError" if exception and exception.__name__ == "CancelledError" else exception
    names = [it.rpartition(".")[2] for it in (event.object.class_name, event.caller.function_name)]
    return *names, event.id, event.result, named, event.raised, event.caller.props


def expected(
    shop: Shop, kind: str, ending: tuple[object, ...], id: str | None = None
) -> tuple[object, ...]:
    """Return the description of the one span of a call."""
    props = {"a": 1} if id else None
    return shop.CALLS[kind][1], kind.partition(",")[0], id, *ending, props


def test_each_call_is_one_span(load: Load, kinds: list[str], program: Program) -> None:
    """Every kind, with every ending: the same outcome as plain, and exactly one right span."""
    plain, wrong = program.load(FUNCTIONS), []
    outcomes = {(k, e): ended(plain, k, e) for k in kinds for e in ENDINGS}
    shop = load()
    with capture_spans() as events:
        for (kind, ending), outcome in outcomes.items():
            for _ in range(2):
                events.clear()
                assert ended(shop, kind, ending) == outcome
                spans = [described(event) for event in events]
                if spans != [expected(shop, kind, ENDINGS[ending])]:
                    wrong.append(f"{kind}, {ending}: {spans}")
                if open_calls() != 0:
                    wrong.append(f"{kind}, {ending}: left open")
    assert "\n".join(wrong) == ""
    assert swallowed_errors() == 0


def test_each_call_with_rules_is_one_span(load: Load, kinds: list[str], program: Program) -> None:
    """The same with an id, props, expected exceptions and a rule for results."""
    plain, wrong = program.load(FUNCTIONS), []
    outcomes = {(k, e): ended(plain, k, e) for k in kinds for e in RULED}
    shop = load(WITH_RULES)
    # What these return is not what `act` returned.
    changed = ("size, set", "size, deleted", "__init__", "__post_init__", "__set__", "__bool__")
    with capture_spans() as events:
        for (kind, ending), outcome in outcomes.items():
            if ending == "returns wrong" and kind in (*changed, "__iter__"):
                continue
            events.clear()
            assert ended(shop, kind, ending) == outcome
            spans = [described(event) for event in events]
            if spans != [expected(shop, kind, RULED[ending], "ruled")]:
                wrong.append(f"{kind}, {ending}: {spans}")
    assert "\n".join(wrong) == ""
    assert swallowed_errors() == 0
    assert open_calls() == 0


def test_metrics_count_each_call(load: Load, kinds: list[str]) -> None:
    """Metrics have every call under its result, and none is in progress at the end."""
    metrics = Metrics()
    set_trace_function(metrics)
    shop, tally = load(), Counter[tuple[str, str, str]]()
    for kind in kinds:
        for ending, (result, _, _) in ENDINGS.items():
            for _ in range(7):
                ended(shop, kind, ending)
            tally[shop.CALLS[kind][1], kind.partition(",")[0], result] += 7
    reading = metrics.read()
    assert counts_of(reading) == tally
    assert {point.value for point in reading.family("function_in_progress").points} <= {0}
    assert swallowed_errors() == 0


def test_switched_off_a_call_is_no_span(load: Load, kinds: list[str], program: Program) -> None:
    """While there is no trace function every outcome is the same, and nothing is open."""
    plain = program.load(FUNCTIONS)
    outcomes = {(k, e): ended(plain, k, e) for k in kinds for e in ENDINGS}
    shop = load()
    with capture_spans() as events:
        clear_trace_function()
        assert {it: ended(shop, *it) for it in outcomes} == outcomes
        assert events == []
    assert open_calls() == 0


@pytest.mark.parametrize("ending", ["returns", "raises"])
def test_switched_on_meanwhile_a_call_is_no_span(ending: str, load: Load, kinds: list[str]) -> None:
    """A call that began without a trace function is none, the next one is."""
    shop = load()
    events: list[TraceEvent] = []
    for kind in kinds:
        clear_trace_function()
        events = []
        shop.meanwhile = lambda: set_trace_function(events.append)  # noqa: B023 -- called below
        ended(shop, kind, ending)
        assert (kind, len(events)) == (kind, 0)
        shop.meanwhile = lambda: None
        ended(shop, kind, ending)
        assert (kind, len(events)) == (kind, 1)
        assert open_calls() == 0


@pytest.mark.parametrize("ending", ["returns", "raises"])
def test_switched_off_meanwhile_a_call_is_a_span(ending: str, load: Load, kinds: list[str]) -> None:
    """A call that began with a trace function ends with it, as every other span does."""
    shop = load()
    for kind in kinds:
        events: list[Any] = []
        set_trace_function(events.append)
        shop.meanwhile = clear_trace_function
        ended(shop, kind, ending)
        assert (kind, len(events)) == (kind, 1)
        ended(shop, kind, ending)
        assert (kind, len(events)) == (kind, 1)
        assert open_calls() == 0


@pytest.mark.parametrize("ending", ["returns", "raises"])
def test_instrumented_meanwhile_a_call_is_no_span(ending: str, program: Program) -> None:
    """A call that began before its function was traced is none; it ends as without."""
    plain = program.load(FUNCTIONS)
    shop = program.load(FUNCTIONS)
    for kind in ("function", "tries", "method", "of_class", "static", "size", "__init__"):
        outcome = ended(plain, kind, ending)
        handles: list[Any] = []
        owner = shop.CALLS[kind][1]
        name = f"shop:{kind}" if owner == "shop" else f"shop:{owner}.{kind}"
        begin = partial(instrument, name)
        shop.meanwhile = lambda handles=handles, begin=begin: handles or handles.append(begin())
        with capture_spans() as events:
            assert ended(shop, kind, ending) == outcome
            assert (kind, events) == (kind, [])
            assert ended(shop, kind, ending) == outcome
            assert (kind, len(events)) == (kind, 1)
        handles[0].undo()
        assert open_calls() == 0


@pytest.mark.parametrize("ending", ["returns", "raises"])
def test_undone_meanwhile_a_call_ends_well(ending: str, program: Program) -> None:
    """A call whose tracing is undone ends as without, is in progress no longer, and one span."""
    plain = program.load(FUNCTIONS)
    shop = program.load(FUNCTIONS)
    metrics = Metrics()
    for number, kind in enumerate(("function", "tries", "cell", "below", "generic"), 1):
        set_trace_function(metrics)
        handle = instrument(f"shop:{kind}")
        shop.meanwhile = handle.undo
        assert ended(shop, kind, ending) == ended(plain, kind, ending)
        reading = metrics.read()
        assert {it.value for it in reading.family("function_in_progress").points} <= {0}
        assert counts_of(reading).total() == number
        ended(shop, kind, ending)
        assert counts_of(metrics.read()).total() == number
        assert open_calls() == 0


@pytest.mark.parametrize("ending", ["returns", "raises"])
def test_undone_while_it_begins_a_call_ends_well(ending: str, program: Program) -> None:
    """A call whose tracing is undone while its span begins is one span, and ends."""
    shop = program.load(FUNCTIONS)
    metrics = Metrics()
    set_trace_function(metrics)
    handles: list[Any] = []
    undo: Any = {"undone": lambda _: handles[0].undo()}
    handles.append(instrument("shop:function", prop_from=undo))
    ended(shop, "function", ending)
    ended(shop, "function", ending)
    reading = metrics.read()
    assert counts_of(reading).total() == 1
    assert {it.value for it in reading.family("function_in_progress").points} <= {0}
    assert (open_calls(), swallowed_errors()) == (0, 0)


def test_an_overridden_method_is_two_spans(load: Load) -> None:
    """A method that calls `super()` is one span inside another, and one failure is counted once."""
    shop = load()
    with capture_spans() as events:
        job = shop.Job()
        assert job.overridden("returns") == "value"
        with pytest.raises(LookupError):
            job.overridden("raises")
        assert shop.Base().overridden("returns") == "value"
    found: list[Any] = [
        (e.object.class_name.rpartition(".")[2], e.result, e.raised) for e in events
    ]
    assert found == [
        ("Job", "ok", None),
        ("Job", "ok", None),
        ("Job", "error", "here"),
        ("Job", "error", "inside"),
        ("Base", "ok", None),
    ]


def test_siblings_of_a_closure_are_counted_apart(program: Program) -> None:
    """A closure that was traced alone counts its own calls, not those of the same code."""
    shop = program.load(FUNCTIONS)
    handle = instrument("shop:closure")
    with capture_spans() as events:
        assert (shop.closure("returns"), shop.sibling("returns")) == ("value", "value")
        third = shop.factory()
        assert third("returns") == "value"
        assert len(events) == 1
        handle.undo()
        shop.closure("returns")
        assert len(events) == 1


def test_an_inherited_method_of_one_class_counts_that_class(program: Program) -> None:
    """`Job.inherited` counts jobs, not `Base` and its other subclasses."""
    shop = program.load(FUNCTIONS)

    class Other(shop.Base):  # type: ignore[misc, name-defined]
        pass

    class Child(shop.Job):  # type: ignore[misc, name-defined]
        pass

    with instrument("shop:Job.inherited"), capture_spans() as events:
        for cls in (shop.Base, Other, shop.Job, Child):
            assert cls().inherited("returns") == "value"
    assert [event.object.class_name.rpartition(".")[2] for event in events] == ["Job", "Child"]


WITHOUT_CODE = """
import functools, math, operator

sqrt = traced(math.sqrt)
half = traced(functools.partial(int, base=2))
getter = traced(operator.itemgetter(0))
upper = traced("text".upper)

class Adder:
    def __init__(self, number): self.number = number
    def __call__(self, other): return self.number + other

adder = traced(Adder(1))
cached = traced(functools.lru_cache(lambda text: len(text)))

def outcome(call, *args):
    try:
        return call(*args)
    except Exception as error:
        return type(error).__name__

def use():
    calls = [(sqrt, 4), (sqrt, -1), (half, "11"), (half, "x"), (getter, [1]), (getter, []),
             (upper,), (upper, 1), (adder, 1), (adder, "x"), (cached, "abc"), (cached, 1)]
    return [outcome(*call) for call in calls]
"""


def test_what_has_no_code_is_counted_too(program: Program) -> None:
    """C functions, partials, C callables and objects: each call is a span, and off it is none."""
    plain = program.load(WITHOUT_CODE, "traced = lambda it: it")
    results = plain.use()
    shop = program.load(WITHOUT_CODE, DECORATED)
    with capture_spans() as events:
        assert shop.use() == results
        spans = [event for event in events if isinstance(event, SpanEvent)]
        kinds = Counter((span.result, span.exception) for span in spans)
        assert kinds == {
            ("ok", None): 6,
            ("error", ValueError): 2,
            ("error", TypeError): 3,
            ("error", IndexError): 1,
        }
        clear_trace_function()
        assert shop.use() == results
        assert len(events) == 12
    assert hypertrace.swallowed_errors() == 0
