"""Lines of the application that use an instrument."""

from __future__ import annotations

import sys
from pathlib import Path

from hypertrace import Caller

_OURS = str(Path(__file__).parents[2])
"""The folder of this package."""


def line_of_application() -> Caller:
    """Return the innermost line outside this package, which the warning about a limit names."""
    frame = sys._getframe(1)
    while frame.f_back is not None and frame.f_code.co_filename.startswith(_OURS):
        frame = frame.f_back
    code, module = frame.f_code, frame.f_globals.get("__name__")
    return Caller(code.co_name, code.co_filename, module, frame.f_lineno or 0)
