"""Protocols of trace functions and recorders, for type checkers and authors of exporters.

A separate module, since `typing` takes longer to load than the rest of the core. Arguments of the
methods are positional, so an implementation may choose their names.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable

    from .events import SpanEvent, TracedObject, TraceEvent, Upstream


class TraceFunction(Protocol):
    """Any callable that takes an event.

    It is called in the thread that traces, before `trace()` returns, in a copy of the context. The
    application may hold locks there, for which it must not wait; logging does wait if log handlers
    are traced. Its exceptions are counted, logged and swallowed. Its result is ignored, so it must
    not be a coroutine function. Events that it causes itself are dropped, and counted in
    `hypertrace.dropped_events()`.
    """

    def __call__(self, event: TraceEvent, /) -> object:
        """Handle one event."""


class ForwardingTraceFunction(Protocol):
    """A trace function that forwards events to another one, as an exporter does to its metrics.

    The core sends events directly to the other one. If several in a `fan_out` forward to the same
    one, it gets each event once.

    Attributes:
        forwards_to: the other trace function; it must not change later.
    """

    @property
    def forwards_to(self) -> TraceFunction:
        """See the class."""

    def __call__(self, event: TraceEvent, /) -> object:
        """Forward one event to the other trace function."""


class BindableTraceFunction(Protocol):
    """A trace function that binds each call site to a recorder once.

    After that a `trace()` there costs one dictionary look-up and one call of the recorder, and no
    event is built. The methods may be called from several threads at once, and again for a call
    site that was bound before: recorders for the same labels must count into the same series. They
    must not trace; code that may trace is to be called with `hypertrace.suppress_tracing`.
    """

    def __call__(self, event: TraceEvent, /) -> object:
        """Handle one event in cases where recorders cannot be used."""

    def share_key(self, object: TracedObject, parent_object: TracedObject | None, /) -> Hashable:
        """Return a key that is equal for objects with the same labels.

        Tracers with equal keys share their recorders, which exist while this trace function is set,
        unless their classes have different names or modules. With None as key, the recorders belong
        to one tracer and are released with it. A key must not refer to the traced object.
        """

    def bind(self, event: TraceEvent, /) -> Callable[[], object]:
        """Return the recorder for `trace()` calls like this event's, without props.

        If one code object runs in several modules, which use the same tracer or tracers of one
        class that share recorders, the event's `caller.module` is the module that traced first.
        """

    def bind_props(self, event: TraceEvent, /) -> Callable[[dict[str, object]], object]:
        """Return the recorder for `trace()` calls like this event's, called with their props.

        The event's `caller.props` are None. The recorder must not keep or change the dict.
        """


class SpanBindableTraceFunction(BindableTraceFunction, Protocol):
    """A bindable trace function that has recorders for spans, too.

    A trace function without these methods is called with the event of each finished span.
    """

    def bind_span(self, event: TraceEvent, /) -> SpanRecorder:
        """Return the recorder for spans like this event's, that start without props."""

    def bind_span_props(self, event: TraceEvent, /) -> Callable[[dict[str, object]], SpanRecorder]:
        """Return a callable that finds the recorder of a span by the props it starts with.

        The callable must not keep or change the props.
        """


class Durations(Protocol):
    """What durations are appended to: a list, or the histogram of a segment.

    Its length is the number of durations that wait to be folded: 0 if it folds them itself.
    """

    def append(self, seconds: float, /) -> object:
        """Add a duration in seconds."""

    def __len__(self) -> int:
        """Return how many durations wait."""


class SpanRecorder(Protocol):
    """Records the spans of a call site.

    Attributes:
        durations: a list, to which the durations in seconds of successful spans are appended
            without any call, if no props were set later and `busy` is not needed; or a shared
            histogram, which counts them at once; or a `hypertrace.cells.CellGroup` of these and of
            cells. None if `end` is to be called for them, too. It must always be the same object.
            The compiled core knows exact lists, its own `SharedHistogram` and `CellGroup`; for any
            other object it calls `end`.
        edge: given an enclosing span, returns a callable, which is kept and called at the end of
            each span inside that one. None if enclosing spans are not needed: then they are not
            recorded, and events have no `upstream`.

    A recorder may have an attribute `needs_busy`. If it is False, `busy` is not looked at: then the
    durations of generators and coroutines are appended to `durations`, too.

    It may have a method `move_to(other)`, to be called at the end of a span whose props
    were set later, with the recorder of spans that start with these props. If it returns True, the
    duration is appended to the other's `durations`, and `end` is not called.
    """

    @property
    def durations(self) -> Durations | None:
        """See the class."""

    @property
    def edge(self) -> Callable[[Upstream], Callable[[], object]] | None:
        """See the class."""

    def start(self) -> object:
        """Record the start of a span."""

    def end(self, event: SpanEvent, /) -> object:
        """Record the end of a span whose start was recorded."""

    def fold(self) -> object:
        """Process and remove `durations`; called when there are more than about a hundred."""
