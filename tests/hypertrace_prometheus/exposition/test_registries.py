"""Registries that exporters are on, in a forked child."""

from __future__ import annotations

import threading
from typing import Any
from weakref import ref

import pytest
from prometheus_client import CollectorRegistry, Counter

from hypertrace_prometheus import PrometheusExporter
from hypertrace_prometheus.exposition import registries


def test_a_child_has_a_lock_that_is_free() -> None:
    """After a fork the registry can be used, also if another thread was using it, or this one."""
    with PrometheusExporter(collect_defaults=False) as exporter:
        registry = exporter.registry
        with registry._lock:
            registries._renew_locks()
            assert registry._lock.acquire(timeout=5)
            registry._lock.release()
            Counter("orders", "Orders.", registry=registry)
        assert "orders_total" in exporter.metrics()


@pytest.mark.parametrize(
    "lock", [None, "no lock", threading.RLock()], ids=["none", "text", "RLock"]
)
def test_a_lock_of_another_version_is_left_alone(lock: Any) -> None:
    """What `prometheus_client` may have there one day is not replaced by something else."""
    registry = CollectorRegistry()
    registries.watch(registry)
    registry._lock = lock
    registries._renew_locks()
    assert registry._lock is lock
    del registry._lock
    registries._renew_locks()
    assert not hasattr(registry, "_lock")


def test_a_registry_is_not_kept() -> None:
    """A registry that an exporter was on is freed when the application drops it."""
    exporter = PrometheusExporter(collect_defaults=False)
    gone = ref(exporter.registry)
    exporter.stop()
    del exporter
    assert gone() is None
