"""Types: type checkers see decorated code as it is."""

import os
import runpy
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

from hypertrace import swallowed_errors

TYPED = Path(__file__).with_name("typed.py")


def _check(command: list[str], root: Path) -> None:
    # With the path, since checkers do not follow every kind of editable install.
    environment = {**os.environ, "MYPYPATH": str(root), "PYTHONPATH": str(root)}
    done = subprocess.run(
        [*command, str(TYPED)],
        cwd=root,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.skipif(find_spec("mypy") is None, reason=".ci/types runs mypy on all tests")
def test_mypy_agrees(root: Path) -> None:
    """Types inferred by mypy are the asserted ones, and wrong calls are rejected."""
    _check([sys.executable, "-m", "mypy", "--strict", "--explicit-package-bases"], root)


@pytest.mark.skipif(find_spec("pyright") is None, reason=".ci/types runs pyright on this file")
def test_pyright_agrees(root: Path) -> None:
    """Types inferred by pyright are the asserted ones."""
    _check([sys.executable, "-m", "pyright", "--pythonpath", sys.executable], root)


def test_it_runs() -> None:
    """The checked code also runs without an error."""
    runpy.run_path(str(TYPED))["main"]()
    assert swallowed_errors() == 0
