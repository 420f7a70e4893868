"""Patches: what takes a function's place is like it, and is put back in any order."""

from __future__ import annotations

import asyncio
import importlib
import importlib.util
import inspect
import logging
import pickle
import sys
import threading
from functools import partial
from types import ModuleType
from typing import TYPE_CHECKING, Any

import pytest

from hypertrace import _imports, swallowed_errors
from hypertrace.integrations import patches as module
from hypertrace.integrations.patches import Patches

from ..running import LONG, in_threads

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

SOURCE = '''
"""A library."""


def plain(a, b=2):
    """Add."""
    return a + b


async def coroutine(a):
    return a


class Base:
    def method(self, a):
        return ("base", a)

    async def ask(self):
        return "asked"

    @staticmethod
    def static(a):
        return ("static", a)

    @classmethod
    def of_class(cls, a):
        return (cls.__name__, a)


class Sub(Base):
    pass


class Own(Base):
    def method(self, a):
        return ("own", *super().method(a))


def __getattr__(name):
    if name == "lazy":
        return plain
    raise AttributeError(name)
'''


@pytest.fixture
def lib(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """Give an imported library."""
    (tmp_path / "fake_lib.py").write_text(SOURCE)
    monkeypatch.syspath_prepend(tmp_path)
    importlib.invalidate_caches()
    yield importlib.import_module("fake_lib")
    sys.modules.pop("fake_lib", None)


def marking(mark: str, seen: list[str]) -> Callable[[Any], Any]:
    """Return what makes a function that adds a mark to a list, and does the same as another."""

    def make(function: Any) -> Any:
        def marked(*args: Any, **kwargs: Any) -> Any:
            seen.append(mark)
            return function(*args, **kwargs)

        return marked

    return make


def replaced(owner: Any, name: str, mark: str, seen: list[str]) -> Patches:
    """Replace one function."""
    made = Patches()
    made.replace(owner, name, marking(mark, seen))
    return made


def state(lib: Any) -> list[dict[str, Any]]:
    """Return what a library and its classes have."""
    return [dict(vars(one)) for one in (lib, lib.Base, lib.Sub, lib.Own)]


@pytest.mark.parametrize("order", [(0, 1, 2), (2, 1, 0), (1, 0, 2), (1, 2, 0), (0, 2, 1)])
@pytest.mark.parametrize("path", ["plain", "Base.method", "Base.static", "Base.of_class"])
def test_patches_are_undone_in_any_order(lib: Any, path: str, order: tuple[int, ...]) -> None:
    """Each takes away its own layer, and at the end the library is what it was."""
    before = state(lib)
    owner, name = (lib, path) if "." not in path else (getattr(lib, path[:4]), path[5:])
    call: Callable[[], Any] = {
        "plain": lambda: lib.plain(1),
        "Base.method": lambda: lib.Base().method(1),
        "Base.static": lambda: lib.Base.static(1),
        "Base.of_class": lambda: lib.Sub.of_class(1),
    }[path]
    result, seen = call(), list[str]()
    layers = [replaced(owner, name, mark, seen) for mark in "abc"]
    assert call() == result
    assert seen == ["c", "b", "a"]
    left = ["a", "b", "c"]
    for index in order:
        layers[index].undo()
        left.remove("abc"[index])
        seen.clear()
        assert call() == result
        assert seen == left[::-1]
    assert state(lib) == before
    assert module._slots == {}


def test_a_function_that_is_inherited_is_put_back_by_removal(lib: Any) -> None:
    """A subclass that has no function of the name has none afterwards; its base is as before."""
    seen: list[str] = []
    patches = replaced(lib.Sub, "method", "sub", seen)
    assert lib.Base().method(1) == lib.Sub().method(1) == ("base", 1)
    assert seen == ["sub"]
    patches.undo()
    assert "method" not in vars(lib.Sub)


def test_a_subclass_with_its_own_function_is_counted_once(lib: Any) -> None:
    """What a subclass overrides runs as before, and through `super()` the base's is measured."""
    seen: list[str] = []
    patches = replaced(lib.Base, "method", "base", seen)
    assert lib.Own().method(1) == ("own", "base", 1)
    assert lib.Sub().method(1) == ("base", 1)
    assert seen == ["base", "base"]
    patches.undo()


def test_what_other_code_has_replaced_is_left(lib: Any, caplog: pytest.LogCaptureFixture) -> None:
    """It is logged; a patch upon it is undone, and so is one of the same name that comes later."""
    caplog.set_level(logging.WARNING)
    seen: list[str] = []
    below = replaced(lib, "plain", "below", seen)
    below_other = lib.plain

    def other(a: int) -> Any:
        return below_other(a)

    lib.plain = other
    above = replaced(lib, "plain", "above", seen)
    assert lib.plain(1) == 3
    assert seen == ["above", "below"]
    below.undo()
    assert "fake_lib.plain was replaced after hypertrace did" in caplog.text
    above.undo()
    assert lib.plain is other
    again = replaced(lib, "plain", "again", seen)
    again.undo()
    assert lib.plain is other
    assert module._slots == {}


def test_what_several_share_is_there_once(lib: Any) -> None:
    """A function that two integrations replace alike is measured once, until both are undone."""
    before, seen = state(lib), list[str]()
    make = marking("shared", seen)
    one, two, other = Patches(), Patches(), Patches()
    one.share(lib, "plain", make)
    other.replace(lib, "plain", marking("other", seen))
    two.share(lib, "plain", make)
    assert lib.plain(1) == 3
    assert seen == ["other", "shared"]
    one.undo()
    seen.clear()
    lib.plain(1)
    assert seen == ["other", "shared"]
    two.undo()
    seen.clear()
    lib.plain(1)
    assert seen == ["other"]
    other.undo()
    assert state(lib) == before
    assert module._slots == {}


def test_threads_may_share(lib: Any) -> None:
    """However they come and go, the function is measured once, and is put back."""
    before, seen = state(lib), list[str]()
    make = marking("shared", seen)

    def work() -> None:
        for _ in range(300):
            patches = Patches()
            patches.share(lib.Base, "method", make)
            patches.undo()

    kept = Patches()
    kept.share(lib.Base, "method", make)
    in_threads(*[work] * 4)
    lib.Base().method(1)
    assert seen == ["shared"]
    kept.undo()
    assert state(lib) == before


def test_a_reloaded_module_keeps_its_new_functions(lib: Any) -> None:
    """What was replaced is gone with the reload; it can be replaced again."""
    seen: list[str] = []
    patches = replaced(lib, "plain", "before", seen)
    importlib.reload(lib)
    new = lib.plain
    again = replaced(lib, "plain", "after", seen)
    assert lib.plain(1) == 3
    assert seen == ["after"]
    patches.undo()
    again.undo()
    assert lib.plain is new


def test_name_signature_and_kind_are_those_of_the_function(lib: Any) -> None:
    """Frameworks that look at functions see what they saw before."""
    signature, name = inspect.signature(lib.plain), lib.plain.__qualname__
    patches = replaced(lib, "plain", "a", [])
    assert (inspect.signature(lib.plain), lib.plain.__qualname__) == (signature, name)
    assert lib.plain.__doc__ == "Add."
    patches.replace(lib.Base, "static", marking("b", []))
    patches.replace(lib.Base, "of_class", marking("c", []))
    assert isinstance(vars(lib.Base)["static"], staticmethod)
    assert isinstance(vars(lib.Base)["of_class"], classmethod)
    patches.undo()


@pytest.mark.parametrize("path", ["coroutine", "Base.ask"])
def test_a_coroutine_function_stays_one(lib: Any, path: str) -> None:
    """Also where a plain function takes its place, as frameworks choose by it how to call it."""
    owner, name = (lib, path) if "." not in path else (lib.Base, "ask")
    args = (1,) if owner is lib else (lib.Base(),)
    expected = asyncio.run(getattr(owner, name)(*args))
    seen: list[str] = []
    patches = replaced(owner, name, "a", seen)
    function = getattr(owner, name)
    assert inspect.iscoroutinefunction(function)
    assert asyncio.run(function(*args)) == expected
    assert seen == ["a"]
    patches.undo()


def test_patched_functions_can_be_pickled(lib: Any) -> None:
    """By their names, as functions are: those of a module, of a class, and inherited ones."""
    patches = replaced(lib, "plain", "a", [])
    patches.replace(lib.Base, "method", marking("b", []))
    patches.replace(lib.Sub, "static", marking("c", []))
    for function in (lib.plain, lib.Base.method, lib.Sub.static):
        assert pickle.loads(pickle.dumps(function)) is function
    bound = pickle.loads(pickle.dumps(lib.Base().method))
    assert bound(1) == ("base", 1)
    inherited = pickle.dumps(lib.Sub.static)
    patches.undo()
    assert pickle.loads(inherited) is lib.Sub.static


def test_a_function_that_a_module_makes_when_asked_is_replaced(lib: Any) -> None:
    """As those of modules that import lazily; it is made again after `undo()`."""
    seen: list[str] = []
    patches = replaced(lib, "lazy", "lazy", seen)
    assert lib.lazy(1) == 3
    assert seen == ["lazy"]
    patches.undo()
    assert "lazy" not in vars(lib)
    assert lib.lazy is lib.plain


def test_a_function_that_is_not_there_is_an_error(lib: Any) -> None:
    """The library is another version; nothing is left behind."""
    patches = Patches()
    with pytest.raises(AttributeError, match="missing"):
        patches.replace(lib, "missing", marking("a", []))
    with pytest.raises(AttributeError, match="missing"):
        patches.replace(lib.Base, "missing", marking("a", []))
    assert module._slots == {}


def test_one_undo_that_fails_does_not_keep_the_others(lib: Any) -> None:
    """All are called, and then the error is raised."""
    before, plain = [], lib.plain
    patches = Patches()
    patches.replace(lib, "plain", marking("a", []))
    patches.then(lambda: 1 / 0)
    patches.then(lambda: before.append("last"))
    with pytest.raises(ZeroDivisionError):
        patches.undo()
    assert (before, lib.plain) == (["last"], plain)
    patches.undo()


def test_many_threads_may_patch_and_undo(lib: Any) -> None:
    """At the end the library is what it was."""
    before = state(lib)

    def work() -> None:
        for _ in range(200):
            patches = replaced(lib.Base, "method", "a", [])
            assert lib.Base().method(1) == ("base", 1)
            patches.undo()

    in_threads(*[work] * 4)
    assert state(lib) == before


@pytest.fixture
def unimported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str], str]]:
    """Give a function that makes a module that is not imported, and returns its name."""
    made: list[str] = []
    monkeypatch.syspath_prepend(tmp_path)

    def make(source: str) -> str:
        name = f"fake_module_{len(made)}"
        (tmp_path / f"{name}.py").write_text(source)
        importlib.invalidate_caches()
        made.append(name)
        return name

    yield make
    for name in made:
        sys.modules.pop(name, None)


def test_it_waits_for_an_import(unimported: Callable[[str], str]) -> None:
    """The function is called once, when the module is complete, in the thread that imports it."""
    name = unimported("a = 1\nb = 2")
    found: list[Any] = []
    patches = Patches()
    patches.when_imported(name, lambda: found.append((sys.modules[name].b, threading.get_ident())))
    assert found == []
    importlib.import_module(name)
    importlib.reload(sys.modules[name])
    assert found == [(2, threading.get_ident())]
    patches.when_imported(name, lambda: found.append("now"))
    assert found[1:] == ["now"]


def test_what_is_undone_waits_no_more(unimported: Callable[[str], str]) -> None:
    """However often it is installed and uninstalled, no hook stays, and nothing is kept."""
    name = unimported("")
    found: list[int] = []
    before = sys.meta_path.copy(), _imports._listeners.copy()
    for _ in range(100):
        patches = Patches()
        patches.when_imported(name, lambda: found.append(1))
        patches.undo()
    assert (sys.meta_path, _imports._listeners) == before
    importlib.import_module(name)
    assert found == []


def test_what_fails_does_not_reach_the_import(unimported: Callable[[str], str]) -> None:
    """It is counted; the others are called, and the module is imported."""
    name = unimported("")
    found: list[int] = []
    before = swallowed_errors()
    patches = Patches()
    patches.when_imported(name, lambda: 1 / 0)
    patches.when_imported(name, lambda: found.append(1))
    assert isinstance(importlib.import_module(name), ModuleType)
    assert (found, swallowed_errors() - before) == ([1], 1)


def test_an_import_that_fails_may_be_tried_again(unimported: Callable[[str], str]) -> None:
    """The function is called when one succeeds."""
    name = unimported("import builtins\nif not hasattr(builtins, 'fake_ready'): 1 / 0")
    found: list[int] = []
    patches = Patches()
    patches.when_imported(name, lambda: found.append(1))
    with pytest.raises(ZeroDivisionError):
        importlib.import_module(name)
    assert found == []
    builtins: Any = sys.modules["builtins"]
    builtins.fake_ready = 1
    try:
        importlib.import_module(name)
    finally:
        del builtins.fake_ready
    assert found == [1]


def test_an_import_inside_of_a_hook_is_seen(unimported: Callable[[str], str]) -> None:
    """A function that imports another module that is waited for lets its functions be called."""
    inner = unimported("value = 1")
    outer = unimported("value = 2")
    found: list[str] = []

    def import_inner() -> None:
        importlib.import_module(inner)
        found.append("outer")

    patches = Patches()
    patches.when_imported(inner, lambda: found.append("inner"))
    patches.when_imported(outer, import_inner)
    importlib.import_module(outer)
    assert found == ["inner", "outer"]


def test_a_module_that_another_thread_is_importing_is_waited_for(
    unimported: Callable[[str], str],
) -> None:
    """What is patched is complete, and not what is there half way through."""
    name = unimported("import builtins\nbuiltins.fake_import()\nlate = 1")
    entered, go = threading.Event(), threading.Event()

    def fake_import() -> None:
        entered.set()
        assert go.wait(LONG)

    found: list[bool] = []
    builtins: Any = sys.modules["builtins"]
    builtins.fake_import = fake_import
    try:
        importing = threading.Thread(target=importlib.import_module, args=(name,))
        importing.start()
        assert entered.wait(LONG)
        patches = Patches()
        patching = threading.Thread(
            target=patches.when_imported,
            args=(name, lambda: found.append(hasattr(sys.modules[name], "late"))),
        )
        patching.start()
        patching.join(0.05)
        assert found == []
        go.set()
        importing.join(LONG)
        patching.join(LONG)
    finally:
        go.set()
        del builtins.fake_import
    assert found == [True]


def test_threads_that_import_while_others_wait(unimported: Callable[[str], str]) -> None:
    """Whichever comes first, each function is called once."""
    for _ in range(20):
        name, found = unimported("value = 1"), list[int]()

        def wait(name: str = name, found: list[int] = found) -> None:
            Patches().when_imported(name, lambda: found.append(1))

        in_threads(*[partial(importlib.import_module, name)] * 2, *[wait] * 4)
        assert found == [1] * 4


def test_an_imported_module_has_the_loader_that_was_found(unimported: Callable[[str], str]) -> None:
    """It is what it would be otherwise: only the import itself is watched."""
    name, other = unimported("value = 1"), unimported("value = 1")
    Patches().when_imported(name, lambda: None)
    spec = importlib.util.find_spec(name)
    assert spec is not None
    loader: Any = spec.loader
    assert loader.get_data(spec.origin) == b"value = 1"
    found, usual = importlib.import_module(name), importlib.import_module(other)
    loaders = {type(one) for one in (found.__loader__, vars(found)["__spec__"].loader)}
    assert loaders == {type(usual.__loader__)}


@pytest.mark.filterwarnings("ignore:.*find_spec:ImportWarning")
def test_finders_that_find_nothing_are_passed(
    unimported: Callable[[str], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """As one of another library that watches imports, or one without `find_spec`."""

    class Old:
        def find_module(self, name: str, path: object = None) -> None:
            return None

    class Silent:
        def find_spec(self, name: str, path: object, target: object = None) -> None:
            return None

    name, found = unimported("value = 1"), list[int]()
    monkeypatch.setattr(sys, "meta_path", [Silent(), Old(), *sys.meta_path])
    Patches().when_imported(name, lambda: found.append(1))
    importlib.import_module(name)
    assert found == [1]
