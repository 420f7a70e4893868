"""Plain trace functions: their calls, their errors, and the events they cause."""

import asyncio
import threading
from collections.abc import Callable
from typing import Any

import pytest

from hypertrace import TraceEvent, Tracer, fan_out, set_trace_function, swallowed_errors


class Swarm:
    def __init__(self) -> None:
        self.tracer = Tracer(self)

    def connect(self) -> None:
        self.tracer.trace()


@pytest.mark.parametrize("interrupt", [KeyboardInterrupt, SystemExit, asyncio.CancelledError])
def test_interrupts_pass_through_a_plain_function(interrupt: type[BaseException]) -> None:
    """An interrupt passes, and the next event is delivered."""
    errors: list[BaseException] = [interrupt()]
    events: list[TraceEvent] = []

    def function(event: TraceEvent) -> None:
        if errors:
            raise errors.pop()
        events.append(event)

    set_trace_function(function)
    swarm = Swarm()
    with pytest.raises(interrupt):
        swarm.connect()
    swarm.connect()
    assert len(events) == 1
    assert swallowed_errors() == 0


def test_after_an_error_a_plain_function_gets_events() -> None:
    """A trace function that raised is not detached: it gets every event."""
    calls: list[TraceEvent] = []

    def function(event: TraceEvent) -> None:
        calls.append(event)
        raise LookupError

    set_trace_function(function)
    swarm = Swarm()
    for _ in range(10):
        swarm.connect()
    assert len(calls) == swallowed_errors() == 10


@pytest.mark.parametrize("wrap", [lambda f: f, lambda f: fan_out(f, lambda _: None)])
def test_what_a_trace_function_traces_is_dropped(wrap: Callable[[Any], Any]) -> None:
    """A trace function that traces does not call itself, also when it raises."""
    events: list[TraceEvent] = []

    def function(event: TraceEvent) -> None:
        events.append(event)
        inner.connect()
        Swarm().connect()
        raise LookupError

    set_trace_function(wrap(function))
    inner = Swarm()
    for _ in range(3):
        Swarm().connect()
    assert len(events) == 3


def test_other_threads_are_recorded_while_a_trace_function_runs() -> None:
    """Only what the trace function traces itself is dropped, not what other threads trace."""
    names: list[str] = []

    def function(event: TraceEvent) -> None:
        names.append(event.object.class_name)
        if event.object.class_name == "outer":
            thread = threading.Thread(target=Tracer("inner").trace)
            thread.start()
            thread.join()

    set_trace_function(function)
    Tracer("outer").trace()
    assert names == ["outer", "inner"]


def test_other_tasks_are_recorded_while_the_task_of_a_trace_function_runs() -> None:
    """A task that a trace function starts is its own doing; what other tasks trace is not."""
    names: list[str] = []
    tasks = set()

    async def ship() -> None:
        Tracer("shipping").trace()

    def function(event: TraceEvent) -> None:
        names.append(event.object.class_name)
        tasks.add(asyncio.get_running_loop().create_task(ship()))

    async def work() -> None:
        Tracer("work").trace()
        await asyncio.sleep(0)
        Tracer("work").trace()

    async def run() -> None:
        await asyncio.gather(work(), work())
        await asyncio.gather(*tasks)

    set_trace_function(function)
    asyncio.run(run())
    assert names == ["work"] * 4
