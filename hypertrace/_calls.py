"""Calls of one traced function: a span for each call, with the tracer of its object."""

from __future__ import annotations

import inspect
from functools import partial
from types import MemberDescriptorType
from weakref import ref

from . import _dispatch
from ._callsite import of_function
from ._compiled import speedups
from ._failures import swallow
from ._guard import active_suppressions, drop_if_suppressed, suppress_tracing
from ._naming import class_names
from ._paths import PropPaths
from ._span import NO_SPAN, Span
from ._static import wrapped_functions
from ._stepping import SteppedSpan
from ._targets import recorder_key
from ._tracer import Tracer, implicit_tracer

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from types import CodeType
    from typing import Any

    from ._callsite import CallSite
    from ._endings import ErrorRules
    from ._stepping import TakeResult
    from ._targets import Target

    Record = Any
    """A `Record` of the compiled core."""

_NO_PATHS = PropPaths(print, {})
_HELD_AS = ("tracer", "_tracer")
"""Attributes in which an object may hold its tracer."""


class TracedCalls:
    """Opens a span for each call of one function.

    A call of a method is traced with the tracer that the object holds as `tracer` or `_tracer`, if
    it is enabled, or else for the object's class. A call of a function is traced for its module.
    """

    is_ended: bool = False
    """Whether it opens no more spans."""
    # Attributes of the class, since an interpreter that shuts down clears the globals first.
    _no_span = NO_SPAN
    _swallow = staticmethod(swallow)

    def __init__(
        self,
        function: Callable[..., Any],
        options: Mapping[str, Any],
        *,
        static: bool,
        in_place: bool = False,
    ) -> None:
        """Prepare for the calls of `function`, which is a static method or not.

        Args:
            function: the function.
            options: `id`, `props` and `prop_from`, as in `traced`, `rules` of what is an error,
                and, if not True, `parameters_required` of `PropPaths`.
            static: whether it is a static method.
            in_place: whether the function is not replaced by a wrapper.

        Raises:
            ValueError: a path is wrong.
            TypeError: what is to give a prop is neither a path nor a function.
        """
        self._site = _site_of(function, in_place=in_place)
        self._id: str | None = options["id"]
        self._key = recorder_key(self._site.address + 1, self._id, with_props=False)
        self._props: dict[str, Any] = dict(options["props"] or {})
        sources = options["prop_from"]
        required: bool = options.get("parameters_required", True)
        self._paths = (
            PropPaths(function, sources, parameters_required=required) if sources else _NO_PATHS
        )
        self._rules: ErrorRules = options["rules"]
        self._is_plain = not (self._props or self._paths or self._rules)
        owner = self._site.qualname.rpartition(".")[0]
        self._owner = "" if owner.endswith("<locals>") else owner
        name = self._owner.rpartition(".")[2] or self._site.module or "<unknown>"
        self._has_self = bool(self._owner) and not static
        self._own_tracer = implicit_tracer(name, class_names=(self._owner,))

    def span(self, args: tuple[Any, ...], kwargs: dict[str, Any], kind: type[Span] = Span) -> Span:
        """Return the span of one call; it does nothing while tracing is off."""
        if active_suppressions and drop_if_suppressed():
            return self._no_span
        culprit: object = self._site
        try:
            target = _dispatch.target
            if target is None:
                return self._no_span
            culprit = target.function
            tracer = self._tracer_of(args) if args and self._has_self else self._own_tracer
            if self._is_plain:
                binding = tracer._table.get(self._key)
                if binding is not None:
                    return kind(binding, tracer)
            if not drop_if_suppressed():
                return self._new_span(target, tracer, args, kwargs, kind)
        except Exception as error:  # noqa: BLE001 -- the application must see nothing
            self._swallow(error, culprit)
        return self._no_span

    def _new_span(
        self,
        target: Target,
        tracer: Tracer,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        kind: type[Span],
    ) -> Span:
        props = self._props
        if self._paths:
            props = {**props, **suppress_tracing(self._paths.from_args, args, kwargs)}
        binding = None if props else tracer._table.get(self._key)
        if binding is None:
            binding = target.bind_span(tracer, self._site, self._id, props or None)
        span = kind(binding, tracer, props or None)
        if self._rules:
            span._rules = self._rules
        return span

    def stepped_span(
        self,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        kind: type[SteppedSpan] = SteppedSpan,
    ) -> SteppedSpan | None:
        """Return the span of one call of a generator or coroutine; None while tracing is off."""
        span = self.span(args, kwargs, kind)
        return span if isinstance(span, kind) else None

    def end(self) -> None:
        """Open no more spans: references to the wrapper may be left where it was copied to."""
        self.is_ended = True
        self.span = self._nothing  # type: ignore[assignment,method-assign]

    def _nothing(self, *_: object) -> Span:
        return self._no_span

    @property
    def needs_result(self) -> bool:
        """Whether some props come from the result, or it may be an error."""
        return self._paths.needs_result or self._rules.needs_result

    def taker(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> TakeResult:
        """Return `take_result` for one call that runs in steps; it keeps no argument in vain."""
        if not self._paths.needs_call:
            return self.take_result
        return lambda span, result: self.take_result(span, result, args, kwargs)

    def take_result(
        self,
        span: Span,
        result: object,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> None:
        """Set the props of a span that come from the result; fail it if that is an error."""
        if not self.needs_result or span is self._no_span:
            return
        try:
            if self._paths.needs_result:
                props = suppress_tracing(self._paths.from_result, result, args, kwargs)
                if props:
                    span.set(props)
            if self._rules.refuse(result):
                span.fail()
        except Exception as error:  # noqa: BLE001 -- the interpreter shuts down
            self._swallow(error, self)

    def record(self, code: CodeType, within: type | None) -> Record:
        """Return what traces these calls in the compiled core.

        Args:
            code: of the function.
            within: only calls with an object of this class are traced; None for all.
        """
        key = self._site.address + 1, self._id
        facts = self._is_plain, self._has_self, self.needs_result, self._paths.needs_call
        return speedups.Record(self, code, within, *key, self._own_tracer, *facts)  # type: ignore[union-attr]

    def known_class(self, cls: type) -> tuple[Tracer | None, bool]:
        """Return the tracer for objects of a class that hold none, and whether the class is plain.

        The tracer is None if the function is no method of the class.
        """
        traced_class = _classes.get(id(cls)) or _TracedClass.of(cls)
        tracer = traced_class.tracer if self._owner in traced_class.names else None
        return tracer, traced_class.is_plain

    def _tracer_of(self, args: tuple[Any, ...]) -> Tracer:
        first = args[0]
        cls = type(first)
        if issubclass(cls, type):  # isinstance() could run code of the class
            cls = first
        traced_class = _classes.get(id(cls)) or _TracedClass.of(cls)
        if self._owner not in traced_class.names:
            return self._own_tracer  # a static method: its first argument is no `self`
        if not traced_class.is_plain or cls is first:
            return traced_class.tracer_held_by(first) or traced_class.tracer
        tracer = getattr(first, "tracer", None)
        if type(tracer) is not Tracer:
            tracer = getattr(first, "_tracer", None)
        return tracer if type(tracer) is Tracer else traced_class.tracer


class _TracedClass:
    """Cached facts about a class whose methods are traced; it does not keep the class alive."""

    __slots__ = ("_reference", "_slots", "is_plain", "names", "tracer")

    def __init__(self, cls: type) -> None:
        self.names = frozenset(class_names(cls))
        self.tracer = implicit_tracer(cls)
        static = [inspect.getattr_static(cls, name, None) for name in _HELD_AS]
        self._slots = [s for s in static if isinstance(s, MemberDescriptorType | Tracer)]
        # Whether reading these attributes of an object runs no code of the class.
        self.is_plain = (
            all(s is None or s in self._slots for s in static)
            and inspect.getattr_static(cls, "__getattribute__") is object.__getattribute__
            and inspect.getattr_static(cls, "__getattr__", None) is None
        )
        key, forget = id(cls), _forget
        self._reference = ref(cls, lambda _: forget(key))

    @classmethod
    def of(cls, traced: type) -> _TracedClass:
        return _classes.setdefault(id(traced), cls(traced))

    def tracer_held_by(self, holder: Any) -> Tracer | None:
        """Return the enabled tracer that an object holds; runs no code of its class."""
        try:
            attributes = object.__getattribute__(holder, "__dict__")
        except AttributeError:
            attributes = {}
        for name in _HELD_AS:
            tracer = attributes.get(name)
            if type(tracer) is Tracer:
                return tracer
        for slot in self._slots:
            tracer = slot if isinstance(slot, Tracer) else _slot_value(slot, holder)
            if type(tracer) is Tracer:
                return tracer
        return None


_classes: dict[int, _TracedClass] = {}
"""By the id of the class."""


def reset() -> None:
    """Forget all classes."""
    _classes.clear()
    _forget_classes()


def _nothing() -> None:
    pass


_forget_classes: Callable[[], None] = speedups.forget_classes if speedups else _nothing
"""Lets the compiled core forget what it knows of classes, as one may be gone."""


def _forget(
    key: int,
    # Bound here: an interpreter that shuts down clears the globals first.
    classes: dict[int, _TracedClass] = _classes,
    forget_classes: Callable[[], None] = _forget_classes,
) -> None:
    classes.pop(key, None)
    forget_classes()


def _site_of(function: Any, *, in_place: bool) -> CallSite:
    while isinstance(function, partial):
        function = function.func
    innermost = None
    for one in wrapped_functions(function):
        innermost = one
    return of_function(function, getattr(innermost, "__code__", None), in_place=in_place)


def _slot_value(slot: MemberDescriptorType, holder: object) -> object:
    try:
        return slot.__get__(holder)
    except AttributeError:  # not set yet
        return None
