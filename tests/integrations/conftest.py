"""Fixtures for the tests of integrations: the library under test, and metrics that count it."""

from __future__ import annotations

import importlib
import logging
import os
import subprocess
import sys
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

import pytest

from hypertrace import set_trace_function
from hypertrace.integrations import uninstall
from hypertrace.metrics import Metrics
from hypertrace.testing import reset

from ..foreign import suites
from . import postgresql as postgresql_servers
from .http_peers import running

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from .http_peers import Server


@pytest.fixture(autouse=True)
def _logging() -> Iterator[None]:
    """Keep the root logger as it is: Celery and others configure it when they start."""
    level, handlers = logging.root.level, logging.root.handlers.copy()
    yield
    logging.root.setLevel(level)
    logging.root.handlers[:] = handlers


@pytest.fixture(scope="session")
def library() -> Callable[[str], Any]:
    """Give a function that imports a library, or skips the test; in CI it fails."""

    def find(name: str) -> Any:
        try:
            return importlib.import_module(name)
        except ImportError:
            if os.environ.get("HYPERTRACE_EVERY_SERVER"):
                raise
            pytest.skip(f"needs {name}: pip install --group integrations")

    return find


@pytest.fixture
def metrics() -> Iterator[Metrics]:
    """Give metrics that are set as trace function; afterwards nothing is installed."""
    made = Metrics(workers=False)
    set_trace_function(made)
    yield made
    uninstall()
    reset()


@pytest.fixture
def points(metrics: Metrics) -> Callable[[str], dict[tuple[str, ...], float]]:
    """Give a function that returns the counts, or values, of a metric by its labels."""

    def read(name: str) -> dict[tuple[str, ...], float]:
        family = next((one for one in metrics.read().families if one.name == name), None)
        if family is None:  # nothing has counted in it
            return {}
        numbers: list[Any] = [getattr(value, "count", value) for value in family.values]
        return {point.labels: number for point, number in zip(family.points, numbers, strict=True)}

    return read


@pytest.fixture
def sources(tmp_path: Path) -> Callable[[str], Path]:
    """Give a function that unpacks the source distribution of an installed library.

    It skips the test where it cannot be had; in CI that fails.
    """

    def unpack(name: str) -> Path:
        try:
            suites.unpack(name, version(name), tmp_path / name)
        except suites.UnavailableError as error:
            if os.environ.get("HYPERTRACE_EVERY_SERVER"):
                raise
            pytest.skip(f"needs the sources of {name}: {error}")
        return tmp_path / name

    return unpack


@pytest.fixture(scope="session")
def postgresql(free_port: Callable[[], int]) -> Iterator[str]:
    """Start a PostgreSQL, and give the address of its database behind `postgresql`."""
    program = postgresql_servers.program()
    if program is None:
        message = "postgres is missing: apt-get install -y --no-install-recommends postgresql"
        if os.environ.get("CI") == "true":
            pytest.fail(message)
        pytest.skip(message)
    with postgresql_servers.server(program, free_port()) as address:
        yield address


@pytest.fixture
def run_suite(tmp_path: Path) -> Callable[..., int]:
    """Give a function that runs tests of a library while an integration measures them.

    It takes the folder of its sources, the arguments of `install()` as a text, the metric whose
    values are counted, and arguments of pytest; it returns the count. `first` is code of a plugin.
    """

    def run_suite(folder: Path, install: str, metric: str, *options: str, first: str = "") -> int:
        (tmp_path / "measuring.py").write_text(MEASURING.format(first, install, metric))
        plugins = ["-p", "measuring", "-p", "no:cacheprovider", "-p", "no:xdist"]
        run = subprocess.run(
            [sys.executable, "-m", "pytest", "-q", *plugins, *options],
            cwd=folder,
            env={**os.environ, "PYTHONPATH": str(tmp_path)},
            capture_output=True,
            text=True,
            check=False,
            timeout=100,
        )
        assert run.returncode == 0, run.stdout[-5_000:] + run.stderr
        return int(run.stdout.partition("measured: ")[2].split()[0])

    return run_suite


MEASURING = """
{}
from hypertrace import set_trace_function, swallowed_errors
from hypertrace.integrations import install
from hypertrace.metrics import Metrics

metrics = Metrics(workers=False)
set_trace_function(metrics)
install({})


def pytest_unconfigure():
    assert swallowed_errors() == 0
    values = metrics.read().family("{}").values
    print("\\nmeasured:", sum(value.count for value in values))
"""


@pytest.fixture
def server() -> Iterator[Server]:
    """Give a server of HTTP that counts its requests."""
    with running() as made:
        yield made
