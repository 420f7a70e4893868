"""Label values: from what hypertrace reports of an event to the labels of its series."""

from __future__ import annotations

import os
import re
import sys
from contextlib import suppress
from functools import lru_cache
from typing import TYPE_CHECKING, TypeAlias

from hypertrace import suppress_tracing
from hypertrace.inspection import type_name

if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

    from hypertrace import Caller, TracedObject, TraceEvent, Upstream

CLASS = "object_classname"
OBJECT_ID = "object_id"
FUNCTION = "caller_functionname"
FILE = "caller_filename"
TRACE_ID = "id"
PARENT_CLASS = "parent_object_classname"
PARENT_ID = "parent_object_id"
RESULT = "result"
EXCEPTION = "exception"
RAISED = "raised"
ENTRY = "entry"
WORKER = "worker"
EDGE = ("from_classname", "from_functionname", "to_classname", "to_functionname")

OBJECT_PROPS = "object_props_"
PARENT_PROPS = "parent_object_props_"
CALLER_PROPS = "caller_props_"

Values: TypeAlias = "tuple[str, ...]"
"""Values of some labels in the order of their names; empty where a label has no value."""

_FOREIGN = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*:|\\\\")
"""Beginning of a URL or of a path of Windows: not to be found here, and often absolute."""

_CELL = re.compile(
    r"""(?: ^ | [/\\])
    (?: (?:ipykernel|xpython)_\d+ [/\\] \d+
      | marimo_\d+ [/\\] __marimo__cell_\w+
      | ipython-input-[\d-]+
    ) \.py $""",
    re.VERBOSE,
)
"""The files of cells, by Jupyter's kernels, marimo and Colab: numbered, or named by a hash."""

_INPUT = re.compile(r"(?:stdin|[bi]?python-input|pyshell)(?:[-#]|$)")
"""What prompts call their inputs, each with a number: `<stdin-2>`, `<python-input-2>`."""


class Labeller:
    """Knows which labels a series has: those of hypertrace, and of the allowed props.

    Immutable; any thread may use it. Its methods never raise for what the value of a prop does.

    Attributes:
        site_names: names of the labels that all calls of a call site have in common.
        prop_names: names of the labels of a call's own props.
    """

    def __init__(self, allowed: Mapping[str, str], max_length: int, *, object_ids: bool) -> None:
        """Know what becomes a label.

        Args:
            allowed: for each prop that becomes a label, what it is called in the label's name.
            max_length: longer label values are cut to so many characters.
            object_ids: whether the numbers of objects become labels.
        """
        self.allowed: tuple[str, ...] = tuple(allowed)
        self.max_length = max_length
        self._object_ids = object_ids
        cleaned = tuple(allowed.values())
        objects = self._object_names(CLASS, OBJECT_ID, OBJECT_PROPS, cleaned)
        parents = self._object_names(PARENT_CLASS, PARENT_ID, PARENT_PROPS, cleaned)
        self.site_names: Values = (*objects, *parents, FUNCTION, FILE, TRACE_ID)
        self.prop_names: Values = tuple(CALLER_PROPS + name for name in cleaned)
        self._no_parent = ("",) * len(parents)
        self._no_props = ("",) * len(cleaned)

    def of_objects(self, traced: TracedObject, parent: TracedObject | None) -> Values:
        """Return the label values that all events of a tracer have in common."""
        of_parent = self._no_parent if parent is None else self._of_object(parent)
        return self._of_object(traced) + of_parent

    def of_site(self, event: TraceEvent) -> Values:
        """Return all label values of an event but those of the call's own props."""
        caller, id = event.caller, event.id
        return (
            *self.of_objects(event.object, event.parent_object),
            self.text(caller.function_name),
            self.text(import_path(caller)),
            "" if id is None else self.text(id),
        )

    def of_props(self, props: Mapping[str, object] | None) -> Values:
        """Return the label values of the allowed ones among some props; None is no value."""
        if not props:
            return self._no_props
        return tuple(map(self._prop_text, map(props.get, self.allowed)))

    def of_edge(self, outer: Upstream, inner: Upstream) -> Values:
        """Return the values of `EDGE` for a span inside another one."""
        names = (outer.class_name, outer.function_name, inner.class_name, inner.function_name)
        return tuple(map(self.text, names))

    def text(self, value: object) -> str:
        """Return a value as the text of a label.

        Bytes, and what is like them, are decoded as UTF-8. What is no valid text (undecodable
        bytes, lone surrogates) is shown as an escape, what cannot be turned into text as
        `<unprintable T>`. Longer texts than allowed are cut, with an ellipsis as last character.
        """
        try:
            return self._valid(_as_text(value, self.max_length))
        except Exception:  # noqa: BLE001 -- the `__str__` of an application may raise anything
            return self._valid(f"<unprintable {type_name(type(value))}>")

    def _valid(self, text: str) -> str:
        limit = self.max_length
        if not text.isascii():
            text = text[: limit + 1].encode("utf-8", "backslashreplace").decode("utf-8")
        return text if len(text) <= limit else text[: limit - 1] + "…"

    def _prop_text(self, value: object) -> str:
        return "" if value is None else self.text(value)

    def _object_names(self, name: str, number: str, prefix: str, props: Values) -> Values:
        numbers = (number,) if self._object_ids else ()
        return (name, *numbers, *(prefix + prop for prop in props))

    def _of_object(self, traced: TracedObject) -> Values:
        numbers = (str(traced.id),) if self._object_ids else ()
        return (self.text(traced.class_name), *numbers, *self.of_props(traced.props))


def import_path(caller: Caller) -> str:
    """Return the file of a caller relative to where it was imported from: `shop/cart.py`.

    So a label is the same on every machine and shows nothing of the host. A file that is under no
    import path is named by its last part. Cells of a notebook are `<notebook>` and inputs at a
    prompt `<stdin>`, so that editing them makes no new series; `<string>` and the like stay.
    """
    module = None if caller.module is None else str.__str__(caller.module)
    return _import_path(str.__str__(caller.filename), module)


def clean(name: str) -> str:
    """Return a prop's name as a part of a label's name."""
    return re.sub(r"[^a-zA-Z0-9_]", "_", name)


@lru_cache(maxsize=4096)
def _import_path(filename: str, module: str | None) -> str:
    if not filename:
        return filename
    if filename.startswith("<"):
        name = filename[1:].partition(">")[0]
        return "<stdin>" if _INPUT.match(name) else f"<{_last_part(name)}>"
    if _CELL.search(filename):
        return "<notebook>"
    path = _absolute(filename)
    # `__main__` is no name that anything was imported by.
    stem = "" if module is None or module == "__main__" else module.replace(".", "/")
    for ending in (f"/{stem}.py", f"/{stem}/__init__.py"):
        if stem and path.endswith(ending):
            return ending[1:]
    if _FOREIGN.match(filename) and not os.path.isabs(filename):  # noqa: PTH117 -- as below
        return _last_part(filename)
    roots = [r for r in _import_roots() if path.startswith(f"{r}/")]
    root = max(roots, key=len, default=None)
    return path.rpartition("/")[2] if root is None else path[len(root) + 1 :]


def _import_roots() -> list[str]:
    # Python ignores other entries, too.
    entries = [_absolute(entry) for entry in sys.path if isinstance(entry, str)]
    return [entry.rstrip("/") for entry in entries if entry]


def _last_part(path: str) -> str:
    return re.split(r"[/\\]", path)[-1]


def _absolute(path: str) -> str:
    # Not resolved: a link keeps the name it was imported by. An absolute path takes no system call,
    # which tools that look for those in event loops would refuse.
    if os.path.isabs(path):  # noqa: PTH117 -- as below
        path = os.path.normpath(path)
    else:
        with suppress(Exception):  # the current folder was removed; or such a tool refuses
            path = os.path.abspath(path)  # noqa: PTH100
    return path.replace(os.sep, "/")


def _as_text(value: Any, limit: int) -> str:
    # Not isinstance(): a proxy may say that it is a str, and is none. The types' own methods, since
    # a subclass may have any; and cut before all of it is copied.
    kind = type(value)
    if issubclass(kind, str):
        return str.__getitem__(value, slice(limit + 1))
    if issubclass(kind, bytes | bytearray | memoryview):
        return _cut_bytes(value, 4 * limit + 4).decode("utf-8", "backslashreplace")
    plain = kind is int or kind is float or kind is bool
    return str.__getitem__(str(value) if plain else suppress_tracing(str, value), slice(limit + 1))


def _cut_bytes(value: bytes | bytearray | memoryview, size: int) -> bytes:
    if isinstance(value, memoryview):
        return value[:size].tobytes()[:size]
    if isinstance(value, bytearray):
        return bytes(bytearray.__getitem__(value, slice(size)))
    return bytes.__getitem__(value, slice(size))
