"""What counts without an event: recorders, and how those of others are called."""

from __future__ import annotations

from ._failures import swallow
from ._guard import drop_if_suppressed, limit_recursion, suppress_tracing
from .cells import Cell

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from .protocols import TraceFunction


class PropsRecorder:
    """Counts calls by the values of some of their props.

    Its method `record` is what `BindableTraceFunction.bind_props` may return. The compiled core
    does not even call it for values that are in `known`.

    Attributes:
        names: of the props that matter.
        known: for values that were seen, in the order of the names with None for what is left
            out: what counts them, such as `Cell.increment`.
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
            names: of the props that matter.
            known: what counts the values that were seen: callables without parameters that trace
                nothing.
            make: given values and props that are not known, returns what counts them; may add it
                to `known`, where a value must be its own text: a str, or None.
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
        # One and two names are spelled out, and types are compared one by one: `map` and sets cost
        # several times as much as the look-up. Only exact texts are looked up, and types are
        # compared by identity: anything else would run code of the value or of its class.
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
        if increment is None:
            increment = limit_recursion(self._make, values, props)
        increment()


class Together:
    """Calls the recorders of several trace functions; each is guarded by itself."""

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
        """Call them all; one that raises does not stop the others."""
        for function, recorder in self._recorders:
            try:
                recorder(*props)
            except Exception as error:  # noqa: BLE001 -- the others must get it too
                swallow(error, function)


def guarded(recorder: Callable[..., object], *, droppable: bool) -> Callable[..., object]:
    """Return what calls a recorder: what it traces is dropped, what it raises is swallowed.

    Args:
        recorder: of a trace function. Those that can do neither are returned as they are.
        droppable: calls inside tracing are dropped, as in a task that the recorder starts; not to
            be used for what belongs together, as start and end of a span do.
    """
    owner = type(getattr(recorder, "__self__", None))
    if owner is Cell or owner is PropsRecorder or owner is Together:
        return recorder

    def record(*props: object) -> None:
        try:
            if not (droppable and drop_if_suppressed()):
                suppress_tracing(recorder, *props)
        except Exception as error:  # noqa: BLE001 -- the application must see nothing
            swallow(error, recorder)  # here: who calls knows this closure, not what failed

    return record
