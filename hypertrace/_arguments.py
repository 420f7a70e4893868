"""Arguments of `Tracer` and its methods: checks, and the forms they may have."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from math import isfinite

from ._base import TracerBase
from ._endings import result_of
from ._failures import misuse, swallow
from ._guard import suppress_tracing
from .inspection import type_name

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from .events import Result


_NO_NUMBERS = (bool, str, bytes)
"""Types that `float()` takes, also as scalars of numpy, but that are numbers by mistake only."""

_RESULTS = ("ok", "error", "cancelled")


def check(ctx: object, props: object, parent: object) -> None:
    """Raise a TypeError that says which argument of a tracer is wrong."""
    if ctx is None:
        raise TypeError(
            "Tracer(None): give the object to trace, usually self; "
            "for code without a class a name: Tracer('startup')"
        )
    if props is not None and not isinstance(props, Mapping):
        raise TypeError(
            f"props must be a mapping of names to values or None, not {type(props).__name__}"
        )
    if parent is not None and not isinstance(parent, TracerBase):
        raise TypeError(
            f"parent must be a Tracer or None, not {type(parent).__name__}; "
            "give the tracer of the other object: parent=other.tracer"
        )


def call_arguments(
    id: Any, props: Any, kwargs: dict[str, object], *, copy: bool
) -> tuple[Any, dict[str, object] | None]:
    """Return the id and the props of a call; wrong ones are logged and left out.

    Args:
        id: the id, or a mapping of props.
        props: a mapping of props, None, or by mistake any other object.
        kwargs: props that win over those in `props`.
        copy: whether the props will be kept. If not, a dict without `kwargs` is not copied.
    """
    if props is None and id is not None and type(id) is not str and _is_mapping(id):
        id, props = None, id
    if props is None:
        return id, kwargs or None
    if not _is_mapping(props):
        misuse(
            f"trace() got props of type {type_name(type(props))} and ignores them; "
            "give a mapping, or keyword arguments"
        )
        return id, kwargs or None
    if type(props) is dict and not kwargs and not copy:
        return id, props or None
    try:
        if type(props) is dict:
            return id, {**props, **kwargs} or None
        return id, {**suppress_tracing(dict, props), **kwargs} or None
    except Exception as error:  # noqa: BLE001 -- a mapping may raise anything
        swallow(error, type(props))
        return id, kwargs or None


def checked_duration(duration: Any) -> float | None:
    """Return a duration in seconds as a float; None if it is none, which is logged.

    Any number that is finite as a float is one, such as a decimal or a scalar of numpy.
    """
    kind = type(duration)
    seconds = None
    if hasattr(kind, "__float__") or hasattr(kind, "__index__"):
        with suppress(Exception):  # it may raise anything
            seconds = None if issubclass(kind, _NO_NUMBERS) else suppress_tracing(float, duration)
    if seconds is None:
        misuse(
            f"record() got a duration of type {type_name(kind)} that is no number as a float, and "
            "records nothing; give a number of seconds"
        )
    elif not (isfinite(seconds) and seconds >= 0):
        misuse(
            f"record() got the duration {seconds!r} and records nothing; "
            "give a finite number of seconds, 0 or more"
        )
        seconds = None
    return seconds


def checked_ending(
    result: Any, exception: Any
) -> tuple[Result, BaseException | type[BaseException] | None]:
    """Return the result of a finished span, and its exception or the class; log what is wrong.

    An unknown result is an error, as it is in metrics.
    """
    found = _checked_exception(exception)
    if type(result) is not str or result not in _RESULTS:
        given = repr(result) if type(result) is str else f"of type {type_name(type(result))}"
        misuse(
            f"record() got the result {given} and records an error; "
            f"give one of {', '.join(map(repr, _RESULTS))}"
        )
        return "error", found
    if result == "ok" and found is not None:
        return result_of(found), found
    return result, found  # type: ignore[return-value]


def _checked_exception(exception: Any) -> BaseException | type[BaseException] | None:
    if exception is None:
        return None
    kind = exception if issubclass(type(exception), type) else type(exception)
    if issubclass(kind, BaseException):
        return exception  # type: ignore[no-any-return]
    misuse(
        f"record() got the exception {type_name(kind)}, which is none, and ignores it; "
        "give an exception or its class"
    )
    return None


def copied_props(props: Mapping[str, Any]) -> dict[str, object] | None:
    """Return a copy of the props of a tracer; None if there are none, or reading them fails."""
    try:
        return (props.copy() if type(props) is dict else suppress_tracing(dict, props)) or None
    except Exception as error:  # noqa: BLE001 -- a mapping may raise anything
        swallow(error, type(props))
        return None


def _is_mapping(value: object) -> bool:
    try:
        return isinstance(value, Mapping)
    except Exception as error:  # noqa: BLE001 -- a proxy may have no object behind it yet
        swallow(error, type(value))
        return False
