"""Names of run directories: each is the key of a run, and says which process is its root.

- `a-PID-STARTED-NAMESPACE-DIGEST` with `workers="auto"`: the root process of the program, in
  hexadecimal, and the pid namespace in which its pid counts;
- `p-DIGEST` with `workers=True`: the program's path;
- `gone-RANDOM`: a directory that is just being removed.
"""

from __future__ import annotations

import os
import re
from contextlib import suppress
from functools import lru_cache
from hashlib import blake2b
from secrets import token_hex

from .program import ProcessId, program_path

_AUTO = re.compile(r"a-([0-9a-f]{1,16})-([0-9a-f]{1,16})-([0-9a-f]{8})-[0-9a-f]{24}")
_PATH = re.compile(r"p-[0-9a-f]{24}")
_GONE = re.compile(r"gone-[0-9a-f]{16}")


def name_of_root(root: ProcessId, name: str, ordinal: int) -> str:
    """Return the name for all processes that descend from a root."""
    digest = _digest(_namespace(), os.geteuid(), *root, name, ordinal)
    return f"a-{root.pid:x}-{root.started:x}-{_namespace()}-{digest}"


def name_of_path(name: str, ordinal: int) -> str:
    """Return the name for all processes of this user that run the same program."""
    return f"p-{_digest(os.geteuid(), program_path(), name, ordinal)}"


def name_of_gone() -> str:
    """Return a name by which no process looks for a directory."""
    return f"gone-{token_hex(8)}"


def has_root(name: str) -> bool:
    """Return whether it is the name of a run with a root, in whichever pid namespace."""
    return _AUTO.fullmatch(name) is not None


def is_gone(name: str) -> bool:
    """Return whether it is the name of a directory that was being removed."""
    return _GONE.fullmatch(name) is not None


def is_ours(name: str) -> bool:
    """Return whether it is one of these names."""
    return any(pattern.fullmatch(name) for pattern in (_AUTO, _PATH, _GONE))


def root_of(name: str) -> ProcessId | None:
    """Return the root of the run; None if it has none, or one of another pid namespace."""
    match = _AUTO.fullmatch(name)
    if match is None or match[3] != _namespace():
        return None
    return ProcessId(int(match[1], 16), int(match[2], 16))


def _digest(*parts: object, size: int = 12) -> str:
    return blake2b(repr(parts).encode("utf-8", "surrogateescape"), digest_size=size).hexdigest()


def _namespace() -> str:
    """Return a digest that is the same where a pid means the same process."""
    return _namespace_of(os.getpid())


@lru_cache(maxsize=1)
def _namespace_of(pid: int) -> str:  # noqa: ARG001 -- a forked child may be in another one
    parts = ["", ""]
    with suppress(OSError):
        parts[0] = os.readlink("/proc/self/ns/pid")
    with suppress(OSError), open("/proc/sys/kernel/random/boot_id", encoding="ascii") as file:
        parts[1] = file.read()
    return _digest(*parts, size=4)
