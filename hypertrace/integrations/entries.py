"""Entries: spans in which work begins, as requests, jobs, messages and commands, and their metric.

Each operation that is an entry has the id `entry.KIND` and a prop `entry_name`.
"""

from __future__ import annotations

from hypertrace.metrics import Distribution, declare

NAME = "entry_name"
"""The prop of an event that names the entry."""

DURATIONS = Distribution(
    "entry_duration_seconds",
    id="entry.*",
    tags={"kind": "id", "name": f"call.{NAME}", "result": "result"},
    tag_values={"kind": lambda kind: kind.removeprefix("entry.")},
    description="Requests, jobs, messages and commands, from their start to their end.",
)


def declare_entries() -> None:
    """Declare the metric of entries for every `Metrics`; again does nothing."""
    declare(DURATIONS)
