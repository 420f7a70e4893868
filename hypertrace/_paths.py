"""Sources of props: their values come from the arguments or the result of a call."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from operator import attrgetter
from typing import Any

from ._failures import swallow

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    Args = tuple[Any, ...]
    Kwargs = dict[str, Any]
    PropSource = str | Callable[["TracedCall"], object]
    Parameters = Mapping[str, Callable[[Args, Kwargs], Any]]
    """What finds each argument of a call, by the name of the parameter."""

_POSITIONAL = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
_VARIADIC = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)


class TracedCall:
    """One call of a traced function, for a function in `prop_from`, which must not keep it.

    Attributes:
        has_asked: whether the result was asked for before there was one.
    """

    __slots__ = ("_args", "_result", "has_asked")

    def __init__(self, args: Mapping[Any, Any], result: tuple[object, ...] = ()) -> None:
        """Make a call of its parts.

        Args:
            args: its arguments.
            result: the result, in a tuple; an empty one if the call has not ended.
        """
        self._args = args
        self._result = result
        self.has_asked: bool = False

    @property
    def args(self) -> Mapping[Any, Any]:
        """The arguments by the names of their parameters, with those that have their defaults.

        Those given by position are there under their number, too, as `call.args[0]`: functions in C
        may have no names.
        """
        return self._args

    @property
    def result(self) -> Any:
        """The result; the function is called again with it if the call has not ended.

        Raises:
            LookupError: the call has not ended.
        """
        if not self._result:
            self.has_asked = True
            raise LookupError("the call has not ended; prop_from calls the function again then")
        return self._result[0]


class _Arguments(Mapping[Any, Any]):
    """Arguments of one call, found when they are asked for."""

    __slots__ = ("_args", "_kwargs", "_parameters")

    def __init__(self, parameters: Parameters, args: Args, kwargs: Kwargs) -> None:
        self._parameters = parameters
        self._args = args
        self._kwargs = kwargs

    def __getitem__(self, name: Any) -> Any:
        if type(name) is int:
            return self._args[name]
        if not self._parameters:
            return self._kwargs[name]
        return self._parameters[name](self._args, self._kwargs)

    def __iter__(self) -> Iterator[str]:
        return iter(self._parameters or self._kwargs)

    def __len__(self) -> int:
        return len(self._parameters or self._kwargs)


class PropPaths:
    """Finds the values of props in calls of one function.

    A path is `args.NAME` for an argument or `result` for the result, followed by attributes if
    needed: `args.peer.host`, `result.status`. A call without such a value does not get the prop.

    A function gets the call when it begins. One that asks for the result then is only called at the
    end from then on.
    """

    def __init__(
        self,
        function: Callable[..., Any],
        paths: Mapping[str, PropSource],
        *,
        parameters_required: bool = True,
    ) -> None:
        """Check the sources.

        Args:
            function: the function whose calls they are for.
            paths: the sources, by the names of props.
            parameters_required: whether each path must name a parameter of `function`; a prop of
                another path is left out if not.

        Raises:
            ValueError: a path has another form, or names no parameter of `function`.
            TypeError: a source is neither a path nor a function, or `paths` is no mapping.
        """
        self._of_args: dict[str, Callable[[Args, Kwargs], object]] = {}
        self._of_result: dict[str, Callable[[object], object]] = {}
        self._functions: dict[str, Callable[[TracedCall], object]] = {}
        self._of_end: set[str] = set()
        """Props whose functions ask for the result."""
        self._parameters: Parameters = {}
        for prop, path in paths.items():
            if not isinstance(path, str):
                self._functions[prop] = _checked_source(prop, path)
                continue
            root, *attributes = path.split(".")
            if not all(attributes):
                raise ValueError(f"prop_from: {prop!r} is to come from {path!r}: a name is missing")
            if root == "result":
                self._of_result[prop] = _getter(attributes)
            elif root == "args" and attributes:
                if parameters_required or has_parameter(function, attributes[0]):
                    self._of_args[prop] = _of_argument(function, prop, attributes)
            else:
                raise ValueError(
                    f"prop_from: {prop!r} is to come from {path!r}, which begins with neither "
                    "'args.' and the name of a parameter, nor 'result'"
                )
        if self._functions:
            self._parameters = _parameters_of(function)

    def __bool__(self) -> bool:
        return bool(self._of_args or self._of_result or self._functions)

    @property
    def needs_result(self) -> bool:
        """Whether some props come from the result, or may."""
        return bool(self._of_result or self._functions)

    @property
    def needs_call(self) -> bool:
        """Whether the arguments may be needed when the call ends."""
        return bool(self._functions)

    def from_args(self, args: Args, kwargs: Kwargs) -> dict[str, object]:
        """Return the props that come from arguments."""
        props = _found(self._of_args, args, kwargs)
        if self._functions:
            call = TracedCall(_Arguments(self._parameters, args, kwargs))
            for prop, function in self._functions.items():
                if prop not in self._of_end:
                    _ask(prop, function, call, props)
                    if call.has_asked:
                        call.has_asked = False
                        self._of_end.add(prop)
        return props

    def from_result(
        self, result: object, args: Args = (), kwargs: Kwargs | None = None
    ) -> dict[str, object]:
        """Return the props that come from the result; the arguments are only for `needs_call`."""
        props = _found(self._of_result, result)
        if self._of_end:
            call = TracedCall(_Arguments(self._parameters, args, kwargs or {}), (result,))
            for prop in self._of_end.copy():
                _ask(prop, self._functions[prop], call, props)
        return props


def check_props(props: Any, prop_from: Any) -> None:
    """Raise a TypeError if an argument of `traced` or `instrument` is no mapping."""
    if props is not None and not isinstance(props, Mapping):
        raise TypeError(f"props must be a mapping, as {{'transport': 'tcp'}}, not {props!r}")
    if prop_from is not None and not isinstance(prop_from, Mapping):
        raise TypeError(
            f"prop_from must be a mapping, as {{'peer': 'args.peer'}}, not {prop_from!r}"
        )


def parameters_of(paths: Mapping[str, PropSource]) -> list[tuple[str, str]]:
    """Return the props whose paths begin with a parameter, each with its name."""
    texts = ((prop, path.split(".")) for prop, path in paths.items() if isinstance(path, str))
    return [(prop, parts[1]) for prop, parts in texts if parts[0] == "args" and parts[1:]]


def has_parameter(function: Callable[..., Any], name: str) -> bool:
    """Whether a path can lead to an argument of a function."""
    parameter = _signature_of(function).get(name)
    return parameter is not None and parameter.kind not in _VARIADIC


def _checked_source(prop: str, source: Any) -> Callable[[TracedCall], object]:
    if not callable(source):
        raise TypeError(
            f"prop_from: {prop!r} must come from a path, as 'args.peer', or a function, as "
            f"lambda call: call.args['peer'], not {source!r}"
        )
    return source  # type: ignore[no-any-return]


def _signature_of(function: Callable[..., Any]) -> Mapping[str, inspect.Parameter]:
    try:
        return inspect.signature(function).parameters
    except (TypeError, ValueError):  # it is in C
        return {}


def _parameters_of(function: Callable[..., Any]) -> Parameters:
    parameters = _signature_of(function)
    return {name: _argument(function, name, parameters) for name in parameters}


def _argument(
    function: Callable[..., Any], name: str, parameters: Mapping[str, inspect.Parameter]
) -> Callable[[Args, Kwargs], Any]:
    """Return what finds one argument of a call of a function."""
    parameter = parameters[name]
    # The arguments of a bound method begin with its object.
    position = list(parameters).index(name) + inspect.ismethod(function)
    if parameter.kind is inspect.Parameter.VAR_POSITIONAL:
        return lambda args, _: args[position:]
    if parameter.kind is inspect.Parameter.VAR_KEYWORD:
        return lambda _, kwargs: {key: one for key, one in kwargs.items() if key not in parameters}

    def value(args: Args, kwargs: Kwargs) -> Any:
        if parameter.kind in _POSITIONAL and position < len(args):
            return args[position]
        if name in kwargs or parameter.default is parameter.empty:
            return kwargs[name]
        return parameter.default

    return value


def _ask(
    prop: str,
    function: Callable[[TracedCall], object],
    call: TracedCall,
    props: dict[str, object],
) -> None:
    """Add the value that a function returns; of one that asked for a result too early, nothing."""
    try:
        value = function(call)
    except Exception as error:  # noqa: BLE001 -- it may run any code
        if not call.has_asked:
            swallow(error, function)
    else:
        if not call.has_asked:
            props[prop] = value


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
    get, argument = _getter(rest), _argument(function, name, parameters)
    return lambda args, kwargs: get(argument(args, kwargs))
