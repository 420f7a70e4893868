"""Tracing that is off: a trace then costs what an empty method costs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .measure import OURS, compared
from .ours import App, Plain, Swarm, exporting

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from .measure import Effort, Row

EMPTY = "an empty method with the same signature"


class Silent:
    """Does nothing, as cheaply as a Python method can."""

    def trace(
        self,
        id: str | Mapping[str, Any] | None = None,
        props: Mapping[str, Any] | None = None,
        /,
        **kwargs: Any,
    ) -> None:
        """Do nothing."""


class Untraced:
    """Like the traced ones, with that instead of a tracer."""

    def __init__(self) -> None:
        """Hold it."""
        self.tracer = Silent()

    def connect(self) -> None:
        """Call it."""
        self.tracer.trace()

    def connect_with_prop(self) -> None:
        """Call it with a prop."""
        self.tracer.trace(topic="sports")


def rows(effort: Effort) -> Iterator[Row]:
    """Measure disabled tracers, and enabled ones whose trace function was cleared."""
    untraced, swarm = Untraced(), Swarm(App())
    times = effort.nanoseconds({OURS: swarm.connect, EMPTY: untraced.connect})
    yield from compared("`trace()`, disabled", times, {EMPTY: (1.15, 1.0)})
    if effort.quick:
        return
    times = effort.nanoseconds({OURS: swarm.connect_with_prop, EMPTY: untraced.connect_with_prop})
    yield from compared("`trace(prop=value)`, disabled", times)
    times = effort.nanoseconds({OURS: swarm.span, EMPTY: untraced.connect})
    yield from compared("a span, disabled", times)
    with exporting():
        plain = Plain()
    times = effort.nanoseconds({OURS: plain.connect, EMPTY: untraced.connect})
    yield from compared("`trace()`, made enabled, trace function cleared", times)
