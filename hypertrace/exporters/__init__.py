"""Exporters that push: each brings the counts of a `Metrics` to one backend.

Each is in its own module, which loads when it is imported. What concerns all of them is here.
"""

from .flushing import flush, flushes
from .sigterm import flush_on_sigterm

__all__ = ["flush", "flush_on_sigterm", "flushes"]
