"""Collectors that failed: counted by their class, and logged."""

from __future__ import annotations

import logging
from contextlib import suppress
from threading import Lock
from time import monotonic
from typing import TYPE_CHECKING, TypeAlias

from hypertrace import Cell

from . import labels as label

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

Fail: TypeAlias = "Callable[[BaseException], None]"
"""What to call with an error that costs a part of what a collector gives."""

LOG_INTERVAL = 60.0
"""Seconds between two log lines about collectors of the same class."""

_MOST_CLASSES = 100
_LONGEST_NAME = 256
_OTHER = "<other>"

_logger = logging.getLogger("hypertrace_prometheus")


class Failures:
    """How often collectors failed, by their class.

    Any thread may count and read, and no lock is taken. Past 100 classes, further ones are counted
    together as `<other>`.
    """

    def __init__(self) -> None:
        """Start with none."""
        self._counts: dict[str, Cell] = {}
        self._silences: dict[str, _Silence] = {}
        self._told: dict[str, int] = {}

    def expect(self, collector: object) -> None:
        """Show the class of a collector before it fails, with 0: so its first failure is a rise."""
        self._counts.setdefault(self._known_as(collector), Cell())

    def count(self, collector: object, error: BaseException) -> None:
        """Count one failure, and log it with its traceback. Never raises.

        A class of collectors is logged once a minute at the most, with the number of failures that
        were left out.
        """
        name = self._known_as(collector)
        self._counts.setdefault(name, Cell()).increment()
        with suppress(Exception):  # a broken log handler must not cost the page
            self._log(name, error)

    def items(self) -> Iterator[tuple[str, int]]:
        """Return the classes, each with the number of its failures."""
        for name, cell in self._counts.copy().items():
            yield name, cell.value

    def _known_as(self, collector: object) -> str:
        name = _name(type(collector))
        is_known = name in self._counts or len(self._counts) < _MOST_CLASSES
        return name if is_known else _OTHER

    def _log(self, name: str, error: BaseException) -> None:
        now = monotonic()
        silence = self._silences.setdefault(name, _Silence(now))
        if now < silence.until:
            return
        self._silences[name] = _Silence(now + LOG_INTERVAL)
        if not silence.turn.acquire(blocking=False):  # never given back: another thread logs
            return
        total = self._counts[name].value
        before, self._told[name] = self._told.get(name, 0), total
        _logger.error(
            "The collector %s failed; the page goes out without what it did not give "
            "(%d more failures not logged)",
            name,
            total - 1 - before,
            exc_info=error,
        )


class _Silence:
    """The time after a line; the first to take the `turn` when it is over logs the next one."""

    __slots__ = ("turn", "until")

    def __init__(self, until: float) -> None:
        self.until = until
        self.turn = Lock()


def _name(collector: type) -> str:
    try:
        name = f"{collector.__module__}.{collector.__qualname__}"[:_LONGEST_NAME]
    except Exception:  # noqa: BLE001 -- a metaclass may raise anything
        name = label.type_name(collector)[:_LONGEST_NAME]
    # A class that was made at run time may have any name.
    return name.encode(errors="replace").decode()
