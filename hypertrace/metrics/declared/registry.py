"""Registry of the metrics that are declared for every `Metrics` of the process."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Any, Protocol
from weakref import ref

from hypertrace._failures import swallow

from .kinds import DeclaredMetric

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

_TOTAL = "_total"


class Listener(Protocol):
    """What metrics are declared for: a `Metrics`."""

    def declare(self, *metrics: DeclaredMetric) -> object:
        """Record metrics, which may be declared already."""


# Without a lock, which a fork or a signal handler could find held. A metric is in the registry
# before the listeners are called, and a listener is in the list before it reads the registry: it
# gets each metric at least once.
_declared: dict[str, DeclaredMetric] = {}
_listeners: list[ref[Listener]] = []
_equipments: list[Callable[[Any], object]] = []


def declare(*metrics: DeclaredMetric) -> None:
    """Declare metrics for every `Metrics`, those that are made later included.

    Takes effect at the next event of each call site. Declaring an equal metric again does nothing.
    Any thread may call it.

    Args:
        metrics: to record.

    Raises:
        TypeError: one is no `Counter`, `Sum`, `LastValue`, `Distribution` or `Summary`.
        ValueError: another metric of the same name differs; the message shows how. Those that
            every `Metrics` has then are as before, but one `Metrics` may have declared another
            metric of the name itself: then all others record the new one.
    """
    for metric in additions(_declared, metrics):
        _declared.setdefault(family_name(metric.name), metric)
    refusal = None
    for listener in [each() for each in _listeners.copy()]:
        if listener is not None:
            try:
                listener.declare(*metrics)
            except ValueError as error:
                refusal = str(error)
    if refusal is not None:
        raise ValueError(refusal)


def listen(listener: Listener) -> None:
    """Declare for a listener all metrics that are declared now and later.

    Args:
        listener: is held weakly.

    Raises:
        ValueError: as its `declare`.
    """
    _listeners.append(ref(listener, _forget))
    listener.declare(*_declared.values())
    for equip in _equipments.copy():
        _equip(listener, equip)


def equip_all(equip: Callable[[Any], object]) -> Callable[[], None]:
    """Call a function with every `Metrics`, those that are made later included.

    For integrations whose metrics are instruments or pull gauges. It is called in the thread that
    makes a `Metrics`, or in this one, and maybe twice. What it raises is swallowed.

    Args:
        equip: is called with each `Metrics`, which it must not keep.

    Returns:
        A function that ends it; later `Metrics` are left as they are.
    """
    _equipments.append(equip)
    for listener in [each() for each in _listeners.copy()]:
        if listener is not None:
            _equip(listener, equip)

    def end() -> None:
        with suppress(ValueError):  # after a reset, or once more
            _equipments.remove(equip)

    return end


def additions(
    known: Mapping[str, DeclaredMetric], metrics: Iterable[DeclaredMetric]
) -> list[DeclaredMetric]:
    """Return the metrics that are not known, each once.

    Args:
        known: metrics by their `family_name`.
        metrics: to look at.

    Raises:
        TypeError: one is no declared metric.
        ValueError: one has the name of another that differs; the message shows how.
    """
    added: dict[str, DeclaredMetric] = {}
    for metric in metrics:
        if not isinstance(metric, DeclaredMetric):
            hint = "; write declare(*metrics)" if isinstance(metric, list | tuple) else ""
            raise TypeError(
                "declare takes Counter, Sum, LastValue, Distribution and Summary, not "
                f"{metric!r}{hint}"
            )
        name = family_name(metric.name)
        other = known.get(name) or added.get(name)
        if other is None:
            added[name] = metric
        elif other != metric:
            raise ValueError(
                f"{metric.name} is declared already, and differs: {difference(other, metric)}; "
                "give one of them another name, or undeclare the first"
            )
    return list(added.values())


def family_name(name: str) -> str:
    """Return what OpenMetrics calls a metric: two with the same family name exclude each other."""
    return name.removesuffix(_TOTAL)


def difference(one: DeclaredMetric, other: DeclaredMetric) -> str:
    """Return how a declaration differs from the one before it, for a message."""
    if type(one) is not type(other):
        return f"it was {one!r}, and is now {other!r}"
    before, now = one.options, other.options
    names = [name for name in {**before, **now} if before.get(name) != now.get(name)]
    return "; ".join(
        f"{name} was {_shown(before, name)}, and is now {_shown(now, name)}" for name in names
    )


def reset() -> None:
    """Forget the metrics that are declared for every `Metrics`, and those that exist."""
    _declared.clear()
    _listeners.clear()
    _equipments.clear()


def _equip(listener: Listener, equip: Callable[[Any], object]) -> None:
    try:
        equip(listener)
    except Exception as error:  # noqa: BLE001 -- a `Metrics` is made or installed all the same
        swallow(error, equip)


def _forget(listener: ref[Listener]) -> None:
    with suppress(ValueError):  # after a reset
        _listeners.remove(listener)


def _shown(options: Mapping[str, object], name: str) -> str:
    return repr(options[name]) if name in options else "not given"
