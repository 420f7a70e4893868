"""Setting `workers`: what is accepted, from the argument and from the environment."""

from __future__ import annotations

from pathlib import Path

import pytest

from hypertrace.metrics.shared.setting import VARIABLE, checked_workers


@pytest.fixture(autouse=True)
def _no_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(VARIABLE, raising=False)


@pytest.mark.parametrize(
    ("value", "checked"),
    [
        ("auto", "auto"),
        (True, True),
        (False, False),
        ("/run/x", "/run/x"),
        ("/run/./x/", "/run/x"),
        (Path("/run/x"), "/run/x"),
        ("~/x", str(Path("~/x").expanduser())),
    ],
)
def test_the_argument_is_a_word_a_bool_or_an_absolute_path(value: object, checked: object) -> None:
    """`~` is expanded, and a path object becomes text."""
    assert checked_workers(value) == checked
    assert type(checked_workers(value)) is type(checked)


@pytest.mark.parametrize("value", [1, 0, None, 2.5, b"/run/x", ["auto"]])
def test_an_argument_of_another_type_is_a_type_error(value: object) -> None:
    """The error names the argument, the value and what is accepted."""
    with pytest.raises(TypeError, match=r'workers=.*"auto", True, False, and the absolute path'):
        checked_workers(value)


def test_a_path_of_bytes_is_a_type_error() -> None:
    """An object whose path is bytes is rejected, too."""

    class OfBytes:
        def __fspath__(self) -> bytes:
            return b"/run/x"

    with pytest.raises(TypeError, match="not as bytes"):
        checked_workers(OfBytes())


@pytest.mark.parametrize("value", ["", " ", "yes", "run/x", "/run/\0x", "~nosuchuser/x"])
def test_an_argument_that_is_no_absolute_path_is_a_value_error(value: str) -> None:
    """The error names the argument, the value and what is accepted."""
    with pytest.raises(ValueError, match=r"workers=.*accepted are") as caught:
        checked_workers(value)
    assert repr(value) in str(caught.value)


@pytest.mark.parametrize(
    ("text", "checked"),
    [
        ("auto", "auto"),
        ("AUTO ", "auto"),
        *((text, True) for text in ("1", "true", "YES", "on")),
        *((text, False) for text in ("0", "False", "no", "off")),
        ("/run/x", "/run/x"),
        ("~/x", str(Path("~/x").expanduser())),
    ],
)
def test_the_variable_wins(text: str, checked: object, monkeypatch: pytest.MonkeyPatch) -> None:
    """The variable has its own words for True and False."""
    monkeypatch.setenv(VARIABLE, text)
    assert checked_workers("/elsewhere") == checked
    assert type(checked_workers(True)) is type(checked)


@pytest.mark.parametrize("text", ["", "maybe", "run/x"])
def test_a_variable_with_another_text_is_a_value_error(
    text: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The error names the variable, its text and what is accepted."""
    monkeypatch.setenv(VARIABLE, text)
    with pytest.raises(ValueError, match=rf"^HYPERTRACE_WORKERS='{text}' .*accepted are auto, 1"):
        checked_workers("auto")


def test_the_argument_is_checked_also_if_the_variable_wins(monkeypatch: pytest.MonkeyPatch) -> None:
    """A wrong argument is an error, whatever the environment says."""
    monkeypatch.setenv(VARIABLE, "auto")
    with pytest.raises(TypeError):
        checked_workers(None)
