"""Import layers: those that pyproject.toml names."""

import subprocess
import sysconfig
from pathlib import Path


def test_no_import_runs_against_the_layers(root: Path) -> None:
    """import-linter keeps every contract of pyproject.toml."""
    program = Path(sysconfig.get_path("scripts"), "lint-imports")
    run = subprocess.run(
        [program, "--no-cache", "--no-logo"], cwd=root, capture_output=True, text=True, check=False
    )
    assert run.returncode == 0, run.stdout + run.stderr
