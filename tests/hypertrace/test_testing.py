"""Capture of events, and reset of the state of the process."""

import importlib
import pkgutil
import threading

import pytest

import hypertrace
from hypertrace import Tracer, get_trace_function, set_trace_function, swallowed_errors
from hypertrace.testing import capture_events, reset


def test_events_are_captured_in_order() -> None:
    """Within the block each event is added to the list as it happens."""
    with capture_events() as events:
        tracer = Tracer("a")
        tracer.trace("first")
        assert [event.id for event in events] == ["first"]
        tracer.trace("second")
    tracer.trace("third")
    assert [event.id for event in events] == ["first", "second"]


def test_afterwards_there_is_no_trace_function() -> None:
    """Where none was set before, none is set afterwards."""
    with capture_events():
        assert get_trace_function() is not None
    assert get_trace_function() is None


def test_afterwards_the_trace_function_is_as_before() -> None:
    """The trace function that was set before is replaced within the block, and set again."""
    before: list[object] = []
    set_trace_function(before.append)
    tracer = Tracer("a")
    with capture_events() as outer:
        tracer.trace("outer")
        with capture_events() as inner:
            tracer.trace("inner")
        tracer.trace("outer")
    tracer.trace("before")
    assert [event.id for event in outer] == ["outer", "outer"]
    assert [event.id for event in inner] == ["inner"]
    assert len(before) == 1


def test_an_error_in_the_block_passes() -> None:
    """An error ends the block like any other, and is not swallowed."""
    with pytest.raises(LookupError), capture_events():
        raise LookupError
    assert get_trace_function() is None


def test_events_of_other_threads_are_captured() -> None:
    """The list has the events of the whole process."""
    with capture_events() as events:
        thread = threading.Thread(target=Tracer("thread").trace)
        thread.start()
        thread.join()
    assert [event.object.class_name for event in events] == ["thread"]


def test_reset_puts_everything_back(caplog: pytest.LogCaptureFixture) -> None:
    """After a reset nothing is set, counted or remembered."""
    Tracer("early")
    set_trace_function(lambda _: 1 / 0)
    Tracer("a").trace()
    assert swallowed_errors() == 1
    clean = Tracer("late")
    reset()
    assert get_trace_function() is None
    assert swallowed_errors() == 0
    clean.trace()
    Tracer("forgotten")
    reset()
    caplog.clear()
    with caplog.at_level("INFO"):
        set_trace_function(print)
    assert caplog.records == []


def test_reset_reaches_each_module_with_state(monkeypatch: pytest.MonkeyPatch) -> None:
    """`reset` calls the `reset` function of each module of the core that has one."""
    found = [m.name for m in pkgutil.iter_modules(hypertrace.__path__) if not m.ispkg]
    names = [name for name in found if name.startswith("_") and not name.startswith("__")]
    modules = [importlib.import_module(f"hypertrace.{name}") for name in names]
    stateful = [module for module in modules if hasattr(module, "reset")]
    done: list[str] = []
    for module in stateful:
        monkeypatch.setattr(module, "reset", lambda name=module.__name__: done.append(name))
    reset()
    assert sorted(done) == sorted(module.__name__ for module in stateful) != []


def test_after_a_reset_no_span_is_open() -> None:
    """A span that was left open encloses no span that starts after a `reset`."""
    with capture_events():
        Tracer("a").span().__enter__()
    reset()
    with capture_events() as events, Tracer("b").span():
        pass
    assert [event.upstream for event in events if isinstance(event, hypertrace.SpanEvent)] == [None]
