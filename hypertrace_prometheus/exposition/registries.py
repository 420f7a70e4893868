"""Registries of `prometheus_client`: their collectors, their target, and their locks in a child."""

from __future__ import annotations

from contextlib import suppress
from threading import Lock
from typing import TYPE_CHECKING
from weakref import WeakSet

from hypertrace.forks import after_fork_in_child
from hypertrace.metrics.labels import clean

if TYPE_CHECKING:
    from collections.abc import Mapping

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


def target_labels(labels: Mapping[str, str]) -> dict[str, str]:
    """Return the labels of a process by names that Prometheus can read: `service_name`."""
    return {clean(name): value for name, value in labels.items()}


def add_target(registry: CollectorRegistry, labels: Mapping[str, str]) -> dict[str, str] | None:
    """Show the labels of the process as `target_info`, unless the registry has that.

    An application that sets the target of the registry later replaces it.

    Returns:
        What `remove_target` removes; None if there is nothing to show.
    """
    target = target_labels(labels)
    if not target or registry.get_target_info():
        return None
    with suppress(ValueError):  # a collector of the application gives it
        registry.set_target_info(target)
        return target
    return None


def remove_target(registry: CollectorRegistry, target: dict[str, str] | None) -> None:
    """Show what `add_target` returned no more, if that is still what the registry has."""
    if target is not None and registry.get_target_info() is target:
        registry.set_target_info(None)


def _renew_locks() -> None:
    for registry in list(_watched):
        # Other versions may have another lock there, or none; those are left alone.
        if isinstance(getattr(registry, "_lock", None), _LockType):
            registry._lock = Lock()  # noqa: SLF001 -- as above


after_fork_in_child(_renew_locks)
