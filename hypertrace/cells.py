"""Cells: numbers that many threads count up without a lock."""

from __future__ import annotations

from _thread import allocate_lock
from itertools import count

from ._compiled import gil_enabled, speedups

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    _Count = count[int]
else:
    _Count = count  # generic for type checkers alone


class CountCell(_Count):
    """A count that starts at 0 and goes up by one.

    `increment` is the iterator's own `__next__`, which runs in C without giving up the GIL: it is
    exact under threads, signal handlers and `__del__`, cannot deadlock, and survives a fork.
    """

    __slots__ = ()

    @property
    def increment(self) -> Callable[[], object]:
        """A callable without parameters that adds one; its result means nothing."""
        return self.__next__

    @property
    def value(self) -> int:
        """How often `increment` was called. Reading changes nothing and takes no lock."""
        # The text of a count is the one way to read it without advancing it.
        return int(count.__repr__(self)[len("CountCell(") : -1])


class LockedCell:
    """The same for builds without a GIL, where no increment is atomic by itself."""

    __slots__ = ("_lock", "_value")

    def __init__(self) -> None:
        """Start at 0."""
        self._lock = allocate_lock()
        self._value = 0

    def increment(self) -> None:
        """Add one."""
        with self._lock:
            self._value += 1

    @property
    def value(self) -> int:
        """How often `increment` was called."""
        return self._value


class PropsRecorder:
    """Counts calls by the values of some of their props.

    Its method `record` is what `BindableTraceFunction.bind_props` may return. The compiled core
    does not even call it for values that are in `known`.

    Attributes:
        names: of the props that matter.
        known: for values that were seen, in the order of the names with None for what is left
            out: what counts them, a callable without parameters.
    """

    __slots__ = ("_make", "known", "names")

    def __init__(
        self,
        names: tuple[str, ...],
        known: dict[tuple[object, ...], Callable[[], object]],
        make: Callable[[tuple[object, ...], Mapping[str, object]], Callable[[], object]],
    ) -> None:
        """Count by the values of `names`.

        Args:
            names: of the props that matter.
            known: what counts the values that were seen.
            make: given values and props that are not known, returns what counts them; may add it
                to `known`, where a value must be its own text: a str, or None.
        """
        self.names: tuple[str, ...] = names
        self.known: dict[tuple[object, ...], Callable[[], object]] = known
        self._make = make

    def record(self, props: Mapping[str, object]) -> None:
        """Count one call with these props."""
        values = tuple(map(props.get, self.names))
        try:
            increment = self.known[values]
        except Exception:  # noqa: BLE001 -- not seen yet, or a value that cannot be hashed
            increment = self._make(values, props)
        increment()


if TYPE_CHECKING:
    Cell = LockedCell  # both have its members, and its types are plain
else:
    Cell = speedups.Cell if speedups else CountCell if gil_enabled() else LockedCell
