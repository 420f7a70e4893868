"""Celery worker: always the same orders, so the numbers are known."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from pathlib import Path


def test_the_worker_says_what_became_of_the_orders(root: Path) -> None:
    """`python examples/celery_worker.py` prints the jobs of both processes by name and event."""
    if importlib.util.find_spec("celery") is None:
        if os.environ.get("HYPERTRACE_EVERY_SERVER"):
            pytest.fail("celery is missing: pip install --group integrations")
        pytest.skip("needs celery: pip install --group integrations")
    run = subprocess.run(
        [sys.executable, root / "examples" / "celery_worker.py"],
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert run.returncode == 0, run.stderr
    lines = [line.split() for line in run.stdout.splitlines() if line.startswith("shop.")]
    assert lines == [
        ["shop.charge", "failed", "1"],
        ["shop.charge", "received", "7"],
        ["shop.charge", "retried", "3"],
        ["shop.charge", "sent", "7"],
        ["shop.charge", "started", "7"],
        ["shop.charge", "succeeded", "3"],
        ["shop.receipt", "received", "3"],
        ["shop.receipt", "sent", "3"],
        ["shop.receipt", "started", "3"],
        ["shop.receipt", "succeeded", "3"],
    ]
