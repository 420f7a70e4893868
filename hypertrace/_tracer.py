"""Tracers: `Tracer`, which an object holds, and the one disabled tracer of the process."""

from __future__ import annotations

from sys import _getframe, is_finalizing
from weakref import ref

from . import _bindings, _dispatch, _recorders, _silent, _span
from ._arguments import call_arguments, check, checked_duration, checked_ending, copied_props
from ._base import TracerBase
from ._callsite import resolve
from ._compiled import install_methods
from ._failures import swallow
from ._guard import active_suppressions, drop_if_suppressed
from ._naming import class_name_of
from ._object_ids import sequence_for, sequences
from ._plain import plain_props
from ._span import NO_SPAN, FinishedSpan, Span, open_span
from ._targets import new_table

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from types import FrameType
    from typing import Any, ClassVar, Self, TypeVar

    from ._base import Table
    from .events import Result, TracedObject

    _Kind = TypeVar("_Kind", bound="Tracer")

_address_of = id  # the parameter `id` of trace() hides the built-in function

_NOT_BOUND: Table = new_table()
"""The empty table of all tracers that have not traced yet; nothing is ever added."""


class Tracer(TracerBase):
    """A tracer, held by an object to report when, where and with which props its methods run.

    A tracer made while no trace function is set is disabled permanently: it does nothing, and all
    disabled tracers are one shared object.

    Any thread may make and use tracers. `trace()` never raises an exception of the trace function
    or of a prop, unless the trace function was set as strict.

    A copy of a tracer has its own object id, and is disabled if no trace function is set. Copied
    with its object (`copy.deepcopy`), it belongs to the copy; `copy.copy` of an object shares its
    tracer, like all attributes of the object. A pickle of a tracer contains its class name, props
    and parent as plain data, but neither its object nor the class: the loaded tracer's `ctx` is
    None, and a value of a prop that is no plain text, number, bytes or None is replaced by its
    text.

    Attributes:
        enabled: whether the tracer was made while a trace function was set.
        class_name: class name that the object is counted under; None if disabled.
        object_id: number of the object among those of its class name, from 1; None if disabled.
    """

    __slots__ = ()

    enabled = True

    # Attributes of the class, since an interpreter that shuts down clears the globals first.
    _disabled: ClassVar[_DisabledTracer]
    _is_finalizing = staticmethod(is_finalizing)
    _no_span = NO_SPAN
    _swallow = staticmethod(swallow)

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
            props: names and values that each event has; copied.
            parent: tracer of another object, whose class, id and props each event has, too.

        Raises:
            TypeError: `ctx` is None, `props` is no mapping, or `parent` is no tracer; also while
                tracing is off.
        """
        try:
            if ctx is None or props is not None or parent is not None:
                check(ctx, props, parent)
            return _make_tracer(cls, ctx, props, parent)
        except Exception:
            if cls._is_finalizing():  # the globals of this module are gone
                return cls._disabled  # type: ignore[return-value]  # a final class
            raise

    def trace(
        self,
        id: str | Mapping[str, Any] | None = None,
        props: Mapping[str, Any] | None = None,
        /,
        **kwargs: Any,
    ) -> None:
        """Report that this line runs: one event.

        A wrong argument is logged, and left out of the event. Nothing is raised but exceptions such
        as `KeyboardInterrupt`, unless the trace function was set as strict.

        Args:
            id: distinguishes this call from others in the same function; one of few values.
            props: names and values of this call, for names that are no identifiers. May be the
                first argument: `trace({"peer-id": 1})`. Later changes of it change no event.
            kwargs: names and values of this call; they win over those in `props`.
        """
        try:
            if active_suppressions and drop_if_suppressed():
                return None
            frame = _getframe(1)
        except Exception:  # noqa: BLE001 -- no frame, or the interpreter shuts down
            return self._deliver(None, id, props, kwargs)
        if props is None:
            # The keys are those of _targets.recorder_key(), inline: a call would double the cost.
            try:
                if kwargs:
                    address = -_address_of(frame.f_code) - frame.f_lasti
                    recorder = self._table[address if id is None else (id, address)]
                elif id is None:
                    recorder = self._table[_address_of(frame.f_code) + frame.f_lasti]
                else:
                    recorder = self._table[id, _address_of(frame.f_code) + frame.f_lasti]
            except Exception:  # noqa: BLE001, S110 -- not bound yet; or what hashing an id raises
                pass
            else:
                try:
                    recorder(kwargs) if kwargs else recorder()
                except Exception as error:  # noqa: BLE001 -- the application must see nothing
                    self._swallow(error, recorder)
                return None
        return self._deliver(frame, id, props, kwargs)

    def span(
        self,
        id: str | Mapping[str, Any] | None = None,
        props: Mapping[str, Any] | None = None,
        /,
        **kwargs: Any,
    ) -> Span:
        """Return a span: `with tracer.span():` times its block, and records how it ended.

        The end of the block is one event, which counts like a `trace()`. The arguments are those of
        `trace()`, and wrong ones are handled in the same way.
        """
        try:
            if active_suppressions and drop_if_suppressed():
                return self._no_span
            frame = _getframe(1)
        except Exception:  # noqa: BLE001 -- as in trace()
            return self._open_span(None, id, props, kwargs)
        if props is None and not kwargs:
            # The keys are those of RecorderTarget.bind_span().
            try:
                address = _address_of(frame.f_code) + frame.f_lasti + 1
                return Span(self._table[address if id is None else (id, address)], self)
            except Exception:  # noqa: BLE001, S110 -- not bound yet; or what hashing an id raises
                pass
        return self._open_span(frame, id, props, kwargs)

    def record(
        self,
        duration: float,
        id: str | Mapping[str, Any] | None = None,
        props: Mapping[str, Any] | None = None,
        /,
        *,
        result: Result = "ok",
        exception: BaseException | type[BaseException] | None = None,
        **kwargs: Any,
    ) -> None:
        """Record a span of a known length that has ended: of a job, a message, a parsed log.

        It is the event of a span that ends now, inside the span that is open here. Wrong arguments
        are handled as those of `trace()`; with a wrong duration nothing is recorded.

        Args:
            duration: seconds, 0 or more; any number that is finite as a `float`.
            id: as in `trace()`.
            props: as in `trace()`; also for the names `result` and `exception`.
            result: how it ended: `"ok"`, `"error"` or `"cancelled"`.
            exception: the exception that ended it, or its class. With one, `"ok"` becomes
                `"error"`, or `"cancelled"` if it cancels a task.
            kwargs: as in `trace()`.
        """
        try:
            frame = _getframe(1)
        except Exception:  # noqa: BLE001 -- as in trace()
            frame = None
        culprit: object = self
        try:
            target = _dispatch.target
            if target is None or drop_if_suppressed():
                return
            culprit = target.function
            seconds = checked_duration(duration)
            if seconds is not None:
                ending = checked_ending(result, exception)
                id, given = call_arguments(id, props, kwargs, copy=True)
                binding = target.bind_span(self, resolve(frame), id, given)
                FinishedSpan(binding, self, given).record(seconds, *ending, open_span())
        except Exception as error:  # noqa: BLE001 -- as in trace()
            self._swallow(error, culprit)

    def set_parent(self, parent: Tracer | None) -> None:
        """Change the parent that later events have.

        Args:
            parent: a tracer, or None.

        Raises:
            TypeError: `parent` is neither.
        """
        check(self, None, parent)
        self._parent_object = _parent(parent)
        self._table = _NOT_BOUND

    def __repr__(self) -> str:
        return f"<Tracer of {self.class_name} {self.object_id}>"

    def _deliver(
        self, frame: FrameType | None, id: Any, props: Any, kwargs: dict[str, object]
    ) -> None:
        culprit: object = self
        try:
            target = _dispatch.target
            # Checked in any case: a suppressed task may run while `active_suppressions` is empty.
            if target is not None and not drop_if_suppressed():
                culprit = target.function
                id, given = call_arguments(id, props, kwargs, copy=target.keeps_props)
                target.deliver(self, resolve(frame), id, given)
        except Exception as error:  # noqa: BLE001 -- the application must see nothing
            self._swallow(error, culprit)

    def _open_span(
        self, frame: FrameType | None, id: Any, props: Any, kwargs: dict[str, object]
    ) -> Span:
        culprit: object = self
        try:
            target = _dispatch.target
            if target is not None and not drop_if_suppressed():
                culprit = target.function
                id, given = call_arguments(id, props, kwargs, copy=True)
                return Span(target.bind_span(self, resolve(frame), id, given), self, given)
        except Exception as error:  # noqa: BLE001 -- as above
            self._swallow(error, culprit)
        return self._no_span

    def __copy__(self) -> Tracer:
        return self._copied(self.ctx)

    def __deepcopy__(self, memo: dict[int, Any]) -> Tracer:
        ctx = self.ctx
        return self._copied(memo.get(id(ctx), ctx))

    def _copied(self, ctx: object) -> Tracer:
        others = self._props, self._parent_object
        return _copy_of(type(self), self.class_name, self._class, ctx, *others)

    def __reduce__(self) -> str | tuple[Any, ...]:
        ctx = self._ctx if type(self._ctx) is str else None
        others = plain_props(self._props), self._parent_object
        return _copy_of, (type(self), self.class_name, self._class_names(), ctx, *others)


class _DisabledTracer(Tracer):
    """The tracer that does nothing."""

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

    def record(
        self,
        duration: float,
        id: str | Mapping[str, Any] | None = None,
        props: Mapping[str, Any] | None = None,
        /,
        *,
        result: Result = "ok",
        exception: BaseException | type[BaseException] | None = None,
        **kwargs: Any,
    ) -> None:
        """Do nothing."""

    def set_parent(self, parent: Tracer | None) -> None:
        """Do nothing."""

    def __copy__(self) -> Tracer:
        return self

    def __deepcopy__(self, memo: dict[int, Any]) -> Tracer:
        return self

    def __reduce__(self) -> str:
        return "_DISABLED"

    def __repr__(self) -> str:
        return "<Tracer, disabled>"


_DISABLED = object.__new__(_DisabledTracer)
_DISABLED.class_name = _DISABLED.object_id = None
_DISABLED._ctx = _DISABLED._props = _DISABLED._parent_object = None
_DISABLED._class = ()
_DISABLED._table = _NOT_BOUND
Tracer._disabled = _DISABLED


def implicit_tracer(ctx: type | str, class_names: tuple[str, ...] = ()) -> Tracer:
    """Return a tracer for code that holds none itself; it is enabled, and its object id is 0.

    Args:
        ctx: a class, or the name to count under.
        class_names: qualified names to leave out of a function's name, if `ctx` is no class.
    """
    class_ = ref(ctx) if isinstance(ctx, type) else class_names
    return _new_tracer(Tracer, class_name_of(ctx), 0, class_, ctx)


def _make_tracer(
    cls: type[_Kind], ctx: object, props: Mapping[str, Any] | None, parent: Tracer | None
) -> _Kind:
    if _dispatch.target is None:
        _silent.count_tracer(ctx)
        return _DISABLED  # type: ignore[return-value]  # a final class
    name = class_name_of(ctx)
    class_: Any = ctx if issubclass(type(ctx), type) else type(ctx)
    tracer = _new_tracer(cls, name, _next_id(name), ref(class_), ctx)
    if props is not None:
        tracer._props = copied_props(props)
    tracer._parent_object = _parent(parent)
    return tracer


def _copy_of(cls: type[Tracer], name: Any, class_: Any, ctx: object, *others: Any) -> Tracer:
    """Return a copy of a tracer; it has another object id."""
    if _dispatch.target is None:
        _silent.count_tracer(name)
        return _DISABLED
    tracer = _new_tracer(cls, name, _next_id(name), class_, ctx)
    tracer._props, tracer._parent_object = others
    return tracer


def _new_tracer(
    cls: type[_Kind], name: str, object_id: int, class_: ref[type] | tuple[str, ...], ctx: object
) -> _Kind:
    tracer = object.__new__(cls)
    tracer.class_name, tracer.object_id, tracer._class = name, object_id, class_
    try:
        tracer._ctx = ref(ctx)
    except TypeError:
        # Kept only if it refers to no other object: otherwise the two would form a cycle.
        tracer._ctx = ctx if type(ctx) is str else None
    tracer._props = tracer._parent_object = None
    tracer._table = _NOT_BOUND
    return tracer


def _next_id(class_name: str) -> int:
    return next(sequences.get(class_name) or sequence_for(class_name))


def _parent(tracer: Tracer | None) -> TracedObject | None:
    return tracer._traced_object() if tracer is not None and tracer.enabled else None


install_methods(
    globals(),
    span=_span.__dict__,
    dispatch=_dispatch.__dict__,
    bindings=_bindings.__dict__,
    recorders=_recorders.__dict__,
)
