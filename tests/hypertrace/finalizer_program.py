"""A program in which a finalizer replaces the trace function at each allocation in turn.

`python finalizer_program.py ENTRY` uses one entry point of the core. The finalizer, and callbacks
that the core calls, replace the trace function and everything that the entry point has at hand, so
that each object goes that is not held. Prints one JSON object: whether the core is compiled, and
how often the finalizer and the callbacks ran.
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

ROUNDS = 5

NAMES = ("topic", "peer", *(f"other{number}" for number in range(30)))
"""More than fit into a tuple that CPython keeps for its next use."""

VALUES = ("a", "b", *[None] * 30)

ran = {"finalizer": 0, "callback": 0}
recorders: list[PropsRecorder] = []
open_spans: list[Span] = []


class Recorder:
    """Records spans, and replaces everything whenever it is called."""

    def __init__(self) -> None:
        self.durations: list[float] | None = []
        self.start: Callable[[], object] = Cell().increment

    def end(self, event: SpanEvent) -> None:
        pass

    def edge(self, upstream: Any) -> Callable[[], object]:
        return Cell().increment

    def fold(self) -> None:
        if self.durations is not None:
            self.durations.clear()


class Function:
    """A trace function that offers a recorder for everything."""

    def __call__(self, event: TraceEvent) -> None:
        raise NotImplementedError

    def share_key(self, traced: Any, parent: Any) -> Any:
        return traced.class_name

    def bind(self, event: TraceEvent) -> Callable[[], object]:
        return Cell().increment

    def bind_props(self, event: TraceEvent) -> Callable[[dict[str, object]], object]:
        known = {VALUES: Cell().increment}
        recorders.append(PropsRecorder((*NAMES,), known, lambda _, __: Cell().increment))
        return recorders[-1].record

    def bind_span(self, event: TraceEvent) -> Recorder:
        return Recorder()

    def bind_span_props(self, event: TraceEvent) -> Callable[[dict[str, object]], Recorder]:
        return lambda props: Recorder()


class CallingBack(Function):
    """A trace function whose recorders are Python functions that replace everything."""

    def bind(self, event: TraceEvent) -> Callable[[], object]:
        return lambda: replace_everything("callback")

    def bind_props(self, event: TraceEvent) -> Callable[[dict[str, object]], object]:
        return lambda props: replace_everything("callback")

    def bind_span(self, event: TraceEvent) -> Recorder:
        recorder = Recorder()
        recorder.start = lambda: replace_everything("callback")
        return recorder


class Clock:
    """A clock that replaces everything, also itself, when it is read."""

    def __call__(self) -> float:
        replace_everything("callback")
        spans.clock = Clock()
        return self.seconds()

    def seconds(self) -> float:
        return 1.0


def replace_everything(where: str) -> None:
    """Let go what the core may be using, and use its memory for something else."""
    ran[where] += 1
    set_trace_function(type(function)())
    for recorder in recorders[-3:]:
        recorder.names = (*NAMES,)
        recorder.known = {VALUES: Cell().increment}
    for span in open_spans:
        for name in ("_binding", "_began", "_outer"):
            with suppress(AttributeError):
                delattr(span, name)
    for subject in subjects:
        subject.__class__ = type("Subject", (Subject,), {})
    junk.append([object() for _ in range(50)] + [[] for _ in range(50)])
    del junk[:-2]


class Cycle:
    """Garbage that only the collector finds."""

    def __init__(self, *, again: bool) -> None:
        self.me = self
        self.again = again

    def __del__(self) -> None:
        replace_everything("finalizer")
        if self.again:
            Cycle(again=True)


class Subject:
    """What is traced."""

    def __init__(self) -> None:
        self.tracer = Tracer(self)

    def trace(self) -> None:
        self.tracer.trace()

    def trace_id(self) -> None:
        self.tracer.trace("id")

    def trace_props(self) -> None:
        self.tracer.trace(topic="a", peer="b")

    def span(self) -> None:
        with self.tracer.span() as span:
            open_spans[:] = [span]

    def enter(self) -> None:
        with suppress(AttributeError):  # what the finalizer took
            self.open_span().__enter__()

    def exit(self) -> None:
        self.entered().__exit__(None, None, None)

    def exit_with_error(self) -> None:
        self.entered().__exit__(KeyError, KeyError(1), None)

    def exit_in_disorder(self) -> None:
        outer, inner = self.entered(), self.entered()
        outer.__exit__(None, None, None)
        inner.__exit__(None, None, None)

    def make_tracer(self) -> None:
        Tracer(self).trace()

    def cell(self) -> None:
        cell = Cell()
        cell.increment()
        assert cell.value == 1

    def table(self) -> None:
        table = new_table()
        for address in range(16, 320, 16):
            table[address] = Cycle(again=False)
            table["id", -address] = table
            table[address] = [table.get(address)]
        table.clear()
        assert len(table) == 0

    def open_span(self) -> Span:
        span = self.tracer.span()
        open_spans[:] = [*open_spans[-1:], span]
        return span

    def entered(self) -> Span:
        with suppress(AttributeError):
            return self.open_span().__enter__()
        return self.tracer.span().__enter__()


ENTRIES: dict[str, Callable[[Subject], object]] = {
    name: value for name, value in vars(Subject).items() if callable(value) and name[0] != "_"
}
subjects: list[Subject] = []
junk: list[list[object]] = []
function: Function = Function()


def collect_at_each_allocation(call: Callable[[Subject], object], subject: Subject) -> None:
    """Let the collector run at the first allocation of a bound call, at the second, and so on."""
    for number in range(ROUNDS * ALLOCATIONS):
        gc.disable()
        gc.collect()
        for _ in range(3):
            call(subject)
        Cycle(again=False)
        gc.set_threshold(gc.get_count()[0] + number % ALLOCATIONS)
        gc.enable()
        call(subject)


def collect_at_every_allocation(call: Callable[[Subject], object], subject: Subject) -> None:
    """Let the collector run as often as it can, with garbage at every time."""
    gc.set_threshold(1)
    Cycle(again=True)
    for _ in range(20 * ROUNDS):
        call(subject)


def main(entry: str) -> None:
    """Use an entry point while everything is replaced."""
    global function  # the one that is set
    for kind, clock in ((Function, spans.clock), (CallingBack, spans.clock), (Function, Clock())):
        function, spans.clock = kind(), clock
        set_trace_function(function)
        subjects[:] = [Subject()]
        gc.collect()
        gc.freeze()
        collect_at_each_allocation(ENTRIES[entry], subjects[0])
        collect_at_every_allocation(ENTRIES[entry], subjects[0])
        gc.disable()
    json.dump({"compiled": hypertrace.COMPILED, **ran}, sys.stdout)


if __name__ == "__main__":
    main(sys.argv[1])
