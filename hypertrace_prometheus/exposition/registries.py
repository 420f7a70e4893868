"""Registries of `prometheus_client`: what they hold, and locks that a forked child can take."""

from __future__ import annotations

from threading import Lock
from typing import TYPE_CHECKING
from weakref import WeakSet

from hypertrace.forks import after_fork_in_child

if TYPE_CHECKING:
    from prometheus_client import CollectorRegistry
    from prometheus_client.registry import Collector

_watched: WeakSet[CollectorRegistry] = WeakSet()
_LockType = type(Lock())


def watch(registry: CollectorRegistry) -> None:
    """Give the registry a lock that is free, in each child that is forked from now on.

    `prometheus_client` takes it to register, to unregister and to collect. Another thread may hold
    it at the moment of the fork, and no thread of the child would ever give it back.
    """
    _watched.add(registry)


def held_by(registry: object) -> dict[Collector, list[str]] | None:
    """Return the collectors of a registry with the names they told, None if it keeps none."""
    held = getattr(registry, "_collector_to_names", None)
    # The registry's own lock is not needed for a copy, which no other thread interrupts; in a
    # forked child it may be held for ever.
    return held.copy() if isinstance(held, dict) else None


def _renew_locks() -> None:
    for registry in list(_watched):
        # Other versions may have another lock there, or none; those are left alone.
        if isinstance(getattr(registry, "_lock", None), _LockType):
            registry._lock = Lock()  # noqa: SLF001 -- as above


after_fork_in_child(_renew_locks)
