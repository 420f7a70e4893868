"""Instrumentation and imports: modules that come later, again, or are just being imported."""

import importlib
import importlib.util
import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from importlib.machinery import PathFinder
from pathlib import Path
from typing import Any

import pytest

from hypertrace import SpanEvent, instrument, instrumented, swallowed_errors
from hypertrace.testing import capture_events

SOURCE = '''
"""A module."""


def load(name):
    return name


class Cart:
    def put(self, item):
        return item
'''


@pytest.fixture
def events() -> Iterator[list[Any]]:
    with capture_events() as captured:
        yield captured


def _names(events: list[SpanEvent]) -> Counter[str]:
    return Counter(f"{event.object.class_name}.{event.caller.function_name}" for event in events)


# --- later ------------------------------------------------------------------------------------


def test_importing_leaves_no_trace(write: Callable[..., None]) -> None:
    """Modules have the loaders that they have without tracing, also while their code runs."""
    write("im_one.__init__", "import type_of_loader\n")
    write("type_of_loader", "loader = None\n")
    write("im_one.inner", "loader, spec = type(__loader__), type(__spec__.loader)\n")
    finders = list(sys.meta_path)
    with instrument("im_one"):
        inner: Any = importlib.import_module("im_one.inner")
        plain: Any = importlib.import_module("type_of_loader")
        expected = type(plain.__spec__.loader)
        assert inner.loader is inner.spec is expected
        assert type(inner.__loader__) is type(inner.__spec__.loader) is expected
        assert type(inner.__spec__) is type(plain.__spec__)
    assert sys.meta_path == finders


def test_each_later_module_is_traced_by_all_that_cover_it(
    write: Callable[..., None], events: list[Any]
) -> None:
    """Patterns of packages and exact names wait for the same module; undone ones do not."""
    write("im_two.__init__")
    write("im_two.late", SOURCE)
    handles = [instrument(t) for t in ("im_two", "im_two.late:load", "im_two.late:Cart.*")]
    instrument("im_two").undo()
    late: Any = importlib.import_module("im_two.late")
    late.load(1)
    late.Cart().put(1)
    assert _names(events) == {"im_two.late.load": 1, "Cart.put": 1}
    for handle in handles:
        assert handle.names
        handle.undo()
    assert instrumented() == []


@pytest.mark.parametrize("by_finder", [True, False])
def test_modules_of_lazy_loaders_stay_lazy(
    by_finder: bool,
    write: Callable[..., None],
    events: list[Any],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A module that runs its code on first use is traced from then on."""
    write("im_lazy", f"ran = []\n{SOURCE}\nran.append(1)\n")

    class Lazy:
        @staticmethod
        def find_spec(name: str, path: Any = None, target: Any = None) -> Any:
            spec = PathFinder.find_spec(name, path, target)
            if spec is not None and spec.loader is not None and name == "im_lazy":
                spec.loader = importlib.util.LazyLoader(spec.loader)
            return spec

    if by_finder:
        monkeypatch.setattr(sys, "meta_path", [Lazy, *sys.meta_path])
    with instrument("im_lazy") as handle:
        spec = importlib.util.find_spec("im_lazy")
        assert spec is not None
        assert spec.loader is not None
        if not by_finder:
            spec.loader = importlib.util.LazyLoader(spec.loader)
        module: Any = importlib.util.module_from_spec(spec)
        sys.modules["im_lazy"] = module
        spec.loader.exec_module(module)
        assert handle.names == []
        assert type(module).__name__ == "_LazyModule"
        assert module.load(1) == 1
        assert module.load(1) == 1
        assert handle.names == ["im_lazy:load", "im_lazy:Cart.put"]
    assert _names(events)["im_lazy.load"] >= 1


def test_other_import_hooks_work_together(write: Callable[..., None], events: list[Any]) -> None:
    """Hooks before and after that search again, as those of other tools, get the module once."""
    write("im_hooks", SOURCE)
    searched: list[str] = []

    class Other:
        """Finds through all finders, as the hooks of wrapt do."""

        busy = False

        @classmethod
        def find_spec(cls, name: str, path: Any = None, target: Any = None) -> Any:
            if cls.busy or name != "im_hooks":
                return None
            cls.busy = True
            searched.append(name)
            try:
                return importlib.util.find_spec(name)
            finally:
                cls.busy = False

    for before in (True, False):
        events.clear()
        searched.clear()
        handle = instrument("im_hooks")
        place = 0 if before else 1
        sys.meta_path.insert(place, Other)
        try:
            module: Any = importlib.import_module("im_hooks")
            module.load(1)
        finally:
            sys.meta_path.remove(Other)
            handle.undo()
            del sys.modules["im_hooks"]
        assert _names(events) == {"im_hooks.load": 1}
        assert searched == ["im_hooks"]


def test_a_module_that_fails_fails_as_before(write: Callable[..., None]) -> None:
    """Its exception passes, and it can be imported once it is fixed."""
    write("im_wrong", "raise LookupError('own')\n")
    with instrument("im_wrong") as handle:
        with pytest.raises(LookupError, match="own"):
            importlib.import_module("im_wrong")
        assert "im_wrong" not in sys.modules
        write("im_wrong", SOURCE + "\n# longer\n")
        importlib.import_module("im_wrong")
        assert "im_wrong:load" in handle.names


def test_a_package_may_instrument_itself(write: Callable[..., None], events: list[Any]) -> None:
    """What its code defines after the call is traced once the code has run."""
    write(
        "im_self.__init__",
        f"import hypertrace\nhandle = hypertrace.instrument('im_self')\n{SOURCE}",
    )
    module: Any = importlib.import_module("im_self")
    module.load(1)
    assert _names(events) == {"im_self.load": 1}
    assert type(module.__spec__).__name__ == "ModuleSpec"
    assert module.handle.names == ["im_self:load", "im_self:Cart.put"]


def test_a_module_that_another_thread_imports(
    write: Callable[..., None], events: list[Any]
) -> None:
    """It is traced once its code has run there."""
    write("im_slow", f"import im_gate\nim_gate.wait()\n{SOURCE}")
    gate: Any = type(sys)("im_gate")
    began, go_on = threading.Event(), threading.Event()

    def wait() -> None:
        began.set()
        go_on.wait(30)

    gate.wait = wait
    sys.modules["im_gate"] = gate
    thread = threading.Thread(target=importlib.import_module, args=("im_slow",))
    try:
        thread.start()
        assert began.wait(30)
        with instrument("im_slow") as handle:
            assert handle.names == []
            go_on.set()
            thread.join(30)
            sys.modules["im_slow"].load(1)
    finally:
        go_on.set()
        thread.join(30)
        del sys.modules["im_gate"]
    assert _names(events) == {"im_slow.load": 1}


def test_an_error_in_a_later_module_is_no_error_of_the_import(
    write: Callable[..., None], caplog: pytest.LogCaptureFixture, events: list[Any]
) -> None:
    """Of several patterns the others are traced; the log says what is wrong."""
    write("im_some", SOURCE)
    with instrument(["im_some:lod", "im_some:Cart.*"]) as handle:
        module: Any = importlib.import_module("im_some")
        assert handle.names == ["im_some:Cart.put"]
        module.Cart().put(1)
    (line,) = caplog.messages
    assert "has no function or method 'lod'" in line
    assert len(events) == 1
    assert swallowed_errors() == 0


# --- again ------------------------------------------------------------------------------------


@pytest.mark.parametrize("target", ["im_re", "im_re:*", "im_re:load"])
def test_a_reloaded_module_is_traced_again(
    target: str, write: Callable[..., None], events: list[Any], tmp_path: Path
) -> None:
    """New code is traced like the old, however often, and undone to what it is."""
    write("im_re", SOURCE)
    module: Any = importlib.import_module("im_re")
    handle = instrument(target)
    for number in range(5):
        write("im_re", f"{SOURCE}\nnumber = {number}\n\n\ndef new{number}(): return 1\n")
        (tmp_path / "__pycache__" / f"im_re.{sys.implementation.cache_tag}.pyc").unlink(
            missing_ok=True
        )
        assert importlib.reload(module) is module
        assert module.number == number
        assert module.load("a") == "a"
        assert f"im_re:new{number}" in handle.names or target == "im_re:load"
    assert _names(events) == {"im_re.load": 5}
    assert len(handle.names) == len(set(handle.names))
    handle.undo()
    module.load("a")
    assert len(events) == 5
    assert not hasattr(module.load, "__wrapped__")
    assert instrumented() == []


def test_a_module_that_is_imported_once_more_is_traced_again(
    write: Callable[..., None], events: list[Any]
) -> None:
    """Removed from `sys.modules` and imported again, it is another module with other functions."""
    write("im_new", SOURCE)
    first: Any = importlib.import_module("im_new")
    original = first.load
    with instrument("im_new") as handle:
        del sys.modules["im_new"]
        second: Any = importlib.import_module("im_new")
        assert second is not first
        second.load("a")
        second.Cart().put("a")
        assert _names(events) == {"im_new.load": 1, "Cart.put": 1}
        assert len(handle.names) == 2
        assert first.load is original  # restored, since nothing refers to it by its name
    assert not hasattr(second.load, "__wrapped__")
    assert len(events) == 2


def test_a_reload_that_fails_leaves_what_is_there_traced(
    write: Callable[..., None], events: list[Any], tmp_path: Path
) -> None:
    """Functions that the new code did not reach stay as they are; the next reload traces all."""
    write("im_half", SOURCE)
    module: Any = importlib.import_module("im_half")
    with instrument("im_half"):
        for source in ("1 / 0", f"{SOURCE}\n# again"):
            write("im_half", source)
            (tmp_path / "__pycache__" / f"im_half.{sys.implementation.cache_tag}.pyc").unlink(
                missing_ok=True
            )
            try:
                importlib.reload(module)
            except ZeroDivisionError:
                assert source == "1 / 0"
            module.load("a")
    assert _names(events) == {"im_half.load": 2}
    module.load("a")
    assert len(events) == 2


def test_calls_that_run_while_tracing_ends_end_as_spans(
    write: Callable[..., None], events: list[Any]
) -> None:
    """A function, a generator and a coroutine that run meanwhile are one span each, and go on."""
    write(
        "im_run",
        "def call(inside): return inside()\n"
        "def steps():\n    yield 1\n    yield 2\n"
        "async def wait(inside): return inside()\n",
    )
    module: Any = importlib.import_module("im_run")
    handle = instrument("im_run")
    generator = module.steps()
    assert next(generator) == 1
    assert module.call(handle.undo) is None
    assert list(generator) == [2]
    assert _names(events) == {"im_run.call": 1, "im_run.steps": 1}
    with instrument("im_run") as second:
        coroutine = module.wait(second.undo)
        with pytest.raises(StopIteration):
            coroutine.send(None)
    assert _names(events)["im_run.wait"] == 1
    module.call(int)
    assert len(events) == 3


def test_switching_on_and_off_while_threads_call_and_import(
    write: Callable[..., None], events: list[Any]
) -> None:
    """Calls give what they give, nothing is swallowed, and nothing is left."""
    write("im_hot.__init__", SOURCE)
    for number in range(30):
        write(f"im_hot.m{number}", SOURCE)
    module: Any = importlib.import_module("im_hot")
    before = {name: id(value) for name, value in vars(module).items()}
    ended = threading.Event()
    wrong: list[object] = []

    def call() -> None:
        while not ended.is_set():
            if module.load(1) != 1 or module.Cart().put(2) != 2:
                wrong.append(1)

    def imports() -> None:
        modules = (importlib.import_module(f"im_hot.m{number}") for number in range(30))
        wrong.extend(module.load(number) - number for number, module in enumerate(modules))

    threads = [threading.Thread(target=target) for target in (call, call, imports)]
    for thread in threads:
        thread.start()
    try:
        for _ in range(100):
            with instrument("im_hot"), instrument("im_hot.**:Cart.*"):
                pass
    finally:
        ended.set()
        for thread in threads:
            thread.join(30)
    assert wrong == [0] * 30
    assert swallowed_errors() == 0
    assert {n: id(v) for n, v in vars(module).items() if not n.startswith("m")} == before
    assert instrumented() == []
    for number in range(30):
        assert not hasattr(sys.modules[f"im_hot.m{number}"].load, "__wrapped__")
