"""Answers of a process without a server: its page, and where it says the page is served."""

from __future__ import annotations

import os
import time
from pathlib import Path

from counted import exporter

FOLDER = Path(os.environ["FOLDER"])


def wait_for(name: str) -> None:
    """Wait until a file appears in the folder of the program, or the folder is removed."""
    while FOLDER.exists() and not (FOLDER / name).exists():
        time.sleep(0.02)


def answer(name: object = None) -> None:
    """Write the page of this process when all are quiet, and stay until all may end."""
    wait_for("quiet")
    name = os.getpid() if name is None else name  # a pid is unique in one container
    written = FOLDER / f".{name}"
    written.write_text(f"# {exporter.url}\n{exporter.metrics()}")
    written.rename(FOLDER / f"page-{name}")
    wait_for("end")
