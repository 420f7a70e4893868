"""Secrets: read each time, and never in a message."""

from pathlib import Path
from typing import Any

import pytest

from hypertrace.exporters.influx.secrets import Secret


def test_a_secret_of_a_file_is_read_each_time(tmp_path: Path) -> None:
    """One that was renewed is used from then on."""
    file = tmp_path / "token"
    file.write_text("first\n")
    secret = Secret("token", f"file:{file}")
    file.write_text(" second \r\n")
    assert secret.read() == "second"


def test_a_secret_of_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """The variable is named."""
    monkeypatch.setenv("SHOP_TOKEN", "4bf9==")
    assert Secret("token", "env:SHOP_TOKEN").read() == "4bf9=="


@pytest.mark.parametrize(
    ("source", "error", "says"),
    [
        ("4bf92f3577b3", ValueError, "not the secret itself"),
        (b"4bf92f3577b3", TypeError, "class 'bytes'"),
        ("env:NO_SUCH_VARIABLE", ValueError, "'NO_SUCH_VARIABLE' has nothing in it"),
        ("env:TWO_LINES", ValueError, "'TWO_LINES' has characters"),
    ],
)
def test_what_is_no_secret_is_refused(
    source: Any, error: type[Exception], says: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The message names the place, and shows nothing of what is there."""
    monkeypatch.setenv("TWO_LINES", "4bf92f3577b3\n4bf92f3577b3")
    with pytest.raises(error, match=says) as caught:
        Secret("token", source)
    assert "4bf92f" not in str(caught.value)


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    """Said at once, not at the first reading."""
    with pytest.raises(FileNotFoundError):
        Secret("token", f"file:{tmp_path / 'none'}")
