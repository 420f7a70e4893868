"""Server: a real program that a test starts on a free port, asks, and ends."""

from __future__ import annotations

import json
import subprocess
import time
import urllib.parse
import urllib.request
from typing import TYPE_CHECKING, Any

from prometheus_client.parser import text_string_to_metric_families as parse_text

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path
    from types import TracebackType
    from typing import Self

DEADLINE = 60.0
"""Seconds that a test waits for what takes a few."""

Samples = dict[tuple[str, tuple[tuple[str, str], ...]], float]


class Server:
    """A running program with an HTTP port.

    Attributes:
        url: where it answers.
        command: what started it.
    """

    def __init__(self, command: Sequence[str], port: int, log: Path, ready: str) -> None:
        """Start it, and wait until it answers.

        Args:
            command: program and arguments.
            port: of loopback where it answers.
            log: gets what it writes.
            ready: path that answers once it is ready.
        """
        self.url = f"http://127.0.0.1:{port}"
        self.command = [*command]
        self._log = log
        self._ready = ready
        self.start()

    def start(self) -> None:
        """Start it, also again."""
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                self.command, stdin=subprocess.DEVNULL, stdout=log, stderr=log
            )
        try:
            self.wait(lambda: self.ask(self._ready) is not None)
        except BaseException:
            self.stop()
            raise

    def stop(self) -> None:
        """End it, and wait for its end."""
        self._process.terminate()
        try:
            self._process.wait(timeout=10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.stop()

    def ask(self, path: str, method: str = "GET", **parameters: str) -> Any:
        """Give the answer to a request: JSON as what it means, else as text."""
        query = f"?{urllib.parse.urlencode(parameters)}" if parameters else ""
        request = urllib.request.Request(f"{self.url}{path}{query}", method=method)
        with urllib.request.urlopen(request, timeout=10) as answer:
            body = answer.read().decode()
        return json.loads(body) if body.startswith(("{", "[")) else body

    def wait(self, condition: Callable[[], object]) -> None:
        """Wait until something holds.

        Raises:
            AssertionError: it did not hold in time, or the program has ended; with its log.
        """
        deadline, last = time.monotonic() + DEADLINE, ""
        while time.monotonic() < deadline and self._process.poll() is None:
            try:
                if condition():
                    return
            except (OSError, KeyError, IndexError) as error:
                last = repr(error)
            time.sleep(0.05)
        raise AssertionError(f"not in time: {last}\n{self.log()[-5_000:]}")

    def log(self) -> str:
        """Give what it has written."""
        return self._log.read_text()

    def query(self, promql: str) -> dict[tuple[tuple[str, str], ...], float]:
        """Give the series that a query of Prometheus finds now, by their labels."""
        if "victoria" in str(self.command[0]):  # it shows what it has received some seconds later
            self.ask("/internal/force_flush")
        answer = self.ask("/api/v1/query", query=promql)
        return {
            tuple(sorted(one["metric"].items())): float(one["value"][1])
            for one in answer["data"]["result"]
        }


def samples_of(page: str) -> Samples:
    """Give the samples of a page by name and labels; numbers among these are written alike."""
    return {
        (sample.name, tuple(sorted(map(_alike, sample.labels.items())))): sample.value
        for family in parse_text(page)
        for sample in family.samples
    }


def _alike(label: tuple[str, str]) -> tuple[str, str]:
    name, value = label
    return (name, str(float(value))) if name in {"le", "quantile"} else label


def with_labels(samples: Samples, **labels: str) -> Samples:
    """Give samples with more labels, unless they have these."""
    return {
        (name, tuple(sorted({**labels, **dict(own)}.items()))): value
        for (name, own), value in samples.items()
    }
