"""Instrumentation of a package: takes a fraction of a second for thousands of functions."""

from __future__ import annotations

import sys
from time import process_time
from types import ModuleType
from typing import TYPE_CHECKING

from hypertrace import instrument

from .measure import Row

if TYPE_CHECKING:
    from collections.abc import Iterator

    from .measure import Effort

PACKAGE = "benchmarked_package"
MODULES, CLASSES, METHODS, FUNCTIONS = 5, 100, 8, 200
ROUNDS = 5


def rows(_: Effort) -> Iterator[Row]:
    """Measure the processor time of `instrument()` and `undo()`, the shortest of some."""
    modules = [_module(number) for number in range(MODULES)]
    sys.modules |= {module.__name__: module for module in modules}
    try:
        both = [_on_and_off() for _ in range(ROUNDS)]
    finally:
        for module in modules:
            del sys.modules[module.__name__]
    on, off = (min(times) for times in zip(*both, strict=True))
    yield Row("`instrument()` of 5 000 functions", on, "ms", promise=300, goal=150)
    yield Row("its `undo()`", off, "ms", promise=300, goal=150)


def _on_and_off() -> tuple[float, float]:
    began = process_time()
    handle = instrument(PACKAGE)
    switched = process_time()
    count = len(handle.names)
    before_undo = process_time()
    handle.undo()
    ended = process_time()
    if count != MODULES * (CLASSES * METHODS + FUNCTIONS):
        raise RuntimeError(f"{count} functions were traced")
    return (switched - began) * 1000, (ended - before_undo) * 1000


def _module(number: int) -> ModuleType:
    module = ModuleType(f"{PACKAGE}.m{number}" if number else PACKAGE)
    methods = "".join(f"    def m{n}(self, a, b=1): return a\n" for n in range(METHODS))
    classes = [f"class C{n}:\n{methods}" for n in range(CLASSES)]
    functions = [f"def f{n}(a): return a\n" for n in range(FUNCTIONS)]
    exec("".join(classes + functions), vars(module))  # noqa: S102 -- it is made here
    return module
