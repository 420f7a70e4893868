"""Compiled core: it does the same as the Python code."""

import gc
import json
import os
import subprocess
import sys
import weakref
from pathlib import Path
from typing import Any

import pytest

import hypertrace
from hypertrace import PropsRecorder
from hypertrace._compiled import gil_enabled, speedups

needs_compiled = pytest.mark.skipif(speedups is None, reason="the core is not compiled here")

PROGRAM = Path(__file__).with_name("random_program.py")


def _run(seed: int, pure: str) -> Any:
    ended = subprocess.run(
        [sys.executable, PROGRAM, str(seed), "300"],
        env={**os.environ, "HYPERTRACE_PURE_PYTHON": pure},
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    return json.loads(ended.stdout)


@needs_compiled
@pytest.mark.parametrize("seed", range(12))
def test_both_cores_report_the_same_of_the_same_program(seed: int) -> None:
    """A program drawn at random gives the same events and the same counts on both."""
    compiled, pure = _run(seed, "0"), _run(seed, "1")
    assert (compiled.pop("compiled"), pure.pop("compiled")) == (True, False)
    assert compiled["events"] == pure["events"]
    assert compiled["counts"] == pure["counts"]
    assert len(pure["events"]) > 20
    assert len(pure["counts"]) > 20


@pytest.mark.parametrize(
    ("setting", "pure"), [("1", True), ("yes", True), ("0", False), ("", False)]
)
def test_the_environment_can_keep_the_core_in_python(setting: str, pure: bool) -> None:
    """HYPERTRACE_PURE_PYTHON selects the Python code; COMPILED says which is loaded."""
    printed = subprocess.run(
        [sys.executable, "-c", "import hypertrace; print(hypertrace.COMPILED)"],
        env={**os.environ, "HYPERTRACE_PURE_PYTHON": setting},
        capture_output=True,
        text=True,
        check=True,
    ).stdout.strip()
    built = speedups is not None or os.environ.get("HYPERTRACE_PURE_PYTHON", "0") not in {"", "0"}
    assert printed == str(not pure and built and gil_enabled())


@pytest.mark.parametrize("build", ["sys._is_gil_enabled = lambda: False", "sys.abiflags = 't'"])
@pytest.mark.parametrize(("setting", "asked"), [("1", True), ("0", False), ("", False)])
def test_a_build_without_a_gil_uses_the_compiled_core_on_request(
    build: str, setting: str, asked: bool
) -> None:
    """Without a GIL, HYPERTRACE_FREE_THREADED chooses the compiled core, also when a GIL is on."""
    printed = subprocess.run(
        [
            sys.executable,
            "-c",
            f"import sys; {build}; import hypertrace; print(hypertrace.COMPILED)",
        ],
        env={**os.environ, "HYPERTRACE_FREE_THREADED": setting},
        capture_output=True,
        text=True,
        check=True,
    ).stdout.strip()
    assert printed == str(asked and speedups is not None)


def test_compiled_says_which_core_is_loaded() -> None:
    """COMPILED is whether the extension module is in use."""
    assert hypertrace.COMPILED is (speedups is not None)


@needs_compiled
@pytest.mark.parametrize("key", [0, "x", (1, 2), ("id", 0), ("id", "x"), (b"id", 1), None, 2.0])
def test_a_table_refuses_what_is_no_key(key: Any) -> None:
    """A key is an address, or a text and an address; all else is a TypeError."""
    assert speedups is not None
    table = speedups.Table()
    with pytest.raises(TypeError):
        table[key] = print
    with pytest.raises(TypeError):
        table.get(key)
    assert len(table) == 0


@needs_compiled
def test_a_table_is_a_dict_of_call_sites() -> None:
    """A table keeps thousands of recorders apart by address, sign and id; clear() empties it."""
    assert speedups is not None
    table, expected = speedups.Table(), {}
    for address in range(16, 16_000, 16):
        for key in (address, -address, ("dial", address), ("hang up", -address)):
            table[key] = expected[key] = object()
    assert len(table) == len(expected)
    assert all(table.get(key) is value for key, value in expected.items())
    equal = "".join(list("dial"))
    assert table.get((equal, 16)) is expected["dial", 16]
    assert table.get(("other", 16)) is None
    table.clear()
    assert len(table) == 0
    assert table.get(16) is None


@needs_compiled
def test_a_table_that_refers_to_itself_is_collected() -> None:
    """The garbage collector sees through a table."""
    assert speedups is not None
    table = speedups.Table()
    table[16] = [table]
    gone = weakref.ref(table)
    del table
    gc.collect()
    assert gone() is None


def test_a_props_recorder_counts_by_the_values_it_knows() -> None:
    """Values that are known are counted without asking; others are asked for once a call."""
    asked: list[Any] = []
    counted: list[str] = []

    def make(values: tuple[object, ...], props: Any) -> Any:
        asked.append((values, props))
        return lambda: counted.append("new")

    known: Any = {("a", None): lambda: counted.append("known")}
    recorder = PropsRecorder(("peer", "topic"), known, make)
    recorder.record({"peer": "a", "other": 1})
    recorder.record({"peer": ["unhashable"]})
    assert counted == ["known", "new"]
    assert asked == [((["unhashable"], None), {"peer": ["unhashable"]})]
