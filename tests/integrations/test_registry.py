"""Registry: what is installed, when it takes effect, and that it leaves nothing behind."""

from __future__ import annotations

import importlib
import logging
import subprocess
import sys
import threading
from types import ModuleType
from typing import TYPE_CHECKING, Any

import pytest

from hypertrace import _imports, swallowed_errors
from hypertrace.integrations import (
    available,
    install,
    install_all,
    installed,
    patches,
    registry,
    uninstall,
)

from ..running import LONG, in_threads

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from hypertrace.integrations.patches import Patches

SOURCE = "def work(a):\n    return a + 1\n"

SEEN: list[tuple[str, object]] = []
"""What integrations have measured: the option of each, and the argument."""


class Integration:
    """An integration of a library of the same name."""

    library: str

    def __init__(self, *, mark: str = "", broken: bool = False) -> None:
        if not isinstance(mark, str):
            raise TypeError("mark must be a text")
        self.mark = mark
        self.broken = broken

    def patch(self, patches: Patches) -> None:
        library = sys.modules[self.library]

        def make(work: Callable[[Any], Any]) -> Callable[[Any], Any]:
            def measured(a: Any) -> Any:
                SEEN.append((self.mark, a))
                return work(a)

            return measured

        patches.replace(library, "work", make)
        if self.broken:
            patches.replace(library, "missing", make)


@pytest.fixture
def libraries(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """Give the names of two integrations, whose libraries are not imported."""
    names = ["fake_one", "fake_two"]
    monkeypatch.setattr(registry, "LIBRARIES", {name: name for name in names})
    monkeypatch.syspath_prepend(tmp_path)
    importlib.invalidate_caches()
    for name in names:
        (tmp_path / f"{name}.py").write_text(SOURCE)
        made: Any = ModuleType(f"hypertrace.integrations.{name}")
        made.Integration = type("Integration", (Integration,), {"library": name})
        monkeypatch.setitem(sys.modules, made.__name__, made)
    SEEN.clear()
    yield names
    uninstall()
    for name in names:
        sys.modules.pop(name, None)


@pytest.mark.usefixtures("libraries")
def test_an_integration_waits_for_its_library() -> None:
    """Nothing is imported that the application does not import."""
    install("fake_one")
    assert installed() == {"fake_one": False}
    assert "fake_one" not in sys.modules
    library = importlib.import_module("fake_one")
    assert installed() == {"fake_one": True}
    assert library.work(1) == 2
    assert SEEN == [("", 1)]


@pytest.mark.usefixtures("libraries")
def test_installing_again_does_nothing() -> None:
    """One call is measured once, before and after the import."""
    install("fake_one", "fake_one", mark="a")
    library = importlib.import_module("fake_one")
    install("fake_one", mark="a")
    assert library.work(1) == 2
    assert SEEN == [("a", 1)]
    with pytest.raises(ValueError, match=r"is installed with \{'mark': 'a'\}.*uninstall"):
        install("fake_two", "fake_one", mark="b")
    assert installed() == {"fake_one": True}


@pytest.mark.usefixtures("libraries")
@pytest.mark.parametrize("imported", [True, False])
def test_uninstall_leaves_the_library_as_it_was(imported: bool) -> None:
    """Also if it is imported later; again it does nothing, and it can be installed again."""
    library = importlib.import_module("fake_one") if imported else None
    before = None if library is None else library.work
    install("fake_one", mark="a")
    uninstall("fake_one")
    uninstall("fake_one", "fake_two")
    uninstall()
    library = importlib.import_module("fake_one")
    assert before is None or library.work is before
    assert library.work(1) == 2
    assert (SEEN, installed(), patches._slots) == ([], {}, {})
    install("fake_one", mark="b")
    library.work(2)
    assert SEEN == [("b", 2)]


def test_all_are_installed_without_a_library(libraries: list[str]) -> None:
    """`install_all` imports nothing, and gives options to those that have them."""
    assert available() == tuple(libraries)
    install_all(mark="a")
    install_all(mark="a")
    assert installed() == dict.fromkeys(libraries, False)
    for number, name in enumerate(libraries):
        assert name not in sys.modules
        importlib.import_module(name).work(number)
    assert SEEN == [("a", 0), ("a", 1)]
    uninstall()
    with pytest.raises(TypeError, match="no integration has the option 'colour'; there are: mark"):
        install_all(colour="red")
    with pytest.raises(TypeError, match="mark must be a text"):
        install_all(mark=3)
    assert installed() == {}


@pytest.mark.usefixtures("libraries")
@pytest.mark.parametrize(
    ("names", "options", "error", "text"),
    [
        ([], {}, ValueError, "needs a name: 'fake_one', 'fake_two'"),
        (["fake_tow"], {}, ValueError, "did you mean 'fake_two'"),
        ([3], {}, ValueError, "no integration 3"),
        ([["fake_one"]], {}, ValueError, r"no integration \['fake_one'\]: give names"),
        (["fake_one", "other"], {}, ValueError, "no integration 'other'"),
        (["FAKE-ONE "], {}, ValueError, "did you mean 'fake_one'"),
        (["fake_one.parts"], {}, ValueError, "did you mean 'fake_one'"),
        (["fake"], {}, ValueError, "did you mean 'fake_one' or 'fake_two'"),
        (["sqlite3"], {}, ValueError, r"call hypertrace.integrations.dbapi.trace_connection\("),
        (["fake_one"], {"colour": 1}, TypeError, "no option 'colour'; there are: mark, broken"),
        (["fake_one"], {"marc": "a"}, TypeError, "did you mean 'mark'"),
        (["fake_one"], {"mark": 1}, TypeError, "mark must be a text"),
    ],
)
def test_wrong_calls_are_errors_and_install_nothing(
    names: list[Any], options: dict[str, Any], error: type[Exception], text: str
) -> None:
    """The message says what there is."""
    with pytest.raises(error, match=text):
        install(*names, **options)
    assert installed() == {}


@pytest.mark.usefixtures("libraries")
@pytest.mark.parametrize("imported", [True, False])
def test_a_library_that_misses_a_function_is_left_alone(
    imported: bool, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The application goes on, with what was replaced put back; installing again tries again."""
    caplog.set_level(logging.WARNING)
    before = swallowed_errors()
    if imported:
        importlib.import_module("fake_one")
    install("fake_one", broken=True)
    library: Any = importlib.import_module("fake_one")
    assert library.work(1) == 2
    assert (SEEN, installed()) == ([], {"fake_one": False})
    assert swallowed_errors() - before == 1
    assert "'fake_one' is not installed" in caplog.text
    monkeypatch.setattr(library, "missing", lambda a: a, raising=False)
    install("fake_one", broken=True)
    library.work(2)
    assert (SEEN, installed()) == ([("", 2)], {"fake_one": True})


@pytest.mark.usefixtures("libraries")
def test_a_broken_log_handler_does_not_reach_the_import(monkeypatch: pytest.MonkeyPatch) -> None:
    """The library is imported, whatever logging does."""

    def fail(*_: object) -> None:
        raise OSError("disk full")

    monkeypatch.setattr(logging.getLogger("hypertrace"), "handle", fail)
    install("fake_one", broken=True)
    assert importlib.import_module("fake_one").work(1) == 2
    monkeypatch.undo()


@pytest.mark.usefixtures("libraries")
def test_many_threads_may_install_import_and_uninstall() -> None:
    """Each call is measured at most once, and nothing is left."""
    for _ in range(30):
        SEEN.clear()
        in_threads(
            *[lambda: install("fake_one", mark="a")] * 3,
            *[lambda: importlib.import_module("fake_one")] * 2,
        )
        library = importlib.import_module("fake_one")
        library.work(1)
        assert SEEN == [("a", 1)]
        in_threads(*[lambda: uninstall("fake_one")] * 2, *[uninstall] * 2)
        library.work(2)
        assert (SEEN, patches._slots) == ([("a", 1)], {})
        del sys.modules["fake_one"]


@pytest.mark.usefixtures("libraries")
def test_an_uninstall_during_the_import_leaves_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """What another thread is just replacing is put back, too."""
    entered, go = threading.Event(), threading.Event()
    patch = Integration.patch

    def slow(self: Integration, made: Patches) -> None:
        entered.set()
        assert go.wait(LONG)
        patch(self, made)

    monkeypatch.setattr(Integration, "patch", slow)
    install("fake_one")
    importing = threading.Thread(target=importlib.import_module, args=("fake_one",))
    importing.start()
    assert entered.wait(LONG)
    uninstall("fake_one")
    go.set()
    importing.join(LONG)
    sys.modules["fake_one"].work(1)
    assert (SEEN, patches._slots) == ([], {})


@pytest.mark.usefixtures("libraries")
def test_a_library_that_is_imported_once_more_can_be_installed_again() -> None:
    """As after a reload: the functions are others, and `uninstall` leaves them."""
    install("fake_one")
    first = importlib.import_module("fake_one")
    importlib.reload(first)
    uninstall()
    work = first.work
    install("fake_one")
    first.work(1)
    assert SEEN == [("", 1)]
    uninstall()
    assert first.work is work


@pytest.mark.usefixtures("libraries")
def test_what_waits_is_bounded() -> None:
    """However often it is installed without its library, nothing is left."""
    before = sys.meta_path.copy(), _imports._listeners.copy()
    for _ in range(50):
        install_all()
        uninstall()
    assert (sys.meta_path, _imports._listeners) == before


def test_nothing_is_imported_that_the_application_does_not_import() -> None:
    """Not even of the standard library, what is large, or must come after gevent's patches."""
    code = """
import sys
from hypertrace.integrations import install_all
install_all()
heavy = {"asyncio", "concurrent.futures", "email", "http.client", "pickle", "ssl", "wrapt"}
print(sorted(heavy & set(sys.modules)))
"""
    run = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=LONG
    )
    assert run.stdout == "[]\n", run.stderr
