"""Port holder: the program that listens on a port."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from hypertrace_prometheus.http import port_holder as module
from hypertrace_prometheus.http.port_holder import port_holder

PROGRAM = """
import socket, sys
server = socket.create_server((sys.argv[1], 0), family=int(sys.argv[2]))
print(server.getsockname()[1], flush=True)
sys.stdin.read()
"""

needs_linux = pytest.mark.skipif(sys.platform != "linux", reason="needs Linux's /proc")


@needs_linux
@pytest.mark.parametrize("host", ["127.0.0.1", "0.0.0.0", "::1", "::"])
def test_another_program_is_named(host: str) -> None:
    """A program of this user that listens is named, with its pid, at whatever address."""
    if ":" in host and not socket.has_dualstack_ipv6():
        pytest.skip("no IPv6 on this machine")
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with subprocess.Popen(
        [sys.executable, "-c", PROGRAM, host, str(int(family))],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        port = int(process.stdout.readline())
        name = Path(f"/proc/{process.pid}/comm").read_text().strip()
        holder = f"{name} (pid {process.pid})"
        assert port_holder(port) == holder
        process.stdin.close()
    assert port_holder(port) != holder  # another program may have the port by now


@needs_linux
def test_this_process_is_named_so() -> None:
    """A port that another server of this process has is said to be this process's."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        assert port_holder(server.getsockname()[1]) == "this process itself"


def test_a_free_port_has_no_holder() -> None:
    """A port that no program listens on has none, and one that is only bound neither."""
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        assert port_holder(bound.getsockname()[1]) is None


def test_a_system_without_proc_knows_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where there is no /proc, or nothing in it may be read, the holder is not known."""
    monkeypatch.setattr(module, "_PROC", tmp_path)
    with socket.create_server(("127.0.0.1", 0)) as server:
        assert port_holder(server.getsockname()[1]) is None
    assert module._pids() == [os.getpid()]


@needs_linux
def test_a_search_takes_bounded_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """On a machine where looking at the processes takes too long, the search is given up."""
    monkeypatch.setattr(module, "_SECONDS", -1.0)
    with socket.create_server(("127.0.0.1", 0)) as server:
        assert port_holder(server.getsockname()[1]) is None
