"""What a trace function is, for type checkers and for those who write one.

A module of its own, since `typing` takes longer to load than all the rest. Arguments of the methods
are positional, so an implementation may name them as it likes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable

    from .events import SpanEvent, TracedObject, TraceEvent, Upstream


class TraceFunction(Protocol):
    """Any callable that takes an event.

    It is called in the thread that traces, before `trace()` returns, in a copy of the context, and
    under whatever locks the application holds there: it is not to wait for one of them, as a line
    of log does where handlers are traced. What it raises is counted, logged and swallowed; its
    result is ignored, so it is not to be a coroutine function. What it traces itself is dropped,
    and counted in `hypertrace.dropped_events()`.
    """

    def __call__(self, event: TraceEvent, /) -> object:
        """Take one event."""


class ForwardingTraceFunction(Protocol):
    """A trace function that stands for another one, as an exporter does for its metrics.

    Events go straight to the other one. Several that stand for the same one count once in
    `fan_out`.

    Attributes:
        forwards_to: the other trace function; never another one later.
    """

    @property
    def forwards_to(self) -> TraceFunction:
        """See the class."""

    def __call__(self, event: TraceEvent, /) -> object:
        """Give one event to the other trace function."""


class BindableTraceFunction(Protocol):
    """A trace function that turns each call site into a recorder once.

    From then on a `trace()` there costs one dictionary look-up and one call of the recorder, and
    no event is built. The methods may be called from several threads at once, and again for a
    call site that was bound before: a recorder for the same labels must count the same thing. They
    are not to trace, nor to run code that may; for that there is `hypertrace.suppress_tracing`.
    """

    def __call__(self, event: TraceEvent, /) -> object:
        """Take one event, where recorders cannot be used."""

    def share_key(self, object: TracedObject, parent_object: TracedObject | None, /) -> Hashable:
        """Return what makes recorders differ between objects.

        Tracers with equal keys share their recorders, which stay while this trace function is set,
        unless their classes have other names or stand in other modules.
        With None they are the tracer's own and go with it. A key must not hold the traced object.
        """

    def bind(self, event: TraceEvent, /) -> Callable[[], object]:
        """Return the recorder for `trace()` calls like this event's, without props.

        Where one code object runs in several modules and they use the same tracer, or tracers of
        one class that share recorders, the event's `caller.module` is the module that came first.
        """

    def bind_props(self, event: TraceEvent, /) -> Callable[[dict[str, object]], object]:
        """Return the recorder for `trace()` calls like this event's, which takes their props.

        The event's own `caller.props` are None. The recorder must not keep or change the dict.
        """


class SpanBindableTraceFunction(BindableTraceFunction, Protocol):
    """A bindable trace function that has recorders for spans, too.

    Without these methods each finished span is given to it as an event.
    """

    def bind_span(self, event: TraceEvent, /) -> SpanRecorder:
        """Return the recorder for spans like this event's, that start without props."""

    def bind_span_props(self, event: TraceEvent, /) -> Callable[[dict[str, object]], SpanRecorder]:
        """Return what finds the recorder for spans like this event's by the props they start with.

        It must not keep or change the props.
        """


class SpanRecorder(Protocol):
    """Records the spans of a call site.

    Attributes:
        durations: a list, to which the seconds of spans that ended well are appended without any
            other call, if no props were set and `busy` was not measured; None if `end` is to be
            called for them, too. Never another list.
        edge: given an enclosing span, returns what counts the spans inside it, which is kept and
            called as each of them ends. None if enclosing spans do not matter: then nobody keeps
            track of them, and events have no `upstream`.
    """

    @property
    def durations(self) -> list[float] | None:
        """See the class."""

    @property
    def edge(self) -> Callable[[Upstream], Callable[[], object]] | None:
        """See the class."""

    def start(self) -> object:
        """Take the start of a span."""

    def end(self, event: SpanEvent, /) -> object:
        """Take the end of a span whose start was taken."""

    def fold(self) -> object:
        """Make room in `durations`: called when there are more than some hundred."""
