"""Targets: delivery to plain trace functions, and to bindable ones through recorders."""

import asyncio
import logging
import sys
import weakref
from collections import Counter
from collections.abc import Callable, Hashable
from typing import Any

import pytest

from hypertrace import (
    TracedObject,
    TraceEvent,
    Tracer,
    _callsite,
    _dispatch,
    _targets,
    clear_trace_function,
    set_trace_function,
    swallowed_errors,
)

Counts = Callable[..., Counter[Any]]


class Swarm:
    def __init__(self, props: dict[str, object] | None = None) -> None:
        self.tracer = Tracer(self, props)

    def connect(self) -> None:
        self.tracer.trace()

    def connect_to(self, peer: object) -> None:
        self.tracer.trace(peer=peer)

    def call(self, id_: str | None) -> None:
        self.tracer.trace(id_)


class Binding:
    """Records its calls, and fails in the named methods."""

    def __init__(self, *, share: bool = True, error: BaseException | None = None) -> None:
        self.share = share
        self.error = error
        self.failing: set[str] = set()
        self.asked: list[tuple[str, TraceEvent]] = []
        self.counts: Counter[Hashable] = Counter()
        self.recorders: list[weakref.ref[Callable[..., object]]] = []

    def _ask(self, name: str, event: TraceEvent | None = None) -> None:
        if event is not None:
            self.asked.append((name, event))
        if name in self.failing and self.error is not None:
            raise self.error

    def __call__(self, event: TraceEvent) -> None:
        self._ask("__call__", event)

    def share_key(self, traced: TracedObject, _: TracedObject | None) -> Hashable:
        self._ask("share_key")
        return (traced.class_name, repr(traced.props)) if self.share else None

    def bind(self, event: TraceEvent) -> Callable[[], object]:
        self._ask("bind", event)
        return self._kept(lambda: self._record(event.caller.function_name))

    def bind_props(self, event: TraceEvent) -> Callable[[dict[str, object]], object]:
        self._ask("bind_props", event)
        return self._kept(lambda props: self._record((event.caller.function_name, *props.items())))

    def _kept(self, recorder: Callable[..., object]) -> Callable[..., object]:
        self.recorders.append(weakref.ref(recorder))
        return recorder

    def _record(self, what: Hashable) -> None:
        self._ask("record")
        self.counts[what] += 1

    @property
    def alive(self) -> int:
        """Number of recorders that are kept."""
        return sum(recorder() is not None for recorder in self.recorders)

    @property
    def binds(self) -> int:
        """Number of recorders that were requested."""
        return len(self.recorders)


@pytest.fixture(params=[True, False], ids=["shared", "own"])
def binding(request: pytest.FixtureRequest) -> Binding:
    binding = Binding(share=request.param)
    set_trace_function(binding)
    return binding


def test_a_call_site_is_bound_once_and_no_event_is_built(binding: Binding) -> None:
    """A call site is bound with its first calls; from then on only the recorder is called."""
    swarm = Swarm()
    for _ in range(20):
        swarm.connect()
        swarm.connect_to(1)
    bound = binding.binds
    for _ in range(100):
        swarm.connect()
        swarm.connect_to(1)
    assert binding.counts == {"connect": 120, ("connect_to", ("peer", 1)): 120}
    assert binding.binds == bound
    assert {name for name, _ in binding.asked} == {"bind", "bind_props"}


def test_a_bound_call_goes_straight_to_its_recorder(
    binding: Binding, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Once bound, a call with any id and keyword props is served from the tracer's table alone."""

    def run() -> None:
        tracer.trace()
        tracer.trace("id")
        tracer.trace(a=1)
        tracer.trace("id", a=1)

    tracer = Tracer("text")
    for _ in range(50):  # until Python has specialised the calls, which moves them a little
        run()
    monkeypatch.delattr(_targets.RecorderTarget, "deliver")
    run()
    assert binding.counts.total() == 51 * 4
    assert swallowed_errors() == 0


def test_the_event_to_bind_has_no_props_of_the_call(binding: Binding) -> None:
    """A recorder takes the props of each call, so the event it is made of has none."""
    swarm = Swarm({"topic": "a"})
    for peer in (1, 2, 2):
        swarm.connect_to(peer)
    assert {event.caller.props for _, event in binding.asked} == {None}
    assert {event.object.props is None for _, event in binding.asked} == {False}
    assert binding.counts == {("connect_to", ("peer", 1)): 1, ("connect_to", ("peer", 2)): 2}


def test_equal_keys_share_their_recorders() -> None:
    """A tracer made for each request binds nothing that another has bound."""
    binding = Binding()
    set_trace_function(binding)
    for _ in range(20):
        Swarm().connect()
    bound = binding.binds
    for _ in range(100):
        Swarm().connect()
    assert binding.binds == bound
    Swarm({"topic": "other"}).connect()
    assert binding.binds == bound + 1


def test_tracers_with_equal_keys_keep_their_function_names() -> None:
    """Recorders are shared only among classes in which a function has the same name."""

    class All(Binding):
        def share_key(self, traced: TracedObject, _: TracedObject | None) -> Hashable:
            return "all"

    binding = All()
    set_trace_function(binding)
    swarm, text = Swarm(), Tracer("text")
    for tracer in (swarm.tracer, text) * 3:
        swarm.tracer = tracer
        swarm.connect()
    assert binding.counts == {"connect": 3, "Swarm.connect": 3}


def test_recorders_without_a_key_go_with_their_tracer() -> None:
    """Recorders that a tracer has for itself are dropped with it, by reference counting."""
    binding = Binding(share=False)
    set_trace_function(binding)
    swarms = [Swarm() for _ in range(10)]
    for index in [*range(10)] * 2:
        swarms[index].connect()
    assert binding.alive >= 10
    swarms.clear()
    assert binding.alive == 0


@pytest.mark.parametrize("change", [clear_trace_function, lambda: set_trace_function(print)])
def test_no_recorder_outlives_its_trace_function(
    change: Callable[[], None], binding: Binding
) -> None:
    """Replaced or cleared, a trace function leaves no recorder behind, while the tracers live."""
    swarms = [Swarm() for _ in range(10)]
    for swarm in swarms:
        swarm.connect()
        swarm.connect_to(1)
        swarm.tracer.set_parent(swarm.tracer)
        swarm.connect()
    assert binding.alive > 0
    change()
    assert binding.alive == 0


def test_recorders_are_bounded(binding: Binding, monkeypatch: pytest.MonkeyPatch) -> None:
    """Past the bound all recorders are dropped and bound again, and the counts stay exact."""
    monkeypatch.setattr(_targets, "MAX_RECORDERS", 20)
    swarms = [Swarm() for _ in range(30)]
    for _ in range(3):
        for number, swarm in enumerate(swarms):
            swarm.connect()
            swarm.connect()
            swarm.call(f"id{number}")
            swarm.connect_to(number)
            assert binding.alive <= 20 + 1
    assert binding.counts.total() == 3 * 30 * 4
    assert binding.counts["connect"] == 180
    assert binding.counts["call"] == 90
    clear_trace_function()
    assert binding.alive == 0


def test_call_sites_are_bound_again(binding: Binding) -> None:
    """After `rebind`, the trace function is asked again, once for each call site and tracer."""
    first, second = Swarm(), Swarm()

    def use() -> int:
        binding.asked.clear()
        for _ in range(3):
            for swarm in (first, second):
                swarm.connect()
                swarm.connect_to(1)
        return sum(name in {"bind", "bind_props"} for name, _ in binding.asked)

    bound = use()
    assert bound == (2 if binding.share else 4)
    assert use() == 0
    _dispatch.rebind()
    assert binding.alive == 0
    assert use() == bound
    assert use() == 0


def test_an_interrupted_change_is_made_up_for_by_a_rebind(monkeypatch: pytest.MonkeyPatch) -> None:
    """No recorder of the trace function before stays in use."""
    before, after = Binding(), Binding()
    set_trace_function(before)
    swarm = Swarm()
    swarm.connect()

    def interrupted(_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(_targets.RecorderTarget, "retire", interrupted)
        with pytest.raises(KeyboardInterrupt):
            set_trace_function(after)
    _dispatch.rebind()
    swarm.connect()
    assert (before.counts, after.counts) == ({"connect": 1}, {"connect": 1})


def test_an_interrupted_rebind_is_made_up_for_by_the_next(monkeypatch: pytest.MonkeyPatch) -> None:
    """As by the exception of a signal handler: no recorder from before stays in use."""
    binding = Binding()
    set_trace_function(binding)
    swarm = Swarm()
    swarm.connect()
    asked = len(binding.asked)

    def interrupted(_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(_targets._Cache, "empty", interrupted)
        with pytest.raises(KeyboardInterrupt):
            _dispatch.rebind()
    _dispatch.rebind()
    swarm.connect()
    assert len(binding.asked) > asked


def test_a_call_site_that_is_just_bound_is_bound_again(binding: Binding) -> None:
    """A recorder that was made before `rebind`, and stored after it, is not used again."""
    swarm = Swarm()

    class Changing(Binding):
        def bind(self, event: TraceEvent) -> Callable[[], object]:
            if not self.asked:
                _dispatch.rebind()
            return super().bind(event)

    changing = Changing(share=binding.share)
    set_trace_function(changing)
    for _ in range(3):
        swarm.connect()
    assert [name for name, _ in changing.asked].count("bind") == 2
    assert changing.counts == {"connect": 3}


@pytest.mark.parametrize("where", ["share_key", "bind", "record"])
def test_what_a_bindable_function_raises_is_swallowed(where: str, binding: Binding) -> None:
    """An error while binding or recording is counted each time, and the application goes on."""
    logging.getLogger("hypertrace").disabled = True
    try:
        swarm = Swarm()
        binding.error = ArithmeticError("broken")
        swarm.connect()
        binding.failing = {where}
        for _ in range(5):
            swarm.call("id")
        assert swallowed_errors() == 5
        binding.failing = set()
        swarm.call("id")
        swarm.connect()
    finally:
        logging.getLogger("hypertrace").disabled = False
    assert binding.counts == {"connect": 2, "call": 1}


def test_a_recorder_with_props_that_raises_is_swallowed(binding: Binding) -> None:
    """An error of a recorder that takes props is counted, bound before or not."""
    swarm = Swarm()
    swarm.connect_to(1)
    binding.error, binding.failing = LookupError(), {"record"}
    for _ in range(3):
        swarm.connect_to(1)
        swarm.tracer.trace(None, {"a": 1})
    assert swallowed_errors() == 6


@pytest.mark.parametrize("interrupt", [KeyboardInterrupt, SystemExit, asyncio.CancelledError])
@pytest.mark.parametrize("where", ["share_key", "bind", "bind_props", "record"])
def test_interrupts_pass_through_recorders(
    where: str, interrupt: type[BaseException], binding: Binding
) -> None:
    """Exceptions such as KeyboardInterrupt propagate, and tracing works afterwards."""
    binding.error, binding.failing = interrupt(), {where}
    swarm = Swarm()
    interrupted = 0
    for _ in range(3):
        for call in (swarm.connect, lambda: swarm.connect_to(1)):
            try:
                call()
            except interrupt:
                interrupted += 1
    assert interrupted == (3 if where in {"bind", "bind_props"} else 6)
    binding.failing = set()
    before = binding.counts.total()
    swarm.connect()
    swarm.connect_to(1)
    assert binding.counts.total() == before + 2
    assert swallowed_errors() == 0


def test_binding_that_traces_ends(binding: Binding) -> None:
    """A trace function that traces while it binds ends, and the application sees nothing."""
    swarm = Swarm()

    class Tracing(Binding):
        def bind(self, event: TraceEvent) -> Callable[[], object]:
            swarm.connect()
            return super().bind(event)

    tracing = Tracing()
    logging.getLogger("hypertrace").disabled = True
    try:
        set_trace_function(tracing)
        swarm.call("id")
    finally:
        logging.getLogger("hypertrace").disabled = False
    assert tracing.counts["call"] == 1


def test_set_parent_while_binding_is_seen(binding: Binding) -> None:
    """A parent that is set while a call site is bound is in all events after that."""
    swarm = Swarm()
    parents: list[str | None] = []

    class Changing(Binding):
        def bind(self, event: TraceEvent) -> Callable[[], object]:
            if not parents:
                swarm.tracer.set_parent(Tracer("new"))
            parent = event.parent_object
            return lambda: parents.append(None if parent is None else parent.class_name)

    set_trace_function(Changing(share=binding.share))
    for _ in range(3):
        swarm.connect()
    assert parents == [None, "new", "new"]


@pytest.mark.parametrize("change", [clear_trace_function, lambda: set_trace_function(print)])
def test_a_change_while_binding_leaves_nothing_behind(
    change: Callable[[], None], binding: Binding
) -> None:
    """A trace function that is replaced while it binds gets that event, and no other."""
    swarm = Swarm()

    class Changing(Binding):
        def bind(self, event: TraceEvent) -> Callable[[], object]:
            change()
            return super().bind(event)

    changing = Changing(share=binding.share)
    set_trace_function(changing)
    for _ in range(3):
        swarm.connect()
    assert changing.counts == {"connect": 1}
    assert changing.alive == 0


def test_a_change_while_the_cache_overflows_leaves_nothing_behind(
    binding: Binding, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A trace function that is replaced while its recorders are dropped stays replaced."""
    monkeypatch.setattr(_targets, "MAX_RECORDERS", 1)
    swarm = Swarm()

    class Changing(Binding):
        def bind(self, event: TraceEvent) -> Callable[[], object]:
            if event.id == "change":
                clear_trace_function()
            return super().bind(event)

    changing = Changing(share=binding.share)
    set_trace_function(changing)
    target: Any = _dispatch.target
    swarm.connect()
    swarm.call("change")
    # A thread that had read the slot before it changed delivers still.
    target.deliver(swarm.tracer, _callsite.resolve(sys._getframe()), None, None)
    assert changing.counts.total() == 3
    assert changing.alive == 0


def test_tables_that_stand_for_nothing_stay_empty(binding: Binding) -> None:
    """No recorder gets into the table of tracers that have not traced yet."""
    for _ in range(3):
        swarm = Swarm()
        swarm.connect()
        swarm.tracer.set_parent(Tracer("parent"))
        swarm.connect()
        swarm.tracer.set_parent(None)
    fresh = Swarm()
    assert len(fresh.tracer._table) == 0
    fresh.connect()
    assert binding.counts == {"connect": 7}
