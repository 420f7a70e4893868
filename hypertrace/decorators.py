"""Decorator `@traced`: a span for each call of a function, or of the methods of a class."""

from __future__ import annotations

from collections.abc import Mapping
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any, TypeVar, overload

from ._callables import Traced, is_descriptor, is_traceable, trace_callable, undo_all
from ._closures import UntraceableError
from ._endings import ErrorRules
from ._failures import logger
from ._paths import check_props

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from ._endings import Expected
    from ._paths import PropSource

_T = TypeVar("_T")
_Options = Mapping[str, Any]


@overload
def traced(
    id: str | None = None,
    /,
    *,
    props: Mapping[str, Any] | None = None,
    prop_from: Mapping[str, PropSource] | None = None,
    expected: Expected = (),
    error_if: Callable[[Any], object] | None = None,
    ok_if: Callable[[Any], object] | None = None,
    include: Iterable[str] = ("*",),
    exclude: Iterable[str] = ("_*",),
) -> Callable[[_T], _T]: ...


@overload
def traced(target: _T, /) -> _T: ...


def traced(  # noqa: PLR0913 -- a setting each
    target: Any = None,
    /,
    *,
    props: Mapping[str, Any] | None = None,
    prop_from: Mapping[str, PropSource] | None = None,
    expected: Expected = (),
    error_if: Callable[[Any], object] | None = None,
    ok_if: Callable[[Any], object] | None = None,
    include: Iterable[str] = ("*",),
    exclude: Iterable[str] = ("_*",),
) -> Any:
    """Make each call of a function a span: `@traced`, `@traced("id")` or `@traced(props=...)`.

    For functions, methods, static and class methods, properties, coroutines, generators,
    asynchronous generators, other callables, and classes: each of a class's own methods that is
    included and not excluded. A class is changed in place; everything else keeps its signature,
    name, docstring, kind and pickling. A function that is already traced is not changed. Without
    the compiled core, properties and static and class methods of subclasses of `property`,
    `cached_property`, `staticmethod` and `classmethod` cannot be traced; those of a class are left
    out with a warning.

    A call of a method is traced with the tracer that the object holds as `tracer` or `_tracer`, if
    it is enabled, or else for the object's class. A call of a function is traced for its module.
    The trace function is looked up at each call, so setting or clearing it takes effect at once.

    A generator or coroutine is timed from its first resumption to the end of its last; the `busy`
    of its event is the time in which it was running.

    Args:
        target: the object to trace, if there are no other arguments; otherwise the id of the spans.
        props: names and values that each span starts with.
        prop_from: names of props, and for each the path of its value in a call: `args.NAME` for an
            argument, `result` for the result, with attributes as needed:
            `{"peer": "args.peer.host", "status": "result.status"}`. Missing values are left out.
            Or a function of a `TracedCall`: `{"host": lambda call: call.args["request"].url.host}`.
            What it traces is dropped; if it raises, that is swallowed, and the prop is left out.
        expected: exceptions that are no errors: `expected=(KeyError,)`. They pass all the same.
        error_if: is called with the result, and returns whether it is an error. It and `ok_if` are
            guarded as functions of `prop_from` are.
        ok_if: is called with an exception that is not expected, and returns whether it is no error.
        include: for a class: shell-style patterns of the methods to trace.
        exclude: for a class: shell-style patterns of the methods not to trace.

    Raises:
        TypeError: `target` cannot be traced; `expected` has what is no class of exceptions,
            `error_if` or `ok_if` cannot be called, or there is no result for `error_if`, as of an
            asynchronous generator; or `props` or `prop_from` is no mapping.
        ValueError: `prop_from` names no parameter, or a class has no method to trace.
    """
    rules = ErrorRules(expected, error_if, ok_if)
    check_props(props, prop_from)
    options = {"props": props, "prop_from": prop_from, "rules": rules}
    include, exclude = _patterns(include), _patterns(exclude)
    if target is None or isinstance(target, str):
        return lambda it: _traced(it, {"id": target, **options}, include, exclude)
    return _traced(target, {"id": None, **options}, include, exclude)


def _traced(
    target: Any, options: _Options, include: tuple[str, ...], exclude: tuple[str, ...]
) -> Any:
    if not isinstance(target, type):
        return trace_callable(target, options).value
    names = [n for n, value in vars(target).items() if is_traceable(value)]
    chosen = [n for n in names if _matches(n, include) and not _matches(n, exclude)]
    if not chosen:
        raise ValueError(
            f"{target.__qualname__} has no method to trace with include={include!r} and "
            f"exclude={exclude!r}; it has: {', '.join(names) or 'none'}"
        )
    made: list[Traced] = []
    try:
        for name in chosen:
            made.append(_traced_attribute(target, name, options))  # noqa: PERF401 -- to be undone
    except BaseException:
        undo_all(made)
        raise
    for name, one in zip(chosen, made, strict=True):
        if one.value is not vars(target)[name]:
            setattr(target, name, one.value)
    return target


def _traced_attribute(cls: type, name: str, options: _Options) -> Traced:
    value = vars(cls)[name]
    try:
        return trace_callable(value, options)
    except UntraceableError as error:
        if not is_descriptor(value):
            raise
        logger().warning("@traced leaves out %s.%s: %s", cls.__qualname__, name, error)
        return Traced(value, lambda: None)


def _patterns(given: Iterable[str]) -> tuple[str, ...]:
    return (given,) if isinstance(given, str) else tuple(given)


def _matches(name: str, patterns: tuple[str, ...]) -> bool:
    return any(fnmatchcase(name, pattern) for pattern in patterns)
