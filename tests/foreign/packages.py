"""Packages whose own tests are run while all of the package is traced."""

from __future__ import annotations

import platform
from dataclasses import dataclass


@dataclass(frozen=True)
class Package:
    """A package in the registry, and how its tests are run."""

    name: str
    version: str
    patterns: tuple[str, ...]
    """What is traced."""
    needs: tuple[str, ...] = ("pytest==9.2.0",)
    """What the tests need besides the package."""
    arguments: tuple[str, ...] = ()
    """For the runner: which tests, and options."""
    exclude: tuple[str, ...] = ()
    """Modules of the package that are not traced, as they are tests."""
    runner: str = "pytest"
    """Or `unittest`, or a script of the package, which uses unittest."""
    extras: str = ""
    """Of the package, which the tests need."""
    folder: str = "."
    """Where they run, from the top of the sources."""
    leave_out: tuple[str, ...] = ()
    """Files of the sources that would hide what is installed."""
    limit: float = 300
    """Seconds that a run takes at the most."""

    @property
    def is_stdlib(self) -> bool:
        """Whether it comes with Python."""
        return self.name == "CPython"

    @property
    def requirements(self) -> list[str]:
        """What pip installs for it."""
        extras = f"[{self.extras}]" if self.extras else ""
        return [f"{self.name}{extras}=={self.version}", *self.needs]


PYTEST = "pytest==9.2.0"

PLUGGY = Package("pluggy", "1.7.0", ("pluggy.**",), (PYTEST,), ("testing", "-p", "no:benchmark"))
BOLTONS = Package("boltons", "26.2.0", ("boltons.**",), (PYTEST,), ("tests",))
TOOLZ = Package(
    "toolz",
    "1.2.0",
    ("toolz.**",),
    (PYTEST,),
    ("toolz", "--doctest-modules"),
    ("toolz.tests*", "toolz.sandbox.tests*"),
)

SMALL = (PLUGGY, BOLTONS, TOOLZ)
"""Those that run in every test run."""
