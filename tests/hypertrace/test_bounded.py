"""Bounds of memory, however many classes and functions are made at run time."""

import gc
import logging
import tracemalloc
import weakref
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest

from hypertrace import (
    TraceFunction,
    Tracer,
    _bindings,
    _callsite,
    _dispatch,
    _object_ids,
    _targets,
    set_trace_function,
    traced,
)
from hypertrace.testing import capture_events

Counts = Callable[..., Counter[Any]]


class Swarm:
    def __init__(self, topic: str = "a") -> None:
        self.tracer = Tracer(self, {"topic": topic})

    def go(self, id: str | None = None) -> None:
        self.tracer.trace(id)
        self.tracer.trace(a="b")

    @traced
    def work(self) -> None:
        self.go()


def _kept(work: Callable[[int], object], rounds: int, size: int) -> list[int]:
    """Return how many bytes are held after each of some rounds."""
    held = []
    tracemalloc.start()
    try:
        for number in range(rounds):
            for i in range(size):
                work(number * size + i)
            gc.collect()
            held.append(tracemalloc.get_traced_memory()[0])
    finally:
        tracemalloc.stop()
    return held


class Forgetting:
    """Keeps nothing; does not bind if it fails."""

    def __init__(self, *, share: bool = True, fails: bool = False) -> None:
        self.share, self.fails = share, fails

    def __call__(self, event: object) -> None:
        """Forget it."""

    def share_key(self, traced: Any, parent: object) -> object:
        return (traced.class_name, str(traced.props)) if self.share else None

    def bind(self, event: object) -> Callable[..., object]:
        if self.fails:
            raise LookupError
        return lambda *_: None

    def bind_props(self, event: object) -> Callable[[Any], object]:
        return self.bind(None)


FUNCTIONS: dict[str, Callable[[], TraceFunction]] = {
    "plain": lambda: lambda event: None,
    "shared": Forgetting,
    "own": lambda: Forgetting(share=False),
}


@pytest.mark.parametrize("kind", FUNCTIONS)
def test_objects_that_come_and_go_leave_nothing(kind: str) -> None:
    """Memory is flat after any number of objects that were made, traced and dropped."""
    set_trace_function(FUNCTIONS[kind]())

    def work(_: int) -> None:
        swarm = Swarm()
        swarm.go()
        swarm.work()

    work(0)
    first, *_, last = _kept(work, 3, 500)
    assert last - first < 20_000


@pytest.mark.parametrize("what", ["classes", "code", "ids", "keys", "names"])
def test_what_is_made_at_run_time_is_bounded(what: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Classes, code objects, ids, props and names beyond the bounds do not pile up."""
    monkeypatch.setattr(_targets, "MAX_RECORDERS", 10_000 if what == "code" else 200)
    monkeypatch.setattr(_targets, "MAX_SITES", 200)
    monkeypatch.setattr(_callsite, "MAX_SITES", 200)
    monkeypatch.setattr(_object_ids, "MAX_NAMES", 200)
    monkeypatch.setattr(logging.getLogger("hypertrace"), "disabled", True)
    set_trace_function(Forgetting(fails=what == "keys"))
    swarm = Swarm()
    code = "tracer.trace(); tracer.trace(a=1)"

    def work(number: int) -> None:
        if what == "classes":
            cls: Any = type(f"Local{number}", (Swarm,), {})
            cls().work()
        elif what == "code":
            # All of one file: coverage remembers each file there is.
            exec(compile(code, "<made>", "exec"), {"tracer": swarm.tracer})
        elif what == "ids":
            swarm.go(f"id{number}")
        elif what == "keys":
            Swarm(f"topic{number}").go()
        else:
            Tracer(f"name{number}").trace()

    work(0)
    first, *_, last = _kept(work, 3, 400)
    assert last - first < 150_000  # the bounds allow some hundred of each
    cache: Any = _dispatch.target._cache  # type: ignore[union-attr]
    assert len(_callsite._sites) <= 200
    assert len(_object_ids.sequences) <= 200
    assert len(cache.sites) <= 201
    assert len(cache.shared) <= 201


def test_classes_and_code_can_be_collected() -> None:
    """Classes whose methods are traced and whose objects traced go when they are dropped."""
    references = []
    with capture_events():
        for number in range(100):
            cls: Any = type(f"Local{number}", (Swarm,), {"own": traced(lambda self: self.go())})
            local = cls()
            local.work()
            local.own()
            references.append(weakref.ref(cls))
            del cls, local
    gc.collect()
    assert [reference() for reference in references] == [None] * 100


def test_objects_die_at_once_without_the_collector(counts: Counts) -> None:
    """A thousand traced objects go with their last references, whatever was traced."""
    gc.collect()
    gc.disable()
    try:
        swarms = [Swarm() for _ in range(1_000)]
        references = [weakref.ref(swarm) for swarm in swarms]
        for swarm in swarms:
            swarm.go()
            swarm.work()
            with swarm.tracer.span(a=1):
                pass
        del swarm, swarms
        assert not any(reference() for reference in references)
        assert gc.collect() == 0
    finally:
        gc.enable()


def test_what_a_binding_remembers_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """Enclosing call sites, and recorders for props, past the bound do not pile up."""
    monkeypatch.setattr(_bindings, "MAX_KNOWN", 5)
    known: list[tuple[Any, Any]] = []

    class Recorder:
        durations = None

        def start(self) -> None:
            """Nothing."""

        def end(self, event: object) -> None:
            """Nothing."""

        def edge(self, upstream: object) -> Callable[[], object]:
            return lambda: None

        def fold(self) -> None:
            """Nothing."""

    class Binding(Forgetting):
        def bind_span(self, event: object) -> Any:
            return Recorder()

        def bind_span_props(self, event: object) -> Callable[[Any], Any]:
            return lambda props: Recorder()

    original = _bindings.PropsBindings.find

    def find(self: Any, props: dict[str, object]) -> Any:
        binding = original(self, props)
        known.append((self._bindings, binding))
        return binding

    monkeypatch.setattr(_bindings.PropsBindings, "find", find)
    set_trace_function(Binding())
    tracer = Tracer("a")
    inner = tracer.span  # one call site for all
    for number in range(50):
        with tracer.span(str(number)), inner():
            pass
        with tracer.span(number=number):
            pass
    assert len(known) == 50
    assert max(len(bindings) for bindings, _ in known) <= 5
    bindings = [b for b in gc.get_objects() if type(b) is _bindings.SpanBinding]
    # Other tests make some without their constructor.
    edges = [edges for b in bindings if (edges := getattr(b, "edges", None))]
    assert 0 < max(map(len, edges)) <= 5
