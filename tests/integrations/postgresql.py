"""PostgreSQL servers for tests."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import tempfile
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..running import LONG

if TYPE_CHECKING:
    from collections.abc import Iterator

_USER = 65534
"""A user that owns nothing, for the server when the tests run as root."""


def program() -> Path | None:
    """Return the path of the server's program, or None if it is not installed."""
    found = shutil.which("postgres"), *sorted(Path("/usr/lib/postgresql").glob("*/bin/postgres"))
    return next((Path(path).resolve() for path in found if path), None)


@contextmanager
def server(postgres: Path, port: int) -> Iterator[str]:
    """Start a server, and stop it at the end.

    Args:
        postgres: its program.
        port: of the loopback that it serves.

    Yields:
        The address of its database, for a user without a password, behind `postgresql`.
    """
    options: dict[str, Any] = {"user": _USER, "group": _USER, "extra_groups": []}
    folder = Path(tempfile.mkdtemp(prefix="postgresql-"))
    if os.getuid():
        options = {}
    else:
        shutil.chown(folder, _USER, _USER)
    data = folder / "data"
    options["cwd"] = folder
    try:
        make = ["-U", "test", "-A", "trust", "-E", "UTF8", "--no-locale", "--no-sync"]
        subprocess.run(
            [postgres.with_name("initdb"), "-D", data, *make],
            check=True,
            stdout=subprocess.DEVNULL,
            **options,
        )
        serve: list[str | Path] = ["-k", folder, "-h", "127.0.0.1", "-p", str(port), "-F"]
        serve += ["-c", "max_prepared_transactions=5"]
        with (folder / "log").open("w") as log:
            process = subprocess.Popen([postgres, "-D", data, *serve], stderr=log, **options)
        try:
            _wait_until_ready(data / "postmaster.pid", process)
            yield f"://test@127.0.0.1:{port}/postgres"
        finally:
            process.send_signal(signal.SIGINT)
            process.wait(LONG)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _wait_until_ready(status: Path, process: subprocess.Popen[str]) -> None:
    end = time.monotonic() + LONG
    while not status.exists() or "ready" not in status.read_text():
        assert process.poll() is None
        assert time.monotonic() < end
        time.sleep(0.01)
