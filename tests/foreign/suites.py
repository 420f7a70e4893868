"""Suites of third-party packages: fetched, each installed in its own environment, and run."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tarfile
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cached_property
from importlib import import_module
from pathlib import Path
from shutil import rmtree
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from .packages import Package

CACHE = "HYPERTRACE_FOREIGN"
"""Variable with the folder that keeps what was fetched; git ignores the default."""

LAUNCHER = Path(__file__).parent / "launcher.py"
NEEDED = ("hypertrace", "wrapt")
"""What a suite's process may import besides the suite's own environment."""

CHANGES_SUITES = ("CI", "COLUMNS", "FORCE_COLOR", "NO_COLOR", "PYTHON", "PYTEST", "COV_", "PIP_")
"""Beginnings of names of variables that suites heed, or that concern these tests alone."""


class SuiteError(Exception):
    """A suite could not be fetched or installed, or its process did not come to its end."""


class UnavailableError(SuiteError):
    """The registry does not have it, or cannot be reached."""


@dataclass
class Run:
    """One run of a suite."""

    outcomes: dict[str, str] = field(default_factory=dict)
    """By the test: `passed`, `failed`, `error`, `skipped`, `xfailed`, `unexpected success`."""
    reasons: dict[str, str] = field(default_factory=dict)
    """The last lines of what was said about those that failed."""
    seconds: float = 0.0
    """That the processor worked."""
    functions: int = 0
    """That were traced."""
    spans: int = 0
    swallowed: int = 0
    """Errors inside tracing."""
    dropped: int = 0

    @classmethod
    def read(cls, file: Path, ended: str, output: str) -> Run:
        """Read what the launcher recorded.

        Raises:
            SuiteError: the process ended before the suite did.
        """
        run, seen = cls(), Counter[str]()
        started, end = "nothing", None
        for line in file.read_text().splitlines() if file.exists() else []:
            fields = json.loads(line)
            if "start" in fields:
                started = fields["start"]
            elif "test" in fields:
                test = fields["test"]
                seen[test] += 1
                name = test if seen[test] == 1 else f"{test} ({seen[test]})"
                run.outcomes[name] = fields["outcome"]
                run.reasons[name] = fields["reason"]
            else:
                end = fields
        if end is None:
            raise SuiteError(f"it {ended}, in or after {started}:\n{output[-4_000:]}")
        for name, value in end.items():
            setattr(run, name, value)
        return run

    @property
    def passed(self) -> int:
        """How many tests passed."""
        return sum(outcome == "passed" for outcome in self.outcomes.values())


class Suite:
    """The tests of one package, in their own environment."""

    def __init__(self, package: Package) -> None:
        self.package = package

    def run(self, *, traced: bool) -> Run:
        """Run it in a new process, from new copies of its files.

        Raises:
            SuiteError: it cannot be had, hung, or its process did not end by itself.
        """
        python = self._python
        with TemporaryDirectory() as scratch:
            folder = Path(scratch, "suite")
            if self.package.is_stdlib:
                folder.mkdir()
            else:
                unpack(self.package.name, self.package.version, folder, self.package.leave_out)
            links = Path(scratch, "links")
            links.mkdir()
            for name in NEEDED:
                (links / name).symlink_to(Path(str(import_module(name).__file__)).parent)
            record = Path(scratch, "record")
            given = {
                "path": [str(links)],
                "record": str(record),
                "patterns": self.package.patterns if traced else [],
                "exclude": self.package.exclude,
                "runner": self.package.runner,
                "arguments": self.package.arguments,
            }
            with (Path(scratch, "output")).open("w+") as output:
                ended = self._call([python, LAUNCHER, json.dumps(given)], folder, output)
                output.seek(0)
                return Run.read(record, ended, output.read())

    def _call(self, command: list[Any], folder: Path, output: Any) -> str:
        """Run a command with no more than the time that it has; return how it ended."""
        home = folder.parent / "home"
        home.mkdir()
        process = subprocess.Popen(
            command,
            cwd=folder / self.package.folder,
            env={**_variables(), "HOME": str(home), "PYTHONHASHSEED": "0", "PYTHONNOUSERSITE": "1"},
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        try:
            return f"ended with {process.wait(self.package.limit)}"
        except subprocess.TimeoutExpired:
            return f"took more than {self.package.limit} s"
        finally:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)  # and what the suite left running
            process.wait()

    @cached_property
    def _python(self) -> str:
        """The Python of an environment that has the package and what its tests need."""
        if self.package.is_stdlib:
            return sys.executable
        needs = self.package.requirements
        version = f"{sys.implementation.cache_tag}{sys.abiflags}"
        folder = _cache() / "venvs" / f"{self.package.name}-{version}"
        python, stamp = folder / "bin" / "python", folder / "stamp"
        wanted = "\n".join([sys.version, sys.base_prefix, *needs])
        if not stamp.exists() or stamp.read_text() != wanted:
            _checked([sys.executable, "-m", "venv", "--clear", "--without-pip", str(folder)])
            _pip("--python", str(python), "install", "--no-compile", *needs)
            stamp.write_text(wanted)
        return str(python)


def unpack(name: str, version: str, folder: Path, leave_out: Iterable[str] = ()) -> None:
    """Put the files of a source distribution into a folder, but for some at its top.

    Raises:
        UnavailableError: the registry does not have it, or cannot be reached.
    """
    with TemporaryDirectory(dir=folder.parent) as scratch:
        with tarfile.open(source_distribution(name, version)) as archive:
            archive.extractall(scratch, filter="data")
        (inner,) = Path(scratch).iterdir()
        inner.rename(folder)
    for path in leave_out:
        rmtree(folder / path)


def source_distribution(name: str, version: str) -> Path:
    """Fetch a source distribution from the registry, unless it is there from another time.

    Raises:
        UnavailableError: as `unpack`.
    """
    folder = _cache() / "sdists" / f"{name}-{version}"
    if not (found := list(folder.glob("*.tar.gz"))):
        options = ["--no-deps", "--no-binary", name, "--dest", str(folder)]
        _pip("download", *options, f"{name}=={version}")
        found = list(folder.glob("*.tar.gz"))
    return found[0]


def _cache() -> Path:
    default = Path(__file__).parents[2] / ".ci" / ".foreign"
    return Path(os.environ.get(CACHE) or default)


def _variables() -> Mapping[str, str]:
    items = os.environ.items()
    return {name: value for name, value in items if not name.startswith(CHANGES_SUITES)}


def _pip(*arguments: str) -> None:
    _checked([sys.executable, "-m", "pip", "-qq", "--disable-pip-version-check", *arguments])


def _checked(command: list[str]) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise UnavailableError(f"{' '.join(command)}:\n{(done.stdout + done.stderr)[-2_000:]}")
