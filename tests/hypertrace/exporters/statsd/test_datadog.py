"""Environment of Datadog's clients: which tags and which origin the variables say."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from hypertrace.exporters.statsd import datadog
from hypertrace.exporters.statsd.datadog import Environment, container, environment

if TYPE_CHECKING:
    from pathlib import Path

HASH = "0123456789abcdef" * 4


@pytest.mark.parametrize(
    ("variables", "tags"),
    [
        ({}, {}),
        (
            {"DD_ENV": "prod", "DD_SERVICE": "", "DD_VERSION": "1.2"},
            {"env": "prod", "version": "1.2"},
        ),
        ({"DD_ENTITY_ID": "pod-7"}, {"dd.internal.entity_id": "pod-7"}),
        ({"DD_TAGS": "team:shop,, urgent ,a:b:c"}, {"team": "shop", "urgent": "", "a": "b:c"}),
        ({"DD_TAGS": "team:shop urgent"}, {"team": "shop", "urgent": ""}),
        ({"DD_TAGS": "env:a,x:1", "DATADOG_TAGS": "x:2", "DD_ENV": "b"}, {"env": "b", "x": "2"}),
    ],
)
def test_variables_are_tags(variables: dict[str, str], tags: dict[str, str]) -> None:
    """Lists are divided at commas, or at spaces; a variable of one tag wins."""
    assert environment(variables, takes_address=True) == Environment(tags, "")


@pytest.mark.parametrize(
    ("variables", "takes_address", "has_origin"),
    [
        ({}, True, False),
        ({"DD_AGENT_HOST": "d"}, True, True),
        ({"DD_AGENT_HOST": "d"}, False, False),
        ({"DD_DOGSTATSD_URL": "unix:///x"}, True, True),
        ({"STATSD_HOST": "s"}, True, False),
        ({"DD_AGENT_HOST": "d", "DD_ORIGIN_DETECTION_ENABLED": "False"}, True, False),
        ({"DD_ORIGIN_DETECTION_ENABLED": "true"}, False, True),
    ],
)
def test_only_agents_get_the_origin(
    variables: dict[str, str],
    takes_address: bool,
    has_origin: bool,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Other receivers take it for a part of the last tag."""
    monkeypatch.setattr(datadog, "container", lambda: "ci-7")
    found = environment(variables, takes_address=takes_address)
    assert found.origin == ("|c:ci-7" if has_origin else "")


def test_the_origin_has_further_fields(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing in them ends a field or a line; a cardinality that there is not is left out."""
    monkeypatch.setattr(datadog, "container", lambda: "")
    variables = {"DD_AGENT_HOST": "d", "DD_EXTERNAL_ENV": "it-false,cn-a|#b\nc"}
    wanted = {**variables, "DD_CARDINALITY": "low"}
    assert environment(wanted, takes_address=True).origin == "|e:it-false,cn-a_#b_c|card:low"
    other = {**variables, "DATADOG_CARDINALITY": "all", "DD_EXTERNAL_ENV": "x" * 1_000}
    assert environment(other, takes_address=True).origin == f"|e:{'x' * 300}"


@pytest.mark.parametrize(
    ("groups", "found"),
    [
        (f"13:memory:/docker/{HASH}\n", f"ci-{HASH}"),
        (f"1:name=systemd:/system.slice/docker-{HASH}.scope\n", f"ci-{HASH}"),
        (f"0::/kubepods/pod1/{HASH}\n", f"ci-{HASH}"),
        ("0::/task/0123456789abcdef0123456789abcdef-1234567890\n", None),
        ("0::/garden/01234567-89ab-cdef-0123-456789abcdef\n", None),
        ("0::/user.slice/session-1.scope\nnothing\n", ""),
        ("", ""),
    ],
)
def test_a_container_has_a_name(
    groups: str, found: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """From the path of its control groups, where the process sees that."""
    namespace = tmp_path / "ns"
    namespace.touch()
    (tmp_path / "cgroup").write_text(groups)
    monkeypatch.setattr(datadog, "_NAMESPACE", namespace)
    monkeypatch.setattr(datadog, "_OF_HOST", namespace.stat().st_ino)
    monkeypatch.setattr(datadog, "_GROUPS", tmp_path / "cgroup")
    expected = f"ci-{groups.strip().rpartition('/')[2]}" if found is None else found
    assert container() == expected


@pytest.mark.parametrize(
    ("groups", "folder"),
    [("0::/\n", "."), ("4:memory:/a\n0::/\n", "memory/a"), ("9:pids:/\n", None)],
)
def test_a_container_with_its_own_namespace_has_a_number(
    groups: str, folder: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """That of its control group."""
    (tmp_path / "cgroup").write_text(groups)
    (tmp_path / "fs" / "memory" / "a").mkdir(parents=True)
    monkeypatch.setattr(datadog, "_NAMESPACE", tmp_path)
    monkeypatch.setattr(datadog, "_GROUPS", tmp_path / "cgroup")
    monkeypatch.setattr(datadog, "_MOUNTED", tmp_path / "fs")
    expected = "" if folder is None else f"in-{(tmp_path / 'fs' / folder).stat().st_ino}"
    assert container() == expected


def test_a_system_without_control_groups_has_no_container(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing is raised."""
    monkeypatch.setattr(datadog, "_NAMESPACE", tmp_path / "missing")
    assert container() == ""
