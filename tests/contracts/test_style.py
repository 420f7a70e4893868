"""House style, as far as a program can check it."""

import ast
import importlib
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGES = ("hypertrace", "hypertrace_prometheus")
MOST_LINES = 600
# Put together so that this file passes its own test.
UNFINISHED = re.compile(r"\b(" + "|".join(["TO" + "DO", "FIX" + "ME", "X" + "XX"]) + r")\b")
OF_ONE_MACHINE = re.compile(
    r"(?<![\w.*-])/(" + "|".join(["wo" + "rk", "t" + "mp", "ro" + "ot", "ho" + "me"]) + r")/"
)

PLAIN = (
    ".ci/",
    "benchmarks/",
    "deploy/",
    "examples/",
    "grafana/",
    "hypertrace/",
    "hypertrace_prometheus/",
    "prometheus.yml",
    "pyproject.toml",
    "setup.py",
    "tests/",
)
"""Files and folders that are written in plain words throughout."""
LIST_OF_WORDS = "tests/contracts/test_style.py"
AVOIDED = re.compile(
    r"(?<![a-zA-Z])(tells?|told|telling|mend(s|ed|ing)?|anew|hears?|heard|nobody|somebody|whoever"
    r"|of (its|their) own|those of others|as ever|for good|lets in|shuts? out"
    r"|go(es|ing) down|falls? silent)(?![a-zA-Z])",
    re.IGNORECASE,
)
NO_NOUN = re.compile(r"(A|An|The|What|Who|Whose|Which|How|Where|When|Whether|From|For|If)\b")
"""First words of docstrings that do not name what a module is."""


def _modules() -> list[Path]:
    """Find the modules of the packages where they are imported from."""
    folders = [Path(str(importlib.import_module(package).__file__)).parent for package in PACKAGES]
    return sorted(path for folder in folders for path in folder.rglob("*.py"))


def _tests(root: Path) -> Iterator[tuple[Path, ast.FunctionDef | ast.AsyncFunctionDef]]:
    for path in sorted((root / "tests").rglob("test_*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)) and node.name.startswith(
                "test_"
            ):
                yield path, node


@pytest.fixture(scope="module")
def tracked(root: Path) -> list[tuple[str, str]]:
    """Give the name and text of every text file that git would commit."""
    if not (root / ".git").exists():
        pytest.skip("no git checkout: its files were judged where they are written")
    names = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=root,
        capture_output=True,
        text=True,
        check=True,
    ).stdout.split("\0")
    paths = [root / name for name in names if name]
    return [
        (str(path.relative_to(root)), path.read_text(encoding="utf-8", errors="replace"))
        for path in paths
        if path.is_file() and b"\0" not in path.read_bytes()  # a picture has any letters in it
    ]


def _lines_with(pattern: re.Pattern[str], files: list[tuple[str, str]]) -> list[str]:
    return [
        f"{name}:{number}: {line.strip()}"
        for name, text in files
        for number, line in enumerate(text.splitlines(), 1)
        if pattern.search(line)
    ]


def _plain(files: list[tuple[str, str]]) -> list[tuple[str, str]]:
    return [
        (name, text) for name, text in files if name.startswith(PLAIN) and name != LIST_OF_WORDS
    ]


def test_every_module_says_what_it_is() -> None:
    """Each module of the packages has a docstring."""
    silent = [
        str(path) for path in _modules() if not ast.get_docstring(ast.parse(path.read_text()))
    ]
    assert silent == []


def test_a_module_is_one_noun(root: Path) -> None:
    """No module is longer than a reader holds in mind."""
    modules = [
        *_modules(),
        *(root / "grafana" / "source").rglob("*.py"),
        *(root / "benchmarks").rglob("*.py"),
    ]
    lengths = {str(path): len(path.read_text().splitlines()) for path in modules}
    assert {path: length for path, length in lengths.items() if length > MOST_LINES} == {}


def test_the_docstring_of_a_module_begins_with_its_noun(tracked: list[tuple[str, str]]) -> None:
    """Each module that is written in plain words says in its first word what it is."""
    wrong = [
        f"{name}: {docstring}"
        for name, text in _plain(tracked)
        if name.endswith(".py")
        and NO_NOUN.match(docstring := ast.get_docstring(ast.parse(text)) or "")
    ]
    assert wrong == []


def test_no_file_has_words_to_avoid(tracked: list[tuple[str, str]]) -> None:
    """Files that are written in plain words have none of the words that the style rejects."""
    assert _lines_with(AVOIDED, _plain(tracked)) == []


def test_every_test_states_the_behaviour(root: Path) -> None:
    """Each test says in its docstring, in one sentence, what holds."""
    silent = [
        f"{path}:{node.lineno} {node.name}"
        for path, node in _tests(root)
        if not (ast.get_docstring(node) or "").split("\n\n")[0].endswith(".")
    ]
    assert silent == []


def test_nothing_is_left_for_later(tracked: list[tuple[str, str]]) -> None:
    """No file has a mark for work that is still to do."""
    assert _lines_with(UNFINISHED, tracked) == []


def test_no_file_names_a_place_of_one_machine(tracked: list[tuple[str, str]]) -> None:
    """No file has an absolute path that only its author has."""
    assert _lines_with(OF_ONE_MACHINE, tracked) == []
