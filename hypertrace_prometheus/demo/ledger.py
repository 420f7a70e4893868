"""Ledger: what the application counts itself, independent of tracing."""

import threading
from collections import Counter


class Ledger:
    """Counts of what the application did, kept so that Prometheus can be checked against them.

    Every method may be called from any thread.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._counts: Counter[tuple[str, str]] = Counter()

    def add(self, entry: str, detail: str = "") -> None:
        """Count one `entry`, such as "document", under a `detail`, such as its topic."""
        with self._lock:
            self._counts[entry, detail] += 1

    def details(self, entry: str) -> dict[str, int]:
        """Return how often `entry` was counted, by detail."""
        with self._lock:
            return {
                detail: count for (name, detail), count in self._counts.items() if name == entry
            }

    def total(self, entry: str) -> int:
        """Return how often `entry` was counted, whatever the detail."""
        return sum(self.details(entry).values())
