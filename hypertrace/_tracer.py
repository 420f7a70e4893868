"""The tracer an object holds, and the one that stands for all that are disabled."""

from __future__ import annotations

from collections.abc import Mapping
from sys import _getframe
from types import MappingProxyType
from weakref import ref

from . import _dispatch, _span, cells
from ._arguments import call_arguments, copied_props
from ._callsite import resolve
from ._compiled import speedups
from ._failures import swallow
from ._naming import class_name_of, class_names
from ._numbers import numbers, numbers_for
from ._span import NO_SPAN, Span
from ._targets import new_table
from .events import TracedObject, TraceEvent

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import FrameType
    from typing import Any, Self

    from ._callsite import CallSite
    from ._targets import Recorders

_address_of = id  # the parameter `id` of trace() hides the built-in function

_NOT_BOUND: Recorders = new_table()
"""Stands for the table of a tracer that has not traced yet; never filled."""


class Tracer:
    """Held by an object to tell when, where and with which props its methods run.

    Made while no trace function is set, a tracer is disabled for good: it does nothing, and one
    shared object serves all of them.

    Making and using tracers is safe from any thread. `trace()` never raises for what the trace
    function or the props do.

    Attributes:
        enabled: whether the tracer was made while a trace function was set.
        class_name: what the object is counted under; None if disabled.
        object_id: number of the object among those of its class name, from 1; None if disabled.
    """

    __slots__ = (
        "__weakref__",
        "_class",
        "_ctx",
        "_parent_object",
        "_props",
        "_recorders",
        "class_name",
        "object_id",
    )

    enabled = True

    class_name: str | None
    object_id: int | None
    _class: ref[type] | tuple[str, ...]
    _ctx: object
    _props: dict[str, object] | None
    _parent_object: TracedObject | None
    _recorders: Recorders

    def __new__(
        cls,
        ctx: object,
        props: Mapping[str, Any] | None = None,
        *,
        parent: Tracer | None = None,
    ) -> Self:
        """Make the tracer of an object.

        Args:
            ctx: the traced object, not kept alive by its tracer. A class is named by itself, a
                module by its `__name__`, a `str` by its value, anything else by the name of its
                class.
            props: names and values that travel with each event; copied.
            parent: tracer of another object, whose class, number and props travel with each event.

        Raises:
            TypeError: `ctx` is None, `props` is no mapping, or `parent` is no tracer; also while
                tracing is off.
        """
        if ctx is None or props is not None or parent is not None:
            _check(ctx, props, parent)
        if _dispatch.target is None:
            _dispatch.note_disabled(ctx)
            return _DISABLED  # type: ignore[return-value]  # a final class
        self = object.__new__(cls)
        self.class_name = name = class_name_of(ctx)
        self.object_id = next(numbers.get(name) or numbers_for(name))
        self._class = ref(ctx if isinstance(ctx, type) else type(ctx))
        try:
            self._ctx = ref(ctx)
        except TypeError:
            # Kept only where it can refer to nothing: holding the object would make a cycle.
            self._ctx = ctx if type(ctx) is str else None
        self._props = None if props is None else copied_props(props)
        self._parent_object = _parent(parent)
        self._recorders = _NOT_BOUND
        return self

    @property
    def ctx(self) -> object:
        """The traced object; None once it is gone, if it allows no weak references, or disabled."""
        return self._ctx() if isinstance(self._ctx, ref) else self._ctx

    @property
    def props(self) -> Mapping[str, object] | None:
        """Read-only copy of the props given; None if none were, or if disabled."""
        return None if self._props is None else MappingProxyType(self._props)

    @property
    def parent_object(self) -> TracedObject | None:
        """The object of the parent; None without a parent, or if disabled."""
        return self._parent_object

    def trace(
        self,
        id: str | Mapping[str, Any] | None = None,
        props: Mapping[str, Any] | None = None,
        /,
        **kwargs: Any,
    ) -> None:
        """Tell that this line runs: one event.

        A wrong argument is logged, and the event goes without it. Nothing is ever raised but
        `KeyboardInterrupt` and the like.

        Args:
            id: tells this call from others in the same function; one of few values.
            props: names and values of this call, where names are no identifiers; copied. May stand
                first: `trace({"peer-id": 1})`.
            kwargs: names and values of this call; they win over those in `props`.
        """
        try:
            frame = _getframe(1)
        except ValueError:
            return self._deliver(None, id, props, kwargs)
        if props is None:
            # The keys are those of _targets.recorder_key(). No helper: a call costs what all the
            # rest does.
            try:
                if kwargs:
                    address = -_address_of(frame.f_code) - frame.f_lasti
                    recorder = self._recorders[address if id is None else (id, address)]
                elif id is None:
                    recorder = self._recorders[_address_of(frame.f_code) + frame.f_lasti]
                else:
                    recorder = self._recorders[id, _address_of(frame.f_code) + frame.f_lasti]
            except Exception:  # noqa: BLE001, S110 -- not bound yet; or what hashing an id raises
                pass
            else:
                try:
                    recorder(kwargs) if kwargs else recorder()
                except Exception as error:  # noqa: BLE001 -- the application must see nothing
                    swallow(error, recorder)
                return None
        return self._deliver(frame, id, props, kwargs)

    def span(
        self,
        id: str | Mapping[str, Any] | None = None,
        props: Mapping[str, Any] | None = None,
        /,
        **kwargs: Any,
    ) -> Span:
        """Return a span: `with tracer.span():` times its block, and tells how it ended.

        One event when the block is left, which counts like a `trace()`. The arguments are those of
        `trace()`; nothing is ever raised for them.
        """
        try:
            frame = _getframe(1)
        except ValueError:
            return self._open_span(None, id, props, kwargs)
        if props is None and not kwargs:
            # The keys are those of RecorderTarget.bind_span().
            try:
                address = _address_of(frame.f_code) + frame.f_lasti + 1
                return Span(self._recorders[address if id is None else (id, address)], self)
            except Exception:  # noqa: BLE001, S110 -- not bound yet; or what hashing an id raises
                pass
        return self._open_span(frame, id, props, kwargs)

    def set_parent(self, parent: Tracer | None) -> None:
        """Let later events carry another parent, or none.

        Args:
            parent: a tracer, or None.

        Raises:
            TypeError: `parent` is neither.
        """
        _check(self, None, parent)
        self._parent_object = _parent(parent)
        self._recorders = _NOT_BOUND

    def __repr__(self) -> str:
        return f"<Tracer of {self.class_name} {self.object_id}>"

    def _deliver(
        self,
        frame: FrameType | None,
        id: Any,
        props: Any,
        kwargs: dict[str, object],
    ) -> None:
        target = _dispatch.target
        if target is None:
            return
        try:
            id, merged = call_arguments(id, props, kwargs)
            target.deliver(self, resolve(frame), id, merged)
        except Exception as error:  # noqa: BLE001 -- the application must see nothing
            swallow(error, target.function)

    def _open_span(
        self,
        frame: FrameType | None,
        id: Any,
        props: Any,
        kwargs: dict[str, object],
    ) -> Span:
        target = _dispatch.target
        if target is None:
            return NO_SPAN
        try:
            id, merged = call_arguments(id, props, kwargs)
            return Span(target.bind_span(self, resolve(frame), id, merged), self, merged)
        except Exception as error:  # noqa: BLE001 -- the application must see nothing
            swallow(error, target.function)
            return NO_SPAN

    def _class_names(self) -> tuple[str, ...]:
        known = self._class
        return known if isinstance(known, tuple) else class_names(known())

    def _event(self, site: CallSite, id: Any, props: dict[str, object] | None) -> TraceEvent:
        caller = site.caller(self._class_names(), props)
        return TraceEvent(id, self._traced_object(), self._parent_object, caller)

    def _traced_object(self) -> TracedObject:
        # Asked of enabled tracers alone, which have a name and a number.
        name, number = self.class_name, self.object_id
        return TracedObject(name, number, self._props, self._ctx, ref(self))  # type: ignore[arg-type]


class _DisabledTracer(Tracer):
    """Does nothing."""

    __slots__ = ()

    enabled = False

    def trace(
        self,
        id: str | Mapping[str, Any] | None = None,
        props: Mapping[str, Any] | None = None,
        /,
        **kwargs: Any,
    ) -> None:
        """Do nothing."""

    def span(
        self,
        id: str | Mapping[str, Any] | None = None,  # noqa: ARG002
        props: Mapping[str, Any] | None = None,  # noqa: ARG002
        /,
        **kwargs: Any,  # noqa: ARG002
    ) -> Span:
        """Return a span that does nothing."""
        return NO_SPAN

    def set_parent(self, parent: Tracer | None) -> None:
        """Do nothing."""

    def __repr__(self) -> str:
        return "<Tracer, disabled>"


def _make_disabled() -> Tracer:
    tracer = object.__new__(_DisabledTracer)
    tracer.class_name = tracer.object_id = None
    tracer._ctx = tracer._props = tracer._parent_object = None
    tracer._class = ()
    tracer._recorders = _NOT_BOUND
    return tracer


_DISABLED = _make_disabled()


def implicit_tracer(ctx: type | str, class_names: tuple[str, ...] = ()) -> Tracer:
    """Return a tracer for code that holds none itself; it is enabled, and numbers no object.

    Args:
        ctx: a class, or the name to count under.
        class_names: qualified names to leave out of a function's name, if `ctx` is no class.
    """
    tracer = object.__new__(Tracer)
    tracer.class_name = class_name_of(ctx)
    tracer.object_id = 0
    tracer._class = ref(ctx) if isinstance(ctx, type) else class_names
    tracer._ctx = ref(ctx) if isinstance(ctx, type) else ctx
    tracer._props = tracer._parent_object = None
    tracer._recorders = _NOT_BOUND
    return tracer


def _parent(tracer: Tracer | None) -> TracedObject | None:
    return tracer._traced_object() if tracer is not None and tracer.enabled else None


def _check(ctx: object, props: object, parent: object) -> None:
    if ctx is None:
        raise TypeError(
            "Tracer(None): give the object to trace, usually self; "
            "for code without a class a name: Tracer('startup')"
        )
    if props is not None and not isinstance(props, Mapping):
        raise TypeError(
            f"props must be a mapping of names to values or None, not {type(props).__name__}"
        )
    if parent is not None and not isinstance(parent, Tracer):
        raise TypeError(
            f"parent must be a Tracer or None, not {type(parent).__name__}; "
            "give the tracer of the other object: parent=other.tracer"
        )


if speedups is not None:
    # The compiled module takes over the methods that run at each event.
    names = {**vars(_span), **globals(), "PropsRecorder": cells.PropsRecorder}
    names |= {"dispatch": vars(_dispatch), "span_module": vars(_span), "native_clock": _span.clock}
    names |= {"record_props": cells.PropsRecorder.record, "make_tracer": Tracer.__new__}
    speedups.speed_up(names)
    del names
