"""Import of hypertrace: cheap, and without side effects."""

from collections.abc import Callable
from pathlib import Path

import pytest

import hypertrace

HEAVY = ("typing", "logging", "threading", "asyncio", "dataclasses", "inspect", "re", "wrapt")
BEFORE = f"import sys; sys.path.insert(0, {str(Path(hypertrace.__file__).parent.parent)!r}); "


@pytest.mark.parametrize("what", ["import hypertrace", "from hypertrace import Tracer"])
def test_importing_loads_no_heavy_module(what: str, python: Callable[..., str]) -> None:
    """Using a tracer loads none of the modules that take long to load."""
    program = f"{BEFORE}{what}; print(*[name for name in {HEAVY} if name in sys.modules])"
    assert python(program, "-I", "-S") == "\n"


def test_tracing_while_off_loads_no_heavy_module(python: Callable[..., str]) -> None:
    """Making and using a disabled tracer loads nothing more."""
    program = (
        f"{BEFORE}from hypertrace import Tracer; t = Tracer('a', {{'b': 1}}); t.trace('c', d=1); "
        f"print(*[name for name in {HEAVY} if name in sys.modules])"
    )
    assert python(program, "-I", "-S") == "\n"


def test_everything_imports_without_a_warning(python: Callable[..., str]) -> None:
    """With warnings as errors every public name can be imported."""
    assert python("from hypertrace import *; import hypertrace.testing", "-W", "error") == ""


def test_the_package_loads_a_name_when_it_is_used(python: Callable[..., str]) -> None:
    """Importing the package loads none of its modules; a name loads its own and stays."""
    program = (
        "import sys, hypertrace; print([n for n in sys.modules if n.startswith('hypertrace.')]);"
        "hypertrace.Cell; print('hypertrace.cells' in sys.modules, 'Cell' in vars(hypertrace))"
    )
    assert python(program) == "[]\nTrue True\n"


def test_all_names_are_listed() -> None:
    """All public names are in a listing of the package, loaded or not."""
    assert {*hypertrace.__all__} <= {*dir(hypertrace)}


def test_an_unknown_name_is_an_attribute_error() -> None:
    """A name that the package does not have raises as for any module."""
    with pytest.raises(AttributeError, match="module 'hypertrace' has no attribute 'trace'"):
        hypertrace.trace  # noqa: B018
