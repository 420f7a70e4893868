"""Compiled core: loading it, and installing its methods in the Python classes."""

from __future__ import annotations

import os
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import ModuleType
    from typing import Any

    Namespace = dict[str, Any]


def gil_enabled() -> bool:
    """Whether this interpreter has a GIL, which makes a single call into C atomic."""
    return getattr(sys, "_is_gil_enabled", lambda: True)()


def _load() -> ModuleType | None:
    if _is_on("HYPERTRACE_PURE_PYTHON"):
        return None
    # Written for builds without a GIL, but not tested on one yet.
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
    # `PYTHON_GIL=1` enables the GIL for one run, but such a build still needs another extension.
    return not gil_enabled() or "t" in getattr(sys, "abiflags", "")


speedups = _load()
"""The extension module; None if the pure Python core is used."""

COMPILED = speedups is not None
"""Whether the hot path runs in C. `HYPERTRACE_PURE_PYTHON=1` at import selects the Python code; so
does a build without a GIL, unless `HYPERTRACE_FREE_THREADED=1` is set."""


def install_methods(
    tracer: Namespace,
    *,
    span: Namespace,
    dispatch: Namespace,
    bindings: Namespace,
    recorders: Namespace,
) -> None:
    """Replace the methods that run at each event by those of the compiled core, if it is used.

    Args:
        tracer: namespace of the module `_tracer`.
        span: of `_span`.
        dispatch: of `_dispatch`.
        bindings: of `_bindings`.
        recorders: of `_recorders`.
    """
    if speedups is None:
        return
    props_recorder, span_class = recorders["PropsRecorder"], span["Span"]
    speedups.speed_up(
        {
            **span,
            **tracer,
            "dispatch": dispatch,
            "span_module": span,
            "native_clock": span["clock"],
            "SpanBinding": bindings["SpanBinding"],
            "PropsRecorder": props_recorder,
            "record_props": props_recorder.record,
            "make_tracer": tracer["Tracer"].__new__,
            "enter_in_python": span_class.__enter__,
            "exit_in_python": span_class.__exit__,
        }
    )


def install_operations(
    operations: Namespace, *, span: Namespace, dispatch: Namespace, bindings: Namespace
) -> None:
    """Replace the methods of operations by those of the compiled core, if it is used.

    Args:
        operations: namespace of the module `_operations`.
        span: of `_span`.
        dispatch: of `_dispatch`.
        bindings: of `_bindings`.
    """
    if speedups is None:
        return
    speedups.speed_up_operations(
        {
            **operations,
            "MAX_BUFFERED": span["MAX_BUFFERED"],
            "SpanBinding": bindings["SpanBinding"],
            "PropsBindings": bindings["PropsBindings"],
            "dispatch": dispatch,
            "count_in_python": operations["Operations"].count,
            "end_in_python": operations["Operation"].end,
            "record_in_python": operations["Operations"].record,
        }
    )
