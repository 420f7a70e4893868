"""Running programs: run directories of this user in which processes count."""

from __future__ import annotations

import os
from contextlib import suppress
from typing import NamedTuple

from .directory import user_directories
from .program import program_of
from .removal import living_files


class Running(NamedTuple):
    """A program that shares its counts.

    Attributes:
        directory: its run directory.
        program: what it runs, such as `gunicorn`; empty if that cannot be known.
        pids: its processes that count, as they number themselves.
    """

    directory: str
    program: str
    pids: tuple[int, ...]


def running_programs() -> list[Running]:
    """Return the programs of this user on this machine that share their counts, by directory.

    Directories that were given as a path (`workers="/srv/counts"`) are not among them.
    """
    found = []
    for user in user_directories():
        with suppress(OSError), os.scandir(user) as entries:
            for entry in entries:
                if entry.is_dir(follow_symlinks=False):
                    pids = tuple(sorted(_pids(living_files(entry.path))))
                    if pids:
                        found.append(Running(entry.path, _program(pids), pids))
    return sorted(found)


def _pids(names: list[str]) -> set[int]:
    words = (name.split("-") for name in names)
    return {int(word[1]) for word in words if len(word) > 1 and word[1].isdigit()}


def _program(pids: tuple[int, ...]) -> str:
    names = (program_of(pid) for pid in pids)
    return next(filter(None, names), "")
