"""Programs that run plain and traced, and the engine that traces them."""

from __future__ import annotations

import linecache
import sys
from collections import Counter
from contextlib import contextmanager
from importlib.util import module_from_spec, spec_from_file_location
from typing import TYPE_CHECKING, Any

import pytest

from hypertrace import _compiled, _engines, instrument
from hypertrace.metrics import HistogramReading
from hypertrace.testing import capture_events

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from hypertrace import SpanEvent
    from hypertrace.metrics import Reading

PLAIN = "_names = []; traced = lambda it: _names.append(it.__qualname__) or it"
DECORATED = "_names = []; from hypertrace import traced"


ENGINE: str = _engines.name

replaced = pytest.mark.skipif(ENGINE != "closures", reason="functions are traced in place")

in_place = pytest.mark.skipif(
    ENGINE == "closures", reason="closures replace a function: see docs/traced.md"
)
"""Of a test of what holds for functions that are traced in place."""


def open_calls() -> int:
    """Return how many calls, generators and coroutines the compiled core holds as open."""
    speedups: Any = _compiled.speedups if ENGINE != "closures" else None
    return 0 if speedups is None else int(speedups.open_calls())


@contextmanager
def capture_spans() -> Iterator[list[SpanEvent]]:
    """Give a list to which the events of spans are added, where there are no others."""
    with capture_events() as events:
        yield events  # type: ignore[misc]  # there are spans alone


def counts_of(reading: Reading) -> Counter[tuple[str, str, str]]:
    """Count durations by class, function without its class, and result."""
    family = reading.family("function_duration_seconds")
    counts = Counter[tuple[str, str, str]]()
    for point in family.points:
        assert isinstance(point.value, HistogramReading)
        labels = dict(zip(family.label_names, point.labels, strict=True))
        class_name, function = (
            labels[it].rpartition(".")[2] for it in ("object_classname", "caller_functionname")
        )
        counts[class_name, function, labels["result"]] += point.value.count
    return counts


def function_counts_of(reading: Reading) -> Counter[str]:
    """Count durations by function, without its class."""
    counts = Counter[str]()
    for (_, function, _), count in counts_of(reading).items():
        counts[function] += count
    return counts


def names_of(events: list[SpanEvent]) -> Counter[str]:
    """Count spans by the name of their function, without its class."""
    return Counter(event.caller.function_name.rpartition(".")[2] for event in events)


class Program:
    """A module from source text, whose functions run plain and traced.

    Those that are to be traced have `@traced`, which does nothing when the program runs plain.
    """

    def __init__(self, folder: Path) -> None:
        self._path = folder / "shop.py"

    def load(self, source: str, first_line: str = PLAIN) -> Any:
        """Import the program as the module `shop`."""
        text = f"{first_line}\n{source}"
        self._path.write_text(text)
        linecache.checkcache(str(self._path))
        spec = spec_from_file_location("shop", self._path)
        assert spec is not None
        module = sys.modules["shop"] = module_from_spec(spec)
        exec(compile(text, str(self._path), "exec"), module.__dict__)
        return module

    def run(self, source: str, how: str) -> tuple[Any, list[SpanEvent]]:
        """Run `main`, with its functions traced by `@traced` or by `instrument`.

        Returns:
            What it returned, and the spans.
        """
        module = self.load(source, DECORATED if how == "traced" else PLAIN)
        names = [name for name in dict.fromkeys(module._names) if "<locals>" not in name]
        handles = [instrument(f"shop:{name}") for name in names]
        try:
            with capture_events() as events:
                result = module.main()
        finally:
            for handle in handles:
                handle.undo()
        return result, [event for event in events if type(event).__name__ == "SpanEvent"]  # type: ignore[misc]
