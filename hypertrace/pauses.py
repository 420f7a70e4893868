"""Pauses of garbage collection: what times them, a part of the compiled core."""

from __future__ import annotations

from typing import Any

from ._compiled import speedups

PauseTimer: Any = getattr(speedups, "PauseTimer", None)
"""The class whose method `time` goes into `gc.callbacks`, and whose `adders` are by the generation
tuples of what is called with the seconds. None without the compiled core, and on Windows: what a
signal handler raises in a callback in Python is lost to the application."""
