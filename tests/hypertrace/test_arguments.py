"""Arguments of `trace()` and `span()`, in all their forms."""

from collections import OrderedDict, UserDict
from types import MappingProxyType
from typing import Any

import pytest

from hypertrace import swallowed_errors
from hypertrace._arguments import call_arguments


class Broken(UserDict[str, object]):
    def keys(self) -> Any:
        raise LookupError("broken")


@pytest.mark.parametrize("copy", [True, False])
@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ((None, None, {}), (None, None)),
        (("a", None, {}), ("a", None)),
        (("a", None, {"b": 1}), ("a", {"b": 1})),
        (("a", {"b": 1}, {}), ("a", {"b": 1})),
        (("a", {"b": 1, "c": 1}, {"b": 2}), ("a", {"b": 2, "c": 1})),
        (({"b": 1}, None, {}), (None, {"b": 1})),
        (({"b": 1}, None, {"b": 2}), (None, {"b": 2})),
        ((MappingProxyType({"b": 1}), None, {}), (None, {"b": 1})),
        ((OrderedDict(b=1), None, {}), (None, {"b": 1})),
        ((UserDict(b=1), None, {}), (None, {"b": 1})),
        (("a", {}, {}), ("a", None)),
        (({}, None, {}), (None, None)),
        ((7, None, {}), (7, None)),
        (({"b": 1}, {"c": 1}, {}), ({"b": 1}, {"c": 1})),
    ],
)
def test_id_and_props(
    given: tuple[Any, Any, dict[str, object]], expected: object, copy: bool
) -> None:
    """A mapping may stand first; keyword props win; no props are None."""
    assert call_arguments(*given, copy=copy) == expected


def test_props_are_copied() -> None:
    """Changing the mapping later changes nothing."""
    props = {"a": 1}
    _, taken = call_arguments(None, props, {}, copy=True)
    props["a"] = 2
    assert taken == {"a": 1}


@pytest.mark.parametrize("kwargs", [{}, {"a": 1}])
def test_props_that_are_no_mapping_are_left_out(
    kwargs: dict[str, object], caplog: pytest.LogCaptureFixture
) -> None:
    """Props that are no mapping are logged, and the call goes on with the other arguments."""
    assert call_arguments("id", 7, kwargs, copy=False) == ("id", kwargs or None)
    assert "trace() got props of type int" in caplog.text


@pytest.mark.parametrize("kwargs", [{}, {"a": 1}])
def test_a_mapping_that_raises_is_left_out(kwargs: dict[str, object]) -> None:
    """Errors of reading props are swallowed, and the call goes on with the other arguments."""
    assert call_arguments("id", Broken(b=1), kwargs, copy=False) == ("id", kwargs or None)
    assert swallowed_errors() == 1
