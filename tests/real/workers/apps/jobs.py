"""RQ jobs that are counted."""

from __future__ import annotations

import os
import time
from pathlib import Path

from counted import work


def do() -> None:
    """Do some work."""
    work.do()


def hold() -> None:
    """Do some work, and hold the job until a file appears."""
    work.do()
    while not (Path(os.environ["FOLDER"]) / "go").exists():
        time.sleep(0.02)
