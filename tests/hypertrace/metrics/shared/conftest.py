"""Programs of several processes, each of which reports its root and its run directory."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest

if TYPE_CHECKING:
    from pathlib import Path

PROBE = '''
"""Probe: writes where this process would share its counts."""
import json, os
from hypertrace.metrics.shared.directory import find
from hypertrace.metrics.shared.program import root_process

def report(what="", name="", workers="auto"):
    directory = find(workers, name=name)
    root = root_process()
    line = json.dumps([what, os.getpid(), root and root.pid, directory.path]) + "\\\\n"
    file = os.open(os.environ["REPORTS"], os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o666)
    os.write(file, line.encode())
    os.close(file)
'''.replace("\\\\", "\\")


class Report(NamedTuple):
    """What one process found."""

    what: str
    pid: int
    root: int
    path: str


class Programs:
    """Starts programs in a folder, with a base directory that no other program uses."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.base = folder / "base"
        self.base.mkdir(exist_ok=True)
        (folder / "probe.py").write_text(PROBE)
        self.environment = {
            **{name: value for name, value in os.environ.items() if name != "HYPERTRACE_WORKERS"},
            "PYTHONPATH": os.pathsep.join([str(folder), *sys.path]),
            "PYTHONWARNINGS": "ignore",
            "REPORTS": str(folder / "reports"),
            "XDG_RUNTIME_DIR": str(self.base),
        }

    def write(self, name: str, text: str) -> str:
        path = self.folder / name
        path.write_text(text)
        return str(path)

    def start(self, *command: str, **options: Any) -> subprocess.Popen[str]:
        return subprocess.Popen(
            command,
            env=self.environment,
            cwd=self.folder,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            **options,
        )

    def run(self, text: str, *arguments: str) -> list[Report]:
        """Run a Python program to its end, and return what its processes reported."""
        return self.run_command(sys.executable, self.write("program.py", text), *arguments)

    def run_command(self, *command: str) -> list[Report]:
        with self.start(*command) as process:
            process.communicate(timeout=100)
            assert process.returncode == 0
        return self.reports()

    def reports(self) -> list[Report]:
        text = (self.folder / "reports").read_text()
        return [Report(*json.loads(line)) for line in text.splitlines()]


@pytest.fixture
def programs(tmp_path: Path) -> Programs:
    """Give a starter of programs."""
    return Programs(tmp_path)
