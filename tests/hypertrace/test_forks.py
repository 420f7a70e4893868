"""Fork hooks."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from hypertrace.forks import after_fork_in_child, around_fork

needs_fork = pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")

PROGRAM = """
import os
from hypertrace.forks import after_fork_in_child, around_fork

seen = []
after_fork_in_child(lambda: seen.append("in child"))
around_fork(
    before=lambda: seen.append("before"),
    after_in_parent=lambda: seen.append("parent"),
    after_in_child=lambda: seen.append("child"),
)
child = os.fork()
if child:
    os.waitpid(child, 0)
print(*seen, flush=True)
os._exit(0)
"""


@needs_fork
def test_functions_are_called_around_a_fork() -> None:
    """Each function runs once where its name says: before, in the parent, in the child."""
    ran = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", PROGRAM], capture_output=True, text=True, check=True
    )
    assert ran.stdout.splitlines() == ["before in child child", "before parent"]


def test_a_system_without_forks_calls_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the system has no fork, the functions are accepted and never called."""
    monkeypatch.delattr(os, "register_at_fork", raising=False)
    after_fork_in_child(pytest.fail)
    around_fork(before=pytest.fail, after_in_parent=pytest.fail, after_in_child=pytest.fail)
