"""Paths of props: their values come from the arguments or the result of a call."""

import functools
import math
from types import SimpleNamespace
from typing import Any

import pytest

from hypertrace import swallowed_errors
from hypertrace._paths import PropPaths

PEER = SimpleNamespace(host="a", address=SimpleNamespace(port=80))


def function(first: Any, /, peer: Any, *rest: Any, limit: int = 5, **options: Any) -> None:
    """Have a parameter of each kind."""


class Swarm:
    name = "swarm"

    def connect(self, peer: Any) -> None:
        """Have a `self`."""

    @property
    def broken(self) -> str:
        raise RuntimeError("broken")


@pytest.mark.parametrize(
    ("path", "args", "kwargs", "expected"),
    [
        ("args.first", (1, 2), {}, {"x": 1}),
        ("args.peer", (1, 2), {}, {"x": 2}),
        ("args.peer", (1,), {"peer": 2}, {"x": 2}),
        ("args.peer.host", (1, PEER), {}, {"x": "a"}),
        ("args.peer.address.port", (1,), {"peer": PEER}, {"x": 80}),
        ("args.peer.missing", (1, PEER), {}, {}),
        ("args.limit", (1, 2), {}, {"x": 5}),
        ("args.limit", (1, 2, 3, 4), {"limit": 6}, {"x": 6}),
        ("args.peer", (1,), {}, {}),
        ("args.first", (), {}, {}),
    ],
)
def test_an_argument_is_found_however_it_is_given(
    path: str, args: tuple[Any, ...], kwargs: dict[str, Any], expected: dict[str, object]
) -> None:
    """By position, by name or by its default, with attributes; what is not there is left out."""
    paths = PropPaths(function, {"x": path})
    assert bool(paths)
    assert not paths.needs_result
    assert paths.from_args(args, kwargs) == expected
    assert paths.from_result(1) == {}
    assert swallowed_errors() == 0


@pytest.mark.parametrize(
    ("path", "result", "expected"),
    [
        ("result", 7, {"x": 7}),
        ("result", None, {"x": None}),
        ("result.host", PEER, {"x": "a"}),
        ("result.address.port", PEER, {"x": 80}),
        ("result.missing", PEER, {}),
    ],
)
def test_the_result_is_found(path: str, result: object, expected: dict[str, object]) -> None:
    """The result itself, or attributes of it; what is not there is left out."""
    paths = PropPaths(function, {"x": path})
    assert bool(paths)
    assert paths.needs_result
    assert paths.from_result(result) == expected
    assert paths.from_args((1, 2), {}) == {}


def test_no_paths_are_false() -> None:
    """Without paths there is nothing to look for."""
    assert not PropPaths(function, {})


def test_self_is_an_argument() -> None:
    """Of a method, `self` is found like any argument."""
    paths = PropPaths(Swarm.connect, {"name": "args.self.name", "peer": "args.peer"})
    assert paths.from_args((Swarm(), 1), {}) == {"name": "swarm", "peer": 1}


def test_what_is_bound_comes_before_the_arguments() -> None:
    """Of a bound method the arguments stand behind what it is bound to; a function in C is not."""
    swarm = Swarm()
    assert PropPaths(swarm.connect, {"x": "args.peer"}).from_args((swarm, 1), {}) == {"x": 1}
    assert PropPaths(math.sqrt, {"x": "args.x"}).from_args((4,), {}) == {"x": 4}


def test_the_rest_of_a_partial_is_found() -> None:
    """Of a partial, the arguments that are left to give are found."""
    paths = PropPaths(functools.partial(Swarm.connect, Swarm()), {"x": "args.peer"})
    assert paths.from_args((1,), {}) == {"x": 1}


def test_an_attribute_that_raises_is_left_out() -> None:
    """Errors of an attribute are swallowed; the other props are found."""
    paths = PropPaths(Swarm.connect, {"a": "args.self.broken", "b": "args.peer"})
    assert paths.from_args((Swarm(), 1), {}) == {"b": 1}
    assert swallowed_errors() == 1


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("peer", "begins with neither"),
        ("args", "begins with neither"),
        ("", "begins with neither"),
        ("kwargs.peer", "begins with neither"),
        ("args.", "a name is missing"),
        ("args.peer..host", "a name is missing"),
        ("result.", "a name is missing"),
        ("args.pear", "it has: first, peer, limit"),
        ("args.rest", "no single parameter"),
        ("args.options", "no single parameter"),
    ],
)
def test_a_wrong_path_is_refused(path: str, message: str) -> None:
    """A path that can find nothing raises when it is given, and says what there is."""
    with pytest.raises(ValueError, match=message):
        PropPaths(function, {"x": path})


def test_a_function_without_parameters_has_none() -> None:
    """The message says so where there is no parameter at all."""
    with pytest.raises(ValueError, match="it has: none"):
        PropPaths(lambda: None, {"x": "args.peer"})
