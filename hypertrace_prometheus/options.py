"""Options of the exporter, checked."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

    from prometheus_client import CollectorRegistry


def checked_registry(registry: object) -> CollectorRegistry:
    """Return the registry to use: the one given, or a new one for None.

    Raises:
        TypeError: it is none of `prometheus_client`.
    """
    from prometheus_client import CollectorRegistry

    if registry is None:
        return CollectorRegistry()
    if not isinstance(registry, CollectorRegistry):
        raise TypeError(
            f"registry must be a prometheus_client.CollectorRegistry or None, not {registry!r}"
        )
    return registry


def check_absent(security: Mapping[str, object]) -> None:
    """Check that nothing is given which only a server uses.

    Raises:
        ValueError: something is; the message names it.
    """
    given = [name for name, value in security.items() if value is not None]
    if given:
        raise ValueError(
            f"{' and '.join(given)} without port: only the metrics server uses this; pass a port, "
            "or secure the server that you mount the metrics in"
        )
