"""Spans: how long something took, and how it ended."""

from __future__ import annotations

import gc
import sys
from _thread import _local as local
from collections.abc import Mapping
from contextvars import ContextVar
from math import nan
from time import perf_counter
from types import SimpleNamespace

from ._endings import ending
from ._failures import misuse, swallow
from ._guard import limit_recursion, suppress_tracing
from ._naming import type_name
from .events import SpanEvent

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType
    from typing import Any, Self

    from ._base import TracerBase
    from ._bindings import SpanBinding


MAX_BUFFERED = 128
"""Durations that wait in a recorder's list before it is told to fold them."""

MAX_DEPTH = 1_000
"""Spans that ended and are passed over, at most, to find one that did not."""

LEFT = object()
"""The token of a span that ended and may still be the current one of a context."""

clock = perf_counter
"""Seconds; what all spans measure with."""

_current: ContextVar[Span | None] = ContextVar("hypertrace_span", default=None)
"""The innermost open span of this thread or task."""


_collections: dict[str, object] = {}
"""Phases of the garbage collector and what it told with each, the latest last; empty where they do
not matter."""

# That of gevent runs code of its own; its greenlets are mostly those of one thread.
_collecting = local() if local.__module__ == "_thread" else SimpleNamespace()
"""What it told this thread: a finalizer may let other threads run in the midst of a collection."""

if sys.version_info < (3, 12):
    # There the collector may run in the middle of ContextVar.set(), which does not survive that a
    # finalizer calls it, too. No Python code: it would be where interrupts get lost.
    _collections.update(start=None, stop=None)
    gc.callbacks += [_collections.pop, _collections.__setitem__, _collecting.__setattr__]


def is_collecting() -> bool:
    """Whether this thread may be in a finalizer that must not set the current span."""
    # A signal handler or another thread may let a whole collection come in between: then there is
    # no next one, and none is under way here.
    if not _collections or next(reversed(_collections), None) != "start":
        return False
    return getattr(_collecting, "start", None) is _collections["start"]


class _Details:
    """What few spans have: props that were set, and a failure that was handled."""

    __slots__ = ("exception", "failed", "props")

    def __init__(self, props: dict[str, object]) -> None:
        self.props = props
        self.failed = False
        self.exception: type[BaseException] | None = None


class Span:
    """One run of a `with tracer.span():` block, timed until it is left.

    Not to be used twice, nor by several threads. It never holds back what the block raises, and
    raises nothing itself, unless the trace function was set as strict.

    A copy of a span, or one that was pickled, does nothing: only the original ends.
    """

    __slots__ = ("_began", "_binding", "_details", "_outer", "_props", "_source", "_token")

    _outer: Span | None
    _token: object

    # Held by the class: when the interpreter goes down, the names of modules go first.
    _misuse = staticmethod(misuse)
    _swallow = staticmethod(swallow)

    def __init__(
        self, binding: SpanBinding, source: TracerBase, props: dict[str, object] | None = None
    ) -> None:
        self._binding = binding
        self._source = source
        self._props = props
        self._details: _Details | None = None

    def set(self, props: Mapping[str, Any] | None = None, /, **kwargs: Any) -> None:
        """Add props before the span ends; they win over those it has.

        Args:
            props: names and values, where names are no identifiers.
            kwargs: names and values; they win over those in `props`.
        """
        try:
            if props is not None and not isinstance(props, Mapping):
                kind = type_name(type(props))
                misuse(f"span.set() got props of type {kind} and goes without them")
                props = None
            more = self._more().props
            if props:
                suppress_tracing(more.update, props)
            more.update(kwargs)
        except Exception as error:  # noqa: BLE001 -- a mapping may raise anything
            self._swallow(error, self)

    def fail(self, error: BaseException | None = None) -> None:
        """Let the span end as an error, though the block handles it.

        Args:
            error: what happened; its class becomes the event's `exception`.
        """
        try:
            details = self._more()
            details.failed = True
            if error is None or issubclass(type(error), BaseException):
                details.exception = None if error is None else type(error)
            else:
                misuse(f"span.fail() got {type_name(type(error))}, which is no exception")
        except Exception as failure:  # noqa: BLE001 -- the application must see nothing
            self._swallow(failure, self)

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
            # Who does not want to know of enclosing spans does not pay for it.
            if binding.edges is None or is_collecting():
                self._outer = None
            else:
                outer = _current.get()
                if outer is not None and outer._token is LEFT:
                    outer = outer._not_left()
                    _current.set(outer)
                self._outer = outer
                self._token = None  # an interrupt may come before it is stored
                self._token = _current.set(self)
        except Exception as error:  # noqa: BLE001 -- the interpreter goes down
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
                    outer = self._leave(outer, error)
            durations = binding.durations
            if error is not None or self._details is not None or durations is None:
                self._end(duration, error, outer)
                return
            durations.append(duration)
            if outer is not None or len(durations) > MAX_BUFFERED:
                self._tell(outer)
        except Exception as failure:  # noqa: BLE001 -- the application must see nothing
            self._failed(failure)

    def __reduce__(self) -> str | tuple[Any, ...]:
        return _no_span, ()

    def _failed(self, failure: Exception) -> None:
        if hasattr(self, "_began"):
            self._swallow(failure, self)
        else:
            self._misuse("a span ended that had not started: use it as `with tracer.span():`")

    def _leave(self, outer: Span | None, error: BaseException | None) -> Span | None:
        """Make the span around this one the current one again, and return it.

        In generators the spans of a context may end in another order than they started; and a
        generator may be finalized in another context than it ran in, which is out of reach here.
        There the span stays the current one, until the next span passes over it.
        """
        if outer is not None and outer._token is LEFT:
            outer = outer._not_left()
        # A finalizer ends a generator with an error.
        if _current.get() is self and (error is None or not is_collecting()):
            try:
                _current.reset(self._token)  # type: ignore[arg-type]  # entered, it has one
            except Exception:  # noqa: BLE001, S110 -- in another context, or not for the first time
                pass
            else:
                # Tasks may keep their copy of the context, and so this span, for long.
                self._token = self._outer = None
                return outer
        self._token, self._outer = LEFT, outer
        return outer

    def _not_left(self) -> Span | None:
        """Return the innermost of this span and those around it that is not left."""
        span: Span | None = self
        for _ in range(MAX_DEPTH):  # a span that is used twice may be inside itself
            if span is None or span._token is not LEFT:
                return span
            span = span._outer
        return None

    def _more(self) -> _Details:
        if self._details is None:
            self._details = _Details(dict(self._props or {}))
        return self._details

    def _tell(self, outer: Span | None) -> None:
        """Tell what there may be to tell of a span whose duration was appended."""
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
            end = self._binding.recorder.end
            limit_recursion(self._record_end, end, duration, error, outer, busy)
        except Exception as failure:  # noqa: BLE001 -- the application must see nothing
            self._swallow(failure, end)

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

    def _span_event(
        self, duration: float, error: BaseException | None, outer: Span | None, busy: float | None
    ) -> SpanEvent:
        binding, details = self._binding, self._details
        props = details.props or None if details else self._props
        result, exception = ending(error)
        if error is None and details is not None and details.failed:
            result, exception = "error", details.exception
        event = self._source._event(binding.site, binding.id, props)
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
        )


class _NoSpan(Span):
    """Stands for all spans while tracing is off."""

    __slots__ = ()

    def __init__(self) -> None:
        pass

    def __reduce__(self) -> str:
        return "NO_SPAN"

    def set(self, props: Mapping[str, Any] | None = None, /, **kwargs: Any) -> None:
        """Do nothing."""

    def fail(self, error: BaseException | None = None) -> None:
        """Do nothing."""

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
