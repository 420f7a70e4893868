"""The compiled core: whether the hot path runs in C, and how it is loaded."""

from __future__ import annotations

import os
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import ModuleType


def gil_enabled() -> bool:
    """Whether this interpreter has a GIL, which makes single steps in C atomic."""
    return getattr(sys, "_is_gil_enabled", lambda: True)()


def _load() -> ModuleType | None:
    if _is_on("HYPERTRACE_PURE_PYTHON"):
        return None
    # Written for builds without a GIL, but not run on one yet.
    if _is_free_threaded() and not _is_on("HYPERTRACE_FREE_THREADED"):
        return None
    try:
        from importlib import import_module

        return import_module(f"{__package__}._speedups")
    except ImportError:  # not built here, or another interpreter of this process has it
        return None


def _is_on(variable: str) -> bool:
    return os.environ.get(variable, "0") not in {"", "0"}


def _is_free_threaded() -> bool:
    # `PYTHON_GIL=1` gives a build without a GIL one for a run; the extension is still another.
    return not gil_enabled() or "t" in getattr(sys, "abiflags", "")


speedups = _load()
"""The extension module; None where everything is done in Python."""

COMPILED = speedups is not None
"""Whether the hot path runs in C. `HYPERTRACE_PURE_PYTHON=1` at import keeps it in Python; a build
without a GIL keeps it there, too, but for `HYPERTRACE_FREE_THREADED=1`."""
