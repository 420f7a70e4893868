"""Wheel: it holds what users need, and nothing else."""

import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

PACKAGES = ("hypertrace", "hypertrace_prometheus")


@pytest.fixture(scope="module")
def sources(root: Path) -> Path:
    if not all((root / package).is_dir() for package in PACKAGES):
        pytest.skip("no sources beside the tests: they are testing an installed wheel")
    return root


@pytest.fixture(scope="module")
def wheel(sources: Path, tmp_path_factory: pytest.TempPathFactory) -> zipfile.ZipFile:
    """Give the wheel, built from a copy so that the checkout stays as it is."""
    copy = tmp_path_factory.mktemp("sources")
    for file in sources.iterdir():
        if file.is_file():
            shutil.copy(file, copy)
    for package in PACKAGES:
        shutil.copytree(sources / package, copy / package)
    command = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", "dist", "."]
    run = subprocess.run(command, cwd=copy, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stdout + run.stderr
    (path,) = (copy / "dist").glob("*.whl")
    return zipfile.ZipFile(path)


def _metadata(wheel: zipfile.ZipFile, name: str) -> str:
    (path,) = (path for path in wheel.namelist() if path.endswith(f".dist-info/{name}"))
    return wheel.read(path).decode()


def test_every_module_travels(wheel: zipfile.ZipFile, sources: Path) -> None:
    """Each module of the two packages is in the wheel."""
    modules = {
        path.relative_to(sources).as_posix()
        for package in PACKAGES
        for path in (sources / package).rglob("*.py")
    }
    assert modules <= set(wheel.namelist())


def test_only_the_packages_are_installed(wheel: zipfile.ZipFile) -> None:
    """The wheel puts the two packages on the import path: no tests, no top-level stray."""
    tops = {name.split("/")[0] for name in wheel.namelist()}
    assert {top for top in tops if not top.endswith(".dist-info")} == set(PACKAGES)


@pytest.mark.parametrize("package", PACKAGES)
def test_type_checkers_may_read_the_packages(wheel: zipfile.ZipFile, package: str) -> None:
    """Each package carries the marker that lets type checkers read its annotations."""
    assert f"{package}/py.typed" in wheel.namelist()


def test_the_licence_travels(wheel: zipfile.ZipFile) -> None:
    """The wheel has the text of the licence, and its metadata name it."""
    assert "Apache License" in _metadata(wheel, "licenses/LICENSE")
    assert "License-Expression: Apache-2.0" in _metadata(wheel, "METADATA")


def test_the_core_needs_only_wrapt(wheel: zipfile.ZipFile) -> None:
    """Who installs the core gets wrapt and nothing else; the rest is an extra."""
    lines = _metadata(wheel, "METADATA").splitlines()
    required = [
        line for line in lines if line.startswith("Requires-Dist:") and "extra ==" not in line
    ]
    assert [line.split()[1].split(">")[0] for line in required] == ["wrapt"]


def test_the_dashboards_travel(wheel: zipfile.ZipFile, sources: Path) -> None:
    """Each dashboard is in the wheel."""
    files = sources.glob("hypertrace_prometheus/dashboards/data/*.json")
    names = {file.relative_to(sources).as_posix() for file in files}
    assert len(names) == 10
    assert names <= set(wheel.namelist())


def test_the_command_is_installed(wheel: zipfile.ZipFile) -> None:
    """Installing gives the command `hypertrace`, also under its old name."""
    scripts, _, _ = _metadata(wheel, "entry_points.txt").partition("[hypertrace.commands]")
    assert "\nhypertrace = hypertrace.cli.main:main\n" in scripts
    assert "\nhypertrace-prometheus = hypertrace.cli.main:main\n" in scripts


def test_the_command_needs_no_extra(wheel: zipfile.ZipFile, tmp_path: Path) -> None:
    """Installed alone, `hypertrace` lists its commands, and says which extra each needs."""
    wheel.extractall(tmp_path)
    program = (
        f"import sys; sys.path.insert(0, {str(tmp_path)!r}); "
        "from hypertrace.cli.main import main; sys.exit(main())"
    )
    extra = 'pip install "hypertrace[prometheus]"'
    alone = [sys.executable, "-I", "-S", "-c", program]
    listing = subprocess.run(
        [*alone, "--help"],
        env={**os.environ, "COLUMNS": "200"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (listing.returncode, listing.stderr) == (0, "")
    assert listing.stdout.count(f"cannot run: hypertrace_prometheus needs more: {extra}\n") == 4
    demo = subprocess.run([*alone, "demo"], capture_output=True, text=True, check=False)
    assert demo.returncode == 1
    assert demo.stdout == ""
    assert demo.stderr == (
        f"hypertrace: demo cannot run: hypertrace_prometheus needs more: {extra}\n"
    )
