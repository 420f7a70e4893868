"""Where events go: to a plain trace function as events, to a bindable one through recorders."""

from __future__ import annotations

from _thread import allocate_lock
from types import FunctionType
from weakref import WeakValueDictionary

from ._bindings import PropsBindings, SpanBinding
from ._callsite import MAX_SITES
from ._compiled import speedups
from ._failures import swallow
from ._guard import nested, untraced
from ._recorders import guarded
from .cells import Cell
from .events import Upstream

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Hashable
    from typing import Any, Protocol, TypeGuard

    from ._callsite import CallSite
    from ._source import Recorders, Source
    from .events import SpanEvent, TraceEvent
    from .protocols import (
        BindableTraceFunction,
        SpanBindableTraceFunction,
        TraceFunction,
    )

    class Target(Protocol):
        """What delivers for one trace function; what it raises is swallowed by the caller."""

        @property
        def function(self) -> TraceFunction: ...
        @property
        def keeps_props(self) -> bool:
            """Whether `deliver` may keep the props."""

        def deliver(
            self,
            source: Source,
            site: CallSite,
            id: Any,
            props: dict[str, object] | None,
        ) -> None: ...
        def bind_span(
            self,
            source: Source,
            site: CallSite,
            id: Any,
            props: dict[str, object] | None,
        ) -> SpanBinding: ...
        def retire(self) -> None: ...


_MAX_FORWARDS = 10

MAX_RECORDERS = 131_072
"""Recorders kept for one trace function. Past it all are dropped, and bound again when used."""


def target_for(function: TraceFunction) -> Target:
    """Return what delivers to a trace function in the cheapest way it can take."""
    receiver = receiver_of(function)
    if is_bindable(receiver):
        return RecorderTarget(function, receiver)
    return EventTarget(function)


def receiver_of(function: TraceFunction) -> TraceFunction:
    """Return the trace function that events are for: the one that is given, or stands for it.

    See `ForwardingTraceFunction`.
    """
    for _ in range(_MAX_FORWARDS):
        if not _has(function, "forwards_to"):
            break
        other = function.forwards_to  # type: ignore[attr-defined]  # as was just asked
        if not callable(other):  # an attribute that only has this name
            break
        function = other
    return function


def _has(function: TraceFunction, name: str) -> bool:
    """Whether a trace function has an attribute: not one that is made up, as those of a mock."""
    if hasattr(type(function), name):
        return True
    # Not of a plain function: `functools.wraps` copies the attributes of what it wraps.
    return not isinstance(function, FunctionType) and name in getattr(function, "__dict__", ())


def is_bindable(function: TraceFunction) -> TypeGuard[BindableTraceFunction]:
    """Whether a trace function offers all methods of `BindableTraceFunction`."""
    return _offers(function, "share_key", "bind", "bind_props")


def is_span_bindable(function: TraceFunction) -> TypeGuard[SpanBindableTraceFunction]:
    """Whether a trace function offers all methods of `SpanBindableTraceFunction`."""
    return is_bindable(function) and _offers(function, "bind_span", "bind_span_props")


def _offers(function: TraceFunction, *methods: str) -> bool:
    # Asked of the class, as Python does: a mock, and what else makes up attributes, has any.
    return all(callable(getattr(type(function), name, None)) for name in methods)


class EventTarget:
    """Builds an event for each `trace()` and calls the trace function with it."""

    __slots__ = ("function",)

    keeps_props = True

    def __init__(self, function: TraceFunction) -> None:
        self.function = function

    def deliver(
        self,
        source: Source,
        site: CallSite,
        id: Any,
        props: dict[str, object] | None,
    ) -> None:
        """Call the trace function with an event."""
        untraced(self.function, source._event(site, id, props))

    def bind_span(
        self,
        source: Source,
        site: CallSite,
        id: Any,
        props: dict[str, object] | None,  # noqa: ARG002 -- they travel with the event
    ) -> SpanBinding:
        """Return what lets a span build an event when it ends."""
        upstream = _upstream_of(source._event(site, id, None))
        return SpanBinding(EventRecorder(self.function), site, id, upstream)

    def retire(self) -> None:
        """Nothing is kept."""


class EventRecorder:
    """Records a span as the event it ends with."""

    durations = None

    def __init__(self, call: Callable[[SpanEvent], object]) -> None:
        self._call = call

        # What nobody reads: cells are called without further ado.
        self.start = Cell().increment

    def end(self, event: SpanEvent) -> None:
        try:
            untraced(self._call, event)
        except Exception as error:  # noqa: BLE001 -- the application must see nothing
            swallow(error, self._call)

    def edge(self, upstream: Upstream) -> Callable[[], object]:  # noqa: ARG002 -- the event tells
        return self.start

    def fold(self) -> None:
        pass


class _Cache:
    """The recorders bound for one trace function, and what their keys depend on.

    A key holds the address of an instruction, which is unique while its code object lives: so the
    call sites, which hold the code objects, live at least as long as the tables.
    """

    __slots__ = ("given_up", "homes", "own", "shared", "sites", "size")

    def __init__(self) -> None:
        self.given_up = allocate_lock()
        self.shared: dict[Hashable, Recorders] = {}
        self.homes: dict[int, str | None] = {}  # of shared tables, by their ids
        self.own: WeakValueDictionary[int, Any] = WeakValueDictionary()
        self.sites: dict[int, CallSite] = {}
        self.size = Cell()  # how many recorders and tables were made

    def table_for(self, source: Source, share_key: Hashable, site: CallSite) -> Recorders:
        """Return the table of a tracer that traces at `site`, which is made if there is none.

        Tracers of different modules share none: one code object, so one address, may run in both.
        """
        if share_key is None:
            own = self.own.get(id(source._recorders))
            return self._made_own_table() if own is None else own
        home = source._home()
        if home is None:  # the module where the tracer traced first
            home = self.homes.get(id(source._recorders), site.module)
        key = share_key, source._class_names(), home
        found = self.shared.get(key)
        if found is None:
            self.size.increment()
            found = self.shared.setdefault(key, new_table())
            self.homes[id(found)] = home
        return found

    def _made_own_table(self) -> Recorders:
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


class _OwnTable(dict):  # type: ignore[type-arg]  # as Recorders, but loaded at run time
    """A table of one tracer alone; unlike a plain dict, it can be referred to weakly."""

    __slots__ = ("__weakref__",)


# The compiled table looks a call site up without making a Python object of its address.
new_table: Callable[[], Recorders] = speedups.Table if speedups else dict
_new_own_table: Callable[[], Recorders] = speedups.Table if speedups else _OwnTable


class RecorderTarget:
    """Binds each call site once, and shares the recorders of tracers with equal labels.

    Nobody waits for a lock: a cache that is given up is emptied afterwards, and who adds to a cache
    looks afterwards whether it was given up. So no table in use holds a recorder of a trace
    function that was replaced, nor one whose code object is gone, nor one of another parent.
    """

    __slots__ = ("_cache", "_receiver", "_retired", "_spans", "function")

    keeps_props = False

    def __init__(self, function: TraceFunction, receiver: BindableTraceFunction) -> None:
        self.function = function
        self._receiver = receiver
        self._spans = receiver if is_span_bindable(receiver) else None
        self._cache = _Cache()
        self._retired = False

    def deliver(
        self,
        source: Source,
        site: CallSite,
        id: Any,
        props: dict[str, object] | None,
    ) -> None:
        """Record one `trace()` that met no recorder in the tracer's table."""
        key = recorder_key(site.address, id, with_props=props is not None)
        bind = self._receiver.bind if props is None else self._receiver.bind_props
        record = nested(self._bound, source, site, id, key, _guarding(bind))
        record() if props is None else record(props)

    def bind_span(
        self,
        source: Source,
        site: CallSite,
        id: Any,
        props: dict[str, object] | None,
    ) -> SpanBinding:
        """Return the recorder of spans at a call site, and what goes with it."""
        if self._spans is None:
            return EventTarget(self._receiver).bind_span(source, site, id, props)
        # One byte further than a trace() of the same instruction, where nothing else can lie.
        key = recorder_key(site.address + 1, id, with_props=props is not None)
        if props is None:
            binder = _binder(self._spans, site)
            binding: SpanBinding = nested(self._bound, source, site, id, key, binder)
            return binding
        props_binder = _props_binder(self._spans, site)
        bindings: PropsBindings = nested(self._bound, source, site, id, key, props_binder)
        return nested(bindings.find, props)

    def _bound(
        self,
        source: Source,
        site: CallSite,
        id: Any,
        key: Hashable,
        bind: Callable[[TraceEvent], Any],
    ) -> Any:
        """Return what stands at a key of the tracer's table; if nothing does, what `bind` makes."""
        found = source._recorders.get(key) if _is_plain(id) else None
        if found is not None:
            return found
        event = source._event(site, id, None)
        if self._retired or not _is_plain(id):
            return bind(event)
        share_key = self._receiver.share_key(event.object, event.parent_object)
        cache = self._cache_with_room()
        source._recorders = table = cache.table_for(source, share_key, site)
        found = table.get(key)
        if found is None:
            found = bind(event)
            self._keep(cache, table, key, found, site)
        if source._parent_object is not event.parent_object:  # set_parent() came in between
            table.clear()
            source._recorders = new_table()
        return found

    def _cache_with_room(self) -> _Cache:
        cache = self._cache
        if cache.is_full() and cache.given_up.acquire(blocking=False):
            self._cache = _Cache()
            cache.empty()
        return self._cache

    def _keep(
        self,
        cache: _Cache,
        table: Recorders,
        key: Hashable,
        recorder: object,
        site: CallSite,
    ) -> None:
        cache.size.increment()
        cache.sites[site.address] = site
        table[key] = recorder
        if self._retired or self._cache is not cache:
            table.clear()

    def retire(self) -> None:
        """Drop all recorders: each tracer finds its table empty and looks for the next target."""
        self._retired = True
        self._cache.empty()


def _guarding(
    bind: Callable[[TraceEvent], Callable[..., object]],
) -> Callable[[TraceEvent], Callable[..., object]]:
    return lambda event: guarded(bind(event), droppable=True)


def _binder(
    function: SpanBindableTraceFunction, site: CallSite
) -> Callable[[TraceEvent], SpanBinding]:
    return lambda event: SpanBinding(function.bind_span(event), site, event.id, _upstream_of(event))


def _props_binder(
    function: SpanBindableTraceFunction, site: CallSite
) -> Callable[[TraceEvent], PropsBindings]:
    return lambda event: PropsBindings(
        function.bind_span_props(event), site, event.id, _upstream_of(event)
    )


def _upstream_of(event: TraceEvent) -> Upstream:
    return Upstream(event.object.class_name, event.caller.function_name)


def _is_plain(id: object) -> bool:
    """Whether equal ids are the same id: 1, True and 1.0 are not, and some cannot be hashed."""
    return id is None or type(id) is str


def recorder_key(address: int, id: str | None, *, with_props: bool) -> Hashable:
    """Return the key of a recorder in a table; `Tracer.trace` spells the same out in its fast path.

    Args:
        address: of the call's instruction.
        id: the trace id.
        with_props: whether the recorder takes props.
    """
    signed = -address if with_props else address
    return signed if id is None else (id, signed)
