"""Import hook: what a module and its loader are while they are watched, and calls after imports."""

import importlib
import importlib.resources
import importlib.util
import inspect
import os
import pkgutil
import sys
import zipfile
from collections.abc import Callable, Iterator
from functools import partial
from importlib.machinery import ModuleSpec, SourceFileLoader
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from hypertrace import swallowed_errors
from hypertrace._imports import FirstImport, add_listener, remove_listener, watch

from ..running import in_threads


class Listener:
    """Listener of modules whose names begin with one; it notes them."""

    def __init__(self, begin: str) -> None:
        self.begin = begin
        self.loaded: list[ModuleType] = []

    def _covers(self, name: str) -> bool:
        return name.startswith(self.begin)

    def _loaded(self, name: str, module: ModuleType) -> None:
        assert module.__name__ == name
        self.loaded.append(module)


@pytest.fixture
def listener() -> Iterator[Listener]:
    before = sys.meta_path.copy()
    made = Listener("wa_")
    add_listener(made)
    yield made
    assert remove_listener(made)
    assert not remove_listener(made)
    assert sys.meta_path == before


# --- loaders ----------------------------------------------------------------------------------


def test_a_wrapped_loader_gives_what_it_gives(
    write: Callable[..., None], listener: Listener, tmp_path: Path
) -> None:
    """It is of the class of the other, and has its source, data, resources and attributes."""
    write("wa_one.__init__", "VALUE = 1\n")
    (tmp_path / "wa_one" / "data.txt").write_text("text")
    spec = importlib.util.find_spec("wa_one")
    assert spec is not None
    loader: Any = spec.loader
    classes = type(loader), loader.__class__, isinstance(loader, SourceFileLoader)
    assert classes[0] is not SourceFileLoader
    assert classes[1:] == (SourceFileLoader, True)
    assert (loader.name, loader.path) == ("wa_one", str(tmp_path / "wa_one" / "__init__.py"))
    assert loader.is_package("wa_one") is True
    assert loader.get_source("wa_one") == "VALUE = 1\n"
    assert loader.get_data(str(tmp_path / "wa_one" / "data.txt")) == b"text"
    assert loader.get_code("wa_one").co_filename == loader.path
    loader.noted = 1
    module = importlib.util.module_from_spec(spec)
    assert inspect.getsource(module) == "VALUE = 1\n"
    assert importlib.resources.files(module).joinpath("data.txt").read_text() == "text"
    assert listener.loaded == []
    assert vars(module)["__loader__"] is loader
    loader.exec_module(module)
    assert listener.loaded == [module]
    own: Any = module.__loader__
    assert own.noted == 1
    assert own is spec.loader
    assert type(own) is SourceFileLoader
    with pytest.raises(AttributeError, match="'SourceFileLoader' object has no attribute 'other'"):
        loader.other  # noqa: B018


def test_pkgutil_reads_the_data_of_a_module_that_it_imports(
    write: Callable[..., None], listener: Listener, tmp_path: Path
) -> None:
    """`pkgutil.get_data` holds the wrapped loader while the module is imported."""
    write("wa_data.__init__")
    (tmp_path / "wa_data" / "data.txt").write_text("text")
    assert pkgutil.get_data("wa_data", "data.txt") == b"text"
    assert listener.loaded == [sys.modules["wa_data"]]


def test_modules_in_a_zip_file(
    listener: Listener, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They are reported each once, and keep the loader that all in the file share."""
    archive = tmp_path / "modules.zip"
    with zipfile.ZipFile(archive, "w") as file:
        file.writestr("wa_zip/__init__.py", "")
        file.writestr("wa_zip/inner.py", "def load(): pass\n")
    monkeypatch.syspath_prepend(archive)
    try:
        inner: Any = importlib.import_module("wa_zip.inner")
        package: Any = sys.modules["wa_zip"]
        assert listener.loaded == [package, inner]
        assert type(inner.__loader__).__name__ == type(package.__loader__).__name__ == "zipimporter"
        assert inspect.getsource(inner.load) == "def load(): pass\n"
    finally:
        sys.modules.pop("wa_zip.inner", None)
        sys.modules.pop("wa_zip", None)


def test_a_namespace_package_is_imported_as_before(
    write: Callable[..., None], listener: Listener
) -> None:
    """It runs no code, and is not reported; the modules in it are."""
    write("wa_space.inner")
    inner = importlib.import_module("wa_space.inner")
    package: Any = sys.modules.pop("wa_space")
    assert listener.loaded == [inner]
    assert type(package.__loader__).__name__ == "NamespaceLoader"


def test_a_finder_that_is_added_later_finds_no_module_alone(
    write: Callable[..., None],
) -> None:
    """One that stands first, as pytest's for its plugins, is asked by ours later."""
    asked = []

    class First:
        def find_spec(self, name: str, path: Any, target: Any = None) -> ModuleSpec | None:
            asked.append(name)
            return importlib.machinery.PathFinder.find_spec(name, path, target)

    write("wa_first.__init__", "")
    write("other_than_wa", "")
    listener, first = Listener("wa_"), First()
    before = sys.meta_path.copy()
    add_listener(listener)
    sys.meta_path.insert(0, first)
    try:
        with pytest.raises(ModuleNotFoundError):
            importlib.import_module("there_is_none_of_this_name")
        module = importlib.import_module("wa_first")
    finally:
        sys.meta_path.remove(first)
        remove_listener(listener)
    assert sys.meta_path == before
    assert listener.loaded == [module]
    assert asked == ["there_is_none_of_this_name", "wa_first"]


@pytest.mark.parametrize("kind", ["object", "slots"])
def test_a_loader_may_make_what_is_no_module(
    kind: str, listener: Listener, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What a loader makes is imported, whether it has attributes or not."""

    class Slots:
        __slots__ = ("__name__", "__spec__")

    made: Any = type("Plain", (), {})() if kind == "object" else Slots()

    class Other:
        @staticmethod
        def find_spec(name: str, path: object = None, target: object = None) -> Any:
            other: Any = Other()
            return ModuleSpec(name, other) if name == "wa_object" else None

        @staticmethod
        def create_module(spec: object) -> Any:
            return made

        @staticmethod
        def exec_module(module: object) -> None:
            made.__name__ = "wa_object"

    monkeypatch.setattr(sys, "meta_path", [*sys.meta_path, Other()])
    try:
        assert importlib.import_module("wa_object") is made
    finally:
        sys.modules.pop("wa_object", None)
    assert listener.loaded == [made]
    spec: Any = made.__spec__
    assert type(spec.loader) is Other
    assert type(getattr(made, "__loader__", Other())) is Other


def test_a_module_that_is_watched_and_fails_is_not_reported(
    write: Callable[..., None], listener: Listener
) -> None:
    """As one that instruments itself and then fails; its spec is a plain one."""
    specs: list[Any] = []
    listener.begin = "none"  # its loader is not wrapped

    def look() -> None:
        module = sys.modules["wa_fails"]
        assert watch("wa_fails", module)
        listener.begin = "wa_"
        specs.append(module.__spec__)

    gate: Any = ModuleType("wa_gate")
    gate.look = look
    sys.modules["wa_gate"] = gate
    write("wa_fails", "import wa_gate; wa_gate.look(); 1 / 0\n")
    try:
        with pytest.raises(ZeroDivisionError):
            importlib.import_module("wa_fails")
    finally:
        del sys.modules["wa_gate"]
    assert listener.loaded == []
    assert type(specs[0]) is ModuleSpec


# --- the first import ---------------------------------------------------------------------------


def test_a_module_that_waits_for_itself(write: Callable[..., None]) -> None:
    """A call for a module that is imported in the same thread comes after its code has run."""
    write("fi_self", "import fi_gate; fi_gate.wait(); late = 1\n")
    found: list[bool] = []
    first = FirstImport("fi_self", lambda: found.append(hasattr(sys.modules["fi_self"], "late")))
    gate: Any = ModuleType("fi_gate")
    gate.wait = first.wait
    sys.modules["fi_gate"] = gate
    before = sys.meta_path.copy()
    try:
        importlib.import_module("fi_self")
    finally:
        del sys.modules["fi_gate"]
    assert found == [True]
    assert sys.meta_path == before


def test_a_lazy_module_is_waited_for_until_its_code_runs(write: Callable[..., None]) -> None:
    """`LazyLoader` imports it without its code; the call comes on first use."""
    write("fi_lazy", "late = 1\n")
    found: list[int] = []
    FirstImport("fi_lazy", lambda: found.append(1)).wait()
    spec = importlib.util.find_spec("fi_lazy")
    assert spec is not None
    assert spec.loader is not None
    spec.loader = importlib.util.LazyLoader(spec.loader)
    module: Any = importlib.util.module_from_spec(spec)
    sys.modules["fi_lazy"] = module
    spec.loader.exec_module(module)
    assert found == []
    assert module.late == 1
    assert found == [1]


def test_a_call_that_fails_is_no_error_of_its_caller() -> None:
    """Where the module is imported already, too, it is counted and logged."""
    errors = swallowed_errors()
    FirstImport("sys", lambda: 1 / 0).wait()
    assert swallowed_errors() - errors == 1


def test_two_calls_for_a_module_that_threads_import(write: Callable[..., None]) -> None:
    """Each is called once, and so also if it fails; the hook is gone then."""
    before, errors = sys.meta_path.copy(), swallowed_errors()
    for number in range(20):
        name = f"fi_threads{number}"
        write(name, "value = 1\n")
        found: list[int] = []
        calls = [FirstImport(name, partial(found.append, of)) for of in range(2)]
        waits = [call.wait for call in calls]
        failing = FirstImport(name, lambda: 1 / 0)
        failing.wait()
        in_threads(*[partial(importlib.import_module, name)] * 2, *waits)
        for call in calls:
            call.end()
        assert sorted(found) == [0, 1]
    assert swallowed_errors() - errors == 20
    assert sys.meta_path == before


def test_listeners_come_and_go_in_threads() -> None:
    """The finder is there exactly while there are listeners."""
    before, stay = sys.meta_path.copy(), Listener("stay")
    wrong: list[int] = []

    def change() -> None:
        for _ in range(300):
            listener = Listener("none")
            add_listener(listener)
            if len(sys.meta_path) != len(before) + 1:
                wrong.append(len(sys.meta_path))
            remove_listener(listener)

    in_threads(*[change] * 4)
    assert (wrong, sys.meta_path) == ([], before)
    add_listener(stay)
    in_threads(*[change] * 4)
    assert (wrong, len(sys.meta_path)) == ([], len(before) + 1)
    remove_listener(stay)
    assert sys.meta_path == before


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs os.fork")
def test_a_child_may_wait_whatever_a_thread_of_its_parent_did(python: Callable[..., str]) -> None:
    """A lock that a thread holds while the process forks is another one in the child."""
    program = """
import os, threading
from hypertrace import _imports
held, go = threading.Event(), threading.Event()
def hold():
    with _imports._lock:
        held.set()
        go.wait(30)
thread = threading.Thread(target=hold)
thread.start()
held.wait(30)
child = os.fork()
if not child:
    first = _imports.FirstImport("this", lambda: None)
    done = threading.Thread(target=first.wait, daemon=True)
    done.start()
    done.join(10)
    os._exit(done.is_alive())
status = os.waitpid(child, 0)[1]
go.set()
thread.join(30)
print(status)
"""
    assert python(program, "-W", "ignore") == "0\n"


def test_the_hook_loads_no_heavy_module(python: Callable[..., str]) -> None:
    """Importing it loads neither wrapt nor what must come after gevent's patches."""
    program = (
        "import sys; before = set(sys.modules); import hypertrace._imports; "
        "print(sorted({'asyncio', 'ssl', 'wrapt', 'inspect'} & (sys.modules.keys() - before)))"
    )
    assert python(program) == "[]\n"
