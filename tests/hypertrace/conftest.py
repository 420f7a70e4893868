"""Trace functions of each kind that the core handles differently, and subprocesses."""

import importlib
import os
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Hashable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

import hypertrace
from hypertrace import Caller, Cell, TracedObject, TraceEvent, _instrumentation, set_trace_function

Labels = tuple[Hashable, ...]


class Counting:
    """Counts equal events, like an exporter does; by events alone."""

    def __init__(self) -> None:
        self._cells: dict[Labels, tuple[TraceEvent, Cell]] = {}

    def __call__(self, event: TraceEvent) -> None:
        self._cell(event).increment()

    def counts(self, *paths: str) -> Counter[Any]:
        """Count the events by the values at some paths, such as `caller.line`."""
        counter: Counter[Any] = Counter()
        for event, cell in list(self._cells.values()):
            values = tuple(_value_at(event, path) for path in paths)
            counter[values if len(paths) > 1 else values[0]] += cell.value
        return counter

    def _cell(self, event: TraceEvent) -> Cell:
        return self._cells.setdefault(_labels(event), (event, Cell()))[1]


class Shared(Counting):
    """Counts through recorders that tracers with equal labels share."""

    def share_key(self, traced: TracedObject, parent: TracedObject | None) -> Hashable:
        return _labels_of(traced), _labels_of(parent)

    def bind(self, event: TraceEvent) -> Callable[[], object]:
        return self._cell(event).increment

    def bind_props(self, event: TraceEvent) -> Callable[[dict[str, object]], object]:
        return lambda props: self(_with_props(event, props))


class Own(Shared):
    """Counts through recorders that each tracer has for itself."""

    def share_key(self, traced: TracedObject, parent: TracedObject | None) -> Hashable:
        return None


KINDS = {"plain": Counting, "shared": Shared, "own": Own}

needs_fork = pytest.mark.skipif(not hasattr(os, "fork"), reason="this system cannot fork")


@pytest.fixture(params=KINDS)
def make_counting(request: pytest.FixtureRequest) -> type[Any]:
    """Give a class of trace functions that count, one of each kind."""
    return KINDS[request.param]


@pytest.fixture(params=["plain", "own"])
def make_numbering(request: pytest.FixtureRequest) -> type[Any]:
    """Give a class of trace functions that distinguish objects of a class, one of each kind."""
    return KINDS[request.param]


@pytest.fixture
def counts(make_counting: type[Any]) -> Callable[..., Counter[Any]]:
    """Set a trace function and give its counts, by any attributes of the events."""
    counting = make_counting()
    set_trace_function(counting)
    return counting.counts  # type: ignore[no-any-return]  # a class of KINDS


@pytest.fixture
def write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., None]]:
    """Give a function that writes modules, which can be imported until the test is over.

    What the test instrumented, and did not undo, is undone then.
    """
    monkeypatch.syspath_prepend(tmp_path)
    before = set(sys.modules)

    def write(name: str, source: str = "") -> None:
        path = tmp_path.joinpath(*name.split(".")).with_suffix(".py")
        path.parent.mkdir(exist_ok=True, parents=True)
        path.write_text(source)
        importlib.invalidate_caches()

    yield write
    for handle in list(_instrumentation.handles):
        handle.undo()
    for name in set(sys.modules) - before:
        module = sys.modules[name]
        attributes = object.__getattribute__(module, "__dict__")  # some compute theirs
        if str(attributes.get("__file__") or "").startswith(str(tmp_path)):
            del sys.modules[name]


@pytest.fixture(scope="session")
def python() -> Callable[..., str]:
    """Give a function that runs a program in a fresh Python and returns what it prints.

    Whatever it writes to stderr is an error.
    """

    def run(code: str, *options: str, stdin: str | None = None) -> str:
        where = str(Path(hypertrace.__file__).parent.parent)
        done = subprocess.run(
            [sys.executable, *options, *(["-c", code] if stdin is None else [])],
            input=stdin,
            env={**os.environ, "PYTHONPATH": where},
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )
        noise = (
            done.stderr.replace(">>> ", "").replace("... ", "").strip() if stdin else done.stderr
        )
        assert (done.returncode, noise) == (0, "")
        return done.stdout

    return run


def _labels_of(traced: TracedObject | None) -> Labels:
    return () if traced is None else (traced.class_name, repr(traced.props))


def _labels(event: TraceEvent) -> Labels:
    caller = event.caller
    place = caller.function_name, caller.filename, caller.module, caller.line, caller.column
    objects = *_labels_of(event.object), event.object.id, *_labels_of(event.parent_object)
    return *place, *objects, repr(event.id), repr(caller.props)


def _with_props(event: TraceEvent, props: dict[str, object]) -> TraceEvent:
    old = event.caller
    caller = Caller(old.function_name, old.filename, old.module, old.line, old.column, dict(props))
    return TraceEvent(event.id, event.object, event.parent_object, caller)


def _value_at(event: TraceEvent, path: str) -> Hashable:
    value: Any = event
    for name in path.split("."):
        value = None if value is None else getattr(value, name)
    return tuple(sorted(value.items())) if isinstance(value, Mapping) else value
