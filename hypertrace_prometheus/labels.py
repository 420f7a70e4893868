"""From what hypertrace tells to the labels of a series.

Label values are escaped as the text formats of Prometheus want it:
https://prometheus.io/docs/instrumenting/exposition_formats/
"""

from __future__ import annotations

import os
import re
import sys
from contextlib import suppress
from functools import lru_cache
from typing import TYPE_CHECKING

from hypertrace import untraced

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
FROM_CLASS = "from_classname"
FROM_FUNCTION = "from_functionname"
TO_CLASS = "to_classname"
TO_FUNCTION = "to_functionname"

OBJECT_PROPS = "object_props_"
PARENT_PROPS = "parent_object_props_"
CALLER_PROPS = "caller_props_"

Labels = dict[str, str]

_TYPE_NAME = type.__dict__["__name__"].__get__

_ESCAPES = str.maketrans({"\\": "\\\\", '"': '\\"', "\n": "\\n"})
_UNESCAPES = {"\\\\": "\\", '\\"': '"', "\\n": "\n"}
_FOREIGN = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*:|\\\\")
"""How a URL begins, or a path of Windows: no path to be found here, and often an absolute one."""

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

_PAIR = re.compile(r'([a-zA-Z_][a-zA-Z0-9_]*)="((?:[^"\\]|\\.)*)"')


class Labeller:
    """Knows which labels a series has: those of hypertrace, and of the allowed props.

    Immutable; any thread may use it. Its methods never raise for what a prop's value does.
    """

    def __init__(self, allowed: Mapping[str, str], max_length: int, *, object_ids: bool) -> None:
        """Know what becomes a label.

        Args:
            allowed: for each prop that becomes a label: what it is called in the label's name.
            max_length: label values made of props, ids and names are cut to so many characters.
            object_ids: whether the numbers of objects become labels.
        """
        self.allowed = allowed
        self.max_length = max_length
        self._object_ids = object_ids

    def of_objects(self, traced: TracedObject, parent: TracedObject | None) -> Labels:
        """Return the labels that all events of a tracer have in common."""
        labels = self._of_object(traced, CLASS, OBJECT_ID, OBJECT_PROPS)
        if parent is not None:
            labels |= self._of_object(parent, PARENT_CLASS, PARENT_ID, PARENT_PROPS)
        return labels

    def of_call(self, event: TraceEvent) -> Labels:
        """Return all labels of an event but those of the call's own props."""
        labels = self.of_objects(event.object, event.parent_object)
        labels[FUNCTION] = self.text(event.caller.function_name)
        labels[FILE] = self.text(import_path(event.caller))
        if event.id is not None:
            labels[TRACE_ID] = self.text(event.id)
        return labels

    def of_edge(self, outer: Upstream, inner: Upstream) -> Labels:
        """Return the labels of the edge from one span's function to that of one inside it."""
        return {
            FROM_CLASS: self.text(outer.class_name),
            FROM_FUNCTION: self.text(outer.function_name),
            TO_CLASS: self.text(inner.class_name),
            TO_FUNCTION: self.text(inner.function_name),
        }

    def of_props(self, prefix: str, props: Mapping[str, object] | None) -> Labels:
        """Return the labels of the allowed ones among some props; None stands for no value."""
        if not props:
            return {}
        labels = {}
        for prop, name in self.allowed.items():
            value = props.get(prop)
            if value is not None:
                labels[prefix + name] = self.text(value)
        return labels

    def text(self, value: object) -> str:
        """Return a value as the text of a label.

        Bytes, and what is like them, are decoded as UTF-8. What is no valid text (undecodable
        bytes, lone surrogates) is shown as an escape, what cannot be turned into text as
        `<unprintable T>`. Longer texts than allowed are cut, with an ellipsis as last character.
        """
        try:
            return self._valid(_as_text(value, self.max_length))
        except Exception:  # noqa: BLE001 -- whatever a user's __str__ raises
            return self._valid(f"<unprintable {type_name(type(value))}>")

    def _valid(self, text: str) -> str:
        limit = self.max_length
        text = text[: limit + 1].encode("utf-8", "backslashreplace").decode("utf-8")
        return text if len(text) <= limit else text[: limit - 1] + "…"

    def _of_object(self, traced: TracedObject, name: str, number: str, prefix: str) -> Labels:
        labels = {name: self.text(traced.class_name)}
        if self._object_ids:
            labels[number] = str(traced.id)
        return labels | self.of_props(prefix, traced.props)


def render(labels: Mapping[str, str]) -> str:
    """Return labels as they stand between the braces of a line, sorted by name.

    The text is the same for equal labels, so it can be a key. A label without a value is left out.
    """
    pairs = [
        f'{name}="{value.translate(_ESCAPES)}"' for name, value in sorted(labels.items()) if value
    ]
    return ",".join(pairs)


def parse(text: str) -> Labels:
    """Return the labels that `render()` made a text of."""
    return {name: _unescape(value) for name, value in _PAIR.findall(text)}


def type_name(value: object) -> str:
    """Return the name of a type, or of the type of what is none. Never raises."""
    kind = value if issubclass(type(value), type) else type(value)
    # A metaclass may have a `__name__` of its own, and the name may be a str of any kind.
    return str.__str__(_TYPE_NAME(kind))


def import_path(caller: Caller) -> str:
    """Return the file of a caller relative to where it was imported from: `shop/cart.py`.

    So a label is the same on every machine and tells nothing of the host. A file that is under no
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
    # Python ignores what is no string there, too.
    entries = [_absolute(entry) for entry in sys.path if isinstance(entry, str)]
    return [entry.rstrip("/") for entry in entries if entry]


def _last_part(path: str) -> str:
    return re.split(r"[/\\]", path)[-1]


def _absolute(path: str) -> str:
    with suppress(OSError):  # the current folder was removed
        # Not resolved: a link keeps the name it was imported by.
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
    return str.__getitem__(str(value) if plain else untraced(str, value), slice(limit + 1))


def _cut_bytes(value: bytes | bytearray | memoryview, size: int) -> bytes:
    if isinstance(value, memoryview):
        return value[:size].tobytes()[:size]
    if isinstance(value, bytearray):
        return bytes(bytearray.__getitem__(value, slice(size)))
    return bytes.__getitem__(value, slice(size))


def _unescape(value: str) -> str:
    return re.sub(r'\\[\\"n]', lambda match: _UNESCAPES[match.group()], value)
