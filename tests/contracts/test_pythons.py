"""Supported Pythons: the same in every file that names them."""

import re
import tomllib
from pathlib import Path
from typing import Any

import pytest

PREFIX = "Programming Language :: Python :: "


@pytest.fixture(scope="module")
def project(root: Path) -> dict[str, Any]:
    return tomllib.loads((root / "pyproject.toml").read_text())


@pytest.fixture(scope="module")
def versions(project: dict[str, Any]) -> list[str]:
    """Give the versions that the package names in its classifiers."""
    named = [text.removeprefix(PREFIX) for text in project["project"]["classifiers"]]
    return [text for text in named if re.fullmatch(r"\d\.\d+", text)]


def test_a_wheel_is_built_for_each(project: dict[str, Any], versions: list[str]) -> None:
    """Wheels are built for each supported Python, and for no other."""
    built = project["tool"]["cibuildwheel"]["build"]
    assert built == [f"cp{version.replace('.', '')}-*" for version in versions]


def test_the_oldest_is_the_oldest_that_is_accepted(
    project: dict[str, Any], versions: list[str]
) -> None:
    """Installing refuses a Python that is older than the supported ones."""
    assert project["project"]["requires-python"] == f">={versions[0]}"


def test_each_is_tested(root: Path, versions: list[str]) -> None:
    """`.ci/test` runs under each supported Python, and the pages name the first and the last."""
    assert f"supported_pythons=({' '.join(versions)})" in (root / ".ci" / "common").read_text()
    span = f"{versions[0]} to {versions[-1]}"
    assert span in (root / "README.md").read_text()
    assert span in (root / "CONTRIBUTING.md").read_text()
