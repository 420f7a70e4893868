"""Entry points of the installed packages: the commands that they bring, and what keeps one away."""

from contextlib import suppress
from dataclasses import dataclass, field
from importlib.metadata import EntryPoint, EntryPoints, distributions

from .command import Command
from .terminal import CommandError

GROUP = "hypertrace.commands"
"""The group of entry points that a package declares its commands in."""


@dataclass(frozen=True)
class Installed:
    """A command that is installed; it may be broken, or brought by several packages."""

    entries: dict[str, EntryPoint] = field(default_factory=dict)
    """By the name of the package."""

    def load(self) -> Command:
        """Import the command.

        Raises:
            CommandError: it cannot be used; the message says why, and what to do if that is known.
        """
        if len(self.entries) > 1:
            packages = ", ".join(sorted(self.entries))
            raise CommandError(f"is in several packages: {packages}; uninstall all but one of them")
        (entry,) = self.entries.values()
        try:
            return _checked(entry.load())
        except ImportError as error:  # the message names the extra that is missing
            raise CommandError(f"cannot run: {error}") from error
        except (Exception, SystemExit) as error:
            reason = f"loading {entry.value} raised {type(error).__name__}: {error}"
            raise CommandError(f"cannot run: {reason}") from error


def installed() -> dict[str, Installed]:
    """Return the commands of all installed packages by name, sorted; it imports none of them."""
    found: dict[str, Installed] = {}
    for package, entries in _packages().items():
        for entry in entries:
            command = found.setdefault(entry.name.replace(".", " "), Installed())
            command.entries[package] = entry
    return dict(sorted(found.items()))


def _packages() -> dict[str, EntryPoints]:
    """Return the entry points of each package that has any, by its name."""
    found: dict[str, EntryPoints] = {}
    for distribution in distributions():
        # A package with unreadable metadata must not cost the commands of the others.
        with suppress(Exception):
            if entries := distribution.entry_points.select(group=GROUP):
                # Of two with the same name, Python imports the first one on its path.
                found.setdefault(distribution.metadata["Name"], entries)
    return found


def _checked(loaded: object) -> Command:
    if not isinstance(loaded, Command):
        raise TypeError(f"it is no hypertrace.cli.command.Command, but of {type(loaded).__name__}")
    if not isinstance(loaded.help, str):
        raise TypeError(f"its help must be a str, not {loaded.help!r}")
    return loaded
