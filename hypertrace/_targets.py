"""Targets: delivery of events to one trace function, as events or through recorders."""

from __future__ import annotations

from contextlib import suppress
from weakref import WeakValueDictionary

from ._bindings import PropsBindings, SpanBinding
from ._callsite import MAX_SITES
from ._compiled import speedups
from ._failures import swallow
from ._guard import limit_recursion, suppress_tracing
from ._recorders import guarded
from ._trace_functions import is_bindable, is_span_bindable, receiver_of
from .cells import Cell
from .events import Upstream

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Hashable
    from typing import Any, Protocol

    from ._base import Table, TracerBase
    from ._callsite import CallSite
    from .events import SpanEvent, TraceEvent
    from .protocols import BindableTraceFunction, SpanRecorder, TraceFunction

    class Target(Protocol):
        """Delivers to one trace function. The caller swallows what its methods raise."""

        @property
        def function(self) -> TraceFunction: ...
        @property
        def keeps_props(self) -> bool:
            """Whether `deliver` may keep the props."""

        def deliver(
            self,
            tracer: TracerBase,
            site: CallSite,
            id: Any,
            props: dict[str, object] | None,
        ) -> None: ...
        def bind_span(
            self,
            tracer: TracerBase,
            site: CallSite,
            id: Any,
            props: dict[str, object] | None,
        ) -> SpanBinding: ...
        def rebind(self) -> None:
            """Call `bind` again at the next event of each call site."""

        def retire(self) -> None: ...

    class SpanBinder(Protocol):
        """Binds spans, as a `SpanBindableTraceFunction` does."""

        def bind_span(self, event: TraceEvent, /) -> SpanRecorder: ...
        def bind_span_props(
            self, event: TraceEvent, /
        ) -> Callable[[dict[str, object]], SpanRecorder]: ...


MAX_RECORDERS = 131_072
"""Recorders kept for one trace function. Beyond it all are dropped, and bound again when used."""


def target_for(function: TraceFunction) -> Target:
    """Return the target that delivers to a trace function in the fastest way it supports."""
    receiver = receiver_of(function)
    if is_bindable(receiver):
        return RecorderTarget(function, receiver)
    return EventTarget(function)


class EventTarget:
    """Builds an event for each `trace()` and calls the trace function with it."""

    __slots__ = ("function",)

    keeps_props = True

    def __init__(self, function: TraceFunction) -> None:
        self.function = function

    def deliver(
        self,
        tracer: TracerBase,
        site: CallSite,
        id: Any,
        props: dict[str, object] | None,
    ) -> None:
        """Call the trace function with an event."""
        suppress_tracing(self.function, tracer._event(site, id, props))

    def bind_span(
        self,
        tracer: TracerBase,
        site: CallSite,
        id: Any,
        props: dict[str, object] | None,  # noqa: ARG002 -- the span itself has them
    ) -> SpanBinding:
        """Return a binding with which a span builds an event when it ends."""
        upstream = _upstream_of(tracer._event(site, id, None))
        return SpanBinding(EventRecorder(self.function), site, id, upstream)

    def rebind(self) -> None:
        """Do nothing: no recorders are kept."""

    def retire(self) -> None:
        """Do nothing: no recorders are kept."""


class EventRecorder:
    """Records each span by calling the trace function with its event."""

    durations = None

    def __init__(self, call: Callable[[SpanEvent], object]) -> None:
        self._call = call

        # The count is not used: a cell is the cheapest callable, since it is never guarded.
        self.start = Cell().increment

    def end(self, event: SpanEvent) -> None:
        try:
            suppress_tracing(self._call, event)
        except Exception as error:  # noqa: BLE001 -- the application must see nothing
            swallow(error, self._call)

    def edge(self, upstream: Upstream) -> Callable[[], object]:  # noqa: ARG002 -- the event has it
        return self.start

    def fold(self) -> None:
        pass


class _Cache:
    """The recorders bound for one trace function, in tables by call site.

    A key contains the address of an instruction, which is unique while its code object lives. So
    the cache holds the call sites, which hold the code objects, at least as long as the tables.
    """

    __slots__ = ("modules", "own", "shared", "sites", "size")

    def __init__(self) -> None:
        self.shared: dict[Hashable, Table] = {}
        self.modules: dict[int, str | None] = {}  # of shared tables, by the ids of the tables
        self.own: WeakValueDictionary[int, Any] = WeakValueDictionary()
        self.sites: dict[int, CallSite] = {}
        self.size = Cell()  # number of recorders and tables made

    def table_for(self, tracer: TracerBase, share_key: Hashable, site: CallSite) -> Table:
        """Return the table of a tracer that traces at `site`; it is made if there is none.

        Tracers of different modules share no table: one code object, and so one address, may run
        in both.
        """
        if share_key is None:
            own = self.own.get(id(tracer._table))
            return self._new_own_table() if own is None else own
        module = tracer._module()
        if module is None:  # the module where the tracer traced first
            module = self.modules.get(id(tracer._table), site.module)
        key = share_key, tracer._class_names(), module
        found = self.shared.get(key)
        if found is None:
            self.size.increment()
            found = self.shared.setdefault(key, new_table())
            self.modules[id(found)] = module
        return found

    def _new_own_table(self) -> Table:
        self.size.increment()
        table = _new_own_table()
        self.own[id(table)] = table
        return table

    def is_full(self) -> bool:
        return self.size.value >= MAX_RECORDERS or len(self.sites) >= MAX_SITES

    def empty(self) -> None:
        for table in list(self.shared.values()):
            table.clear()
        for reference in self.own.valuerefs():
            own = reference()
            if own is not None:
                own.clear()


class _OwnTable(dict):  # type: ignore[type-arg]  # as Table, but loaded at run time
    """A table that only one tracer uses; unlike a plain dict, it supports weak references."""

    __slots__ = ("__weakref__",)


# The compiled table looks a call site up without making a Python object of its address.
new_table: Callable[[], Table] = speedups.Table if speedups else dict
_new_own_table: Callable[[], Table] = speedups.Table if speedups else _OwnTable


class RecorderTarget:
    """Binds each call site once, and shares the recorders of tracers with equal labels.

    No thread waits for a lock. A full cache is first replaced and then emptied, and a thread that
    has added to a cache checks afterwards whether it was replaced. So no table in use holds a
    recorder of a trace function that was replaced, of a code object that no longer exists, or of
    another parent.
    """

    __slots__ = ("_cache", "_receiver", "_replaced", "_retired", "_spans", "function")

    keeps_props = False

    def __init__(self, function: TraceFunction, receiver: BindableTraceFunction) -> None:
        self.function = function
        self._receiver = receiver
        self._spans: SpanBinder | None = receiver if is_span_bindable(receiver) else None
        self._cache = _Cache()
        self._replaced: list[_Cache] = []  # those that are not emptied yet
        self._retired = False

    def deliver(
        self,
        tracer: TracerBase,
        site: CallSite,
        id: Any,
        props: dict[str, object] | None,
    ) -> None:
        """Record one `trace()` for which the tracer's table had no recorder."""
        self._record(tracer, site, id, props, site.address)

    def _record(
        self,
        tracer: TracerBase,
        site: CallSite,
        id: Any,
        props: dict[str, object] | None,
        address: int,
    ) -> None:
        """Record one `trace()` with the recorder that is, or will be, at a key of an address."""
        key = recorder_key(address, id, with_props=props is not None)
        record = tracer._table.get(key) if is_plain_id(id) else None
        if record is None:
            bind = self._receiver.bind if props is None else self._receiver.bind_props
            record = limit_recursion(self._find_or_bind, tracer, site, id, key, _guarding(bind))
        record() if props is None else record(props)

    def bind_span(
        self,
        tracer: TracerBase,
        site: CallSite,
        id: Any,
        props: dict[str, object] | None,
    ) -> SpanBinding:
        """Return the binding of spans at a call site that start with these props."""
        if self._spans is None:
            return EventTarget(self._receiver).bind_span(tracer, site, id, props)
        # One byte after the key of a trace() of the same instruction, which no other key uses.
        key = recorder_key(site.address + 1, id, with_props=props is not None)
        found: Any = tracer._table.get(key) if is_plain_id(id) else None
        if found is None:
            binder: Callable[[TraceEvent], Any]
            binder = (_binder if props is None else _props_binder)(self._spans, site, self)
            found = limit_recursion(self._find_or_bind, tracer, site, id, key, binder)
        binding: SpanBinding = found if props is None else limit_recursion(found.find, props)
        return binding

    def _find_or_bind(
        self,
        tracer: TracerBase,
        site: CallSite,
        id: Any,
        key: Hashable,
        bind: Callable[[TraceEvent], Any],
    ) -> Any:
        """Return the entry of the tracer's table at a key; `bind` makes it if there is none."""
        found = tracer._table.get(key) if is_plain_id(id) else None
        if found is not None:
            return found
        event = tracer._event(site, id, None)
        if self._retired or not is_plain_id(id):
            return bind(event)
        share_key = self._share_key(event)
        cache = self._cache_with_room()
        tracer._table = table = cache.table_for(tracer, share_key, site)
        found = table.get(key)
        if found is None:
            found = bind(event)
            self._store(cache, table, key, found, site)
        if tracer._parent_object is not event.parent_object:  # set_parent() ran meanwhile
            table.clear()
            tracer._table = new_table()
        return found

    def _share_key(self, event: TraceEvent) -> Hashable:
        return self._receiver.share_key(event.object, event.parent_object)

    def _cache_with_room(self) -> _Cache:
        if self._cache.is_full():
            self.rebind()
        return self._cache

    def _store(
        self,
        cache: _Cache,
        table: Table,
        key: Hashable,
        recorder: object,
        site: CallSite,
    ) -> None:
        cache.size.increment()
        cache.sites[site.address] = site
        table[key] = recorder
        if self._retired or self._cache is not cache:
            table.clear()

    def rebind(self) -> None:
        """Drop all recorders: each call site is bound again at its next event."""
        fresh = _Cache()
        # One step up to the end of `append`: no cache is left in use and not emptied.
        cache, self._cache = self._cache, fresh
        self._replaced.append(cache)
        self._empty_replaced()

    def retire(self) -> None:
        """Drop all recorders: each tracer finds its table empty and uses the next target."""
        self._retired = True
        self._cache.empty()
        self._empty_replaced()

    def _empty_replaced(self) -> None:
        # Also what a signal handler that raised has left.
        for cache in self._replaced.copy():
            cache.empty()
            with suppress(ValueError):  # another thread was faster
                self._replaced.remove(cache)


def _guarding(
    bind: Callable[[TraceEvent], Callable[..., object]],
) -> Callable[[TraceEvent], Callable[..., object]]:
    return lambda event: guarded(bind(event), droppable=True)


def _binder(
    function: SpanBinder, site: CallSite, target: Target
) -> Callable[[TraceEvent], SpanBinding]:
    return lambda event: SpanBinding(
        function.bind_span(event), site, event.id, _upstream_of(event), target
    )


def _props_binder(
    function: SpanBinder, site: CallSite, target: Target
) -> Callable[[TraceEvent], PropsBindings]:
    return lambda event: PropsBindings(
        function.bind_span_props(event), site, event.id, _upstream_of(event), target
    )


def _upstream_of(event: TraceEvent) -> Upstream:
    return Upstream(event.object.class_name, event.caller.function_name)


def is_plain_id(id: object) -> bool:
    """Whether an id can be part of a key: 1, True and 1.0 are equal, and some are unhashable."""
    return id is None or type(id) is str


def recorder_key(address: int, id: str | None, *, with_props: bool) -> Hashable:
    """Return the key of a recorder in a table; the fast path of `Tracer.trace` has it inline.

    Args:
        address: of the call's instruction.
        id: the trace id.
        with_props: whether the recorder takes props.
    """
    signed = -address if with_props else address
    return signed if id is None else (id, signed)
