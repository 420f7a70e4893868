"""Documents: source files of the standard library, and the docstrings in them."""

import ast
import itertools
import sysconfig
import tokenize
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

from hypertrace import Tracer

from .ledger import Ledger

TOPICS: Mapping[str, Sequence[str]] = MappingProxyType(
    {
        "text": ("string", "re", "difflib", "textwrap", "stringprep"),
        "data": ("datetime", "calendar", "collections", "heapq", "bisect", "copy", "enum", "types"),
        "numbers": ("numbers", "decimal", "_pydecimal", "fractions", "random", "statistics"),
        "files": ("pathlib", "os", "glob", "shutil", "tempfile", "zipfile", "tarfile", "csv"),
        "concurrency": ("threading", "multiprocessing", "concurrent", "subprocess", "asyncio"),
        "network": ("socket", "ssl", "http", "urllib", "email", "html", "xml", "json"),
        "runtime": ("inspect", "traceback", "dataclasses", "contextlib", "importlib", "ast"),
        "testing": ("unittest", "doctest", "pdb", "timeit", "trace", "cProfile", "bdb"),
    }
)
"""The modules the library holds, by topic. One that this Python lacks is left out."""

_KINDS: Mapping[type[ast.AST], str] = MappingProxyType(
    {
        ast.Module: "module",
        ast.ClassDef: "class",
        ast.FunctionDef: "function",
        ast.AsyncFunctionDef: "function",
    }
)


class NoVolumesError(Exception):
    """There is no source file of the standard library, as where Python comes without them."""


class UnreadableVolumeError(Exception):
    """A source file could not be read or is no valid Python."""


@dataclass(frozen=True, slots=True, eq=False)
class Document:
    """One docstring. Two documents are equal only if they are the same object."""

    name: str
    """The dotted name of what it documents, such as `json.dumps`."""
    text: str


class Volume:
    """One source file on a topic."""

    def __init__(self, path: Path, name: str, topic: str, *, parent: Tracer) -> None:
        self.path = path
        self.name = name
        self.topic = topic
        self.tracer = Tracer(self, {"topic": topic}, parent=parent)

    @property
    def source(self) -> str:
        """The source text, read again each time, in the encoding that the file declares."""
        self.tracer.trace()
        with tokenize.open(self.path) as file:
            return file.read()


class Catalogue:
    """The list of all volumes, topics taking turns; `NoVolumesError` if there is none."""

    def __init__(self, ledger: Ledger, *, parent: Tracer, stdlib: Path | None = None) -> None:
        self.tracer = Tracer(self, parent=parent)
        self._ledger = ledger
        folder = stdlib or Path(sysconfig.get_path("stdlib"))
        shelves = [
            [
                Volume(path, name, topic, parent=self.tracer)
                for path, name in _sources(folder, modules)
            ]
            for topic, modules in TOPICS.items()
        ]
        turns = itertools.zip_longest(*shelves)
        self._volumes = [volume for turn in turns for volume in turn if volume is not None]
        if not self._volumes:
            raise NoVolumesError(f"no source file of the standard library in {folder}")

    def __len__(self) -> int:
        return len(self._volumes)

    def volumes(self) -> Iterator[Volume]:
        """Yield every volume once."""
        for volume in self._volumes:
            self.tracer.trace()
            self._ledger.add("volume")
            yield volume


class Parser:
    """Finds the docstrings of a volume, without importing it."""

    def __init__(self, ledger: Ledger, *, parent: Tracer) -> None:
        self.tracer = Tracer(self, parent=parent)
        self._ledger = ledger

    def parse(self, volume: Volume) -> list[Document]:
        """Return the documents in `volume`; raise `UnreadableVolumeError` if it makes no sense."""
        with self.tracer.span() as span:
            try:
                tree = ast.parse(volume.source)
            # SystemError: CPython 3.11 and 3.12 may raise it while two threads parse (gh-106905).
            except (OSError, SyntaxError, SystemError, ValueError) as error:
                span.set(outcome="unreadable")
                self._ledger.add("parsing", "unreadable")
                message = f"{volume.path}: {error}"
                raise UnreadableVolumeError(message) from error
            span.set(outcome="parsed")
            self._ledger.add("parsing", "parsed")
            return list(self._documents(volume.name, tree))

    def _documents(self, name: str, node: ast.AST) -> Iterator[Document]:
        if not isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            return
        if text := ast.get_docstring(node):
            kind = _KINDS[type(node)]
            self.tracer.trace("docstring", kind=kind)
            self._ledger.add("docstring", kind)
            yield Document(name, text)
        for child in node.body:
            yield from self._documents(f"{name}.{getattr(child, 'name', '')}", child)


def _sources(folder: Path, modules: Sequence[str]) -> Iterator[tuple[Path, str]]:
    """Yield the source files of `modules` below `folder`, each with its dotted module name."""
    for module in modules:
        package = sorted((folder / module).rglob("*.py"))
        for path in package or [folder / f"{module}.py"]:
            parts = path.relative_to(folder).with_suffix("").parts
            if path.is_file() and not {"test", "tests"} & set(parts):
                yield path, ".".join(part for part in parts if part != "__init__")
