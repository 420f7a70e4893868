"""Whether the hot path runs in C, and how it gets there."""

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
    if os.environ.get("HYPERTRACE_PURE_PYTHON", "0") not in {"", "0"} or not gil_enabled():
        return None
    try:
        from importlib import import_module

        return import_module(f"{__package__}._speedups")
    except ImportError:  # not built here, or another interpreter of this process has it
        return None


speedups = _load()
"""The extension module; None where everything is done in Python."""

COMPILED = speedups is not None
"""Whether the hot path runs in C. `HYPERTRACE_PURE_PYTHON=1` at import keeps it in Python."""
