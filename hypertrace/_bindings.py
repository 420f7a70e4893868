"""Bindings: the recorder of the spans at one call site, and the facts these spans share."""

from __future__ import annotations

from ._guard import limit_recursion
from ._recorders import guarded

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Hashable
    from typing import Any, Protocol

    from ._callsite import CallSite
    from .events import Upstream
    from .protocols import Durations, SpanRecorder

    class Binder(Protocol):
        """Binds spans, as a target does."""

        def bind_span(
            self, tracer: Any, site: CallSite, id: Any, props: dict[str, object] | None, /
        ) -> SpanBinding: ...


MAX_KNOWN = 1_000
"""Enclosing call sites, or recorders for props, that a binding remembers. Beyond it, it forgets all
and starts again."""


class SpanBinding:
    """The binding of the spans at one call site, for tracers with equal labels."""

    __slots__ = (
        *("durations", "edges", "id", "move_to", "recorder", "site", "start", "stepped_durations"),
        *("target", "upstream"),
    )

    def __init__(
        self,
        recorder: SpanRecorder,
        site: CallSite,
        id: str | None,
        upstream: Upstream,
        target: Binder | None = None,
    ) -> None:
        """Bind a recorder.

        Args:
            recorder: of the spans.
            site: where they are.
            id: of them.
            upstream: what inner spans get.
            target: binds spans with other props; None if their ends are events in any case.
        """
        self.target: Binder | None = target
        self.move_to: Callable[[SpanRecorder], bool] | None = getattr(recorder, "move_to", None)
        self.recorder: SpanRecorder = recorder
        self.site: CallSite = site
        self.id: str | None = id
        self.start: Callable[[], object] = guarded(recorder.start, droppable=False)
        self.durations: Durations | None = recorder.durations
        needs_busy = getattr(recorder, "needs_busy", True)
        self.stepped_durations: Durations | None = None if needs_busy else recorder.durations
        self.edges: dict[SpanBinding, Callable[[], object]] | None = (
            None if recorder.edge is None else {}
        )
        self.upstream: Upstream = upstream

    def count_edge(self, outer: SpanBinding) -> None:
        """Count that a span of this binding ran inside a span of another binding."""
        if self.edges is None or self.recorder.edge is None:
            return
        count = self.edges.get(outer)
        if count is None:
            if len(self.edges) >= MAX_KNOWN:
                self.edges.clear()
            edge = limit_recursion(self.recorder.edge, outer.upstream)
            count = self.edges[outer] = guarded(edge, droppable=False)
        count()


class PropsBindings:
    """The bindings of one call site whose spans start with props, by recorder.

    Attributes:
        known: those that a caller remembers by keys that it chooses.
    """

    __slots__ = ("_bindings", "_id", "_recorder_for", "_site", "_target", "_upstream", "known")

    def __init__(
        self,
        recorder_for: Callable[[dict[str, object]], SpanRecorder],
        site: CallSite,
        id: str | None,
        upstream: Upstream,
        target: Binder,
    ) -> None:
        """Bind the recorders that `recorder_for` returns; the rest is as in `SpanBinding`."""
        self._target = target
        self._recorder_for = recorder_for
        self._site = site
        self._id = id
        self._upstream = upstream
        self._bindings: dict[int, SpanBinding] = {}
        self.known: dict[Hashable, SpanBinding] = {}

    def remember(self, key: Hashable, binding: SpanBinding) -> None:
        """Remember the binding that `find` has returned for some props, by a key of the caller."""
        if len(self.known) >= MAX_KNOWN:
            self.known.clear()
        self.known[key] = binding

    def find(self, props: dict[str, object]) -> SpanBinding:
        """Return the binding for spans that start with these props."""
        recorder = self._recorder_for(props)
        binding = self._bindings.get(id(recorder))  # the binding keeps the recorder alive
        if binding is None:
            if len(self._bindings) >= MAX_KNOWN:
                self._bindings.clear()
            place = self._site, self._id, self._upstream
            binding = SpanBinding(recorder, *place, self._target)
            self._bindings[id(recorder)] = binding
        return binding
