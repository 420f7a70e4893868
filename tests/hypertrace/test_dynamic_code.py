"""Code made at run time: never mistaken for code that lay at its address, and not kept."""

import weakref
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest

from hypertrace import Tracer, _callsite, _targets

Counts = Callable[..., Counter[Any]]


def _trace_in_new_code(name: str, tracer: Tracer) -> int:
    names: dict[str, Any] = {"tracer": tracer}
    exec(f"def {name}(): tracer.trace(); tracer.trace('id'); tracer.trace(a=1)", names)
    names[name]()
    address = id(names[name].__code__)
    names.clear()  # a function and its globals are a cycle
    return address


@pytest.mark.parametrize("most_recorders", [1, 7, 60, 100_000])
def test_code_at_an_address_used_again_is_other_code(
    most_recorders: int, counts: Counts, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Code made, run once and dropped is counted under its own name, wherever it lies in memory."""
    monkeypatch.setattr(_callsite, "MAX_SITES", 4)
    monkeypatch.setattr(_targets, "MAX_RECORDERS", most_recorders)
    tracer = Tracer("executed")
    addresses = {_trace_in_new_code(f"f{i}", tracer) for i in range(500)}
    assert counts("caller.function_name") == {f"f{i}": 3 for i in range(500)}
    if most_recorders < 100:
        assert len(addresses) < 250, "nothing was tried: no address was used again"


def test_code_objects_are_not_kept_past_the_bounds(
    counts: Counts, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of code that is made at run time only as much stays as the caches hold."""
    monkeypatch.setattr(_callsite, "MAX_SITES", 10)
    monkeypatch.setattr(_targets, "MAX_RECORDERS", 30)
    tracer = Tracer("executed")
    codes = []
    for i in range(200):
        code = compile(f"{i}\ntracer.trace()", f"<{i}>", "exec")
        exec(code, {"tracer": tracer})
        codes.append(weakref.ref(code))
        del code
    assert sum(code() is not None for code in codes) <= 10 + 30
    assert len(counts("caller.filename")) == 200
