"""Paths of tags and values: where in an event a fact or a prop is looked up."""

from __future__ import annotations

from difflib import get_close_matches
from typing import TYPE_CHECKING, Literal, NamedTuple

from hypertrace import SpanEvent
from hypertrace.inspection import type_name
from hypertrace.metrics.labels import import_path

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from hypertrace import TracedObject, TraceEvent

    Props = Mapping[str, object]
    Scope = Literal["fact", "call", "object", "parent", "any"]


def _exception(event: SpanEvent) -> str | None:
    return None if event.exception is None else type_name(event.exception)


_OF_SITE: dict[str, Callable[[TraceEvent], object]] = {
    "class": lambda event: event.object.class_name,
    "function": lambda event: event.caller.function_name,
    "file": lambda event: import_path(event.caller),
    "id": lambda event: event.id,
}
_OF_END: dict[str, Callable[[SpanEvent], object]] = {
    "result": lambda event: event.result,
    "exception": _exception,
    "raised": lambda event: event.raised,
}
FACTS = (*_OF_SITE, *_OF_END)
"""Names of what all events of a call site have in common, and of how a span ended."""
SCOPES = ("call", "object", "parent")


class Path(NamedTuple):
    """A fact of an event, or a prop and the place where it is looked up."""

    scope: Scope
    """`fact`; `call`, `object` or `parent`; or `any`, which is these three, in this order."""
    name: str
    """Of the fact or the prop."""

    @property
    def is_of_end(self) -> bool:
        """Whether the value is how a span ended; a `trace()` has none."""
        return self.scope == "fact" and self.name in _OF_END

    @property
    def looks_in_call(self) -> bool:
        """Whether the props of the call can have the value."""
        return self.scope in {"call", "any"}

    def of_objects(self, traced: TracedObject, parent: TracedObject | None) -> object:
        """Return the value that the props of an object or of its parent have, None without one."""
        value = None
        if self.scope in {"object", "any"}:
            value = _prop(traced, self.name)
        if value is None and self.scope in {"parent", "any"} and parent is not None:
            value = _prop(parent, self.name)
        return value

    def of_event(self, event: TraceEvent) -> object:
        """Return the value in an event, None if it has none. Runs no code of the application."""
        if self.scope == "fact":
            if self.name in _OF_SITE:
                return _OF_SITE[self.name](event)
            return _OF_END[self.name](event) if isinstance(event, SpanEvent) else None
        props = event.caller.props
        value = props.get(self.name) if props and self.looks_in_call else None
        return self.of_objects(event.object, event.parent_object) if value is None else value


def parsed(path: str, what: str) -> Path:
    """Return the path that a text names.

    Args:
        path: `call.X`, `object.X`, `parent.X`, a fact, or the name of a prop.
        what: is said of it in errors, as `tags`.

    Raises:
        ValueError: no prop can have the name.
    """
    if not path or path != path.strip():
        raise ValueError(
            f"{what} has {path!r}, which is no name of a prop: leave out the spaces, or give the "
            "name that trace() is called with"
        )
    if path in FACTS:
        return Path("fact", path)
    head, dot, name = path.partition(".")
    if dot and head in SCOPES:
        if not name:
            raise ValueError(f"{what} has {path!r}, which names no prop; write {head}.NAME")
        return Path(head, name)  # type: ignore[arg-type]  # one of SCOPES
    close = get_close_matches(head, SCOPES, 1, 0.66)
    if dot and close:
        raise ValueError(
            f"{what} has {path!r}; did you mean '{close[0]}.{name}'? A path begins with "
            f"{', '.join(f'{scope}.' for scope in SCOPES)}; for a prop of a call that is really "
            f"called so, write 'call.{path}'"
        )
    return Path("any", path)


def _prop(traced: TracedObject, name: str) -> object:
    props = traced.props
    return props.get(name) if props else None
