"""Exporter that keeps what it sends, and can be made to fail or to hang."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING, Any

from hypertrace.exporters.push import THREAD_NAME, PushExporter

if TYPE_CHECKING:
    from collections.abc import Callable

    from hypertrace.metrics import Metrics, Reading

SOON = 30.0
"""Seconds that a test waits for what happens at once; only a failing test waits that long."""
NEVER = 3_600.0
"""An interval that does not elapse in a test."""


class Recording(PushExporter):
    """Keeps the readings it sends.

    Attributes:
        readings: what was sent.
        on_send, on_encode: called before that is done.
    """

    def __init__(
        self, metrics: Metrics | None = None, interval: float = NEVER, **counting: Any
    ) -> None:
        self.readings: list[Reading] = []
        self.on_send: Callable[[], object] = lambda: None
        self.on_encode: Callable[[], object] = lambda: None
        super().__init__(metrics, counting, interval=interval)  # type: ignore[arg-type]

    def encode(self, reading: Reading) -> Reading:
        self.on_encode()
        return reading

    def send(self, encoded: Reading) -> None:
        self.on_send()
        self.readings.append(encoded)

    def calls(self) -> list[int]:
        """Give the number of calls in each reading that was sent."""
        return [calls_in(reading) for reading in self.readings]


class Hanging:
    """A function that waits until it is released."""

    def __init__(self) -> None:
        self.entered = threading.Event()
        self.released = threading.Event()

    def __call__(self, *_: object) -> None:
        self.entered.set()
        assert self.released.wait(SOON)


def calls_in(reading: Reading) -> int:
    """Give how many calls a reading has."""
    values = reading.family("function_counter_total").values
    return sum(value for value in values if isinstance(value, int))


def until(condition: Callable[[], object]) -> None:
    """Wait until something holds."""
    deadline = time.monotonic() + SOON
    while not condition():
        assert time.monotonic() < deadline, "it does not come to hold"
        time.sleep(0.001)


def exporter_threads() -> list[threading.Thread]:
    """Give the threads of exporters that are alive."""
    return [thread for thread in threading.enumerate() if thread.name == THREAD_NAME]
