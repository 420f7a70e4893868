"""Ends of spans: every kind of callable, ended and traced in every way, has one correct span."""

import asyncio
import contextlib
import functools
import operator
import sys
from collections.abc import AsyncGenerator, Callable, Generator, Iterator
from types import CoroutineType, GeneratorType, coroutine
from typing import Any, NamedTuple

import pytest

import hypertrace
from hypertrace import SpanEvent, TraceEvent, Tracer, instrument, set_trace_function, traced
from hypertrace_prometheus import PrometheusExporter

RUNS, WAITS = 0.25, 8.0


class Clock:
    """Stands still unless advanced."""

    def __init__(self) -> None:
        self.now = 1_000.0

    def __call__(self) -> float:
        return self.now


class Untraced:
    """Stands for a tracer where something else traces."""

    def span(self) -> contextlib.AbstractContextManager[object]:
        return contextlib.nullcontext()


class Ending(NamedTuple):
    """An ending: what the traced code raises, what is thrown into it, and the expected event."""

    result: str
    raised: type[BaseException] | None = None
    thrown: type[BaseException] | None = None
    leave: str = "thrown"
    argument: object = "at the end"

    @property
    def error(self) -> type[BaseException] | None:
        return self.raised or self.thrown


ENDINGS = {
    "returns": Ending("ok"),
    "raises": Ending("error", LookupError),
    "raises cancellation": Ending("cancelled", asyncio.CancelledError),
    "is interrupted": Ending("error", KeyboardInterrupt),
    "exits with a message": Ending("error", SystemExit),
    "exits with 1": Ending("error", SystemExit, argument=1),
    "exits with 0": Ending("ok", SystemExit, argument=0),
}
STEPPED_ENDINGS = {
    "is thrown into": Ending("error", thrown=ValueError),
    "is cancelled": Ending("cancelled", thrown=asyncio.CancelledError),
    "is interrupted from outside": Ending("error", thrown=KeyboardInterrupt),
    "is closed early": Ending("ok", thrown=GeneratorExit, leave="closed"),
    "is abandoned": Ending("ok", thrown=GeneratorExit, leave="abandoned"),
}


class Script:
    """A script of the traced code: it runs for a while, and ends as given."""

    def __init__(self, clock: Clock, ending: Ending) -> None:
        self._clock = clock
        self._ending = ending

    def run(self) -> None:
        self._clock.now += RUNS

    def end(self) -> str:
        self.run()
        if self._ending.raised is not None:
            raise self._ending.raised(self._ending.argument)
        return "value"


@coroutine
def _pause() -> Generator[None, None, None]:
    yield


def _code(script: Script, tracer: Tracer | Untraced) -> dict[str, Any]:
    """Make new code of every kind that runs the script; `tracer` traces it by hand."""

    class Subject:
        def method(self) -> str:
            with tracer.span():
                return script.end()

        @staticmethod
        def static() -> str:
            with tracer.span():
                return script.end()

        @classmethod
        def of_class(cls) -> str:
            with tracer.span():
                return script.end()

        @property
        def prop(self) -> str:
            with tracer.span():
                return script.end()

        @functools.cached_property
        def cached(self) -> str:
            with tracer.span():
                return script.end()

        def generator_method(self) -> Generator[int, None, str]:
            with tracer.span():
                script.run()
                yield 1
                return script.end()

        async def coroutine_method(self) -> str:
            with tracer.span():
                script.run()
                await _pause()
                return script.end()

        @classmethod
        async def coroutine_of_class(cls) -> str:
            with tracer.span():
                script.run()
                await _pause()
                return script.end()

        @staticmethod
        def static_generator() -> Generator[int, None, str]:
            with tracer.span():
                script.run()
                yield 1
                return script.end()

        async def async_generator_method(self) -> AsyncGenerator[int, None]:
            with tracer.span():
                script.run()
                yield 1
                script.end()

    def function() -> str:
        with tracer.span():
            return script.end()

    def generator() -> Generator[int, None, str]:
        with tracer.span():
            script.run()
            yield 1
            return script.end()

    async def coroutine_() -> str:
        with tracer.span():
            script.run()
            await _pause()
            return script.end()

    async def async_generator() -> AsyncGenerator[int, None]:
        with tracer.span():
            script.run()
            yield 1
            script.end()

    class Instance:
        def __call__(self) -> str:
            with tracer.span():
                return script.end()

    class AsyncInstance:
        async def __call__(self) -> str:
            with tracer.span():
                script.run()
                await _pause()
                return script.end()

    return {
        "Subject": Subject,
        "function": function,
        "generator": generator,
        "coroutine": coroutine_,
        "async_generator": async_generator,
        "instance": Instance(),
        "async_instance": AsyncInstance(),
        "partial": functools.partial(operator.call, script.end),
        "partial_coroutine": functools.partial(coroutine_),
        "builtin": operator.call,
    }


PLAIN = ("Subject.method", "Subject.static", "Subject.of_class", "Subject.prop", "Subject.cached")
PLAIN_FUNCTIONS = ("function", "instance")
IN_C = ("partial", "builtin")
STEPPED = (
    "Subject.generator_method",
    "Subject.coroutine_method",
    "Subject.coroutine_of_class",
    "Subject.static_generator",
    "Subject.async_generator_method",
)
STEPPED_FUNCTIONS = (
    "generator",
    "coroutine",
    "async_generator",
    "async_instance",
    "partial_coroutine",
)
METHODS, FUNCTIONS = PLAIN + STEPPED, PLAIN_FUNCTIONS + IN_C + STEPPED_FUNCTIONS


@contextlib.contextmanager
def _by_decorator(code: dict[str, Any], kind: str) -> Iterator[None]:
    owner, _, name = kind.rpartition(".")
    if owner:
        setattr(code[owner], name, traced(vars(code[owner])[name]))
        if kind.endswith("cached"):
            vars(code[owner])[name].__set_name__(code[owner], name)
    else:
        code[name] = traced(code[name])
    yield


@contextlib.contextmanager
def _by_class_decorator(code: dict[str, Any], kind: str) -> Iterator[None]:
    assert traced(code["Subject"]) is code["Subject"]
    yield


@contextlib.contextmanager
def _by_instrument(code: dict[str, Any], kind: str) -> Iterator[None]:
    module = type(sys)("hypertrace_test_endings")
    vars(module).update(code)
    with pytest.MonkeyPatch.context() as patch, contextlib.ExitStack() as until_undone:
        patch.setitem(sys.modules, module.__name__, module)
        until_undone.enter_context(instrument(f"{module.__name__}:{kind}"))
        code.update(vars(module))
        yield


@contextlib.contextmanager
def _by_hand(code: dict[str, Any], kind: str) -> Iterator[None]:
    yield


FORMS: dict[str, tuple[Callable[..., Any], tuple[str, ...]]] = {
    "decorator": (_by_decorator, METHODS + FUNCTIONS),
    "class decorator": (_by_class_decorator, METHODS),
    "instrument": (_by_instrument, METHODS + FUNCTIONS),
    "by hand": (_by_hand, tuple(k for k in METHODS + FUNCTIONS if k not in IN_C)),
}

CASES = [
    pytest.param(form, kind, ending, id=f"{form}-{kind}-{name}")
    for form, (_, kinds) in FORMS.items()
    for kind in kinds
    for name, ending in (
        {**ENDINGS, **STEPPED_ENDINGS} if kind in STEPPED + STEPPED_FUNCTIONS else ENDINGS
    ).items()
]


def _called(code: dict[str, Any], kind: str, script: Script) -> Any:
    owner, _, name = kind.rpartition(".")
    if kind == "builtin":
        return code[name](script.end)
    if not owner:
        return code[name]()
    found = getattr(code[owner](), name)
    return found() if callable(found) else found


class Steps:
    """Runs a generator, a coroutine or an asynchronous generator by hand."""

    def __init__(self, running: Any) -> None:
        self._running = running

    def step(self) -> object:
        return self._do("send", "asend", None)

    def throw(self, error: BaseException) -> object:
        return self._do("throw", "athrow", error)

    def close(self) -> None:
        if isinstance(self._running, GeneratorType | CoroutineType):
            self._running.close()
        else:
            with pytest.raises(StopIteration):
                self._running.aclose().send(None)

    def _do(self, name: str, async_name: str, value: object) -> object:
        if isinstance(self._running, GeneratorType | CoroutineType):
            return getattr(self._running, name)(value)
        try:
            getattr(self._running, async_name)(value).send(None)
        except StopIteration as stop:
            return stop.value
        raise AssertionError("nothing is awaited here")


def _leave(running: Any, ending: Ending, clock: Clock) -> None:
    """Run what runs in steps to the end: for two steps, with a wait in between."""
    steps = Steps(running)
    del running
    steps.step()
    clock.now += WAITS
    if ending.thrown is None:
        expected = ending.raised or (StopIteration, StopAsyncIteration)
        with pytest.raises(expected) as caught:
            steps.step()
        assert getattr(caught.value, "value", "value") == "value"
    elif ending.leave == "thrown":
        thrown = ending.thrown("from outside")
        with pytest.raises(ending.thrown) as raised:
            steps.throw(thrown)
        assert raised.value is thrown
    elif ending.leave == "closed":
        steps.close()
    else:
        del steps


def _run(form: str, kind: str, ending: Ending, clock: Clock) -> None:
    script = Script(clock, ending)
    tracer = Tracer("Subject") if form == "by hand" else Untraced()
    code = _code(script, tracer)
    trace, _ = FORMS[form]
    with trace(code, kind):
        if kind in STEPPED + STEPPED_FUNCTIONS:
            _leave(_called(code, kind, script), ending, clock)
        elif ending.raised is not None:
            with pytest.raises(ending.raised):
                _called(code, kind, script)
        else:
            assert _called(code, kind, script) == "value"
    clock.now += WAITS


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr("hypertrace._span.clock", clock)
    return clock


def _expected_times(form: str, kind: str, ending: Ending) -> tuple[float, float | None]:
    if kind not in STEPPED + STEPPED_FUNCTIONS:
        return RUNS, None
    last = RUNS if ending.thrown is None else 0.0
    return RUNS + WAITS + last, None if form == "by hand" else RUNS + last


@pytest.mark.parametrize(("form", "kind", "ending"), CASES)
def test_one_event_says_how_it_ended_and_how_long_it_took(
    form: str, kind: str, ending: Ending, clock: Clock
) -> None:
    """One event has result, exception and duration, and how long what runs in steps was busy."""
    events: list[TraceEvent] = []
    set_trace_function(events.append)
    _run(form, kind, ending, clock)
    (event,) = events  # also of what was abandoned: freed by reference counting, no cycle
    assert isinstance(event, SpanEvent)
    assert (event.result, event.exception) == (ending.result, ending.error)
    is_counted = ending.error is not None and ending.result != "ok"
    assert event.raised == ("here" if is_counted else None)
    assert (event.duration, event.busy) == _expected_times(form, kind, ending)
    assert event.upstream is None
    if kind.startswith("Subject.") and form != "by hand":
        assert event.object.class_name == "Subject"
        assert event.caller.function_name == kind.removeprefix("Subject.")
    assert hypertrace.swallowed_errors() == 0


@pytest.mark.parametrize(("form", "kind", "ending"), CASES)
def test_one_span_is_counted_and_none_stays_in_progress(
    form: str, kind: str, ending: Ending, clock: Clock
) -> None:
    """The exporter counts the call, its duration and its exception, and nothing is in progress."""
    exporter = PrometheusExporter(collect_defaults=False, upstream=kind in STEPPED_FUNCTIONS)
    set_trace_function(exporter)
    _run(form, kind, ending, clock)
    samples: dict[str, list[tuple[dict[str, str], float]]] = {}
    for family in exporter.registry.collect():
        for sample in family.samples:
            samples.setdefault(sample.name, []).append((sample.labels, sample.value))
    [(_, calls)] = samples["function_counter_total"]
    [(_, in_progress)] = samples["function_in_progress"]
    assert (calls, in_progress) == (1, 0)
    [(labels, seconds)] = samples["function_duration_seconds_sum"]
    assert labels["result"] == ending.result
    assert seconds == pytest.approx(_expected_times(form, kind, ending)[0])
    exceptions = [
        (labels["exception"], labels["raised"])
        for labels, _ in samples.get("function_exceptions_total", [])
    ]
    is_counted = ending.error is not None and ending.result != "ok"
    assert exceptions == ([(ending.error.__name__, "here")] if is_counted and ending.error else [])
    assert hypertrace.swallowed_errors() == 0


@pytest.mark.filterwarnings("ignore:coroutine:RuntimeWarning")
@pytest.mark.parametrize("leave", ["closed", "abandoned", "thrown"])
@pytest.mark.parametrize(
    ("form", "kind"),
    [(f, k) for f, (_, kinds) in FORMS.items() for k in STEPPED + STEPPED_FUNCTIONS if k in kinds],
)
def test_what_never_starts_is_no_event(form: str, kind: str, leave: str, clock: Clock) -> None:
    """A generator or coroutine that is made and never run causes no event."""
    events: list[TraceEvent] = []
    set_trace_function(events.append)
    script = Script(clock, ENDINGS["returns"])
    code = _code(script, Tracer("Subject") if form == "by hand" else Untraced())
    trace, _ = FORMS[form]
    with trace(code, kind):
        steps = Steps(_called(code, kind, script))
        if leave == "closed":
            steps.close()
        elif leave == "thrown":
            with pytest.raises(ValueError, match="outside"):
                steps.throw(ValueError("from outside"))
        del steps
    assert events == []
    assert clock.now == Clock().now
