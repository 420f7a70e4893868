"""Program in which finalizers and callbacks replace all that the core is using.

`python finalizer_program.py ENTRY` uses one entry point of the core. At each allocation in turn,
and in each call that the core makes, the trace function is replaced, and everything that the entry
point has at hand: what the core does not hold goes. Prints one JSON object: whether the core is
compiled, and how often the finalizer and the callbacks ran.
"""

import gc
import json
import sys
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import hypertrace
from hypertrace import Cell, PropsRecorder, Span, SpanEvent, TraceEvent, Tracer, set_trace_function
from hypertrace import _span as spans
from hypertrace._targets import new_table

ALLOCATIONS = 12
"""The collector runs at the first of a call, at the second, and so on up to this one."""

ROUNDS = 2

NAMES = ("topic", "peer", *(f"other{number}" for number in range(30)))
"""More than fit into a tuple that CPython keeps for its next use."""

VALUES = ("a", "b", *[None] * 30)

ran = {"finalizer": 0, "callback": 0}
recorders: list[PropsRecorder] = []
open_spans: list[Span] = []
subjects: list[Any] = []
junk: list[list[object]] = []


def replace_everything(where: str) -> None:
    """Let go what the core may be using, and use its memory for something else."""
    ran[where] += 1
    set_trace_function(type(function)(), strict=strict)
    instead = [((*NAMES,), known()) for _ in recorders]
    if recorders or open_spans:
        fill_free_lists()
    for recorder in recorders:
        recorder.names, recorder.known = instead.pop()
    recorders.clear()
    for span in open_spans:
        with suppress(AttributeError):
            span._binding.start, span._binding.durations = Cell().increment, []
        for name in ("_binding", "_began", "_outer"):
            with suppress(AttributeError):
                delattr(span, name)
    open_spans.clear()
    if where == "callback":  # a finalizer may not, see _span.is_collecting()
        spans._current.set(None)
    for subject in subjects:
        subject.__class__ = type("Subject", (Subject,), {})
    junk.append([object() for _ in range(50)] + [[] for _ in range(50)])
    del junk[:-2]


def fill_free_lists() -> None:
    """Let the memory of dicts, lists and floats that go from now on be free indeed."""
    _ = [{} for _ in range(80)], [[] for _ in range(80)], [float(i) for i in range(100)]


def known() -> dict[tuple[object, ...], Callable[[], object]]:
    """Return what counts by props; more than fit into a dict that CPython keeps."""
    return {VALUES: Cell().increment} | {(number,): print for number in range(20)}


def callback(*_: object) -> object:
    """Replace everything."""
    replace_everything("callback")
    return None


def failing_callback(*_: object) -> object:
    """Replace everything, and raise."""
    replace_everything("callback")
    raise LookupError


def called_by_c(function: Callable[[], object]) -> Callable[[], object]:
    """Return what calls a function and, unlike a Python function, is not held by its own frame."""
    return iter(function, object()).__next__


class Recorder:
    """Records spans."""

    def __init__(self, start: Callable[[], object]) -> None:
        self.durations: list[float] | None = []
        self.start = start

    def end(self, event: SpanEvent) -> None:
        pass

    def edge(self, upstream: Any) -> Callable[[], object]:
        return Cell().increment

    def fold(self) -> None:
        if self.durations is not None:
            self.durations.clear()


class Counting:
    """A trace function that offers a recorder for everything."""

    def __call__(self, event: TraceEvent) -> None:
        raise NotImplementedError

    def share_key(self, traced: Any, parent: Any) -> Any:
        return traced.class_name

    def bind(self, event: TraceEvent) -> Callable[[], object]:
        return Cell().increment

    def bind_props(self, event: TraceEvent) -> Callable[[dict[str, object]], object]:
        recorders.append(PropsRecorder((*NAMES,), known(), lambda _, __: Cell().increment))
        return recorders[-1].record

    def bind_span(self, event: TraceEvent) -> Recorder:
        return Recorder(Cell().increment)

    def bind_span_props(self, event: TraceEvent) -> Callable[[dict[str, object]], Recorder]:
        return lambda props: Recorder(Cell().increment)


class CallingBack(Counting):
    """A trace function whose recorders replace everything."""

    def bind(self, event: TraceEvent) -> Callable[[], object]:
        return called_by_c(callback)

    def bind_props(self, event: TraceEvent) -> Callable[[dict[str, object]], object]:
        return callback

    def bind_span(self, event: TraceEvent) -> Recorder:
        return Recorder(called_by_c(callback))


class Failing(Counting):
    """A trace function whose recorders replace everything, and raise."""

    def bind(self, event: TraceEvent) -> Callable[[], object]:
        return lambda: failing_callback(None)

    def bind_props(self, event: TraceEvent) -> Callable[[dict[str, object]], object]:
        return failing_callback

    def bind_span(self, event: TraceEvent) -> Recorder:
        return Recorder(lambda: failing_callback(None))


class Seconds(float):
    """A number whose memory is freed: CPython keeps the memory of plain ones for reuse."""


def set_clock() -> None:
    """Measure with a clock that replaces everything, also itself."""

    def read() -> float:
        replace_everything("callback")
        set_clock()
        return Seconds(ran["callback"])

    spans.clock = called_by_c(read)  # type: ignore[assignment]


class Cycle:
    """Garbage that only the collector finds."""

    def __init__(self, *, again: bool) -> None:
        self.me = self
        self.again = again

    def __del__(self) -> None:
        replace_everything("finalizer")
        if self.again:
            Cycle(again=True)


class Entry:
    """In a table; uses the table when it goes."""

    def __init__(self, table: Any) -> None:
        self.table = table

    def __del__(self) -> None:
        self.table.get(16)
        self.table.clear()
        for address in range(16, 160, 16):
            self.table[address] = []


class Subject:
    """Traced calls: each method is an entry point, called when the collector is armed."""

    def __init__(self) -> None:
        self.tracer = Tracer(self)

    def trace(self) -> None:
        arm()
        self.tracer.trace()

    def trace_id(self) -> None:
        arm()
        self.tracer.trace("id")

    def trace_props(self) -> None:
        arm()
        self.tracer.trace(topic="a", peer="b")

    def trace_other_props(self) -> None:
        arm()
        self.tracer.trace(topic="other")

    def span(self) -> None:
        arm()
        with self.tracer.span() as span:
            open_spans.append(span)

    def enter(self) -> None:
        span = self.tracer.span()
        open_spans.append(span)
        arm()
        with suppress(AttributeError):  # there is no binding
            span.__enter__()

    def exit(self) -> None:
        _entered(self.tracer)
        span = _entered(self.tracer)
        arm()
        span.__exit__(None, None, None)

    def exit_with_error(self) -> None:
        span, error = _entered(self.tracer), KeyError()
        arm()
        span.__exit__(KeyError, error, None)

    def exit_in_disorder(self) -> None:
        outer, inner = _entered(self.tracer), _entered(self.tracer)
        arm()
        outer.__exit__(None, None, None)
        inner.__exit__(None, None, None)

    def make_tracer(self) -> None:
        arm()
        Tracer(self).trace()

    def cell(self) -> None:
        arm()
        cell = Cell()
        cell.increment()
        assert cell.value == 1

    def table(self) -> None:
        arm()
        table = new_table()
        for address in range(16, 320, 16):
            table[address] = Cycle(again=False)
            table["id", -address] = table
            table[address] = [table.get(address)]
        for key in (16, 16, -16, ("id", 16)):
            table[key] = Entry(table)
        table.clear()


def _entered(tracer: Tracer) -> Span:
    span = tracer.span()
    with suppress(AttributeError):  # the finalizer took the binding
        span.__enter__()
    open_spans.append(span)
    return span


function: Counting = Counting()
strict = False
countdown: int | None = None


def arm() -> None:
    """Let the collector run after some allocations from here on."""
    if countdown is not None:
        gc.set_threshold(gc.get_count()[0] + countdown)
        gc.enable()


def collect_at_each_allocation(call: Callable[[], object]) -> None:
    """Let the collector run at the first allocation of a bound call, at the second, and so on."""
    global countdown  # noqa: PLW0603 -- as in arm()
    for number in range(ROUNDS * ALLOCATIONS):
        gc.disable()
        gc.collect()
        for _ in range(3):
            call()
        Cycle(again=False)
        many = [[] for _ in range(100)]  # type: ignore[var-annotated]  # so that it can count down
        countdown = number % ALLOCATIONS - 4  # arm() itself lets some go
        call()
        countdown = None
        del many


def collect_at_every_allocation(call: Callable[[], object]) -> None:
    """Let the collector run as often and as far as it can, with garbage at every time."""
    gc.set_threshold(1, 0, 0)
    Cycle(again=True)
    for _ in range(10 * ROUNDS):
        call()


def main(entry: str) -> None:
    """Use an entry point while everything is replaced."""
    global function, strict  # what is set
    method = getattr(Subject, entry)

    def call() -> None:
        with suppress(LookupError):  # what a strict trace function raises
            method(subjects[0])

    for function, strict, odd_clock in (
        (Counting(), False, False),
        (CallingBack(), False, False),
        (Failing(), False, False),
        (Failing(), True, False),
        (Counting(), False, True),
    ):
        if odd_clock:
            set_clock()
        set_trace_function(function, strict=strict)
        subjects[:] = [Subject()]
        gc.collect()
        gc.freeze()
        gc.collect()  # a small heap is always collected as a whole
        collect_at_each_allocation(call)
        collect_at_every_allocation(call)
        gc.disable()
    json.dump({"compiled": hypertrace.COMPILED, **ran}, sys.stdout)


if __name__ == "__main__":
    main(sys.argv[1])
