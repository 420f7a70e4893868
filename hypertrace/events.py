"""Events, with which trace functions are called.

Events and their parts can always be pickled and deeply copied. The result is plain data: it refers
to no tracer and no traced object; a value of a prop that is no plain text, number, bytes or None is
replaced by its text, cut at 256 characters, or by `<unprintable T>`; and an exception class that
cannot be imported by its name is replaced by its nearest base that can.
"""

from __future__ import annotations

from types import MappingProxyType
from weakref import ref

from ._plain import plain, plain_class, plain_props

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any, Literal

    Result = Literal["ok", "error", "cancelled"]
    Raised = Literal["here", "inside"]


class TracedObject:
    """The part of an event that describes the object that holds the tracer.

    It refers to the object and to its tracer weakly: keeping an event keeps neither alive.

    Attributes:
        class_name: name of the object's class; see `hypertrace.Tracer` for classes, modules and
            strings.
        id: number of the object among those of its class name, from 1.
    """

    __slots__ = ("_ctx", "_props", "_tracer", "class_name", "id")

    def __init__(
        self,
        class_name: str,
        id: int,
        props: dict[str, object] | None = None,
        ctx: object = None,
        tracer: ref[object] | None = None,
    ) -> None:
        """Make a traced object of its parts.

        Args:
            class_name: class name that the object is counted under.
            id: number of the object.
            props: the tracer's props; not copied.
            ctx: the object, or a weak reference to it.
            tracer: weak reference to the tracer.
        """
        self.class_name: str = class_name
        self.id: int = id
        self._props = props
        self._ctx = ctx
        self._tracer = tracer

    @property
    def props(self) -> Mapping[str, object] | None:
        """Read-only view of the props given to the tracer, None if none were given."""
        return None if self._props is None else MappingProxyType(self._props)

    @property
    def ctx(self) -> object:
        """The traced object; None if it no longer exists, or its type allows no weak references."""
        return self._ctx() if isinstance(self._ctx, ref) else self._ctx

    @property
    def tracer(self) -> object:
        """The `hypertrace.Tracer`; None if it no longer exists."""
        return None if self._tracer is None else self._tracer()

    def __reduce__(self) -> tuple[Any, ...]:
        return TracedObject, (self.class_name, self.id, plain_props(self._props))

    def __repr__(self) -> str:
        return f"TracedObject({self.class_name!r}, id={self.id}, props={self._props!r})"


class Caller:
    """The place of a `trace()` call in the source, and the props of the call.

    Attributes:
        function_name: qualified name of the function that contains the call, without the prefix
            of the traced object's class; `<module>` at module level.
        filename: name of the source file as in the code object; may be no file (`<stdin>`).
        module: `__name__` of the globals the function runs in, None if they have none.
        line: line of the call, from 1; 0 if Python does not know it.
        column: column of the call, from 1, in UTF-8 bytes; 0 if Python does not know it
            (`-X no_debug_ranges`).
        props: props given to this call, None if none were given.
    """

    __slots__ = ("column", "filename", "function_name", "line", "module", "props")

    def __init__(  # noqa: PLR0913, PLR0917 -- one parameter an attribute
        self,
        function_name: str,
        filename: str,
        module: str | None = None,
        line: int = 0,
        column: int = 0,
        props: Mapping[str, object] | None = None,
    ) -> None:
        """Make a caller of its parts; the class describes them."""
        self.function_name: str = function_name
        self.filename: str = filename
        self.module: str | None = module
        self.line: int = line
        self.column: int = column
        self.props: Mapping[str, object] | None = props

    def __reduce__(self) -> tuple[Any, ...]:
        place = self.function_name, self.filename, self.module, self.line, self.column
        return Caller, (*place, plain_props(self.props))

    def __repr__(self) -> str:
        place = f"{self.filename}:{self.line}:{self.column}"
        return f"Caller({self.function_name!r}, {place!r}, props={self.props!r})"


class TraceEvent:
    """One `trace()`.

    Attributes:
        id: the id given to the call, None if none was given.
        object: the object whose tracer was called.
        parent_object: the object of the tracer's parent, None without a parent.
        caller: the place and props of the call.
    """

    __slots__ = ("caller", "id", "object", "parent_object")

    def __init__(
        self,
        id: str | None,
        object: TracedObject,
        parent_object: TracedObject | None,
        caller: Caller,
    ) -> None:
        """Make an event of its parts; the class describes them."""
        self.id: str | None = id
        self.object: TracedObject = object
        self.parent_object: TracedObject | None = parent_object
        self.caller: Caller = caller

    def __reduce__(self) -> tuple[Any, ...]:
        return TraceEvent, (plain(self.id), self.object, self.parent_object, self.caller)

    def __repr__(self) -> str:
        return (
            f"TraceEvent(id={self.id!r}, object={self.object!r}, "
            f"parent_object={self.parent_object!r}, caller={self.caller!r})"
        )


class Upstream:
    """The span that encloses another one, or a part of it.

    Attributes:
        class_name: class of its traced object.
        function_name: function it is in, as in `Caller`.
    """

    __slots__ = ("class_name", "function_name")

    def __init__(self, class_name: str, function_name: str) -> None:
        self.class_name: str = class_name
        self.function_name: str = function_name

    def __repr__(self) -> str:
        return f"Upstream({self.class_name!r}, {self.function_name!r})"


class SpanEvent(TraceEvent):
    """One finished span.

    Attributes:
        duration: seconds from its start to its end, by a monotonic clock. Of a generator or
            coroutine: from the first resumption to the end of the last.
        busy: seconds of it that a generator or coroutine was running, not suspended; None for
            other spans.
        result: `ok`, `error` or `cancelled`.
        exception: class of the exception that ended it or that it was failed with, None if none;
            with the result `ok` of one that is no error.
        upstream: the span that was open in this thread or task when it started, None if none was.
        raised: `here` for the innermost span that the exception ended, `inside` for those that it
            passed through afterwards; None without an exception that is an error or cancels.
    """

    __slots__ = ("busy", "duration", "exception", "raised", "result", "upstream")

    def __init__(  # noqa: PLR0913, PLR0917 -- one parameter an attribute
        self,
        id: str | None,
        object: TracedObject,
        parent_object: TracedObject | None,
        caller: Caller,
        duration: float,
        result: Result = "ok",
        exception: type[BaseException] | None = None,
        upstream: Upstream | None = None,
        busy: float | None = None,
        raised: Raised | None = None,
    ) -> None:
        """Make an event of its parts; the class describes them."""
        super().__init__(id, object, parent_object, caller)
        self.duration: float = duration
        self.result: Result = result
        self.exception: type[BaseException] | None = exception
        self.upstream: Upstream | None = upstream
        self.busy: float | None = busy
        self.raised: Raised | None = raised

    def __reduce__(self) -> tuple[Any, ...]:
        _, common = super().__reduce__()
        exception = plain_class(self.exception)
        return SpanEvent, (
            *common,
            self.duration,
            self.result,
            exception,
            self.upstream,
            self.busy,
            self.raised,
        )

    def __repr__(self) -> str:
        ending = self.result if self.exception is None else self.exception.__name__
        return f"SpanEvent({ending}, {self.duration:.6f} s, {super().__repr__()})"


def plain_event(event: TraceEvent) -> TraceEvent:
    """Return an event as it is after pickling: plain data.

    Args:
        event: the event; code of its props may run, so call this while tracing is suppressed.
    """
    made: TraceEvent = _as_plain(event)
    return made


def _as_plain(part: Any) -> Any:
    kind, arguments = part.__reduce__()
    return kind(*[_as_plain(one) if type(one) in _PARTS else one for one in arguments])


_PARTS = (TracedObject, Caller)
