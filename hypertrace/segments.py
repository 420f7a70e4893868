"""Segments: cells in mapped files, which other processes read; parts of the compiled core."""

from __future__ import annotations

from typing import Any

from ._compiled import gil_enabled, speedups

CompiledSegment: Any = getattr(speedups, "Segment", None)
"""The class of segments in C; None without the compiled core, and on Windows. The interface is that
of `hypertrace.metrics.shared.segment.Segment`."""

CAN_SHARE: bool = CompiledSegment is not None or gil_enabled()
"""Whether counts in mapped files are exact. In pure Python the GIL makes an increment one step."""

merge_cells: Any = getattr(speedups, "merge", None)
"""`hypertrace.metrics.shared.snapshot.merge` in C; None without the compiled core."""
