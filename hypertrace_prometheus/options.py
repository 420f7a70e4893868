"""Options of the exporter, checked."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

    from prometheus_client import CollectorRegistry

_PATH = re.compile(r"(/[a-zA-Z0-9._~+@=:,-]+)+/?")


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


def checked_path(path: object) -> str:
    """Return the path to show the metrics at.

    Raises:
        TypeError: it is no `str`.
        ValueError: it is no path, or that of another page.
    """
    from .index_page import HEALTH_PATH

    if not isinstance(path, str):
        raise TypeError(f"path must be a str such as '/metrics', not {path!r}")
    if not _PATH.fullmatch(path) or not {".", ".."}.isdisjoint(path.split("/")):
        raise ValueError(
            "path must begin with / and consist of names of ASCII letters, digits and any of "
            f"._~+@=:,- such as '/metrics', not {path!r}"
        )
    if path == HEALTH_PATH:
        raise ValueError(f"path must be another than that of the health check, {path!r}")
    return path


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


def check_pushed(push: str | None, others: Mapping[str, object]) -> None:
    """Check that a Pushgateway has a job, and that nothing else is given for none.

    Raises:
        ValueError: something is missing, or is there for nothing; the message names it.
    """
    given = [name for name, value in others.items() if value is not None]
    if push is None and given:
        raise ValueError(
            f"{' and '.join(given)} without push: only what is pushed has this; pass push, the URL "
            "of a Pushgateway"
        )
    if push is not None and others["job"] is None:
        raise ValueError("push without job: pass job, the name of the job that is pushed")
