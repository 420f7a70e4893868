"""Upstream spans: across awaits, tasks, threads, executors and generators."""

import asyncio
import contextlib
import contextvars
import gc
import random
import threading
import weakref
from collections import Counter, deque
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from hypertrace import SpanEvent, Tracer, set_trace_function, traced
from hypertrace.testing import capture_events
from hypertrace_prometheus import PrometheusExporter

Edges = dict[tuple[str | None, str], int]

NAMES = 500


@pytest.fixture
def events() -> Iterator[list[Any]]:
    with capture_events() as captured:
        yield captured


def _edges(events: list[SpanEvent]) -> Counter[tuple[str | None, str]]:
    """Count which span encloses which, by the names of their classes."""
    return Counter(_edge(event) for event in events)


def _edge(event: SpanEvent) -> tuple[str | None, str]:
    upstream = None if event.upstream is None else event.upstream.class_name
    return upstream, event.object.class_name


class Worker:
    """Runs spans inside one another, with awaits in between, for its own tracer."""

    def __init__(self, name: str) -> None:
        self.tracer = Tracer(f"outer-{name}")
        self.inner = Tracer(f"inner-{name}")

    @traced
    async def run(self) -> None:
        await asyncio.sleep(0)
        with self.inner.span():
            await asyncio.sleep(random.random() / 100)
            await self.nested()
            await asyncio.sleep(0)

    @traced
    async def nested(self) -> None:
        await asyncio.sleep(0)
        with self.inner.span("deepest"):
            await asyncio.sleep(0)


def _expected(name: str) -> list[tuple[str | None, str]]:
    outer, inner = f"outer-{name}", f"inner-{name}"
    return [(None, outer), (outer, inner), (inner, outer), (outer, inner)]


def test_ten_thousand_coroutines_in_one_loop(events: list[Any]) -> None:
    """However coroutines interleave, each span is inside the span of the same coroutine."""

    async def main() -> None:
        await asyncio.gather(*(Worker(str(i % NAMES)).run() for i in range(10_000)))

    asyncio.run(main())
    times = 10_000 // NAMES
    expected = {edge: times for i in range(NAMES) for edge in _expected(str(i))}
    for i in range(NAMES):  # an outer span encloses two inner ones
        expected[f"outer-{i}", f"inner-{i}"] = 2 * times
    assert _edges(events) == expected


def test_coroutines_in_one_context_driven_by_hand(events: list[Any]) -> None:
    """Without tasks, in one context, traced coroutines are still distinguished."""

    class Two:
        def __init__(self, name: str) -> None:
            self.tracer = Tracer(name)
            self.inner = Tracer(f"in {name}")

        @traced
        def run(self) -> Iterator[None]:
            for _ in range(2):
                with self.inner.span():
                    yield

    running = [Two(name).run() for name in "abc"]
    for _ in range(3):
        for one in running:
            next(one, None)
    expected: Edges = {(name, f"in {name}"): 2 for name in "abc"}
    assert _edges(events) == expected | {(None, name): 1 for name in "abc"}


def test_the_exporter_counts_the_edges() -> None:
    """With `upstream=True` each span counts from whose it came, by class and function."""
    exporter = PrometheusExporter(collect_defaults=False, upstream=True)
    set_trace_function(exporter)

    async def main() -> None:
        await asyncio.gather(*(Worker("a").run() for _ in range(100)))

    asyncio.run(main())
    samples = [s for family in exporter.registry.collect() for s in family.samples]
    edges = {
        tuple(sorted(sample.labels.items())): sample.value
        for sample in samples
        if sample.name == "function_edges_total"
    }
    expected = {
        ("outer-a", "Worker.run", "inner-a", "Worker.run"),
        ("inner-a", "Worker.run", "outer-a", "Worker.nested"),
        ("outer-a", "Worker.nested", "inner-a", "Worker.nested"),
    }
    names = ("from_classname", "from_functionname", "to_classname", "to_functionname")
    assert edges == {tuple(zip(names, edge, strict=True)): 100 for edge in expected}


# --- tasks ------------------------------------------------------------------------------------


def test_a_task_is_inside_the_span_it_was_started_in(events: list[Any]) -> None:
    """A task's spans are inside the one that was open when the task was made, ended or not."""

    async def child(wait: float) -> None:
        await asyncio.sleep(wait)
        with Tracer("child").span():
            pass

    async def main() -> None:
        with Tracer("mother").span():
            async with asyncio.TaskGroup() as group:
                group.create_task(child(0))
                group.create_task(child(0.001))
            late = asyncio.create_task(child(0.001))
        with Tracer("unrelated").span():
            await late

    asyncio.run(main())
    assert _edges(events) == {(None, "mother"): 1, ("mother", "child"): 3, (None, "unrelated"): 1}


def test_gathered_coroutines_do_not_see_each_other(events: list[Any]) -> None:
    """Coroutines that are gathered are inside the span around all, not inside each other's."""

    @traced
    async def one(name: str) -> None:
        with Tracer(name).span():
            await asyncio.sleep(0)

    async def main() -> None:
        with Tracer("all").span():
            await asyncio.gather(*(one(name) for name in "abc"))

    asyncio.run(main())
    here = __name__
    expected: Edges = {(None, "all"): 1, ("all", here): 3}
    assert _edges(events) == expected | {(here, name): 1 for name in "abc"}


def test_a_cancelled_task_leaves_its_spans(events: list[Any]) -> None:
    """After a cancellation the spans around go on as if the inner ones had ended well."""

    async def inner() -> None:
        with Tracer("inner").span():
            await asyncio.sleep(60)

    async def main() -> None:
        with Tracer("around").span():
            with pytest.raises(TimeoutError), Tracer("cancelled").span():
                await asyncio.wait_for(inner(), 0.001)
            with Tracer("after").span():
                pass

    asyncio.run(main())
    assert _edges(events) == {
        ("cancelled", "inner"): 1,
        ("around", "cancelled"): 1,
        ("around", "after"): 1,
        (None, "around"): 1,
    }
    assert events[0].result == "cancelled"


# --- threads ----------------------------------------------------------------------------------


def _nest(name: str, repeat: int = 50) -> None:
    outer, inner = Tracer(f"outer-{name}"), Tracer(f"inner-{name}")
    for _ in range(repeat):
        with outer.span(), inner.span():
            pass


def _nested(names: list[str], times: int) -> Edges:
    edges: Edges = {}
    for name in names:
        edges[None, f"outer-{name}"] = edges[f"outer-{name}", f"inner-{name}"] = times
    return edges


def test_threads_do_not_see_each_other(events: list[Any]) -> None:
    """A thread starts outside of all spans, and its spans are its own."""
    names = [str(i) for i in range(16)]
    with Tracer("around").span():
        threads = [threading.Thread(target=_nest, args=(name,)) for name in names]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert _edges(events) == {(None, "around"): 1, **_nested(names, 50)}


def test_a_pool_does_not_see_who_submits(events: list[Any]) -> None:
    """Without a copy of the context, work in a pool is outside of the span of its submitter."""
    names = [str(i) for i in range(8)]
    with ThreadPoolExecutor(4) as pool, Tracer("around").span():
        list(pool.map(_nest, names))
    assert _edges(events) == {(None, "around"): 1, **_nested(names, 50)}


def test_a_copied_context_brings_its_span_to_another_thread(events: list[Any]) -> None:
    """Work that runs in a copy of the context is inside the span that was open there."""

    def work(name: str) -> None:
        with Tracer(name).span():
            pass

    with ThreadPoolExecutor(4) as pool:
        for i in range(100):
            with Tracer(f"outer-{i}").span():
                pool.submit(contextvars.copy_context().run, work, f"inner-{i}")
    expected: Edges = {(None, f"outer-{i}"): 1 for i in range(100)}
    assert _edges(events) == expected | {(f"outer-{i}", f"inner-{i}"): 1 for i in range(100)}


def test_executors_of_an_event_loop(events: list[Any]) -> None:
    """`asyncio.to_thread` brings the context along; `run_in_executor` does not, unless asked."""

    def work(name: str) -> None:
        with Tracer(name).span():
            pass

    async def main(i: int) -> None:
        loop = asyncio.get_running_loop()
        with Tracer(f"outer-{i}").span():
            await asyncio.to_thread(work, f"brought-{i}")
            await loop.run_in_executor(None, work, f"bare-{i}")
            context = contextvars.copy_context()
            await loop.run_in_executor(None, context.run, work, f"copied-{i}")

    async def all_() -> None:
        await asyncio.gather(*(main(i) for i in range(50)))

    asyncio.run(all_())
    expected: Edges = {}
    for i in range(50):
        expected[None, f"outer-{i}"] = expected[None, f"bare-{i}"] = 1
        expected[f"outer-{i}", f"brought-{i}"] = expected[f"outer-{i}", f"copied-{i}"] = 1
    assert _edges(events) == expected


# --- generators -------------------------------------------------------------------------------


def _holding(name: str) -> Iterator[None]:
    with Tracer(name).span():
        yield


@pytest.mark.parametrize("order", ["abc", "acb", "bac", "bca", "cab", "cba"])
def test_spans_left_in_any_order_leave_nothing_behind(order: str, events: list[Any]) -> None:
    """Spans held by generators may end in any order: afterwards none of them is open."""
    with Tracer("around").span():
        held = {name: _holding(name) for name in "abc"}
        for generator in held.values():
            next(generator)
        for name in order:
            next(held[name], None)
        with Tracer("after").span():
            pass
    assert _edges(events)["around", "after"] == 1


def test_a_span_that_ends_early_lets_others_go_on(events: list[Any]) -> None:
    """After a span ends before one inside it, what follows is inside that one still."""
    first, second = _holding("first"), _holding("second")
    next(first)
    next(second)
    next(first, None)
    with Tracer("after").span():
        pass
    next(second, None)
    with Tracer("last").span():
        pass
    assert [_edge(event) for event in events] == [
        (None, "first"),
        ("second", "after"),
        (None, "second"),
        (None, "last"),
    ]


def test_a_span_that_ends_in_another_context_changes_nothing_there(events: list[Any]) -> None:
    """A span entered in one context and left in another leaves the other's spans alone."""
    held = _holding("held")
    contextvars.copy_context().run(next, held)
    with Tracer("here").span():
        next(held, None)
        with Tracer("inside").span():
            pass
    assert _edges(events) == {(None, "held"): 1, ("here", "inside"): 1, (None, "here"): 1}


class Source:
    """An asynchronous generator with its own spans, traced or not."""

    def __init__(self) -> None:
        self.tracer = Tracer("source")
        self.inner = Tracer("inner")

    @traced
    async def numbers(self) -> AsyncIterator[int]:
        for number in range(3):
            with self.inner.span():
                await asyncio.sleep(0)
                yield number


def test_consumers_of_asynchronous_generators_are_outside(events: list[Any]) -> None:
    """Code of a consumer between the steps is not inside the generator's spans."""

    async def consume(name: str) -> None:
        consumer = Tracer(name)
        with consumer.span():
            async for _ in Source().numbers():
                with consumer.span("inside"):
                    await asyncio.sleep(0)

    async def main() -> None:
        await asyncio.gather(*(consume(name) for name in "ab"))

    asyncio.run(main())
    assert _edges(events) == {
        ("source", "inner"): 6,
        ("a", "source"): 1,
        ("b", "source"): 1,
        ("a", "a"): 3,
        ("b", "b"): 3,
        (None, "a"): 1,
        (None, "b"): 1,
    }


def test_the_upstream_of_a_generator_is_who_took_its_first_step(events: list[Any]) -> None:
    """The upstream of a generator is the span it started in, wherever it is made or ended."""

    @traced
    def numbers() -> Iterator[int]:
        yield 1
        yield 2

    def in_span(name: str, run: Callable[[], Any]) -> Any:
        with Tracer(name).span():
            return run()

    running = in_span("maker", numbers)
    in_span("first", lambda: next(running))
    in_span("last", lambda: list(running))
    assert _edges(events)["first", __name__] == 1
    assert len(events) == 4


def test_generators_inside_generators(events: list[Any]) -> None:
    """Delegation nests: the inner generator is inside the outer one, the consumer in neither."""

    class Nested:
        def __init__(self, name: str) -> None:
            self.tracer = Tracer(name)

        @traced
        def steps(self, inner: "Nested | None" = None) -> Iterator[int]:
            yield 0
            if inner is not None:
                yield from inner.steps()
            yield 1

    for _ in Nested("outer").steps(Nested("inner")):
        with Tracer("consumer").span():
            pass
    assert _edges(events) == {(None, "outer"): 1, ("outer", "inner"): 1, (None, "consumer"): 4}


# --- spans that end in another context --------------------------------------------------------


async def _ticking(name: str, ended: asyncio.Event) -> AsyncIterator[int]:
    try:
        with Tracer(name).span():
            for number in range(10):
                yield number
    finally:
        ended.set()


def test_a_span_of_an_abandoned_generator_is_upstream_no_more(events: list[Any]) -> None:
    """An `async for` that is left early leaves no span behind, inside another one or not."""

    async def main() -> None:
        for around in (contextlib.nullcontext(), Tracer("around").span()):
            ended = asyncio.Event()
            with around:
                async for _ in _ticking("ticking", ended):
                    break
                await asyncio.wait_for(ended.wait(), 30)
                for name in ("after", "later"):
                    with Tracer(name).span(), Tracer(f"in {name}").span():
                        pass

    asyncio.run(main())
    edges = _edges(events)
    for name in ("after", "later"):
        assert edges[None, name] == edges["around", name] == 1
        assert edges[name, f"in {name}"] == 2
    assert edges[None, "around"] == 1


def test_a_task_started_after_a_generator_was_abandoned_is_outside_of_it(
    events: list[Any],
) -> None:
    """A context copied from one with a span that ended elsewhere is not inside that span."""

    async def child() -> None:
        with Tracer("child").span():
            pass

    async def main() -> None:
        ended = asyncio.Event()
        with Tracer("around").span():
            async for _ in _ticking("ticking", ended):
                break
            await asyncio.wait_for(ended.wait(), 30)
            await asyncio.create_task(child())

    asyncio.run(main())
    assert _edges(events)["around", "child"] == 1


def test_a_span_of_a_generator_that_another_thread_collects_is_upstream_no_more(
    events: list[Any],
) -> None:
    """A generator in a cycle ends where the collector runs, and its own thread goes on without."""

    def hold() -> Iterator[None]:
        me = [running]
        with Tracer("held").span():
            yield
            me.clear()

    gc.disable()
    try:
        with Tracer("around").span():
            running: list[Any] = []
            running.append(hold())
            next(running[0])
            running = []
            collector = threading.Thread(target=gc.collect)
            collector.start()
            collector.join()
            assert [_edge(event) for event in events] == [("around", "held")]
            with Tracer("after").span():
                pass
        with Tracer("last").span():
            pass
    finally:
        gc.enable()
    assert _edges(events) == {
        ("around", "held"): 1,
        ("around", "after"): 1,
        (None, "around"): 1,
        (None, "last"): 1,
    }


def test_a_context_whose_span_was_left_elsewhere_goes_on_outside_of_it(events: list[Any]) -> None:
    """Where a span started, later spans are outside of it, wherever it ended."""

    def work(name: str) -> None:
        with Tracer(name).span():
            pass

    there = contextvars.copy_context()
    held = _holding("held")
    there.run(next, held)
    there.run(work, "before")
    next(held, None)
    for _ in range(2):
        there.run(work, "after")
    assert _edges(events) == {(None, "held"): 1, ("held", "before"): 1, (None, "after"): 2}


def test_the_exporter_counts_no_edge_from_a_span_left_elsewhere() -> None:
    """With `upstream=True` a generator that is abandoned calls nothing afterwards."""
    exporter = PrometheusExporter(collect_defaults=False, upstream=True)
    set_trace_function(exporter)

    async def main() -> None:
        tracer = Tracer("after")
        for _ in range(3):
            ended = asyncio.Event()
            async for _ in _ticking("ticking", ended):
                break
            await asyncio.wait_for(ended.wait(), 30)
            with tracer.span():
                pass

    asyncio.run(main())
    edges = [line for line in exporter.metrics().splitlines() if "from_classname" in line]
    assert edges == []


@pytest.mark.parametrize("overlap", [0, 1, 3])
def test_spans_left_elsewhere_make_no_chain(overlap: int) -> None:
    """However many generators a thread abandons one after the other, their spans are freed."""
    made: list[weakref.ref[object]] = []

    class Marker:
        """Stands in a span's props, and so lives as long as the span."""

    def hold() -> Iterator[None]:
        marker = Marker()
        made.append(weakref.ref(marker))
        with Tracer("held").span(marker=marker):
            del marker
            yield

    set_trace_function(lambda _: None)
    held = deque[Any]()
    for _ in range(100):
        held.append(hold())
        next(held[-1])
        if len(held) > overlap:
            contextvars.copy_context().run(held.popleft().close)
    assert len(made) == 100
    assert sum(marker() is not None for marker in made) <= overlap + 1
