"""Spans: how long something took, and how it ended."""

from __future__ import annotations

from collections.abc import Mapping
from contextvars import ContextVar
from time import perf_counter

from ._endings import ending
from ._failures import misuse, swallow
from .events import SpanEvent, Upstream

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType
    from typing import Any, Protocol, Self

    from ._callsite import CallSite
    from .events import TraceEvent
    from .protocols import SpanRecorder

    class Source(Protocol):
        """What a span needs of a tracer."""

        def _event(
            self, site: CallSite, id: str | None, props: dict[str, object] | None
        ) -> TraceEvent: ...


MAX_BUFFERED = 128
"""Durations that wait in a recorder's list before it is told to fold them."""

MAX_KNOWN = 1_000
"""Enclosing call sites, or recorders for props, that a call site remembers; then it starts anew."""

MAX_DEPTH = 1_000
"""Open spans that are looked at when one ends before those inside it."""

clock = perf_counter
"""Seconds; what all spans measure with."""

_current: ContextVar[Span | None] = ContextVar("hypertrace_span", default=None)
"""The innermost open span of this thread or task."""


class SpanBinding:
    """What the spans of one call site have in common, for tracers with equal labels."""

    __slots__ = ("durations", "edges", "id", "recorder", "site", "start", "upstream")

    def __init__(
        self, recorder: SpanRecorder, site: CallSite, id: str | None, upstream: Upstream
    ) -> None:
        """Bind the recorder for spans at `site` with `id`, which are upstream to those inside."""
        self.recorder: SpanRecorder = recorder
        self.site: CallSite = site
        self.id: str | None = id
        self.start: Callable[[], object] = recorder.start
        self.durations: list[float] | None = recorder.durations
        self.edges: dict[SpanBinding, Callable[[], object]] | None = (
            None if recorder.edge is None else {}
        )
        self.upstream: Upstream = upstream

    def count_edge(self, outer: SpanBinding) -> None:
        """Count that a span of this binding ran inside one of another."""
        if self.edges is None or self.recorder.edge is None:
            return
        count = self.edges.get(outer)
        if count is None:
            if len(self.edges) >= MAX_KNOWN:
                self.edges.clear()
            count = self.edges[outer] = self.recorder.edge(outer.upstream)
        count()


class PropsBindings:
    """The bindings of one call site whose spans start with props, by their recorders."""

    __slots__ = ("_bindings", "_id", "_recorder_for", "_site", "_upstream")

    def __init__(
        self,
        recorder_for: Callable[[dict[str, object]], SpanRecorder],
        site: CallSite,
        id: str | None,
        upstream: Upstream,
    ) -> None:
        """Bind what `recorder_for` finds for props; the rest is as in `SpanBinding`."""
        self._recorder_for = recorder_for
        self._site = site
        self._id = id
        self._upstream = upstream
        self._bindings: dict[int, SpanBinding] = {}

    def find(self, props: dict[str, object]) -> SpanBinding:
        """Return the binding for spans that start with some props."""
        recorder = self._recorder_for(props)
        binding = self._bindings.get(id(recorder))  # held by the binding
        if binding is None:
            if len(self._bindings) >= MAX_KNOWN:
                self._bindings.clear()
            binding = SpanBinding(recorder, self._site, self._id, self._upstream)
            self._bindings[id(recorder)] = binding
        return binding


class _Details:
    """What few spans have: props that were set, and a failure that was handled."""

    __slots__ = ("exception", "failed", "props")

    def __init__(self, props: dict[str, object]) -> None:
        self.props = props
        self.failed = False
        self.exception: type[BaseException] | None = None


class Span:
    """One run of a `with tracer.span():` block, timed until it is left.

    Not to be used twice, nor by several threads. It never raises, and never holds back what the
    block raises.
    """

    __slots__ = ("_began", "_binding", "_details", "_outer", "_props", "_source")

    def __init__(
        self, binding: SpanBinding, source: Source, props: dict[str, object] | None = None
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
        if props is not None and not isinstance(props, Mapping):
            misuse(f"span.set() got props of type {type(props).__name__} and goes without them")
            props = None
        try:
            self._more().props.update(props or {}, **kwargs)
        except Exception as error:  # noqa: BLE001 -- a mapping may raise anything
            swallow(error, self)

    def fail(self, error: BaseException | None = None) -> None:
        """Let the span end as an error, though the block handles it.

        Args:
            error: what happened; its class becomes the event's `exception`.
        """
        details = self._more()
        details.failed = True
        details.exception = None if error is None else type(error)

    def __enter__(self) -> Self:
        # Who does not want to know of enclosing spans does not pay for it.
        if self._binding.edges is None:
            self._outer = None
        else:
            self._outer = _current.get()
            _current.set(self)
        try:
            self._binding.start()
        except Exception as error:  # noqa: BLE001 -- the application must see nothing
            swallow(error, self._binding.recorder)
        self._began = clock()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        duration = clock() - self._began
        outer = self._outer
        binding = self._binding
        if binding.edges is not None:
            if _current.get() is self:
                _current.set(outer)
            else:
                self._leave_early()
            # Tasks may keep their copy of the context, and so this span, for long.
            self._outer = None
        if error is None and self._details is None:
            durations = binding.durations
            if durations is not None:
                durations.append(duration)
                if outer is not None or len(durations) > MAX_BUFFERED:
                    self._tell(outer)
                return
        self._end(duration, error, outer)

    def _leave_early(self) -> None:
        """Let the spans that started inside be inside what this one is in.

        In generators the spans of a context may end in another order than they started.
        """
        inner = _current.get()
        for _ in range(MAX_DEPTH):  # a span that is used twice may be inside itself
            if inner is None:
                return
            if inner._outer is self:
                inner._outer = self._outer
                return
            inner = inner._outer

    def _more(self) -> _Details:
        if self._details is None:
            self._details = _Details(dict(self._props or {}))
        return self._details

    def _tell(self, outer: Span | None) -> None:
        """Tell what there may be to tell of a span whose duration was appended."""
        binding = self._binding
        try:
            if binding.durations is not None and len(binding.durations) > MAX_BUFFERED:
                binding.recorder.fold()
            if outer is not None:
                binding.count_edge(outer._binding)
        except Exception as error:  # noqa: BLE001 -- the application must see nothing
            swallow(error, self._binding.recorder)

    def _end(
        self,
        duration: float,
        error: BaseException | None,
        outer: Span | None,
        busy: float | None = None,
    ) -> None:
        recorder = self._binding.recorder
        try:
            recorder.end(self._span_event(duration, error, outer, busy))
            if outer is not None:
                self._binding.count_edge(outer._binding)
        except Exception as failure:  # noqa: BLE001 -- the application must see nothing
            swallow(failure, recorder)

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


class SteppedSpan(Span):
    """A span that runs in steps: of a generator or a coroutine, from its first step to its last."""

    __slots__ = ("_busy", "_ended", "_inner", "_resumed", "_upstream")

    def __init__(
        self, binding: SpanBinding, source: Source, props: dict[str, object] | None = None
    ) -> None:
        super().__init__(binding, source, props)
        self._busy: float | None = None
        self._inner: Span | None = None
        self._upstream: Span | None = None

    def resume(self) -> None:
        """Start a step; with the first one the span starts."""
        if self._busy is None:
            self.__enter__()
            self._upstream = self._outer
            self._resumed = self._began
            self._busy = 0.0
        else:
            if self._binding.edges is not None:
                self._outer = _current.get()
                _current.set(self._inner or self)
            self._resumed = clock()

    def suspend(self) -> None:
        """End a step."""
        self._ended = clock()
        self._busy = (self._busy or 0.0) + self._ended - self._resumed
        if self._binding.edges is not None:
            # A span inside that is open still goes on with the next step.
            self._inner = _current.get()
            _current.set(self._outer)
            self._outer = None

    def end(self, error: BaseException | None = None) -> None:
        """End the span, with what ended its last step."""
        upstream, self._upstream = self._upstream, None
        self._inner = None
        self._end(self._ended - self._began, error, upstream, self._busy)


class _NoSpan(Span):
    """Stands for all spans while tracing is off."""

    __slots__ = ()

    def __init__(self) -> None:
        pass

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
