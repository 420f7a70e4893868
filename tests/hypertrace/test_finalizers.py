"""Finalizers and callbacks that replace the trace function while it is in use."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

import hypertrace
from hypertrace import Tracer
from hypertrace.testing import capture_events

PROGRAM = Path(__file__).with_name("finalizer_program.py")
ENTRIES = {
    "trace",
    "trace_id",
    "trace_props",
    "trace_other_props",
    "span",
    "enter",
    "exit",
    "exit_with_error",
    "exit_in_disorder",
    "make_tracer",
    "cell",
    "table",
}


@pytest.mark.parametrize("entry", sorted(ENTRIES))
def test_nothing_that_is_in_use_goes(entry: str) -> None:
    """The trace function may be replaced, and slots emptied, at any allocation and in any call."""
    ended = subprocess.run(
        [sys.executable, PROGRAM, entry],
        # Memory that was freed holds no valid pointers, so that its use shows.
        env={"PYTHONMALLOC": "debug", **os.environ},
        capture_output=True,
        text=True,
        check=False,
        timeout=100,
    )
    assert ended.returncode == 0, ended.stderr[-3000:]
    ran = json.loads(ended.stdout)
    assert ran["compiled"] is hypertrace.COMPILED
    assert ran["finalizer"] > 50
    assert (ran["callback"] > 50) is (entry not in {"cell", "table"})


def test_a_finalizer_between_two_frames_has_a_caller() -> None:
    """A finalizer that runs between two frames, called by C, has the outer frame as its caller."""
    with capture_events() as events:
        tracer = Tracer("a")

        class Last:
            __del__ = tracer.trace  # called by C, without a Python frame

        def run(_: int) -> None:
            last = Last()
            assert last is not None

        for _ in range(3):
            list(map(run, [1]))
    name = "test_a_finalizer_between_two_frames_has_a_caller"
    assert [event.caller.function_name for event in events] == [name] * 3
