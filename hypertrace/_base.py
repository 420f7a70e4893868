"""Base class of tracers: the traced object, its props and parent, and the events made of them."""

from __future__ import annotations

from types import MappingProxyType, ModuleType
from weakref import ref

from ._naming import class_names, module_of
from .events import TracedObject, TraceEvent

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Hashable, Mapping
    from typing import Any

    from ._callsite import CallSite

    Table = dict[Hashable, Any]


_WITHOUT_MODULE = (str, ModuleType)


class TracerBase:
    """A tracer without the methods that trace.

    Attributes:
        class_name: class name that the object is counted under; None if disabled.
        object_id: number of the object among those of its class name, from 1; None if disabled.
    """

    __slots__ = (
        "__weakref__",
        "_class",
        "_ctx",
        "_parent_object",
        "_props",
        "_table",
        "class_name",
        "object_id",
    )

    class_name: str | None
    object_id: int | None
    _class: ref[type] | tuple[str, ...]
    _ctx: object
    _props: dict[str, object] | None
    _parent_object: TracedObject | None
    _table: Table

    @property
    def ctx(self) -> object:
        """The traced object.

        None if it no longer exists, if its type allows no weak references, or if disabled.
        """
        return self._ctx() if isinstance(self._ctx, ref) else self._ctx

    @property
    def props(self) -> Mapping[str, object] | None:
        """Read-only copy of the props given; None if none were, or if disabled."""
        return None if self._props is None else MappingProxyType(self._props)

    @property
    def parent_object(self) -> TracedObject | None:
        """The object of the parent; None without a parent, or if disabled."""
        return self._parent_object

    def _class_names(self) -> tuple[str, ...]:
        known = self._class
        return known if isinstance(known, tuple) else class_names(known())

    def _module(self) -> str | None:
        """Return the module of the object's class; None without one, and for texts and modules."""
        cls = None if isinstance(self._class, tuple) else self._class()
        return None if cls is None or issubclass(cls, _WITHOUT_MODULE) else module_of(cls)

    def _event(self, site: CallSite, id: Any, props: dict[str, object] | None) -> TraceEvent:
        caller = site.caller(self._class_names(), props)
        return TraceEvent(id, self._traced_object(), self._parent_object, caller)

    def _traced_object(self) -> TracedObject:
        # Called on enabled tracers only, which have a name and an id.
        name, number = self.class_name, self.object_id
        return TracedObject(name, number, self._props, self._ctx, ref(self))  # type: ignore[arg-type]
