"""Registries of `prometheus_client`: their collectors, and their locks in a forked child."""

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

    `prometheus_client` locks it to register, to unregister and to collect. If another thread holds
    it at the moment of the fork, it would stay locked in the child for ever.
    """
    _watched.add(registry)


def held_by(registry: object) -> dict[Collector, list[str]] | None:
    """Return the collectors of a registry with their declared names, None if it has no table."""
    held = getattr(registry, "_collector_to_names", None)
    # A copy needs no lock, as no other thread interrupts it; in a forked child, the lock of the
    # registry may be locked for ever.
    return held.copy() if isinstance(held, dict) else None


def _renew_locks() -> None:
    for registry in list(_watched):
        # Other versions may have another lock there, or none; those are left alone.
        if isinstance(getattr(registry, "_lock", None), _LockType):
            registry._lock = Lock()  # noqa: SLF001 -- as above


after_fork_in_child(_renew_locks)
