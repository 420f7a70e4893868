"""Public names: those that `__all__` lists, loaded lazily."""

import importlib
import pkgutil
import subprocess
import sys
from types import ModuleType

import pytest

PACKAGES = ("hypertrace", "hypertrace_prometheus")


def _public_modules() -> list[str]:
    names = []
    for package in PACKAGES:
        names.append(package)
        path = importlib.import_module(package).__path__
        names += [module.name for module in pkgutil.walk_packages(path, f"{package}.")]
    return [name for name in names if not any(part.startswith("_") for part in name.split("."))]


def _defined_in(module: ModuleType) -> set[str]:
    return {
        name
        for name, value in vars(module).items()
        if not name.startswith("_") and getattr(value, "__module__", None) == module.__name__
    }


@pytest.mark.parametrize("name", PACKAGES)
def test_all_is_sorted_and_names_nothing_twice(name: str) -> None:
    """`__all__` of a package is sorted, so that a diff shows what came and went."""
    names = importlib.import_module(name).__all__
    assert list(names) == sorted(set(names))


@pytest.mark.parametrize("name", PACKAGES)
def test_all_and_dir_agree(name: str) -> None:
    """A package shows every name of `__all__`, and no other public one but its modules."""
    package = importlib.import_module(name)
    resolved = {public: getattr(package, public) for public in package.__all__}
    assert all(value is not None for value in resolved.values())
    others = set(dir(package)) - set(resolved)
    shown = {other for other in others if not other.startswith("_")}
    modules = {module.name for module in pkgutil.iter_modules(package.__path__)}
    assert shown - modules - {"TYPE_CHECKING", "annotations"} == set()


@pytest.mark.parametrize("name", _public_modules())
def test_a_public_module_lists_what_it_defines(name: str) -> None:
    """A public module with an `__all__` lists in it every public class and function it defines."""
    module = importlib.import_module(name)
    listed = getattr(module, "__all__", None)
    if listed is not None:
        assert list(listed) == sorted(set(listed))
        assert all(hasattr(module, public) for public in listed)
        assert _defined_in(module) <= set(listed)


@pytest.mark.parametrize("name", PACKAGES)
def test_an_unknown_name_is_an_attribute_error(name: str) -> None:
    """A name that a package does not have raises `AttributeError` with the name."""
    with pytest.raises(AttributeError, match="no_such_name"):
        _ = importlib.import_module(name).no_such_name


def test_importing_the_core_loads_nothing_heavy() -> None:
    """`import hypertrace` loads none of the libraries that only its other parts need."""
    heavy = {"asyncio", "http.client", "prometheus_client", "wrapt"}
    code = "import sys, hypertrace; print(*sys.modules)"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = set(run.stdout.split())
    assert "hypertrace" in loaded
    assert heavy & loaded == set()
