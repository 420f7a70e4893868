"""Silent tracers, made while no trace function was set: their counts, and a log line."""

from __future__ import annotations

from types import ModuleType
from weakref import ref

from ._failures import logger, swallow
from ._guard import suppress_tracing
from ._naming import class_name_of
from .cells import Cell

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

MAX_NAMES = 100
"""Class names that are counted separately; all others count as one."""

MAX_CLASSES = 1_000
"""Classes whose names are cached. Beyond it the cache is emptied."""

_NAMES_LOGGED = 5
_OTHERS = "<other>"

_counts: dict[str, Cell] = {}
_others = Cell()
_by_class: dict[int, tuple[ref[type], Callable[[], object]]] = {}
"""By the id of a class: the class, and the callable that counts it. A cache of look-ups by name."""

_reported: dict[str, int] = {}  # the counts at the last log line
_is_warned = False


def silent_tracers() -> dict[str, int]:
    """Return how many tracers were made while tracing was off, by class name.

    It is off while no trace function is set and no handler is attached. These tracers are disabled
    permanently. Those that no longer exist are included. The first 100 class names are counted
    separately, all others as `<other>`. Any thread may call it.
    """
    counts = {name: cell.value for name, cell in list(_counts.items())}
    others = _others.value
    return {**counts, _OTHERS: others + counts.get(_OTHERS, 0)} if others else counts


def count_tracer(ctx: object) -> None:
    """Count a disabled tracer of `ctx`."""
    known = _by_class.get(id(type(ctx)))
    if known is not None and known[0]() is type(ctx):
        known[1]()
    else:
        _cell_of(ctx).increment()


def report() -> None:
    """Log the tracers that were counted since the last report, if there are any.

    At WARNING the first time in this process, at INFO later: an application that turns tracing off
    and on may make objects in between on purpose.
    """
    global _reported
    before, _reported = _reported, silent_tracers()
    risen = {name: count - before.get(name, 0) for name, count in _reported.items()}
    new = {name: count for name, count in risen.items() if count > 0}
    if new:
        try:
            suppress_tracing(_log, new)
        except Exception as error:  # noqa: BLE001 -- a log handler may raise anything
            swallow(error, _log)


def reset() -> None:
    """Count from 0 again, and report at WARNING again."""
    global _is_warned, _others, _reported  # noqa: PLW0603 -- the state of the process
    _by_class.clear()
    _counts.clear()
    _others = Cell()
    _reported = {}
    _is_warned = False


def _cell_of(ctx: object) -> Cell:
    name, cls = class_name_of(ctx), type(ctx)
    cell = _counts.get(name)
    if cell is None:
        cell = _counts.setdefault(name, Cell()) if len(_counts) < MAX_NAMES else _others
    if not issubclass(cls, (type, str, ModuleType)):  # these are not named by their class
        if len(_by_class) >= MAX_CLASSES:
            _by_class.clear()
        _by_class[id(cls)] = ref(cls), cell.increment
    return cell


def _log(counts: dict[str, int]) -> None:
    global _is_warned  # noqa: PLW0603 -- the state of the process
    log = logger().info if _is_warned else logger().warning
    _is_warned = True
    names = sorted(counts, key=counts.__getitem__, reverse=True)
    more = len(names) - _NAMES_LOGGED
    log(
        "%d tracers were made before the trace function was set and stay silent, of %s%s; call "
        "set_trace_function() or attach() before these objects are made, in a module that is "
        "imported first, or make them in a function that runs later",
        sum(counts.values()),
        ", ".join(names[:_NAMES_LOGGED]),
        f" and {more} other classes" if more > 0 else "",
    )
