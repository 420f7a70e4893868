"""Call sites: the places in the source that trace, found from frames once and cached."""

from __future__ import annotations

from itertools import islice
from types import CodeType

from ._naming import without_class
from .events import Caller

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from types import FrameType
    from typing import Any

MAX_SITES = 16_384
"""Call sites kept. Beyond it the cache is emptied, so code made by `exec` does not accumulate."""


class CallSite:
    """One place in the code that traces.

    Attributes:
        address: memory address of the call's instruction; the key of the call site.
        anchor: the code object that contains the address, which is unique while it exists.
        qualname: name of the function, with the class.
        filename, module, line, column: as in `Caller`.
        is_in_frame: whether spans here end in the frame of the function that has them; false if
            they end in a frame of ours, and all such frames are alike.
    """

    __slots__ = (
        *("address", "anchor", "column", "filename", "is_in_frame", "line", "module", "qualname"),
    )

    def __init__(  # noqa: PLR0913, PLR0917 -- one parameter an attribute
        self,
        anchor: object,
        offset: int,
        qualname: str,
        filename: str,
        module: object,
        line: int = 0,
        column: int = 0,
    ) -> None:
        """Make a call site; its address is `offset` bytes into its anchor."""
        self.address: int = id(anchor) + offset
        self.anchor: object = anchor
        self.qualname: str = qualname
        self.filename: str = filename
        self.module: str | None = module if isinstance(module, str) else None
        self.line: int = line
        self.column: int = column
        self.is_in_frame: bool = True

    def caller(self, class_names: Iterable[str], props: dict[str, object] | None = None) -> Caller:
        """Return this call site as the caller of an event.

        Args:
            class_names: qualified names of the classes of the traced object. The first one that is
                a prefix of the function's qualified name is removed from it.
            props: props of the call.
        """
        name = without_class(self.qualname, class_names)
        return Caller(name, self.filename, self.module, self.line, self.column, props)


NOWHERE = CallSite(None, 0, "<unknown>", "<unknown>", None)
"""The call site of calls without a Python frame, as from `atexit` or an embedding program."""

_sites: dict[tuple[int, str | None], CallSite] = {}
"""By address and module, since one code object may run in several modules."""


def resolve(frame: FrameType | None) -> CallSite:
    """Return the call site of a frame; cached. Any thread may call it."""
    if frame is None:
        return NOWHERE
    code, offset = frame.f_code, frame.f_lasti
    module: Any = frame.f_globals.get("__name__")
    if type(module) is not str:
        module = str.__str__(module) if issubclass(type(module), str) else None
    site = _sites.get((id(code) + offset, module))
    if site is None:
        line, column = _position(code, offset)
        site = CallSite(code, offset, code.co_qualname, code.co_filename, module, line, column)
        if len(_sites) >= MAX_SITES:
            _sites.clear()
        _sites[site.address, module] = site
    return site


def of_function(function: Any, code: object, *, in_place: bool = False) -> CallSite:
    """Return the call site that stands for all calls of a function; not cached.

    Args:
        function: a callable.
        code: its code object; any other object if it has none.
        in_place: whether the spans end in the function's own frame.
    """
    name = getattr(function, "__qualname__", None) or type(function).__qualname__
    module = getattr(function, "__module__", None)
    place: tuple[Any, ...] = "<unknown>", module
    if isinstance(code, CodeType):
        place = code.co_filename, module, code.co_firstlineno
    # The code is not the anchor: functions made by one decorator share it.
    site = CallSite(object(), 0, name, *place)
    site.is_in_frame = in_place
    return site


def reset() -> None:
    """Forget all call sites."""
    _sites.clear()


def _position(code: CodeType, offset: int) -> tuple[int, int]:
    # co_positions() has one entry for each code unit of two bytes.
    line, _, column, _ = next(islice(code.co_positions(), offset // 2, None), (None,) * 4)
    return line or 0, 0 if column is None else column + 1
