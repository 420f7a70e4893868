"""Feeds: exact where threads, finalizers and signal handlers trace at once."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

PROGRAM = Path(__file__).with_name("exact_program.py")


@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="this system has no such signals")
@pytest.mark.parametrize("pure", ["0", "1"])
@pytest.mark.parametrize("shared", [False, True])
def test_no_event_is_lost_or_counted_twice(shared: bool, pure: str, tmp_path: Path) -> None:
    """Each metric has counted each event of each thread, finalizer and signal."""
    environment = {**os.environ, "HYPERTRACE_PURE_PYTHON": pure}
    program = [sys.executable, str(PROGRAM), "500", *([str(tmp_path)] if shared else [])]
    printed = subprocess.run(
        program, env=environment, capture_output=True, check=True, text=True
    ).stdout
    result = json.loads(printed)
    assert result["found"] == result["expected"]
    assert result["signals"] > 0
    assert result["lost"] == 0
