"""Operations: spans that an integration starts and ends for a framework, as of a request or a job.

What an operation was is known at its end: its props are given there, and how it ended. While it
runs, it is the span that is open in its thread or task, and may be an entry: work that begins here.

An entry that begins while another one of its context is open is a part of that one, as a job that a
request runs: it is counted as an operation, but is no entry, since its time is part of the other's.
"""

from __future__ import annotations

from contextvars import ContextVar
from weakref import ref

from . import _bindings, _dispatch, _span
from ._callsite import CallSite
from ._compiled import install_operations
from ._endings import result_of
from ._failures import swallow
from ._guard import active_suppressions, drop_if_suppressed
from ._span import FinishedSpan, is_collecting, open_span
from ._targets import recorder_key
from ._tracer import Tracer, implicit_tracer

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from contextvars import Token
    from typing import Self, TypeAlias

    from ._bindings import SpanBinding
    from ._targets import Target
    from .events import Result

    Add: TypeAlias = Callable[[float], object]
    Key: TypeAlias = tuple[str, ...]
    Props: TypeAlias = dict[str, object] | Callable[..., dict[str, object]]

_current_entry: ContextVar[ref[Operation] | None] = ContextVar("hypertrace_entry", default=None)
"""The entry that this thread or task works for. Not kept alive: a framework may drop a request that
it never ends, and the next one in the thread is no part of it."""


def current_entry() -> str:
    """Return the name of the entry that this thread or task works for; empty without one.

    It is what is known of the name now: of a request the method, until its route is known.
    """
    entry = _entry_here()
    return "" if entry is None else entry.entry_name


def _entry_here() -> Operation | None:
    reference = _current_entry.get()
    return None if reference is None else reference()


class Operations:
    """Operations of one kind, which are counted as the calls of one function.

    Any thread may use it. Nothing is raised, and while tracing is off nothing is recorded.
    """

    __slots__ = (
        *("_count_key", "_keys", "_place", "_props_keys", "_template"),
        *("id", "nested_id", "site", "tracer"),
    )

    def __init__(self, class_name: str, function: str, *, entry: str = "") -> None:
        """Prepare for operations.

        Args:
            class_name: the class that they are counted under, as `HttpServer`.
            function: the function, as `request`.
            entry: what kind of entry each of them is, as `http`; empty if they are none. It becomes
                the id of the events, as `entry.http`, or `nested.http` of one inside another entry.
        """
        self.id: str | None = f"entry.{entry}" if entry else None
        self.nested_id: str | None = f"nested.{entry}" if entry else None
        self.tracer: Tracer = implicit_tracer(class_name)
        self.site: CallSite = CallSite(object(), 0, function, f"<{class_name}>", __package__)
        self._count_key = recorder_key(self.site.address, self.id, with_props=True)
        # The keys are those of RecorderTarget.bind_span(); the table of a target that was replaced
        # is empty.
        self._place = place = self.site.address + 1
        ids = {self.id, self.nested_id}
        self._keys = {id: recorder_key(place, id, with_props=False) for id in ids}
        self._props_keys = {id: recorder_key(place, id, with_props=True) for id in ids}
        # The compiled core copies it instead of a call of the class.
        self._template: Operation | None = None

    def bound(
        self,
        target: Target,
        id: str | None,
        props: dict[str, object] | None = None,
        key: Key | None = None,
    ) -> SpanBinding:
        """Return what records an operation; raises what binding raises.

        Args:
            target: that events are delivered to.
            id: of the operation.
            props: of the operation.
            key: as of `Operation.end`.
        """
        if not props:
            found = self.tracer._table.get(self._keys[id])
            return found or target.bind_span(self.tracer, self.site, id, None)
        found = target.bind_span(self.tracer, self.site, id, props)
        bindings = None if key is None else self.tracer._table.get(self._props_keys[id])
        if bindings is not None:
            bindings.remember(key, found)
        return found

    def known(self, id: str | None, key: Key) -> SpanBinding | None:
        """Return what `bound` has returned for a key; None if nothing is known.

        Args:
            id: of the operation.
            key: as of `Operation.end`.
        """
        bindings = self.tracer._table.get(self._props_keys[id])
        return None if bindings is None else bindings.known.get(key)

    def start(self, active: Sequence[Add] = ()) -> Operation:
        """Start an operation: its time begins, and it is the span that is open here.

        Args:
            active: as of `Operation.start`.
        """
        return Operation.start(self, active)

    def record(
        self,
        seconds: float,
        props: Props,
        result: Result = "ok",
        exception: BaseException | type[BaseException] | None = None,
        key: Key | None = None,
    ) -> None:
        """Record an operation of known length that ends now, inside the span that is open here.

        Args:
            seconds: how long it took.
            props: of it; they are kept. Or as of `Operation.end`.
            result: how it ended.
            exception: that ended it, or its class: the exception itself, if there is one, since it
                is counted once as raised. With one, `"ok"` becomes what a span has that it ends.
            key: as of `Operation.end`.
        """
        operation = Operation(self)
        operation._running = True
        operation.seconds = seconds
        operation.end(props, result, exception, key)

    def count(self, props: dict[str, object]) -> None:
        """Count something that has no length, as a message that was sent.

        Args:
            props: of it.
        """
        try:
            target = _dispatch.target
            if target is None or (active_suppressions and drop_if_suppressed()):
                return
            # As in `Tracer.trace`: what the target has bound is in the table.
            record = self.tracer._table.get(self._count_key) if props else None
            if record is None:
                target.deliver(self.tracer, self.site, self.id, props or None)
            else:
                record(props)
        except Exception as error:  # noqa: BLE001 -- the application must see nothing
            swallow(error, self)


class Operation(FinishedSpan):
    """One operation, from its start to its end, which may be in different threads and contexts.

    Attributes:
        seconds: how long it took, if that is known before its end.
        entry_name: the name of the entry that it is; it may be set when it is known, and is empty
            when the operation has ended.
    """

    __slots__ = (
        *("__weakref__", "_active", "_entry_token", "_id", "_kind", "_running"),
        *("entry_name", "seconds"),
    )

    def __init__(self, kind: Operations) -> None:
        """Make one that has not started.

        Args:
            kind: of operation. Those of a kind and a class are equal at first.
        """
        self._kind = kind
        self._id = kind.id
        self._tracer = kind.tracer
        self._props = self._details = self._outer = self._token = None
        self._active: Sequence[Add] = ()
        self._entry_token: Token[ref[Operation] | None] | None = None
        self.entry_name: str = ""
        self.seconds: float | None = None

    @classmethod
    def start(cls, kind: Operations, active: Sequence[Add] = ()) -> Self:
        """Start one: its time begins, and it is the span that is open here.

        Args:
            kind: of operation.
            active: functions that are called with 1 now, and with -1 at its end.
        """
        operation = cls(kind)
        operation._open()
        operation._begin(active)
        return operation

    @classmethod
    def start_aside(cls, kind: Operations, active: Sequence[Add] = ()) -> Self:
        """Start one that is not open here: what runs now is no part of it.

        Args:
            kind: as of `start`.
            active: as there.
        """
        operation = cls(kind)
        operation._begin(active)
        return operation

    @property
    def has_ended(self) -> bool:
        """Whether it has ended, or not started."""
        return not hasattr(self, "_running")

    @property
    def has_stopped(self) -> bool:
        """Whether its time has ended."""
        return self.seconds is not None

    def _open(self) -> None:
        """Let it be the span and the entry that are open here."""
        try:
            kind = self._kind
            target = _dispatch.target
            if target is not None and not (active_suppressions and drop_if_suppressed()):
                is_safe = not is_collecting()
                is_entry = kind.id is not None and is_safe
                if is_entry and _current_entry.get() is not None:
                    is_entry = not self._is_nested()
                self._binding = binding = kind.bound(target, self._id)
                if is_safe and binding.edges is not None:
                    self._outer = open_span()
                    self._token = _span._current.set(self)
                if is_entry:
                    self._entry_token = _current_entry.set(ref(self))
        except Exception as error:  # noqa: BLE001 -- the application must see nothing
            swallow(error, self)

    def _begin(self, active: Sequence[Add]) -> None:
        try:
            self._active = active
            for add in active:
                add(1)
        except Exception as error:  # noqa: BLE001 -- as above
            swallow(error, self)
        self._running = True  # deleted in one step, which one thread alone can do
        self._began = _span.clock()

    def stop(self) -> None:
        """End its time; `end` says later how it ended. Only the first call has an effect."""
        if self.seconds is None:
            self.seconds = _span.clock() - self._began
            self._leave_active()

    def end(
        self,
        props: Props,
        result: Result = "ok",
        exception: BaseException | type[BaseException] | None = None,
        key: Key | None = None,
    ) -> None:
        """End it, and record it; only the first call has an effect.

        Args:
            props: as of `Operations.record`; or a function that returns them, which is called with
                the parts of the key if nothing is known by it.
            result: as there.
            exception: as there.
            key: equal for all operations of the kind with equal props, whose values are texts. What
                is found for the props is remembered by it.
        """
        try:
            del self._running
        except AttributeError:
            return
        try:
            if exception is not None:
                self.leave_context_if_collecting()
            seconds = _span.clock() - self._began if self.seconds is None else self.seconds
            self._leave_active()
            was_current = self._token is not None
            outer = self._close(self._outer, None) if was_current else None
            target = _dispatch.target
            if target is None or (active_suppressions and drop_if_suppressed()):
                return
            if exception is not None and result == "ok":
                result = result_of(exception)
            kind = self._kind
            if self._entry_token is None:
                self._is_nested()
            takes_event = exception is not None or result != "ok" or seconds > _span.LONGEST
            binding = None if key is None or takes_event else kind.known(self._id, key)
            if binding is None or binding.durations is None:  # then the event has the props
                self._props = made = (props(*(key or ())) if callable(props) else props) or None
                binding = kind.bound(target, self._id, made, key)
            self._binding = binding
            if binding.edges is not None and not was_current:
                outer = open_span()
            self.record(max(seconds, 0.0), result, exception, outer)
        except Exception as error:  # noqa: BLE001 -- the application must see nothing
            swallow(error, self)
        finally:
            self._leave_entry()

    def abandon(self) -> None:
        """End it, and record nothing: another process does."""
        try:
            del self._running
        except AttributeError:
            return
        try:
            self._leave_active()
            if self._token is not None:
                self._close(self._outer, None)
        except Exception as error:  # noqa: BLE001 -- the application must see nothing
            swallow(error, self)
        finally:
            self._leave_entry()

    def leave_context_if_collecting(self) -> None:
        """Prepare for its end in a finalizer, which may not change a context in a collection.

        Then it stays the current span there until the next one skips it.
        """
        if is_collecting():
            self._entry_token = None
            if self._token is not None:
                self._token = _span.ENDED

    def _is_nested(self) -> bool:
        """Whether another entry is open here; then this one is none."""
        entry = None if self._id is None or is_collecting() else _entry_here()
        if entry is None or entry.has_ended:
            return False
        self._id = self._kind.nested_id
        return True

    def _leave_active(self) -> None:
        active, self._active = self._active, ()
        for add in active:
            add(-1)

    def _leave_entry(self) -> None:
        """Leave the context that it was opened in, as an entry."""
        self.entry_name = ""
        if self._entry_token is not None:
            token, self._entry_token = self._entry_token, None
            try:
                if _entry_here() is self:
                    _current_entry.reset(token)
            except Exception:  # noqa: BLE001, S110 -- it was opened in another context
                pass


def reset() -> None:
    """Leave no entry in this context."""
    _current_entry.set(None)


install_operations(
    globals(), span=_span.__dict__, dispatch=_dispatch.__dict__, bindings=_bindings.__dict__
)
