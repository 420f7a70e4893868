"""The package without the libraries of its extra."""

import subprocess
import sys


def test_a_missing_library_is_told_with_the_command_that_installs_it() -> None:
    """Without the libraries of the extra, the error says how to install them."""
    program = "import sys; sys.modules['prometheus_client'] = None; import hypertrace_prometheus"
    ended = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=False
    )
    assert ended.returncode == 1
    assert 'pip install "hypertrace[prometheus]"' in ended.stderr
