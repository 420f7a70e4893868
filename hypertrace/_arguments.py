"""The arguments of `trace()` and `span()`: an id and props, in the forms they may have."""

from __future__ import annotations

from collections.abc import Mapping

from ._failures import misuse, swallow

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


def call_arguments(
    id: Any, props: Any, kwargs: dict[str, object]
) -> tuple[Any, dict[str, object] | None]:
    """Return the id and the props of a call; what is wrong is logged and left out.

    Args:
        id: the id, or a mapping of props.
        props: a mapping of props, None, or anything else by mistake.
        kwargs: props that win over those.
    """
    if props is None and not isinstance(id, str) and isinstance(id, Mapping):
        id, props = None, id
    if props is None:
        return id, kwargs or None
    if not isinstance(props, Mapping):
        misuse(
            f"trace() got props of type {type(props).__name__} and goes without them; "
            "give a mapping, or keyword arguments"
        )
        return id, kwargs or None
    try:
        return id, {**props, **kwargs} or None
    except Exception as error:  # noqa: BLE001 -- a mapping may raise anything
        swallow(error, props)
        return id, kwargs or None


def copied_props(props: Mapping[str, Any]) -> dict[str, object] | None:
    """Return a copy of the props of a tracer; None if there are none, or they cannot be read."""
    try:
        return dict(props) or None
    except Exception as error:  # noqa: BLE001 -- a mapping may raise anything
        swallow(error, props)
        return None
