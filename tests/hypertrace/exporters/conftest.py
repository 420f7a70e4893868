"""Fixtures for the tests of exporters: exporters that end with the test."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from hypertrace import set_trace_function

from .recording import Recording, exporter_threads, until


@pytest.fixture
def record() -> Iterator[Callable[..., Recording]]:
    """Give a function that makes an exporter and sets it as trace function."""
    made: list[Recording] = []

    def make(*arguments: Any, **settings: Any) -> Recording:
        made.append(Recording(*arguments, **settings))
        set_trace_function(made[-1])
        return made[-1]

    yield make
    for exporter in made:
        exporter.stop()
    until(lambda: not exporter_threads())
