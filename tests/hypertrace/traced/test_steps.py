"""Table of generators and coroutines: each kind, with each ending, traced and not."""

from __future__ import annotations

import asyncio
import gc
from collections import Counter
from functools import partial
from typing import TYPE_CHECKING, Any

import pytest

from hypertrace import clear_trace_function, instrument, set_trace_function, swallowed_errors
from hypertrace.metrics import Metrics

from ...running import in_threads
from .kinds import STEPPED
from .programs import DECORATED, PLAIN, capture_spans, counts_of, in_place, open_calls

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from hypertrace import SpanEvent

    from .programs import Program

    Shop = Any
    Steps = Any
    Load = Callable[..., Any]
    End = Callable[[Steps], object]


def _exhausted(steps: Steps) -> None:
    steps.exhaust()


def _closed(steps: Steps) -> None:
    steps.step()
    steps.close()


def _closed_late(steps: Steps) -> None:
    steps.step()
    steps.step()
    steps.close()
    steps.close()


def _thrown(steps: Steps) -> None:
    steps.step()
    steps.throw(ValueError("thrown"))


def _cancelled(steps: Steps) -> None:
    steps.step()
    steps.throw(asyncio.CancelledError())


def _dropped(steps: Steps) -> None:
    steps.step()
    steps.running = None


def _dropped_in_a_cycle(steps: Steps) -> None:
    steps.step()
    cycle: list[Any] = [steps.running]
    cycle.append(cycle)
    steps.running = None
    del cycle
    gc.collect(0)


def _closed_before(steps: Steps) -> None:
    steps.close()


def _thrown_before(steps: Steps) -> None:
    steps.throw(ValueError("before the start"))


def _dropped_before(steps: Steps) -> None:
    steps.running = None


ENDS: dict[str, tuple[End, str, tuple[object, ...] | None]] = {
    "returns": (_exhausted, "returns", ("ok", None, None)),
    "raises": (_exhausted, "raises", ("error", LookupError, "here")),
    "expected": (_exhausted, "expected", ("error", KeyError, "here")),
    "raises cancelled": (_exhausted, "cancelled", ("cancelled", asyncio.CancelledError, "here")),
    "closed": (_closed, "returns", ("ok", GeneratorExit, None)),
    "closed late": (_closed_late, "returns", ("ok", GeneratorExit, None)),
    "thrown into": (_thrown, "returns", ("error", ValueError, "here")),
    "cancelled": (_cancelled, "returns", ("cancelled", asyncio.CancelledError, "here")),
    "dropped": (_dropped, "returns", ("ok", GeneratorExit, None)),
    "dropped in a cycle": (_dropped_in_a_cycle, "returns", ("ok", GeneratorExit, None)),
    "closed before it starts": (_closed_before, "returns", None),
    "thrown into before it starts": (_thrown_before, "returns", None),
    "dropped before it starts": (_dropped_before, "returns", None),
}
"""The way to an ending, and result, exception and place of it of the span; None without a span."""

WITH_RULES = "_names = []; import hypertrace; traced = hypertrace.traced(expected=(KeyError,))"

pytestmark = [
    pytest.mark.filterwarnings("ignore:coroutine .* was never awaited"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]


@pytest.fixture
def load(how: str, program: Program) -> Iterator[Load]:
    """Give a function that loads the program of all kinds, and traces it."""
    handles: list[Any] = []

    def make(first_line: str = DECORATED) -> Any:
        if how == "traced":
            return program.load(STEPPED, first_line)
        shop = program.load(STEPPED, PLAIN)
        options: Any = {} if first_line == DECORATED else {"expected": (KeyError,)}
        names = dict.fromkeys(shop._names)
        handles.extend(instrument(f"shop:{name}", **options) for name in names)
        return shop

    yield make
    for handle in handles:
        handle.undo()


@pytest.fixture
def kinds(program: Program) -> list[str]:
    """Give the names of all kinds."""
    return list(program.load(STEPPED).CALLS)


def ended(shop: Shop, kind: str, end: str) -> str:
    """Run a generator or coroutine to an ending, and say how it ended."""
    run, ending, _ = ENDS[end]
    try:
        run(shop.call(kind, ending))
    except BaseException as error:  # noqa: BLE001 -- each is compared
        return f"{type(error).__name__}, {error}"
    return "ended"


def described(event: SpanEvent) -> tuple[object, ...]:
    """Return what of a span is certain."""
    assert event.busy is not None
    assert 0 <= event.busy <= event.duration + 1e-9
    names = [it.rpartition(".")[2] for it in (event.object.class_name, event.caller.function_name)]
    return *names, event.result, event.exception, event.raised


def test_each_run_is_one_span(load: Load, kinds: list[str], program: Program) -> None:
    """Every kind, with every ending: the same outcome as plain, and exactly one right span."""
    plain: Any = program.load(STEPPED)
    wrong: list[str] = []
    outcomes = {(kind, end): ended(plain, kind, end) for kind in kinds for end in ENDS}
    shop = load()
    with capture_spans() as events:
        for (kind, end), outcome in outcomes.items():
            for _ in range(2):
                events.clear()
                if ended(shop, kind, end) != outcome:
                    wrong.append(f"{kind}, {end}: no {outcome}")
                spans = [described(event) for event in events]
                span = ENDS[end][2]
                if spans != ([(shop.CALLS[kind][1], kind, *span)] if span else []):
                    wrong.append(f"{kind}, {end}: {spans}")
                if open_calls() != 0:
                    wrong.append(f"{kind}, {end}: left open")
    assert "\n".join(wrong) == ""
    assert swallowed_errors() == 0


def test_each_run_with_rules_is_one_span(load: Load, kinds: list[str]) -> None:
    """The same with an exception that is expected."""
    shop, wrong = load(WITH_RULES), []
    with capture_spans() as events:
        for kind in kinds:
            for end, (_, _, span) in ENDS.items():
                events.clear()
                ended(shop, kind, end)
                spans = [described(event)[2:] for event in events]
                ruled = ("ok", KeyError, None) if end == "expected" else span
                if spans != ([ruled] if span else []):
                    wrong.append(f"{kind}, {end}: {spans}")
    assert "\n".join(wrong) == ""


def test_metrics_count_each_run(load: Load, kinds: list[str]) -> None:
    """Metrics have every run under its result, and none is in progress at the end."""
    metrics = Metrics()
    set_trace_function(metrics)
    shop, tally = load(), Counter[tuple[str, str, str]]()
    for kind in kinds:
        for end, (_, _, span) in ENDS.items():
            for _ in range(5):
                ended(shop, kind, end)
            if span is not None:
                tally[shop.CALLS[kind][1], kind, str(span[0])] += 5
    reading = metrics.read()
    assert counts_of(reading) == tally
    assert {point.value for point in reading.family("function_in_progress").points} <= {0}


def test_switched_off_a_run_is_no_span(load: Load, kinds: list[str], program: Program) -> None:
    """While there is no trace function every outcome is the same, and nothing is open."""
    plain = program.load(STEPPED)
    outcomes = {(kind, end): ended(plain, kind, end) for kind in kinds for end in ENDS}
    shop = load()
    with capture_spans() as events:
        clear_trace_function()
        assert {it: ended(shop, *it) for it in outcomes} == outcomes
        assert events == []
    assert open_calls() == 0


@pytest.mark.parametrize("end", ["exhaust", "close", "throw", "drop"])
def test_switched_meanwhile(end: str, load: Load, kinds: list[str]) -> None:
    """A run that began switched off is no span; one that began switched on is, whenever it ends."""
    shop = load()

    def finish(steps: Steps) -> None:
        if end == "throw":
            with pytest.raises(ValueError, match="thrown"):
                steps.throw(ValueError("thrown"))
        elif end == "drop":
            steps.running = None
        else:
            getattr(steps, end)()

    for kind in kinds:
        events: list[Any] = []
        clear_trace_function()
        steps = shop.call(kind, "returns")
        steps.step()
        set_trace_function(events.append)
        finish(steps)
        assert (kind, len(events), open_calls()) == (kind, 0, 0)
        steps = shop.call(kind, "returns")
        steps.step()
        clear_trace_function()
        finish(steps)
        assert (kind, len(events), open_calls()) == (kind, 1, 0)


@pytest.mark.parametrize("end", ["exhaust", "close", "drop"])
def test_traced_meanwhile(end: str, kinds: list[str], program: Program) -> None:
    """A run that began before its function was traced is no span, and ends as without."""
    shop = program.load(STEPPED)
    for kind in kinds:
        steps = shop.call(kind, "returns")
        steps.step()
        owner = shop.CALLS[kind][1]
        name = f"shop:{kind}" if owner == "shop" else f"shop:{owner}.{kind}"
        with capture_spans() as events:
            handle = instrument(name)
            _finish(steps, end)
            assert (kind, events, open_calls()) == (kind, [], 0)
            shop.call(kind, "returns").exhaust()
            assert (kind, len(events), open_calls()) == (kind, 1, 0)
            handle.undo()


def _finish(steps: Steps, end: str) -> None:
    if end == "drop":
        steps.running = None
    else:
        getattr(steps, end)()


@pytest.mark.parametrize("end", ["exhaust", "close", "drop"])
def test_undone_meanwhile(end: str, kinds: list[str], program: Program) -> None:
    """A run whose tracing is undone between two steps ends as without, and is one span."""
    shop = program.load(STEPPED)
    metrics = Metrics()
    set_trace_function(metrics)
    for number, kind in enumerate(kinds, 1):
        owner = shop.CALLS[kind][1]
        handle = instrument(f"shop:{kind}" if owner == "shop" else f"shop:{owner}.{kind}")
        steps = shop.call(kind, "returns")
        steps.step()
        handle.undo()
        _finish(steps, end)
        reading = metrics.read()
        assert {it.value for it in reading.family("function_in_progress").points} <= {0}
        assert (kind, counts_of(reading).total(), open_calls()) == (kind, number, 0)
        shop.call(kind, "returns").exhaust()
        assert (kind, counts_of(metrics.read()).total()) == (kind, number)


ODD = """
import types

@traced
def stubborn():
    try:
        yield 1
    except GeneratorExit:
        yield 2

@traced
def obliging():
    try:
        yield 1
    except GeneratorExit:
        return "closed"

@traced
def failing_cleanup():
    try:
        yield 1
    finally:
        raise LookupError("in the cleanup")

@traced
def catching():
    while True:
        try:
            yield 1
        except ValueError:
            yield "caught"

@traced
def stopping():
    yield 1
    raise StopIteration

@traced
def reentrant():
    yield running[0]
    yield next(running[0])

@traced
def empty():
    return
    yield

@traced
def nested():
    with_inner = obliging()
    next(with_inner)
    yield 1
    with_inner.close()
    yield 2

running = []
"""


def test_odd_generators(how: str, program: Program) -> None:
    """Those that refuse to close, return when closed, fail in their cleanup or call themselves."""

    def use(shop: Shop) -> list[object]:
        found: list[object] = []

        def do(call: Callable[[], object]) -> None:
            try:
                found.append(call())
            except BaseException as error:  # noqa: BLE001 -- each is compared
                found.append(f"{type(error).__name__}, {error}")

        stubborn = shop.stubborn()
        next(stubborn)
        do(stubborn.close)
        do(lambda: list(stubborn))
        for name in ("obliging", "failing_cleanup", "stopping"):
            it = getattr(shop, name)()
            next(it)
            do(it.close)
            do(partial(next, it))
            it = getattr(shop, name)()
            do(partial(list, it))
        catching = shop.catching()
        next(catching)
        do(lambda: [catching.throw(ValueError()), next(catching), catching.close()])
        shop.running[:] = [shop.reentrant()]
        do(lambda: [next(shop.running[0]) is shop.running[0], next(shop.running[0])])
        shop.running.clear()
        do(lambda: list(shop.empty()))
        nested = shop.nested()
        do(lambda: [next(nested), next(nested)])
        nested.close()
        return found

    plain = use(program.load(ODD))
    shop = program.load(ODD, DECORATED if how == "traced" else PLAIN)
    handles = [instrument(f"shop:{name}") for name in shop._names]
    with capture_spans() as events:
        assert use(shop) == plain
    for handle in handles:
        handle.undo()
    found = [(e.caller.function_name, e.result, e.exception) for e in events]
    assert found == [
        ("stubborn", "ok", None),
        ("obliging", "ok", None),
        ("obliging", "ok", None),
        ("failing_cleanup", "error", LookupError),
        ("failing_cleanup", "error", LookupError),
        ("stopping", "ok", GeneratorExit),
        ("stopping", "error", RuntimeError),
        ("catching", "ok", GeneratorExit),
        ("reentrant", "error", ValueError),
        ("empty", "ok", None),
        ("obliging", "ok", None),
        ("nested", "ok", GeneratorExit),
    ]
    assert swallowed_errors() == 0


def test_it_is_timed_from_its_first_step_to_its_last(
    program: Program, events: list[SpanEvent]
) -> None:
    """A step that waits counts as busy, the time between two steps only for the duration."""
    source = """
import time

@traced
def steps():
    time.sleep(0.02)
    yield 1
    yield 2

@traced
async def waits():
    time.sleep(0.02)
"""
    shop = program.load(source, DECORATED)
    import time  # noqa: PLC0415

    started = shop.steps()
    time.sleep(0.02)
    begin = time.perf_counter()
    next(started)
    time.sleep(0.02)
    list(started)
    longest = time.perf_counter() - begin
    (event,) = events
    assert event.busy is not None
    assert 0.02 <= event.busy <= event.duration - 0.02
    assert 0.04 <= event.duration <= longest


def test_100_generators_at_once(load: Load, kinds: list[str], events: list[SpanEvent]) -> None:
    """Generators and coroutines that run in turn, and end in any order, are a span each."""
    shop = load()
    started = [(kind, shop.call(kind, "returns")) for kind in kinds for _ in range(4)]
    for _, steps in started:
        steps.step()
    for _, steps in reversed(started):
        steps.step()
    for _, steps in started[::2]:
        steps.close()
    for _, steps in started[1::2]:
        steps.exhaust()
    names = Counter(event.caller.function_name.rpartition(".")[2] for event in events)
    assert names == Counter(kind for kind, _ in started)
    assert open_calls() == 0


def test_a_run_that_changes_threads(load: Load, kinds: list[str], events: list[SpanEvent]) -> None:
    """A generator or coroutine may begin in one thread, go on in another, and end in a third."""
    shop = load()
    started = [shop.call(kind, "returns") for kind in kinds for _ in range(3)]
    for number in range(3):
        in_threads(lambda: [steps.step() for steps in started[number::3]])  # noqa: B023
    in_threads(lambda: [steps.step() for steps in started])
    in_threads(
        lambda: [steps.exhaust() for steps in started[::3]],
        lambda: [steps.close() for steps in started[1::3]],
        lambda: [vars(steps).update(running=None) for steps in started[2::3]],
    )
    assert len(events) == len(started)
    assert {event.result for event in events} == {"ok"}
    assert open_calls() == 0


@in_place
def test_a_generator_traced_in_place_is_the_function_s(
    load: Load, kinds: list[str], program: Program
) -> None:
    """Running, a generator or coroutine is of the same code and type, and refers to no other."""
    plain = program.load(STEPPED)
    codes = [_code_of(plain.call(kind, "returns").running) for kind in kinds]
    shop = load()
    with capture_spans():
        assert [_code_of(shop.call(kind, "returns").running) for kind in kinds] == codes
        for kind in kinds:
            steps = shop.call(kind, "returns")
            steps.step()
            referred = gc.get_referents(steps.running)
            assert not [it for it in referred if "hypertrace" in str(type(it))]


def _code_of(running: Any) -> tuple[object, ...]:
    prefix = {"generator": "gi", "coroutine": "cr", "async_generator": "ag"}[type(running).__name__]
    code = getattr(running, f"{prefix}_code")
    return code.co_name, code.co_flags, code.co_firstlineno, code.co_varnames, type(running)
