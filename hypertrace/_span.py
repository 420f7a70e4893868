"""Spans: durations of blocks, and how they ended."""

from __future__ import annotations

import gc
import sys
from _thread import _local as local
from collections.abc import Mapping
from contextvars import ContextVar
from math import nan
from time import perf_counter
from types import SimpleNamespace

from ._endings import ErrorRules, class_of, result_of
from ._failures import misuse, swallow
from ._guard import limit_recursion, suppress_tracing
from ._raised import place_of
from .events import SpanEvent
from .inspection import type_name

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType
    from typing import Any, Self

    from ._base import TracerBase
    from ._bindings import SpanBinding
    from ._callsite import CallSite
    from .events import Raised, Result

    Ending = tuple[Result, type[BaseException] | None, Raised | None]


MAX_BUFFERED = 128
"""Durations in a recorder's list; beyond it the recorder's `fold` is called."""

LONGEST = 1e15
"""Seconds. A longer duration, one below zero and NaN come from an odd clock: they need an event."""

MAX_DEPTH = 1_000
"""Ended spans that are skipped, at most, in the search for an open one."""

ENDED = object()
"""The token of a span that ended, but may still be the current span of a context."""

clock = perf_counter
"""The clock of all spans, in seconds."""

_current: ContextVar[Span | None] = ContextVar("hypertrace_span", default=None)
"""The innermost open span of this thread or task."""


_collections: dict[str, object] = {}
"""Phases of the garbage collector and the info passed with each, latest last. Empty on Pythons on
which collections do not matter."""

# gevent replaces thread-local data by a Python class; its greenlets are mostly of one thread.
_collecting = local() if local.__module__ == "_thread" else SimpleNamespace()
"""The same for this thread: a finalizer may let other threads run during a collection."""

if sys.version_info < (3, 12):
    # Here the collector may run inside ContextVar.set(), which crashes if a finalizer calls it.
    # The callbacks are no Python code, in which a KeyboardInterrupt would be lost.
    _collections.update(start=None, stop=None)
    gc.callbacks += [_collections.pop, _collections.__setitem__, _collecting.__setattr__]


def reset() -> None:
    """Leave no span open in this context."""
    _current.set(None)


def open_span() -> Span | None:
    """Return the innermost open span of this thread or task; None in a finalizer."""
    if is_collecting():
        return None
    span = _current.get()
    return span._nearest_open() if span is not None and span._token is ENDED else span


def is_collecting() -> bool:
    """Whether this thread may be in a finalizer that must not set the current span."""
    # A signal handler or another thread may run a whole collection between two steps here: then the
    # iterator has no item, and this thread is in no collection.
    if not _collections or next(reversed(_collections), None) != "start":
        return False
    return getattr(_collecting, "start", None) is _collections["start"]


class _Details:
    """Attributes that few spans need: props set later, and a failure that the block handled."""

    __slots__ = ("error_id", "exception", "failed", "props", "raised")

    def __init__(self, props: dict[str, object]) -> None:
        self.props = props
        self.failed = False
        self.exception: type[BaseException] | None = None
        self.error_id: int | None = None
        self.raised: Raised | None = None


class Span:
    """A span: one run of a `with tracer.span():` block, timed until its end.

    Use it once, and in one thread. It never suppresses an exception of the block, and raises none
    itself, unless the trace function was set as strict.

    A copy of a span, or one loaded from a pickle, does nothing: only the original ends.
    """

    __slots__ = (
        *("_began", "_binding", "_details", "_outer", "_props", "_rules", "_token", "_tracer"),
    )

    _outer: Span | None
    _rules: ErrorRules
    """Only set where there are some, so that other spans do not take the time for it."""
    _token: object

    # Attributes of the class, since an interpreter that shuts down clears the globals first.
    _misuse = staticmethod(misuse)
    _swallow = staticmethod(swallow)

    def __init__(
        self, binding: SpanBinding, tracer: TracerBase, props: dict[str, object] | None = None
    ) -> None:
        self._binding = binding
        self._tracer = tracer
        self._props = props
        self._details: _Details | None = None

    def set(self, props: Mapping[str, Any] | None = None, /, **kwargs: Any) -> None:
        """Add props before the span ends; they replace earlier ones of the same names.

        Args:
            props: names and values, for names that are no identifiers.
            kwargs: names and values; they win over those in `props`.
        """
        try:
            if props is not None and not isinstance(props, Mapping):
                kind = type_name(type(props))
                misuse(f"span.set() got props of type {kind} and ignores them")
                props = None
            current = self._get_details().props
            if props:
                suppress_tracing(current.update, props)
            current.update(kwargs)
        except Exception as error:  # noqa: BLE001 -- a mapping may raise anything
            self._swallow(error, self)

    def fail(self, error: BaseException | None = None) -> None:
        """Let the span end as an error, although the block handles the exception.

        Args:
            error: what happened; its class becomes the event's `exception`.
        """
        try:
            details = self._get_details()
            details.failed = True
            if error is None:
                details.exception = details.raised = details.error_id = None
            elif issubclass(type(error), BaseException):
                if details.error_id != id(error):  # else it would be inside itself
                    details.raised = self._place_of(error)
                details.exception, details.error_id = type(error), id(error)
            else:
                misuse(f"span.fail() got {type_name(type(error))}, which is no exception")
        except Exception as failure:  # noqa: BLE001 -- the application must see nothing
            self._swallow(failure, self)

    def expect(
        self,
        *exceptions: type[BaseException],
        ok_if: Callable[[Any], object] | None = None,
    ) -> Self:
        """Let the span end well with some exceptions: `with tracer.span().expect(KeyError):`.

        They pass, as all do, and are the event's `exception`. Called again, it replaces what was
        expected before. Wrong arguments are logged, and nothing is expected then.

        Args:
            exceptions: classes of exceptions that are no errors, nor cancellations.
            ok_if: is called with any other exception, and returns whether it is no error. What it
                traces is dropped; if it raises, that is swallowed, and the exception is an error.

        Returns:
            The span.
        """
        try:
            self._rules = ErrorRules(exceptions, ok_if=ok_if)
        except TypeError as error:
            self._misuse(f"span.expect(): {error}")
        except Exception as failure:  # noqa: BLE001 -- the interpreter shuts down
            self._swallow(failure, self)
        return self

    def __enter__(self) -> Self:
        binding = self._binding
        try:
            binding.start()
        except Exception as error:  # noqa: BLE001 -- the application must see nothing
            self._swallow(error, binding.start)
        try:
            self._began = clock()
        except Exception as error:  # noqa: BLE001 -- it may be replaced
            self._began = nan
            self._swallow(error, clock)
        try:
            # The current span is only set if the recorder counts edges.
            if binding.edges is None or is_collecting():
                self._outer = None
            else:
                outer = _current.get()
                if outer is not None and outer._token is ENDED:
                    outer = outer._nearest_open()
                    _current.set(outer)
                self._outer = outer
                self._token = None  # an interrupt may come before the next line has stored it
                self._token = _current.set(self)
        except Exception as error:  # noqa: BLE001 -- the interpreter shuts down
            self._outer = None
            self._swallow(error, self)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        try:
            outer = self._outer
            binding = self._binding
            try:
                duration = clock() - self._began
                if type(duration) is not float:
                    duration = float(duration)
            except Exception as failure:  # noqa: BLE001 -- it may be replaced
                duration = nan
                swallow(failure, clock)
            finally:
                if binding.edges is not None:
                    outer = self._close(outer, error)
            durations = binding.durations
            if (
                error is not None
                or self._details is not None
                or durations is None
                or not 0 <= duration <= LONGEST
            ):
                self._end(duration, error, outer)
                return
            durations.append(duration)
            if outer is not None or len(durations) > MAX_BUFFERED:
                self._fold_and_count_edge(outer)
        except Exception as failure:  # noqa: BLE001 -- the application must see nothing
            self._exit_failed(failure)

    def __reduce__(self) -> str | tuple[Any, ...]:
        return _no_span, ()

    def _exit_failed(self, failure: Exception) -> None:
        if hasattr(self, "_began"):
            self._swallow(failure, self)
        else:
            self._misuse("a span ended that had not started: use it as `with tracer.span():`")

    def _close(self, outer: Span | None, error: BaseException | None) -> Span | None:
        """Make the enclosing span the current one again, and return it.

        In generators the spans of a context may end in another order than they started. A generator
        may also be finalized in another context than the one it ran in, which cannot be changed
        from here. There the span stays the current one, until the next span skips it.
        """
        if outer is not None and outer._token is ENDED:
            outer = outer._nearest_open()
        # A finalizer ends a generator with an exception.
        if _current.get() is self and (error is None or not is_collecting()):
            try:
                _current.reset(self._token)  # type: ignore[arg-type]  # entered, it has one
            except Exception:  # noqa: BLE001, S110 -- in another context, or a second time
                pass
            else:
                # Tasks may keep their copy of the context, and so this span, for a long time.
                self._token = self._outer = None
                return outer
        self._token, self._outer = ENDED, outer
        return outer

    def _nearest_open(self) -> Span | None:
        """Return the innermost open span, out of this span and those that enclose it."""
        span: Span | None = self
        for _ in range(MAX_DEPTH):  # a span that is used twice may be inside itself
            if span is None or span._token is not ENDED:
                return span
            span = span._outer
        return None

    def _get_details(self) -> _Details:
        if self._details is None:
            self._details = _Details(dict(self._props or {}))
        return self._details

    def _fold_and_count_edge(self, outer: Span | None) -> None:
        """Do the rare steps after a duration was appended: fold a long list, count an edge."""
        binding = self._binding
        try:
            if binding.durations is not None and len(binding.durations) > MAX_BUFFERED:
                limit_recursion(binding.recorder.fold)
            if outer is not None:
                binding.count_edge(outer._binding)
        except Exception as error:  # noqa: BLE001 -- the application must see nothing
            self._swallow(error, binding.recorder)

    def _end(
        self,
        duration: float,
        error: BaseException | None,
        outer: Span | None,
        busy: float | None = None,
    ) -> None:
        end: object = self
        try:
            if error is None and busy is None and self._end_with_props(duration, outer):
                return
            end = self._binding.recorder.end
            limit_recursion(self._record_end, end, duration, error, outer, busy)
        except Exception as failure:  # noqa: BLE001 -- the application must see nothing
            self._swallow(failure, end)

    def _end_with_props(self, duration: float, outer: Span | None) -> bool:
        """End the span as one that started with the props it has now; False if it takes an event.

        The recorder of these props is found by their values, as at a start.
        """
        binding, details = self._binding, self._details
        target, id = binding.target, binding.id
        if target is None or details is None or details.failed or not 0 <= duration <= LONGEST:
            return False
        if id is not None and type(id) is not str:  # nothing is kept for it
            return False
        found = target.bind_span(self._tracer, binding.site, id, details.props or None)
        durations = found.durations
        # The trace function may have been replaced since the start: then it moves nothing.
        if durations is None or binding.move_to is None or not binding.move_to(found.recorder):
            return False
        durations.append(duration)
        if len(durations) > MAX_BUFFERED:
            limit_recursion(found.recorder.fold)
        if outer is not None:
            binding.count_edge(outer._binding)
        return True

    def _record_end(
        self,
        end: Callable[[SpanEvent], object],
        duration: float,
        error: BaseException | None,
        outer: Span | None,
        busy: float | None,
    ) -> None:
        end(self._span_event(duration, error, outer, busy))
        if outer is not None:
            self._binding.count_edge(outer._binding)

    def _ending(self, error: BaseException | None) -> Ending:
        """Return the result of the span, the exception's class, and where it was raised."""
        details = self._details
        if error is None:
            if details is not None and details.failed:
                return "error", details.exception, details.raised
            return "ok", None, None
        rules: ErrorRules | None = getattr(self, "_rules", None)
        result = "ok" if rules is not None and rules.accept(error) else result_of(error)
        if result == "ok":
            return result, type(error), None
        if details is not None and details.error_id == id(error):
            return result, type(error), details.raised
        return result, type(error), self._place_of(error)

    def _place_of(self, error: BaseException) -> Raised:
        """Return where an exception that ends the span was raised; it is counted once as `here`."""
        try:
            return place_of(error, self._began, clock(), self._own_site)
        except Exception:  # noqa: BLE001 -- not entered; or a clock that was replaced
            return "here"

    @property
    def _own_site(self) -> CallSite | None:
        site = self._binding.site
        return site if site.is_in_frame else None

    def _span_event(
        self, duration: float, error: BaseException | None, outer: Span | None, busy: float | None
    ) -> SpanEvent:
        binding, details = self._binding, self._details
        props = details.props or None if details else self._props
        result, exception, raised = self._ending(error)
        event = self._tracer._event(binding.site, binding.id, props)
        upstream = None if outer is None else outer._binding.upstream
        return SpanEvent(
            event.id,
            event.object,
            event.parent_object,
            event.caller,
            duration,
            result,
            exception,
            upstream,
            busy,
            raised,
        )


class FinishedSpan(Span):
    """A span whose length and end are known from elsewhere."""

    __slots__ = ("_known_ending",)

    def record(
        self,
        duration: float,
        result: Result,
        exception: BaseException | type[BaseException] | None,
        outer: Span | None,
    ) -> None:
        """Record the start and the end of the span as of now; raises what recorders raise.

        Args:
            duration: in seconds.
            result: how it ended.
            exception: that ended it, or its class.
            outer: the span around it, as `open_span()` returns it.
        """
        raised: Raised | None = None
        kind = None if exception is None else class_of(exception)
        if exception is not None and result != "ok":
            raised = "here"  # a class alone may be of any exception
            if exception is not kind:
                now = clock()
                began = getattr(self, "_began", now - duration)
                raised = place_of(exception, began, now, self._binding.site)  # type: ignore[arg-type]
        self._known_ending = result, kind, raised
        binding = self._binding
        binding.start()
        if binding.edges is None:
            outer = None
        durations = None if kind is not None else binding.durations
        if durations is None or result != "ok" or duration > LONGEST:
            self._end(duration, None, outer)
            return
        durations.append(duration)
        if outer is not None or len(durations) > MAX_BUFFERED:
            self._fold_and_count_edge(outer)

    def _ending(
        self,
        error: BaseException | None,  # noqa: ARG002 -- it ended elsewhere
    ) -> Ending:
        return self._known_ending


class _NoSpan(Span):
    """The span that does nothing; the only one while tracing is off."""

    __slots__ = ()

    def __init__(self) -> None:
        pass

    def __reduce__(self) -> str:
        return "NO_SPAN"

    def set(self, props: Mapping[str, Any] | None = None, /, **kwargs: Any) -> None:
        """Do nothing."""

    def fail(self, error: BaseException | None = None) -> None:
        """Do nothing."""

    def expect(
        self,
        *exceptions: type[BaseException],  # noqa: ARG002
        ok_if: Callable[[Any], object] | None = None,  # noqa: ARG002
    ) -> Self:
        """Return this span."""
        return self

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        pass


NO_SPAN = _NoSpan()


def _no_span() -> Span:
    return NO_SPAN
