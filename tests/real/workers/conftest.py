"""Fixtures for programs of several processes: started on free ports, ended by the tests."""

from __future__ import annotations

import importlib.util
import itertools
import os
import sys
from typing import TYPE_CHECKING, Protocol

import pytest

from .programs import Program, Site

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

EVERY_SERVER = "HYPERTRACE_EVERY_SERVER"
"""Variable that makes a missing server a failure; `.ci/test` sets it."""


class Start(Protocol):
    """What the fixture `start` gives."""

    def __call__(self, *command: str | Path, **environment: str) -> Program:
        """Start a program with more variables in its environment."""


class Serve(Protocol):
    """What the fixture `serve` gives."""

    def __call__(self, *command: str | Path, **environment: str) -> Site:
        """Start a server; `PORT` in an argument becomes a free port, which it must listen on."""


@pytest.fixture
def need() -> Callable[..., None]:
    """Give a function that skips the test where a package is not installed; `.ci/test` fails."""

    def need(*modules: str) -> None:
        for module in modules:
            if importlib.util.find_spec(module) is None:
                message = f"{module} is missing: {sys.executable} -m pip install --group workers"
                if os.environ.get(EVERY_SERVER):
                    pytest.fail(message)
                pytest.skip(message)

    return need


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Give a function that starts a program; each is ended when the test ends."""
    programs: list[Program] = []
    numbers = itertools.count()

    def start(*command: str | Path, **environment: str) -> Program:
        folder = tmp_path / f"program-{next(numbers)}"
        folder.mkdir()
        programs.append(Program(command, folder, environment))
        return programs[-1]

    yield start
    for program in programs:
        program.stop(3)  # some servers miss a signal


@pytest.fixture
def serve(start: Start, free_port: Callable[[], int]) -> Serve:
    """Give a function that starts a server and waits until it answers."""

    def serve(*command: str | Path, **environment: str) -> Site:
        port = free_port()
        filled = [str(part).replace("PORT", str(port)) for part in command]
        return Site(start(*filled, **environment), port)

    return serve


@pytest.fixture
def redis(
    component: Callable[[str], str],
    free_port: Callable[[], int],
    start: Start,
) -> str:
    """Start a Redis, and give its URL."""
    port = str(free_port())
    program = component("redis-server")
    server = start(program, "--port", port, "--bind", "127.0.0.1", "--save", "")
    server.wait(lambda: "Ready to accept connections" in server.log)
    return f"redis://127.0.0.1:{port}"
