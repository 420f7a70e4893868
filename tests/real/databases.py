"""Databases that tests start, and the questions that tests ask them."""

from __future__ import annotations

import json
import subprocess
import time
import urllib.error
import urllib.parse
import urllib.request
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path
    from typing import Self

DEADLINE = 30.0
"""Seconds that a test waits for what takes less than one."""
VICTORIA = ("victoria-metrics", "victoria-metrics1")
"""VictoriaMetrics 1.79, as Debian has it, and one that takes OpenTelemetry."""


class Server:
    """A running database."""

    def __init__(self, command: list[str], folder: Path, port: int) -> None:
        self.url = f"http://127.0.0.1:{port}"
        self._command = command
        self._log = folder / "log"
        self.start()

    def start(self) -> None:
        """Start it, also again."""
        with self._log.open("ab") as log:
            self.process = subprocess.Popen(
                self._command, stdin=subprocess.DEVNULL, stdout=log, stderr=log
            )

    def stop(self) -> None:
        self.process.terminate()
        try:
            self.process.wait(timeout=10)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()

    def ask(self, path: str, method: str = "GET", **parameters: str) -> Any:
        """Give the answer to a request, as JSON if there is any."""
        query = urllib.parse.urlencode(parameters)
        request = urllib.request.Request(f"{self.url}{path}?{query}", method=method)
        with urllib.request.urlopen(request, timeout=10) as answer:
            body = answer.read()
        return json.loads(body) if body.startswith((b"{", b"[")) else body

    def wait(self, condition: Callable[[], object]) -> None:
        """Wait until something holds."""
        deadline = time.monotonic() + DEADLINE
        last: object = None
        while time.monotonic() < deadline:
            try:
                if condition():
                    return
            except (OSError, KeyError, IndexError) as error:
                last = error
            time.sleep(0.02)
        raise AssertionError(f"not in time: {last!r}\n{self._log.read_text()[-5_000:]}")


class VictoriaMetrics(Server):
    """VictoriaMetrics."""

    @classmethod
    @contextmanager
    def started(cls, program: str, folder: Path, port: int, *options: str) -> Iterator[Self]:
        """Start it for as long as the context lasts."""
        command = [
            program,
            f"-storageDataPath={folder}/data",
            f"-httpListenAddr=127.0.0.1:{port}",
            "-search.latencyOffset=0s",
            *options,
        ]
        server = cls(command, folder, port)
        try:
            server.wait(lambda: server.ask("/health") == b"OK")
            yield server
        finally:
            server.stop()

    def value(self, query: str) -> float:
        """Give the sum of the series that a query finds now."""
        self.ask("/internal/force_flush")
        answer = self.ask("/api/v1/query", query=query, time=str(time.time() + 1), nocache="1")
        return sum(float(result["value"][1]) for result in answer["data"]["result"])

    def wait_for_value(self, query: str, value: float) -> None:
        """Wait until that sum is a value."""
        self.wait(lambda: self.value(query) == value)
