"""From a frame to the place in the source that traces, resolved once and cached."""

from __future__ import annotations

from itertools import islice

from ._naming import without_class
from .events import Caller

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from types import CodeType, FrameType

MAX_SITES = 16_384
"""Call sites kept. Past it the cache starts anew, so code made by `exec` does not pile up."""


def _position(code: CodeType | None, offset: int) -> tuple[int, int]:
    if code is None:
        return 0, 0
    # co_positions() has one entry for each code unit of two bytes.
    line, _, column, _ = next(islice(code.co_positions(), offset // 2, None), (None,) * 4)
    return line or 0, 0 if column is None else column + 1


class CallSite:
    """One place in the code that traces.

    It holds its code object: as long as it lives, no other code has the same address.

    Attributes:
        address: where the instruction of the call lies in memory; its key.
    """

    __slots__ = ("address", "code", "column", "line", "module")

    def __init__(self, code: CodeType | None, offset: int, module: object) -> None:
        """Resolve the instruction of `code` at `offset` (bytes), run with globals of `module`."""
        self.address = id(code) + offset
        self.code = code
        self.module = module if isinstance(module, str) else None
        self.line, self.column = _position(code, offset)

    def caller(self, class_names: Iterable[str], props: dict[str, object] | None = None) -> Caller:
        """Return this place as an event tells of it.

        Args:
            class_names: qualified names of the classes of the traced object; the first that is a
                prefix of the function's qualified name is left out of it.
            props: props of the call.
        """
        if self.code is None:
            return Caller("<unknown>", "<unknown>", props=props)
        name = without_class(self.code.co_qualname, class_names)
        filename = self.code.co_filename
        return Caller(name, filename, self.module, self.line, self.column, props)


NOWHERE = CallSite(None, 0, None)
"""Stands for a call that no Python code contains, as from `atexit` or an embedding program."""

_sites: dict[int, CallSite] = {}


def resolve(frame: FrameType | None) -> CallSite:
    """Return the call site a frame is at; cached. Any thread may call it."""
    if frame is None:
        return NOWHERE
    address = id(frame.f_code) + frame.f_lasti
    site = _sites.get(address)
    if site is None:
        site = CallSite(frame.f_code, frame.f_lasti, frame.f_globals.get("__name__"))
        if len(_sites) >= MAX_SITES:
            _sites.clear()
        _sites[address] = site
    return site


def reset() -> None:
    """Forget all call sites."""
    _sites.clear()
