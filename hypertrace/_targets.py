"""Where events go: to a plain trace function as events, to a bindable one through recorders."""

from __future__ import annotations

from _thread import allocate_lock
from contextvars import ContextVar
from weakref import WeakValueDictionary

from ._failures import swallow
from .cells import Cell

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Hashable
    from typing import Any, Protocol, TypeGuard

    from ._callsite import CallSite
    from .events import TracedObject, TraceEvent
    from .protocols import BindableTraceFunction, TraceFunction

    Recorders = dict[Hashable, Callable[..., object]]

    class Source(Protocol):
        """What a target needs of a tracer."""

        _recorders: Recorders
        _parent_object: TracedObject | None

        def _class_names(self) -> tuple[str, ...]: ...
        def _event(
            self, site: CallSite, id: Any, props: dict[str, object] | None
        ) -> TraceEvent: ...

    class Target(Protocol):
        """What delivers for one trace function."""

        @property
        def function(self) -> TraceFunction: ...
        def deliver(
            self,
            source: Source,
            site: CallSite,
            id: Any,
            props: dict[str, object] | None,
        ) -> None: ...
        def retire(self) -> None: ...


MAX_RECORDERS = 131_072
"""Recorders kept for one trace function. Past it all are dropped, and bound again when used."""

_tracing = ContextVar("hypertrace_tracing", default=False)
"""Whether this thread or task is inside a trace function: what that traces is dropped."""


def target_for(function: TraceFunction) -> Target:
    """Return what delivers to a trace function in the cheapest way it can take."""
    if is_bindable(function):
        return RecorderTarget(function)
    return EventTarget(function)


def is_bindable(function: TraceFunction) -> TypeGuard[BindableTraceFunction]:
    """Whether a trace function offers all methods of `BindableTraceFunction`."""
    methods = ("share_key", "bind", "bind_props")
    return all(callable(getattr(function, name, None)) for name in methods)


class EventTarget:
    """Builds an event for each `trace()` and calls the trace function with it."""

    __slots__ = ("function",)

    def __init__(self, function: TraceFunction) -> None:
        self.function = function

    def deliver(
        self,
        source: Source,
        site: CallSite,
        id: Any,
        props: dict[str, object] | None,
    ) -> None:
        """Call the trace function; what it raises is swallowed, what it traces is dropped."""
        if _tracing.get():
            return
        token = _tracing.set(True)
        try:
            self.function(source._event(site, id, props))
        except Exception as error:  # noqa: BLE001 -- the application must see nothing of it
            swallow(error, self.function)
        finally:
            _tracing.reset(token)

    def retire(self) -> None:
        """Nothing is kept."""


class _Cache:
    """The recorders bound for one trace function, and what their keys depend on.

    A key holds the address of an instruction, which is unique while its code object lives: so the
    call sites, which hold the code objects, live at least as long as the tables.
    """

    __slots__ = ("given_up", "own", "shared", "sites", "size")

    def __init__(self) -> None:
        self.given_up = allocate_lock()
        self.shared: dict[Hashable, Recorders] = {}
        self.own: WeakValueDictionary[int, _OwnTable] = WeakValueDictionary()
        self.sites: dict[int, CallSite] = {}
        self.size = Cell()

    def table_for(self, source: Source, key: Hashable) -> Recorders:
        """Return the table of a tracer, which is made if there is none."""
        if key is not None:
            return self.shared.setdefault(key, {})
        if id(source._recorders) in self.own:
            return source._recorders
        table = _OwnTable()
        self.own[id(table)] = table
        return table

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


class RecorderTarget:
    """Binds each call site once, and shares the recorders of tracers with equal labels.

    Nobody waits for a lock: a cache that is given up is emptied afterwards, and who adds to a cache
    looks afterwards whether it was given up. So no table in use holds a recorder of a trace
    function that was replaced, nor one whose code object is gone, nor one of another parent.
    """

    __slots__ = ("_cache", "_retired", "function")

    def __init__(self, function: BindableTraceFunction) -> None:
        self.function = function
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
        record = source._recorders.get(key) if _is_plain(id) else None
        if record is None:
            record = self._recorder(source, site, key, source._event(site, id, None), props)
        record() if props is None else record(props)

    def _recorder(
        self,
        source: Source,
        site: CallSite,
        key: Hashable,
        event: TraceEvent,
        props: dict[str, object] | None,
    ) -> Callable[..., object]:
        function = self.function
        share_key = function.share_key(event.object, event.parent_object)
        table_key = None if share_key is None else (share_key, source._class_names())
        cache = self._cache
        if self._retired or not _is_plain(event.id):
            return self._bind(event, props)
        source._recorders = table = cache.table_for(source, table_key)
        record = table.get(key)
        if record is None:
            record = self._bind(event, props)
            self._keep(cache, table, key, record, site)
        if source._parent_object is not event.parent_object:  # set_parent() came in between
            table.clear()
            source._recorders = {}
        return record

    def _bind(self, event: TraceEvent, props: dict[str, object] | None) -> Callable[..., object]:
        bind = self.function.bind if props is None else self.function.bind_props
        return bind(event)

    def _keep(
        self,
        cache: _Cache,
        table: Recorders,
        key: Hashable,
        record: Callable[..., object],
        site: CallSite,
    ) -> None:
        if cache.size.value >= MAX_RECORDERS:
            if cache.given_up.acquire(blocking=False):
                self._cache = _Cache()
                cache.empty()
            return
        cache.size.increment()
        cache.sites[site.address] = site
        table[key] = record
        if self._retired or self._cache is not cache:
            table.clear()

    def retire(self) -> None:
        """Drop all recorders: each tracer finds its table empty and looks for the next target."""
        self._retired = True
        self._cache.empty()


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
