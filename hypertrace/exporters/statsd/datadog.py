"""Environment of Datadog's clients: the tags, and the origin, that they add to each line."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

_ADDRESSES = ("DD_DOGSTATSD_URL", "DD_AGENT_HOST", "DD_DOGSTATSD_PORT")
"""Variables that say where an agent is."""

_LISTS = ("DD_TAGS", "DATADOG_TAGS")
"""Variables that have several tags; the later one wins."""
_TAGS = {
    "DD_ENTITY_ID": "dd.internal.entity_id",
    "DD_ENV": "env",
    "DD_SERVICE": "service",
    "DD_VERSION": "version",
}
_CARDINALITIES = frozenset({"none", "low", "orchestrator", "high"})
_YES = frozenset({"1", "on", "true", "y", "yes"})
_NO = frozenset({"0", "false", "n", "no", "off"})

_NO_FIELD = re.compile(r"[^!-{}~]")
"""What would end a field of a line: all but printable ASCII without `|`."""

_LONGEST = 300
"""Characters of such a field; agents write shorter ones."""

_NAMESPACE = Path("/proc/self/ns/cgroup")
_OF_HOST = 0xEFFFFFFB
"""Number of the namespace that processes are in that are in no container's."""
_GROUPS = Path("/proc/self/cgroup")
_MOUNTED = Path("/sys/fs/cgroup")
_FIRST_NUMBER = 3
"""Numbers below stand for no control group: 1 is a bad block, and 2 the root of the file system."""
_CONTAINER = re.compile(
    r"""( [0-9a-f]{64}                                              # Docker, containerd
        | [0-9a-f]{8}(?:[-_][0-9a-f]{4}){3}[-_][0-9a-f]{12}         # Garden
        | [0-9a-f]{32}-\d+                                          # Fargate
    )(?:\.scope)? $""",
    re.VERBOSE,
)


class Environment(NamedTuple):
    """What a process adds to each line. Immutable.

    Attributes:
        tags: by name; a value may be empty.
        origin: fields after the tags, each with `|` before it; empty for none.
    """

    tags: Mapping[str, str] = {}
    origin: str = ""


def environment(variables: Mapping[str, str], *, takes_address: bool) -> Environment:
    """Return what Datadog's variables say, as far as they are set.

    The origin is for agents alone: other receivers take it for a part of a tag. So it is there only
    where lines go to the address that the variables have, or `DD_ORIGIN_DETECTION_ENABLED` says
    that it is wanted.

    Args:
        variables: of the process.
        takes_address: whether lines go to the address that they have, if they have one.
    """
    wanted = variables.get("DD_ORIGIN_DETECTION_ENABLED", "").lower()
    is_agent = takes_address and any(map(variables.get, _ADDRESSES))
    has_origin = wanted in _YES or (is_agent and wanted not in _NO)
    return Environment(dict(_tags(variables)), _origin(variables) if has_origin else "")


def _tags(variables: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    for variable in _LISTS:
        text = variables.get(variable, "")
        for tag in text.split(",") if "," in text else text.split():
            name, _, value = tag.strip().partition(":")
            if name:
                yield name, value
    for variable, name in _TAGS.items():
        if variables.get(variable):
            yield name, variables[variable]


def _origin(variables: Mapping[str, str]) -> str:
    cardinality = variables.get("DATADOG_CARDINALITY") or variables.get("DD_CARDINALITY", "")
    fields = {
        "c": container(),
        "e": variables.get("DD_EXTERNAL_ENV", ""),
        "card": cardinality if cardinality in _CARDINALITIES else "",
    }
    return "".join(
        [f"|{name}:{_NO_FIELD.sub('_', v)[:_LONGEST]}" for name, v in fields.items() if v]
    )


def container() -> str:
    """Return which container the process runs in, as agents look it up; empty if in none."""
    try:
        is_in_namespace = _NAMESPACE.stat().st_ino != _OF_HOST
        lines = _GROUPS.read_text("utf-8", "replace").splitlines()
        groups = [line.split(":", 2)[1:] for line in lines if line.count(":") > 1]
        return _number_of(groups) if is_in_namespace else _name_of(groups)
    except OSError:  # another system
        return ""


def _name_of(groups: list[list[str]]) -> str:
    """Return the name that a container has, from the path of its control groups."""
    for _, path in groups:
        if found := _CONTAINER.search(path.rpartition("/")[2]):
            return f"ci-{found[1]}"
    return ""


def _number_of(groups: list[list[str]]) -> str:
    """Return the number of a control group, where its path shows no name from inside."""
    paths = dict(groups)
    for controller in ("memory", ""):  # of the first version, and of the second
        if controller in paths:
            number = (_MOUNTED / controller / paths[controller].lstrip("/")).stat().st_ino
            if number >= _FIRST_NUMBER:
                return f"in-{number}"
    return ""
