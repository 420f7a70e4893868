"""Safeties: each is where the table says, so that the tests without it mean something."""

import ast
import importlib
from pathlib import Path

import pytest

from .table import SAFETIES, Safety


def _source(safety: Safety) -> Path:
    """Find the file where its package is imported from."""
    package, _, name = safety.file.partition("/")
    return Path(str(importlib.import_module(package).__file__)).parent / name


@pytest.mark.parametrize("safety", SAFETIES, ids=lambda safety: safety.name)
def test_a_safety_can_be_taken_away(safety: Safety, root: Path) -> None:
    """Its text stands in its file once, what replaces it is a program, and its tests exist."""
    source = _source(safety)
    if safety.is_compiled and not source.exists():
        pytest.skip("an installed package has no C in it")
    without = safety.taken_from(source.read_text())
    if not safety.is_compiled:
        ast.parse(without)
    files = [root / "tests" / test.partition("::")[0] for test in safety.tests]
    assert [file for file in files if not file.exists()] == []


def test_each_safety_has_a_name_of_its_own() -> None:
    """No two safeties are called the same."""
    names = [safety.name for safety in SAFETIES]
    assert len(set(names)) == len(names) >= 30
