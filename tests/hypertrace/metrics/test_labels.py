"""Label values of a series, made of what hypertrace reports of an event."""

from __future__ import annotations

import enum
import importlib
import os
import runpy
import sys
import tracemalloc
import zipfile
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hypertrace import Caller, TracedObject, TraceEvent, Upstream
from hypertrace.metrics import labels as label
from hypertrace.metrics.labels import Labeller, clean, import_path

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from hypertrace.metrics.labels import Values


class Plain(enum.Enum):
    RED = "red"


class Mixin(str, enum.Enum):  # noqa: UP042 -- what code older than StrEnum has
    RED = "red"


class Text(enum.StrEnum):
    RED = "red"


class Number(enum.IntEnum):
    ONE = 1


class StrRaises:
    def __str__(self) -> str:
        raise RuntimeError("no text for you")


class StrIsNumber:
    text: Any = 42

    def __str__(self) -> str:
        return self.text  # type: ignore[no-any-return]


class StrRecurses:
    def __str__(self) -> str:
        return f"again {self}"


class ClassRaises:
    @property  # type: ignore[misc]
    def __class__(self) -> type:
        raise RuntimeError("no class either")

    def __str__(self) -> str:
        raise RuntimeError("no text for you")


class StrSubclassRaises(str):
    __slots__ = ()

    def __getitem__(self, _: Any) -> str:
        raise RuntimeError("no part of it")

    def __len__(self) -> int:
        raise RuntimeError("no length")

    def __str__(self) -> str:
        raise RuntimeError("no text")

    def encode(self, *_: Any) -> bytes:
        raise RuntimeError("no bytes")


class Hostile:
    """Has text, but nothing else of it works."""

    def __str__(self) -> str:
        return "hostile"

    def __hash__(self) -> int:
        raise RuntimeError("no hash")

    def __eq__(self, _: object) -> bool:
        raise RuntimeError("no comparison")

    def __len__(self) -> int:
        raise RuntimeError("no length")

    def __bool__(self) -> bool:
        raise RuntimeError("no truth")

    def __format__(self, _: str) -> str:
        raise RuntimeError("no format")


def labeller(*allowed: str, max_length: int = 256, object_ids: bool = False) -> Labeller:
    names = {prop: clean(prop) for prop in allowed}
    return Labeller(names, max_length, object_ids=object_ids)


def of_site(labeller: Labeller, event: TraceEvent) -> dict[str, str]:
    """Give the labels of an event that have a value, but those of the call's own props."""
    return labelled(labeller.site_names, labeller.of_site(event))


def of_props(labeller: Labeller, props: Mapping[str, object] | None) -> dict[str, str]:
    """Give the labels of the call's own props that have a value."""
    return labelled(labeller.prop_names, labeller.of_props(props))


def labelled(names: Values, values: Values) -> dict[str, str]:
    return {name: value for name, value in zip(names, values, strict=True) if value}


def event_of(
    traced: TracedObject, parent: TracedObject | None = None, trace_id: Any = None
) -> TraceEvent:
    caller = Caller("connect", "/srv/app/net/swarm.py", "net.swarm", 7, 9)
    return TraceEvent(trace_id, traced, parent, caller)


def test_an_event_has_the_labels_of_class_function_and_file() -> None:
    """Without id, parent and props, three labels are left."""
    assert of_site(labeller(), event_of(TracedObject("Swarm", 1))) == {
        "object_classname": "Swarm",
        "caller_functionname": "connect",
        "caller_filename": "net/swarm.py",
    }


def test_an_event_has_every_label_that_it_has_a_value_for() -> None:
    """Id, parent, allowed props of object and parent, and numbers of both become labels."""
    event = event_of(
        TracedObject("Swarm", 3, {"topic": "books", "secret": 1}),
        TracedObject("Network", 2, {"topic": "all"}),
        "dial",
    )
    assert of_site(labeller("topic", object_ids=True), event) == {
        "object_classname": "Swarm",
        "object_id": "3",
        "object_props_topic": "books",
        "caller_functionname": "connect",
        "caller_filename": "net/swarm.py",
        "id": "dial",
        "parent_object_classname": "Network",
        "parent_object_id": "2",
        "parent_object_props_topic": "all",
    }


def test_numbers_of_objects_are_labels_only_if_wanted() -> None:
    """Without object_ids no label distinguishes one object from another."""
    of_objects = labeller().of_objects
    assert of_objects(TracedObject("A", 1), TracedObject("B", 1)) == of_objects(
        TracedObject("A", 2), TracedObject("B", 2)
    )


def test_props_of_a_call_have_labels_of_their_own() -> None:
    """Allowed props of the call are found under their prefix, all others are ignored."""
    props = {"topic": "books", "peer": "x", "password": "secret"}
    assert of_props(labeller("topic", "peer", "port"), props) == {
        "caller_props_topic": "books",
        "caller_props_peer": "x",
    }
    assert of_props(labeller("topic"), None) == {}


@pytest.mark.parametrize(
    ("prop", "name"),
    [
        ("peer-id", "peer_id"),
        ("a.b c", "a_b_c"),
        ("größe", "gr__e"),
        ("1st", "1st"),
        ("_x", "_x"),
        ("x\n\"'{}", "x_____"),
    ],
)
def test_names_of_props_are_cleaned(prop: str, name: str) -> None:
    """What is no ASCII letter, digit or underscore in a prop's name becomes an underscore."""
    assert clean(prop) == name
    assert of_props(labeller(prop), {prop: 1}) == {f"caller_props_{name}": "1"}


def test_an_id_that_is_no_string_becomes_text() -> None:
    """An id of the wrong type is counted under its text."""
    assert of_site(labeller(), event_of(TracedObject("A", 1), None, 7))["id"] == "7"


VALUES: dict[str, tuple[object, str]] = {
    "text": ("plain", "plain"),
    "empty": ("", ""),
    "bytes": (b"caf\xc3\xa9", "café"),
    "bytes that are no UTF-8": (b"\xff\x00", "\\xff\x00"),
    "enum": (Plain.RED, "Plain.RED"),
    "enum with str": (Mixin.RED, "red"),
    "StrEnum": (Text.RED, "red"),
    "IntEnum": (Number.ONE, "1"),
    "int": (1, "1"),
    "bool": (True, "True"),
    "float": (1.0, "1.0"),
    "nan": (float("nan"), "nan"),
    "lone surrogate": ("\ud800", "\\ud800"),
    "newline": ("a\nb", "a\nb"),
    "quote": ('a"b', 'a"b'),
    "backslash": ("a\\b", "a\\b"),
    "NUL": ("a\0b", "a\0b"),
    "list": (["x"], "['x']"),
    "str raises": (StrRaises(), "<unprintable StrRaises>"),
    "str is a number": (StrIsNumber(), "<unprintable StrIsNumber>"),
    "str recurses": (StrRecurses(), "<unprintable StrRecurses>"),
    "class raises": (ClassRaises(), "<unprintable ClassRaises>"),
    "str whose methods raise": (StrSubclassRaises("as it is"), "as it is"),
    "all but str raises": (Hostile(), "hostile"),
}


@pytest.mark.parametrize(("value", "text"), VALUES.values(), ids=VALUES)
def test_any_value_becomes_text(value: object, text: str) -> None:
    """Every value has a text, and whatever it raises is not raised."""
    assert labeller().text(value) == text
    assert labeller("p").of_props({"p": value}) == (text,)


def test_none_stands_for_no_value() -> None:
    """A prop that is None makes no label."""
    assert of_props(labeller("topic"), {"topic": None}) == {}


@pytest.mark.parametrize("length", [16, 256, 300])
def test_long_values_are_cut(length: int) -> None:
    """A text longer than allowed is cut to that length, with an ellipsis at its end."""
    text = labeller(max_length=length).text
    assert text("x" * length) == "x" * length
    assert text("x" * (length + 1)) == "x" * (length - 1) + "…"
    assert text("é".encode() * (length + 1)) == "é" * (length - 1) + "…"
    assert text(["x" * length]) == "['" + "x" * (length - 3) + "…"
    assert len(text("\ud800" * length)) == length


def test_names_and_ids_are_cut_like_props() -> None:
    """Class, function and id are no longer than allowed, either."""
    caller = Caller("f" * 99, "/srv/x.py", "x")
    event = TraceEvent("i" * 99, TracedObject("C" * 99, 1), None, caller)
    labels = of_site(labeller(max_length=16), event)
    assert {len(value) for name, value in labels.items() if name != label.FILE} == {16}


@pytest.mark.parametrize("value", ["é" * 10_000_000, b"\xff" * 10_000_000], ids=["str", "bytes"])
def test_huge_values_are_not_copied(value: str | bytes) -> None:
    """Text of 10 MB is cut before anything is done with all of it."""
    text = labeller().text
    tracemalloc.start()
    try:
        assert text(value).endswith("…")
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 100_000


def test_there_is_a_value_for_each_name() -> None:
    """Names and values are parallel, whatever an event has; what it lacks is empty text."""
    one = labeller("topic", "peer", object_ids=True)
    assert one.site_names == (
        "object_classname",
        "object_id",
        "object_props_topic",
        "object_props_peer",
        "parent_object_classname",
        "parent_object_id",
        "parent_object_props_topic",
        "parent_object_props_peer",
        "caller_functionname",
        "caller_filename",
        "id",
    )
    assert one.prop_names == ("caller_props_topic", "caller_props_peer")
    swarm, network = TracedObject("Swarm", 3, {"peer": "x"}), TracedObject("Network", 2)
    where = "connect", "net/swarm.py"
    lone = ("Swarm", "3", "", "x")
    assert one.of_site(event_of(swarm)) == (*lone, "", "", "", "", *where, "")
    assert one.of_site(event_of(swarm, network, "i")) == (
        *lone,
        "Network",
        "2",
        "",
        "",
        *where,
        "i",
    )
    assert one.of_objects(swarm, network) == (*lone, "Network", "2", "", "")


@pytest.mark.parametrize("props", [None, {}, {"topic": None}, {"topic": ""}, {"other": 1}], ids=str)
def test_a_prop_without_value_makes_no_series_of_its_own(props: dict[str, object] | None) -> None:
    """An empty value and no value are the same values, as they are to Prometheus."""
    assert labeller("topic", "peer").of_props(props) == ("", "")


def test_an_edge_has_the_values_of_both_functions() -> None:
    """They are in the order of `EDGE`, each cut like every value."""
    values = labeller(max_length=16).of_edge(Upstream("Shop", "serve"), Upstream("C" * 20, "add"))
    assert values == ("Shop", "serve", "C" * 15 + "…", "add")
    assert len(values) == len(label.EDGE)


@settings(deadline=None)
@given(st.text(st.characters(codec=None)) | st.binary() | st.integers() | st.floats() | st.none())
def test_every_text_can_be_written(value: object) -> None:
    """The text of any value is UTF-8 of the allowed length, and its own text."""
    shortest = labeller(max_length=16)
    text = shortest.text(value)
    assert len(text) <= 16
    assert text.encode().decode() == text
    assert shortest.text(text) == text


WHERE = "import sys\nWHERE = sys._getframe().f_code.co_filename, __name__\n"


@pytest.fixture
def imports(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Give a folder on the import path, with packages whose modules report where they are."""
    for name in ("shop", "shop/sub", "space/deep"):
        (tmp_path / name).mkdir(parents=True)
    for name in (
        "alone.py",
        "shop/__init__.py",
        "shop/__main__.py",
        "shop/cart.py",
        "shop/sub/__init__.py",
        "space/deep/mod.py",
    ):
        (tmp_path / name).write_text(WHERE)
    with zipfile.ZipFile(tmp_path / "lib.zip", "w") as archive:
        archive.writestr("zipped/__init__.py", WHERE)
        archive.writestr("zipped/inner.py", WHERE)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.syspath_prepend(tmp_path / "lib.zip")
    before = set(sys.modules)
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    yield tmp_path
    for name in set(sys.modules) - before:
        del sys.modules[name]


def _path_of(where: tuple[str, str]) -> str:
    return import_path(Caller("f", *where))


@pytest.mark.parametrize(
    ("module", "path"),
    [
        ("alone", "alone.py"),
        ("shop", "shop/__init__.py"),
        ("shop.cart", "shop/cart.py"),
        ("shop.sub", "shop/sub/__init__.py"),
        ("space.deep.mod", "space/deep/mod.py"),
        ("zipped", "zipped/__init__.py"),
        ("zipped.inner", "zipped/inner.py"),
    ],
)
def test_a_module_is_named_from_where_it_was_imported(
    imports: Path, module: str, path: str
) -> None:
    """Modules of packages, namespace packages and archives are named as they are imported."""
    assert _path_of(importlib.import_module(module).WHERE) == path


@pytest.mark.parametrize(("module", "path"), [("shop.cart", "cart.py"), ("shop", "__init__.py")])
def test_a_module_is_named_the_same_without_its_import_path(
    imports: Path, monkeypatch: pytest.MonkeyPatch, module: str, path: str
) -> None:
    """A module whose folder has left the import path is still known by its name."""
    where = importlib.import_module(module).WHERE
    monkeypatch.setattr(sys, "path", [])
    # Another file in between, or what was found before would be remembered.
    assert _path_of((where[0].replace(path, f"./{path}"), where[1])) == f"shop/{path}"


def test_a_script_is_named_by_its_file(imports: Path) -> None:
    """A script on the import path is named without its folder."""
    where = runpy.run_path(str(imports / "alone.py"), run_name="__main__")["WHERE"]
    assert _path_of(where) == "alone.py"


def test_the_main_module_of_a_package_is_named_with_its_package(imports: Path) -> None:
    """Run with `python -m shop`, the file is `shop/__main__.py`."""
    assert _path_of(runpy.run_module("shop", run_name="__main__")["WHERE"]) == "shop/__main__.py"


def test_an_absolute_file_takes_no_look_at_the_current_folder(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Tools that refuse such calls in event loops refuse none; a relative path goes without."""

    def refuse(*_: object) -> str:
        raise RuntimeError("a blocking call")

    monkeypatch.setattr(sys, "path", [str(tmp_path / "unused" / ".."), "", "relative"])
    monkeypatch.setattr("os.path.abspath", refuse)
    monkeypatch.setattr("os.getcwd", refuse)
    label._import_path.cache_clear()
    assert import_path(Caller("f", str(tmp_path / "shop" / "cart.py"), "other")) == "shop/cart.py"


def test_the_longest_import_path_counts(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Where one import path lies in another, a file belongs to the inner one."""
    inner = tmp_path / "lib" / "site"
    monkeypatch.setattr(sys, "path", [str(tmp_path), f"{inner}{os.sep}", str(tmp_path / "li")])
    assert import_path(Caller("f", str(inner / "a" / "b.py"), "other")) == "a/b.py"


def test_relative_files_and_import_paths_start_at_the_current_folder(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A relative file is found under the import path that is empty or relative, too."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [""])
    assert import_path(Caller("f", "shop/cart_here.py", "__main__")) == "shop/cart_here.py"


@pytest.mark.parametrize("module", [None, "other", "cart.shop", ""])
def test_a_file_under_no_import_path_is_named_by_its_last_part(module: str | None) -> None:
    """No label shows a folder of the host."""
    assert import_path(Caller("f", "/nowhere/at/all/cart.py", module)) == "cart.py"


@pytest.mark.parametrize("name", ["<string>", "<stdin>", "<frozen runpy>", "<unknown>"])
def test_what_is_no_file_keeps_its_name(name: str) -> None:
    """Code without a file is named as Python names it."""
    assert import_path(Caller("f", name, "__main__")) == name


@pytest.mark.parametrize(
    "name",
    [
        "/t/ipykernel_4711/2877382132.py",
        "/var/folders/x_/T/ipykernel_1/1.py",
        r"C:\Users\me\AppData\Local\Temp\ipykernel_4711\2877382132.py",
        "ipykernel_4711/2877382132.py",
        "/t/xpython_42/3774261467.py",
        "/t/marimo_17/__marimo__cell_Hbol_.py",
        "/t/ipython-input-2938354417.py",
        "/t/ipython-input-3-4282502808.py",
    ],
)
def test_every_cell_of_a_notebook_is_the_notebook(name: str) -> None:
    """The cells of Jupyter, xeus, marimo and Colab have one name, however often they are edited."""
    assert import_path(Caller("f", name, "__main__")) == "<notebook>"


@pytest.mark.parametrize(
    "name",
    [
        "<stdin>",
        "<stdin>-2",
        "<stdin-2>",
        "<python-input-3>",
        "<ipython-input-1-3cf2d02d7a8c>",
        "<bpython-input-7>",
        "<pyshell#0>",
    ],
)
def test_every_input_at_a_prompt_is_the_prompt(name: str) -> None:
    """The inputs of Python's prompts, IPython, bpython and IDLE have one name, whatever number."""
    assert import_path(Caller("f", name, "__main__")) == "<stdin>"


@pytest.mark.parametrize(
    ("name", "module", "label"),
    [
        ("/nowhere/ipykernel_launcher.py", None, "ipykernel_launcher.py"),
        ("/nowhere/ipykernel_4711/cell.py", None, "cell.py"),
        ("/nowhere/my_ipykernel_4711/12.py", None, "12.py"),
        ("/nowhere/ipython-input-guide.py", None, "ipython-input-guide.py"),
        ("/nowhere/ipykernel_1/2.py.py", None, "2.py.py"),
        ("/nowhere/notebook.ipynb", None, "notebook.ipynb"),
        ("<stdin_reader>", None, "<stdin_reader>"),
        ("<console>", None, "<console>"),
        ("<python>", None, "<python>"),
    ],
)
def test_files_that_look_like_cells_keep_their_names(
    name: str, module: str | None, label: str
) -> None:
    """Only the names that kernels and prompts give are taken for cells and inputs."""
    assert import_path(Caller("f", name, module)) == label


def test_code_with_an_empty_file_name_has_no_file() -> None:
    """The empty name does not turn into that of the current folder."""
    assert import_path(Caller("f", "", "__main__")) == ""


@pytest.mark.parametrize("entries", [[b"/srv"], [None], [object()]], ids=["bytes", "None", "other"])
def test_odd_import_paths_are_passed_over(
    monkeypatch: pytest.MonkeyPatch, entries: list[Any]
) -> None:
    """What is no string on the import path is ignored, as Python's own import does."""
    monkeypatch.setattr(sys, "path", [*entries, "/srv/odd"])
    filename = f"/srv/odd/{len(entries)}/{type(entries[0]).__name__}.py"
    assert import_path(Caller("f", filename)) == filename.removeprefix("/srv/odd/")


@pytest.mark.parametrize(
    ("filename", "path"), [("/srv/gone/a/b.py", "a/b.py"), ("a/gone.py", "gone.py")]
)
def test_a_current_folder_that_was_removed_does_no_harm(
    monkeypatch: pytest.MonkeyPatch, filename: str, path: str
) -> None:
    """Files are named as well as they can be where the current folder is gone."""

    def gone() -> str:
        raise FileNotFoundError

    monkeypatch.setattr(os, "getcwd", gone)
    monkeypatch.setattr(sys, "path", ["", "/srv/gone"])
    assert import_path(Caller("f", filename)) == path


@settings(deadline=None)
@given(st.text(max_size=20).map("/".join) | st.text(max_size=20), st.none() | st.text(max_size=9))
def test_no_label_is_an_absolute_path(filename: str, module: str | None) -> None:
    """Whatever a file and its module are called, the label never starts at the root."""
    for name in (filename, f"/{filename}"):
        assert not import_path(Caller("f", name, module)).startswith("/")
