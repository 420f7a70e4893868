"""Faults that suites of third-party packages found, each as a program of some lines."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from .programs import ENGINE, in_place

if TYPE_CHECKING:
    from collections.abc import Callable

    Same = Callable[..., Any]

pytestmark = in_place

NOTED_CODE = """
import sys

noted = set()

def internal(function):
    noted.add(function.__code__)
    return function

@traced
@internal
def call():
    return sys._getframe().f_code in noted

def main():
    return call()
"""


@pytest.mark.xfail(ENGINE == "bytecode", reason="CPython 3.11 runs another code object")
def test_a_code_object_that_was_noted_is_that_of_frames(same: Same) -> None:
    """What noted the code object of a function finds it in frames; jinja2 does, for tracebacks."""
    assert same(NOTED_CODE, {"call": 1}) is True
