"""Paths of props: their values come from the arguments or the result of a call."""

from __future__ import annotations

import inspect
from operator import attrgetter

from ._failures import swallow

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import Any

    Args = tuple[Any, ...]
    Kwargs = dict[str, Any]

_POSITIONAL = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
_VARIADIC = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)


class PropPaths:
    """Finds the values of props in calls of one function.

    A path is `args.NAME` for an argument or `result` for the result, followed by attributes if
    needed: `args.peer.host`, `result.status`. A call without such a value does not get the prop.
    """

    def __init__(self, function: Callable[..., Any], paths: Mapping[str, str]) -> None:
        """Check the paths.

        Raises:
            ValueError: a path has another form, or names no parameter of `function`.
        """
        self._of_args: dict[str, Callable[[Args, Kwargs], object]] = {}
        self._of_result: dict[str, Callable[[object], object]] = {}
        for prop, path in paths.items():
            root, *attributes = path.split(".")
            if not all(attributes):
                raise ValueError(f"prop_from: {prop!r} is to come from {path!r}: a name is missing")
            if root == "result":
                self._of_result[prop] = _getter(attributes)
            elif root == "args" and attributes:
                self._of_args[prop] = _of_argument(function, prop, attributes)
            else:
                raise ValueError(
                    f"prop_from: {prop!r} is to come from {path!r}, which begins with neither "
                    "'args.' and the name of a parameter, nor 'result'"
                )

    def __bool__(self) -> bool:
        return bool(self._of_args or self._of_result)

    @property
    def needs_result(self) -> bool:
        """Whether some props come from the result."""
        return bool(self._of_result)

    def from_args(self, args: Args, kwargs: Kwargs) -> dict[str, object]:
        """Return the props that come from arguments."""
        return _found(self._of_args, args, kwargs)

    def from_result(self, result: object) -> dict[str, object]:
        """Return the props that come from the result."""
        return _found(self._of_result, result)


def _found(getters: Mapping[str, Callable[..., object]], *call: object) -> dict[str, object]:
    props = {}
    for prop, get in getters.items():
        try:
            props[prop] = get(*call)
        except (AttributeError, LookupError):
            pass
        except Exception as error:  # noqa: BLE001 -- an attribute may run any code
            swallow(error, get)
    return props


def _getter(attributes: list[str]) -> Callable[[object], object]:
    return attrgetter(".".join(attributes)) if attributes else lambda value: value


def _of_argument(
    function: Callable[..., Any], prop: str, attributes: list[str]
) -> Callable[[Args, Kwargs], object]:
    name, *rest = attributes
    parameters = inspect.signature(function).parameters
    parameter = parameters.get(name)
    if parameter is None or parameter.kind in _VARIADIC:
        possible = ", ".join(p.name for p in parameters.values() if p.kind not in _VARIADIC)
        raise ValueError(
            f"prop_from: {prop!r} is to come from the argument {name!r}, which is no single "
            f"parameter of {function.__qualname__}(); it has: {possible or 'none'}"
        )
    get = _getter(rest)
    position = None
    if parameter.kind in _POSITIONAL:
        # The arguments of a bound method begin with its object.
        position = list(parameters).index(name) + inspect.ismethod(function)

    def value(args: Args, kwargs: Kwargs) -> object:
        if position is not None and position < len(args):
            return get(args[position])
        if name in kwargs or parameter.default is parameter.empty:
            return get(kwargs[name])
        return get(parameter.default)

    return value
