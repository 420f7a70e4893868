"""Fixtures of the tests of traced functions: programs, and no call that is left open."""

from __future__ import annotations

import gc
import sys
from typing import TYPE_CHECKING, Any

import pytest

from hypertrace import swallowed_errors

from .programs import Program, capture_spans, names_of, open_calls

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from hypertrace import SpanEvent


@pytest.fixture(autouse=True)
def _nothing_is_left() -> Iterator[None]:
    before = open_calls()
    yield
    gc.collect()
    assert open_calls() == before


@pytest.fixture
def program(tmp_path: Path) -> Iterator[Program]:
    """Give a program of one module."""
    yield Program(tmp_path)
    sys.modules.pop("shop", None)


@pytest.fixture(params=["traced", "instrument"])
def how(request: pytest.FixtureRequest) -> str:
    """Give each of the ways in which functions become traced."""
    return str(request.param)


@pytest.fixture
def same(how: str, program: Program) -> Callable[..., Any]:
    """Give a function that compares a program that runs plain with itself traced.

    Its arguments are the source, and how many spans each function has; it returns what the `main`
    of the program returns.
    """

    def compare(source: str, expected: dict[str, int]) -> Any:
        plain = program.load(source).main()
        assert program.load(source).main() == plain, "the program itself differs from run to run"
        result, events = program.run(source, how)
        assert result == plain
        assert names_of(events) == expected
        assert swallowed_errors() == 0
        return plain

    return compare


@pytest.fixture
def events() -> Iterator[list[SpanEvent]]:
    """Give the list of all spans of the test."""
    with capture_spans() as captured:
        yield captured
