"""Rest of the program: costs what it did while something else is traced.

On CPython 3.12 to 3.14 an exception that leaves frames costs more then, and so does closing a
generator.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from hypertrace import instrument

from .measure import OURS, compared
from .ours import exporting

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator

    from .measure import Effort, Operation, Row

UNTRACED = "the same, nothing traced"
UNCHANGED = (1.1, 1.05)
EXCEPTIONS = None if (3, 12) <= sys.version_info < (3, 15) else UNCHANGED
"""Promise and goal for what ends frames otherwise than by a return."""


class Elsewhere:
    """An object that the rest of the program does not use."""

    def traced(self) -> None:
        """Run in a span."""


class Untraced:
    """An object of the rest of the program."""

    def call(self) -> None:
        """Do nothing."""

    def handle(self) -> None:
        """Handle an exception that has left three frames."""
        try:
            self._outer()
        except LookupError:
            return

    def _outer(self) -> None:
        self._middle()

    def _middle(self) -> None:
        self._inner()

    def _inner(self) -> None:
        raise LookupError

    def close(self) -> None:
        """Close a generator early, which has to clean up."""
        steps = self._steps()
        next(steps)
        steps.close()

    def _steps(self) -> Generator[None]:
        try:
            yield
            yield
        finally:
            self.call()


def rows(effort: Effort) -> Iterator[Row]:
    """Measure calls, exceptions and generators, nothing traced, then while a method is."""
    program = Untraced()
    call, error = "an untraced call", "an exception through three untraced frames"
    close = "closing an untraced generator early"
    operations: dict[str, Operation] = {
        call: program.call,
        error: program.handle,
        close: program.close,
    }
    promises = {call: UNCHANGED, error: EXCEPTIONS, close: EXCEPTIONS}
    before = effort.nanoseconds(operations)
    with instrument(f"{__name__}:Elsewhere.traced"), exporting(exemplar=None):
        meanwhile = effort.nanoseconds(operations)
    for what, promise in promises.items():
        times = {OURS: meanwhile[what], UNTRACED: before[what]}
        kept = {UNTRACED: promise} if promise else None
        yield from compared(f"{what}, while something else is traced", times, kept)
