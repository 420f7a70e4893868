"""Tracers made while no trace function was set: how many, of which classes."""

import gc
import logging
import threading
import weakref
from types import ModuleType
from typing import Any

import pytest

from hypertrace import Tracer, _silent, set_trace_function, silent_tracers
from hypertrace.testing import reset


class Swarm:
    def __init__(self) -> None:
        self.tracer = Tracer(self)


def test_silent_tracers_are_counted_by_class_name() -> None:
    """Each disabled tracer counts under the name that an enabled one would have."""
    assert silent_tracers() == {}
    for _ in range(3):
        Swarm()
    Tracer(Swarm)
    Tracer("Swarm")
    Tracer("shop")
    Tracer(ModuleType("shop"))
    assert silent_tracers() == {"Swarm": 5, "shop": 2}


def test_enabled_tracers_are_not_counted() -> None:
    """Only tracers made while no trace function is set are silent; the count stays."""
    Swarm()
    set_trace_function(print)
    Swarm()
    assert silent_tracers() == {"Swarm": 1}
    reset()
    assert silent_tracers() == {}


def test_class_names_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """Past the bound all other names count as one, also one that is called like that."""
    monkeypatch.setattr(_silent, "MAX_NAMES", 3)
    monkeypatch.setattr(_silent, "MAX_CLASSES", 5)
    for name in ("<other>", "a", "b"):
        Tracer(name)
    for number in range(20):
        cls = type(f"C{number}", (), {})
        for _ in range(2):
            Tracer(cls())
    assert silent_tracers() == {"<other>": 41, "a": 1, "b": 1}
    assert len(_silent._by_class) <= 5


def test_classes_at_an_address_used_again_are_counted_by_their_own_names() -> None:
    """A class is not kept, and one that takes its place in memory is never mistaken for it."""
    addresses = set()
    for number in range(50):
        cls = type(f"C{number}", (), {"__slots__": ()})
        addresses.add(id(cls))
        Tracer(cls())
        gone = weakref.ref(cls)
        del cls
        gc.collect()
        assert gone() is None
    assert silent_tracers() == {f"C{number}": 1 for number in range(50)}
    assert len(addresses) < 50, "nothing was tried: no address was used again"


def test_threads_are_counted_exactly() -> None:
    """However many threads make tracers, each counts."""
    threads = [threading.Thread(target=lambda: [Swarm() for _ in range(500)]) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert silent_tracers() == {"Swarm": 4_000}


def test_a_hostile_class_is_counted() -> None:
    """A class that can be neither hashed nor compared, and has another name, is no error."""

    class Meta(type):
        __hash__ = None  # type: ignore[assignment]

        def __eq__(cls, _: object) -> bool:
            raise RuntimeError("no comparison")

        @property
        def __name__(cls) -> str:  # type: ignore[override]
            raise RuntimeError("no name")

    class Hostile(metaclass=Meta):
        def __init__(self) -> None:
            self.tracer = Tracer(self)

    for _ in range(2):
        Hostile()
    assert silent_tracers() == {"Hostile": 2}


def test_a_program_without_a_trace_function_logs_nothing(caplog: pytest.LogCaptureFixture) -> None:
    """A library's tracers are silent in the log as well, as long as no trace function is set."""
    caplog.set_level(logging.DEBUG)
    for _ in range(100):
        Swarm().tracer.trace()
    assert silent_tracers() == {"Swarm": 100}
    assert caplog.records == []


def test_the_classes_with_most_are_named_first(caplog: pytest.LogCaptureFixture) -> None:
    """The warning names the classes with most silent tracers."""
    for number in range(8):
        for _ in range(number + 1):
            Tracer(f"class {number}")
    set_trace_function(print)
    names = [f"class {number}" for number in (7, 6, 5, 4, 3)]
    assert "36 tracers were made before" in caplog.text
    assert f"of {', '.join(names)} and 3 other classes; call set_trace_function()" in caplog.text


def test_a_log_handler_that_raises_does_no_harm(monkeypatch: pytest.MonkeyPatch) -> None:
    """The trace function is set, and the error is swallowed."""

    def fail(*_: Any, **__: Any) -> None:
        raise RuntimeError("no log")

    monkeypatch.setattr(logging.getLogger("hypertrace"), "warning", fail)
    Swarm()
    set_trace_function(print)
    assert Swarm().tracer.enabled
