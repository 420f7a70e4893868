"""Recorders: callables that count without an event, and how the core calls third-party ones."""

from __future__ import annotations

from ._failures import swallow
from ._guard import drop_if_suppressed, limit_recursion, suppress_tracing
from .cells import Cell, CellGroup, CountCell, MappedCell

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from .protocols import TraceFunction


class PropsRecorder:
    """Counts calls by the values of some of their props.

    `BindableTraceFunction.bind_props` may return its method `record`. The compiled core does not
    even call it for values that are in `known`.

    A subclass may override `record`. It is called as it is: events that it causes are recorded, and
    what it raises is swallowed.

    Attributes:
        names: names of the props that it counts by.
        known: a callable that counts, such as `Cell.increment`, for each combination of values
            seen before. The values are in the order of the names, None for a missing one.
    """

    __slots__ = ("_first", "_make", "_only", "_rest", "_second", "known", "names")

    def __init__(
        self,
        names: tuple[str, ...],
        known: dict[tuple[object, ...], Callable[[], object]],
        make: Callable[[tuple[object, ...], Mapping[str, object]], Callable[[], object]],
    ) -> None:
        """Count by the values of `names`.

        Args:
            names: names of the props to count by.
            known: callables that count, by values; without parameters, and they trace nothing.
            make: returns the callable for values that are not in `known`, given the values and all
                props. It may add the callable to `known` if each value is an exact `str` or None;
                see `hypertrace.inspection.are_texts`.
        """
        self.names: tuple[str, ...] = names
        self.known: dict[tuple[object, ...], Callable[[], object]] = known
        self._make = make
        self._only = names[0] if len(names) == 1 else None
        self._first = names[0] if names else ""
        self._second = names[1] if len(names) > 1 else None
        self._rest = names[2:]

    def record(self, props: Mapping[str, object]) -> None:
        """Count one call with these props."""
        # Spells out `are_texts`, one value at a time: that call, `map` and sets would cost several
        # times as much as the look-up.
        values: tuple[object, ...]
        if self._only is not None:
            value = props.get(self._only)
            values = (value,)
            is_text = value is None or type(value) is str
        elif self._second is not None:
            first, second = values = props.get(self._first), props.get(self._second)
            is_text = (first is None or type(first) is str) and (
                second is None or type(second) is str
            )
            for name in self._rest:
                value = props.get(name)
                values += (value,)
                if value is not None and type(value) is not str:
                    is_text = False
        else:
            values, is_text = (), True
        increment = self.known.get(values) if is_text else None
        if type(increment) is CountCell:
            # Half as long as to call it. Pyright takes what may be called for a function.
            next(increment)  # pyright: ignore[reportArgumentType]
            return
        if increment is None:
            increment = limit_recursion(self._make, values, props)
        increment()


class FanOutRecorder:
    """Calls the recorders of several trace functions, each of them guarded."""

    __slots__ = ("_recorders",)

    def __init__(
        self,
        recorders: Sequence[tuple[TraceFunction, Callable[..., object]]],
        *,
        droppable: bool,
    ) -> None:
        """Call recorders, each given with its trace function; `droppable` as in `guarded`."""
        self._recorders = [(f, guarded(r, droppable=droppable)) for f, r in recorders]

    def record(self, *props: object) -> None:
        """Call all recorders; an exception of one does not stop the others."""
        for function, recorder in self._recorders:
            try:
                recorder(*props)
            except Exception as error:  # noqa: BLE001 -- the others must still be called
                swallow(error, function)


_SAFE = (Cell, MappedCell, CellGroup, FanOutRecorder)
"""Types whose methods neither trace nor raise, or guard what does."""


def guarded(recorder: Callable[..., object], *, droppable: bool) -> Callable[..., object]:
    """Return a callable that runs a recorder, drops its events and swallows its exceptions.

    Args:
        recorder: of a trace function. One that can neither trace nor raise is returned unchanged.
        droppable: calls made while tracing is suppressed, such as by a task that the recorder
            started, are dropped. Must be false for calls that belong together, such as start and
            end of a span.
    """
    owner = type(getattr(recorder, "__self__", None))
    if any(owner is kind for kind in _SAFE) or issubclass(owner, PropsRecorder):
        return recorder

    def record(*props: object) -> None:
        try:
            if not (droppable and drop_if_suppressed()):
                suppress_tracing(recorder, *props)
        except Exception as error:  # noqa: BLE001 -- the application must see nothing
            swallow(error, recorder)  # here, since the caller knows only this closure

    return record
