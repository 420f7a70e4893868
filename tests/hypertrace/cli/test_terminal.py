"""Terminal output: results and failures."""

import errno
import io
import sys
from typing import Any

import pytest

from hypertrace.cli.terminal import discard_output, printable, report_failure, say


class Full(io.StringIO):
    """A stream that takes nothing."""

    def write(self, text: str) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")


def test_each_line_is_one(capsys: pytest.CaptureFixture[str]) -> None:
    """What is said comes out line by line; an end of line in a text does not make another one."""
    say("one", "two\nlines")
    assert capsys.readouterr().out == "one\ntwo\\nlines\n"


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain g\u00e4nse", "plain g\u00e4nse"),
        ("\x1b[2J\x9b\u202e", r"\x1b[2J\x9b\u202e"),
        ("\udcff", r"\udcff"),
    ],
)
def test_control_characters_do_not_reach_the_terminal(text: str, shown: str) -> None:
    """Control characters are escaped, and so is what is no character."""
    assert printable(text, io.StringIO()) == shown


def test_what_an_output_cannot_encode_is_escaped(monkeypatch: pytest.MonkeyPatch) -> None:
    """A character that stdout has no bytes for is shown as an escape."""
    written = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    monkeypatch.setattr(sys, "stdout", written)
    say("g\u00e4nse")
    written.seek(0)
    assert written.read() == "g\\xe4nse\n"


def test_a_failure_is_one_line_on_stderr(capsys: pytest.CaptureFixture[str]) -> None:
    """A failure is reported with the program's name, escaped like any line, and gives code 1."""
    assert report_failure("program", ValueError("no\x1b\nway")) == 1
    captured = capsys.readouterr()
    assert (captured.out, captured.err) == ("", "program: no\\x1b\\nway\n")


@pytest.mark.parametrize("stderr", [None, Full()], ids=["closed", "full"])
def test_a_failure_needs_no_stderr(stderr: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where stderr is closed or takes nothing, the exit code remains."""
    monkeypatch.setattr(sys, "stderr", stderr)
    assert report_failure("program", "no way") == 1


def test_output_can_be_discarded_only_from_a_file(monkeypatch: pytest.MonkeyPatch) -> None:
    """A stdout that is no file is left as it is."""
    written = io.StringIO("kept")
    monkeypatch.setattr(sys, "stdout", written)
    discard_output()
    assert written.getvalue() == "kept"
