"""Call sites: found from frames, once."""

import sys
import weakref
from types import CodeType, FrameType
from typing import Any, cast

import pytest

from hypertrace import _callsite
from hypertrace._callsite import NOWHERE, CallSite, of_function, resolve


def _here() -> FrameType:
    return sys._getframe(1)


def _site_in_new_code(name: str) -> CallSite:
    names: dict[str, Any] = {"resolve": lambda: resolve(sys._getframe(1))}
    exec(f"def {name}(): return resolve()\nsite = {name}()", names)
    site: CallSite = names["site"]
    names.clear()  # a function and its globals are a cycle
    return site


def test_a_call_site_is_resolved_once() -> None:
    """The same instruction is the same call site, each other instruction another one."""
    sites = [resolve(_here()) for _ in range(3)]
    assert sites[0] is sites[1] is sites[2]
    assert resolve(_here()) is not sites[0]


def test_a_call_site_gives_its_place() -> None:
    """A call site has function, file, module, line and column, and the props it is given."""
    caller = resolve(_here()).caller(())
    assert caller.function_name == "test_a_call_site_gives_its_place"
    assert (caller.filename, caller.module) == (__file__, __name__)
    first = test_a_call_site_gives_its_place.__code__.co_firstlineno
    assert (caller.line, caller.column) == (first + 2, 14)
    assert caller.props is None
    assert resolve(_here()).caller((), {"a": 1}).props == {"a": 1}


def test_no_frame_is_nowhere() -> None:
    """Where there is no frame the place is unknown."""
    assert resolve(None) is NOWHERE
    caller = NOWHERE.caller(("A",), {"a": 1})
    assert (caller.function_name, caller.filename) == ("<unknown>", "<unknown>")
    assert (caller.module, caller.line, caller.column, caller.props) == (None, 0, 0, {"a": 1})


def test_the_key_of_a_call_site_is_the_address_of_its_instruction() -> None:
    """The key is made of the code object's address and the instruction's offset."""
    frame = _here()
    site = resolve(frame)
    assert site.anchor is frame.f_code
    assert 0 < site.address - id(frame.f_code) < sys.getsizeof(frame.f_code)


@pytest.mark.parametrize("offset", [10_000, 1_000_000])
def test_an_instruction_out_of_the_code_has_no_position(offset: int) -> None:
    """Line and column are 0 where Python has no position for an instruction."""
    assert _callsite._position(_here().f_code, offset) == (0, 0)


def test_a_function_is_a_call_site_without_a_call() -> None:
    """The place of a function is where it is defined; it has no column."""
    caller = of_function(_here, _here.__code__).caller(())
    assert (caller.function_name, caller.filename, caller.module) == ("_here", __file__, __name__)
    assert (caller.line, caller.column) == (_here.__code__.co_firstlineno, 0)


def test_a_callable_without_code_has_no_file() -> None:
    """A callable without code object, name or module is named by its type."""

    class Nameless:
        __module__ = None  # type: ignore[assignment]

    caller = of_function(Nameless(), None).caller(())
    assert caller.function_name.endswith("Nameless")
    assert (caller.filename, caller.module, caller.line) == ("<unknown>", None, 0)


def test_functions_with_their_code_in_common_are_other_places() -> None:
    """Each call site of a function has its own address, which no call of another has."""
    sites = [of_function(_here, _here.__code__) for _ in range(3)]
    assert len({site.address for site in sites}) == 3
    assert not any(0 <= s.address - id(_here.__code__) <= sys.getsizeof(s.anchor) for s in sites)


def test_the_cache_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """Beyond the limit the cache is emptied, and code objects that only it held are released."""
    monkeypatch.setattr(_callsite, "MAX_SITES", 10)
    _callsite.reset()
    codes = []
    for i in range(100):
        site = _site_in_new_code(f"f{i}")
        assert site.caller(()).function_name == f"f{i}"
        codes.append(weakref.ref(cast("CodeType", site.anchor)))
        del site
    assert len(_callsite._sites) <= 10
    assert sum(code() is not None for code in codes) <= 10


def test_addresses_used_again_are_other_places(monkeypatch: pytest.MonkeyPatch) -> None:
    """Code that takes the address of code that is gone is never mistaken for it."""
    monkeypatch.setattr(_callsite, "MAX_SITES", 3)
    addresses = set()
    for i in range(300):
        site = _site_in_new_code(f"f{i}")
        assert site.caller(()).function_name == f"f{i}"
        addresses.add(site.address)
        del site
    assert len(addresses) < 300


def test_reset_forgets() -> None:
    """After a reset nothing is cached."""
    resolve(_here())
    _callsite.reset()
    assert _callsite._sites == {}
