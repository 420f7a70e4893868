"""Setting `workers`: the argument of that name, and the environment variable that wins over it."""

from __future__ import annotations

import os
from typing import Literal

VARIABLE = "HYPERTRACE_WORKERS"

_ACCEPTED = 'accepted are "auto", True, False, and the absolute path of a directory'
_ACCEPTED_TEXT = (
    "accepted are auto, 1, true, yes, on, 0, false, no, off, and the absolute path of a directory"
)
_TRUE = {"1", "true", "yes", "on"}
_FALSE = {"0", "false", "no", "off"}


def checked_workers(value: object) -> bool | Literal["auto"] | str:  # noqa: PYI051 -- it says more
    """Return what `workers` is set to, by the environment or by the argument.

    Args:
        value: the argument `workers`. It is checked also where the variable wins.

    Returns:
        "auto", True, False, or an absolute path.

    Raises:
        TypeError: the argument is neither a bool nor a path.
        ValueError: the argument or `HYPERTRACE_WORKERS` is not among what is accepted.
    """
    checked = _checked_argument(value)
    text = os.environ.get(VARIABLE)
    if text is None:
        return checked
    word = text.strip().lower()
    if word == "auto":
        return "auto"
    if word in _TRUE | _FALSE:
        return word in _TRUE
    return _checked_path(text, f"{VARIABLE}={text!r}", _ACCEPTED_TEXT)


def _checked_argument(value: object) -> bool | str:
    if isinstance(value, bool):
        return value
    if isinstance(value, str) and value == "auto":
        return "auto"
    if not isinstance(value, (str, os.PathLike)):
        raise TypeError(f"workers={value!r}: {_ACCEPTED}, not {type(value).__name__}")
    path = os.fspath(value)
    if not isinstance(path, str):
        raise TypeError(f"workers={value!r}: {_ACCEPTED}, as str and not as bytes")
    return _checked_path(path, f"workers={value!r}", _ACCEPTED)


def _checked_path(text: str, where: str, accepted: str) -> str:
    path = os.path.expanduser(text)
    if not text.strip():
        raise ValueError(f"{where} is empty; {accepted}")
    if "\0" in path:
        raise ValueError(f"{where} has a null character; {accepted}")
    if not os.path.isabs(path):
        raise ValueError(f"{where} is no absolute path; {accepted}")
    return os.path.normpath(path)
