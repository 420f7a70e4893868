"""Random program: traces in ways drawn from a seed, and prints what was recorded.

`python random_program.py SEED STEPS` prints one JSON object: whether the core is compiled, the
events that plain trace functions got, and what an exporter counted.
"""

import json
import random
import sys
from contextlib import suppress
from typing import Any

import hypertrace
from hypertrace import SpanEvent, TraceEvent, Tracer, clear_trace_function, set_trace_function
from hypertrace_prometheus import PrometheusExporter

IDS: list[Any] = [None, "dial", "hang up", 7, True, ["unhashable"]]
PROPS: list[Any] = ["a", "b", "x" * 300, 1, 1.0, True, None, b"\xff", ["list"], object, "\ud800"]

recorded: list[Any] = []


def record(event: TraceEvent) -> None:
    """Keep what an event says, but for times and addresses."""
    caller, parent = event.caller, event.parent_object
    line: list[Any] = [event.id, event.object.class_name, event.object.id, event.object.props]
    line += [parent and (parent.class_name, parent.id), caller.function_name, caller.line]
    line += [caller.column, caller.props]
    if isinstance(event, SpanEvent):
        upstream = event.upstream and event.upstream.function_name
        line += [event.result, event.exception and event.exception.__name__, upstream]
        line += [event.raised]
    recorded.append(repr(line))


class Swarm:
    """Traced in every way there is."""

    def __init__(self, tracer: Tracer | None, props: Any) -> None:
        self.tracer = Tracer(self, props, parent=tracer)

    def plain(self, props: Any, id: Any) -> None:
        self.tracer.trace()

    def with_id(self, props: Any, id: Any) -> None:
        self.tracer.trace(id)

    def with_keywords(self, props: Any, id: Any) -> None:
        self.tracer.trace(**props)

    def with_both(self, props: Any, id: Any) -> None:
        self.tracer.trace(id, **props)
        self.tracer.trace(id, props, other=1)

    def with_mapping(self, props: Any, id: Any) -> None:
        self.tracer.trace(props)
        self.tracer.trace("id", props)

    def wrong(self, props: Any, id: Any) -> None:
        self.tracer.trace("id", 5)  # type: ignore[arg-type]
        with suppress(TypeError):
            self.tracer.trace("id", {}, 3)  # type: ignore[call-arg]

    def span(self, props: Any, id: Any) -> None:
        with self.tracer.span():
            self.plain(props, id)
            self.nested(props, id)

    def nested(self, props: Any, id: Any) -> None:
        with self.tracer.span(id, **props) as span:
            span.set(peer="set")
        with suppress(KeyError), self.tracer.span("fails"):
            raise KeyError
        with self.tracer.span("failed") as span:
            span.fail(ValueError())

    def passes(self, props: Any, id: Any) -> None:
        inner = self.tracer.span("inner").expect(OSError)
        with suppress(KeyError), self.tracer.span(id, **props), self.tracer.span(id), inner:
            raise KeyError
        inner = self.tracer.span("inner").expect(ok_if=lambda error: error.args)
        with suppress(KeyError), self.tracer.span("outer"), inner:
            raise KeyError("expected")

    def endings(self, props: Any, id: Any) -> None:
        for error in (SystemExit(0), SystemExit(1), StopIteration(), GeneratorExit()):
            with suppress(BaseException), self.tracer.span(id):
                raise error
        self.tracer.record(1.0, exception=SystemExit(0))

    def out_of_order(self, props: Any, id: Any) -> None:
        def left() -> Any:
            with self.tracer.span("left"):
                yield

        generator = left()
        next(generator)
        with self.tracer.span("meanwhile"):
            generator.close()

    def lambdas(self, props: Any, id: Any) -> None:
        def key(number: int) -> int:
            self.tracer.trace()
            return number

        sorted([3, 1], key=key)
        [self.tracer.trace(peer="x") for _ in range(2)]  # type: ignore[func-returns-value]

    def parents(self, props: Any, id: Any) -> None:
        self.tracer.set_parent(Swarm(None, None).tracer)
        self.plain(props, id)
        self.tracer.set_parent(None)
        self.plain(props, id)


class Flock(Swarm):
    """A subclass."""


METHODS = [name for name, value in vars(Swarm).items() if callable(value) and name[0] != "_"]


def main(seed: int, steps: int) -> None:
    """Run the program and print what was recorded."""
    draw = random.Random(seed)
    exporter = PrometheusExporter(
        allowed_props=["peer", "topic"],
        collect_defaults=False,
        upstream=seed % 2 == 1,
        max_series=80,
    )
    functions: list[Any] = [
        exporter,
        exporter,
        exporter,
        record,
        hypertrace.fan_out(exporter, record),
    ]
    set_trace_function(functions[-1])
    swarms = [Swarm(None, None)]
    for _ in range(steps):
        match draw.randrange(12):
            case 0:
                set_trace_function(draw.choice(functions))
            case 1 if draw.randrange(4) == 0:
                clear_trace_function()
            case 2 | 3:
                parent = draw.choice([None, draw.choice(swarms).tracer])
                props = draw.choice([None, {}, {"topic": draw.choice(PROPS)}])
                swarms.append(draw.choice([Swarm, Flock])(parent, props))
                del swarms[:-8]
            case _:
                props = draw.choice([{}, {"peer": draw.choice(PROPS)}, {"peer": "a", "other": 2}])
                method = getattr(draw.choice(swarms), draw.choice(METHODS))
                for _ in range(draw.choice([1, 3, 20])):
                    method(props, draw.choice(IDS))
    counts = sorted(
        line
        for line in exporter.metrics().splitlines()
        if line[0] != "#" and "_bucket" not in line and "_sum" not in line and "build" not in line
    )
    json.dump({"compiled": hypertrace.COMPILED, "events": recorded, "counts": counts}, sys.stdout)


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]))
