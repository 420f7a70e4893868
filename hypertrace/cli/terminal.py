"""Terminal output: results on stdout, a failure as one line on stderr."""

import os
import sys
from contextlib import suppress
from typing import TextIO


class CommandError(Exception):
    """A failure and what to do about it, in one line for the user."""


def say(*lines: str) -> None:
    """Write lines to stdout, each as `printable` returns it.

    File names and answers of servers may hold any character, also an end of line.

    Raises:
        OSError: stdout cannot be written to.
    """
    sys.stdout.writelines(f"{printable(line, sys.stdout)}\n" for line in lines)


def report_failure(prog: str, reason: object) -> int:
    """Write one line to stderr, where there is one, and return the exit code of a failure."""
    if sys.stderr is not None:
        with suppress(OSError):  # then the exit code has to do
            sys.stderr.write(f"{prog}: {printable(str(reason), sys.stderr)}\n")
    return 1


def discard_output() -> None:
    """Drop the output that is not written yet, so that the flush when Python exits succeeds."""
    with suppress(OSError):  # a stream that is no file
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def printable(line: str, stream: TextIO) -> str:
    """Return a line with escapes for control characters and for what the stream cannot encode."""
    shown = "".join(
        each if each.isprintable() else each.encode("unicode_escape").decode() for each in line
    )
    encoding = stream.encoding or "utf-8"
    return shown.encode(encoding, "backslashreplace").decode(encoding)
