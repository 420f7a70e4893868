"""Programs that must not share: each shows its own counts, whatever runs beside it."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from .programs import APPS, Counts, page_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from .conftest import Start
    from .programs import Program

ONCE = f"{sys.executable} {APPS / 'once.py'}"
TEST = """
import os
from pathlib import Path
from answers import answer, wait_for
from counted import work

def test_counts():
    number = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0")[2:])
    for _ in range(3 + number):
        work.do()
    Path(os.environ["FOLDER"], f"worked-{number}").touch()
    answer(3 + number)
"""


def _answers(program: Program, number: int) -> dict[str, Counts]:
    """Wait for so many answers after all calls, and read their counts by the answer's name."""
    pages = program.answers(number)
    (program.folder / "end").touch()
    return {name: Counts.of(page) for name, page in pages.items()}


def _exactly(*calls: int) -> dict[str, Counts]:
    return {str(number): Counts.exactly(number) for number in calls}


@pytest.mark.parametrize("ports", [True, False], ids=["ports", "no ports"])
def test_programs_of_one_script(start: Start, free_port: Callable[[], int], ports: bool) -> None:
    """Programs that a script starts, of one file, count apart, with ports and without."""
    variables = [f"EXPORTER_PORT={free_port()}" if ports else "" for _ in range(2)]
    script = f"{variables[0]} {ONCE} 3 & {variables[1]} {ONCE} 5 & wait"
    program = start("sh", "-c", script)
    program.wait(lambda: program.tally.calls() == 8)
    if ports:
        shown = [Counts.of(page_of(int(variable.partition("=")[2]))) for variable in variables]
        assert shown == [Counts.exactly(3), Counts.exactly(5)]
    assert _answers(program, 2) == _exactly(3, 5)


def test_different_programs_of_one_script(start: Start) -> None:
    """Programs of different files that a script starts count apart."""
    script = f"{ONCE} 3 & {sys.executable} {APPS / 'processes.py'} fork & wait"
    program = start("sh", "-c", script)
    program.wait(lambda: program.tally.calls() == 68)
    found = _answers(program, 4)
    assert found.pop("3") == Counts.exactly(3)
    assert set(found.values()) == {Counts.exactly(65)}


def test_a_program_that_another_starts(start: Start) -> None:
    """A program started by one that counts does not join it."""
    program = start(sys.executable, APPS / "once.py", "3", APPS / "once.py", "5")
    program.wait(lambda: program.tally.calls() == 8)
    assert _answers(program, 2) == _exactly(3, 5)


def test_rounds_of_a_loop(start: Start) -> None:
    """Each round of a loop in a shell script counts from zero."""
    program = start("sh", "-c", f"touch quiet end; for n in 1 2 3; do {ONCE} $n; done; exit")
    assert program.process.wait(30) == 0, program.log
    assert _answers(program, 3) == _exactly(1, 2, 3)


def test_two_exporters_of_one_process(start: Start) -> None:
    """Two exporters count apart, each with its counts in forked children."""
    program = start(sys.executable, APPS / "two_exporters.py")
    assert _answers(program, 4) == {
        f"{process}-{number}": Counts.exactly(calls)
        for process in ("parent", "child")
        for number, calls in enumerate([13, 25])
    }


def _pytest(folder: Path, *options: str) -> list[str | Path]:
    (folder / "pytest.ini").write_text("[pytest]\n")
    (folder / "test_counting.py").write_text(TEST)
    command = (sys.executable, "-m", "pytest", "-c", folder / "pytest.ini")
    return [*command, "-p", "no:cacheprovider", *options, folder / "test_counting.py"]


def test_workers_of_xdist(start: Start, tmp_path: Path) -> None:
    """The workers of one test run count apart."""
    program = start(*_pytest(tmp_path, "--tx=2*popen", "--dist=each"))
    program.wait(lambda: program.tally.calls() == 7)
    assert _answers(program, 2) == _exactly(3, 4)


def test_a_test_run_beside_an_application(
    start: Start, free_port: Callable[[], int], tmp_path: Path
) -> None:
    """A test run of an application counts apart from one that runs, though both want its port."""
    port = free_port()
    application = start(sys.executable, APPS / "once.py", "5", EXPORTER_PORT=str(port))
    application.wait(lambda: Counts.of(page_of(port)) == Counts.exactly(5))
    tests = start(*_pytest(tmp_path, "-p", "no:xdist"), EXPORTER_PORT=str(port))
    tests.wait(lambda: tests.tally.calls() == 3)
    assert _answers(tests, 1) == _exactly(3)
    assert Counts.of(page_of(port)) == Counts.exactly(5)
    assert tests.process.wait(20) == 0, tests.log


@pytest.fixture
def anyones_folder() -> Iterator[Path]:
    """Give a folder that all users may write to."""
    folder = Path(tempfile.mkdtemp())
    folder.chmod(0o777)
    yield folder
    shutil.rmtree(folder)


def test_two_users(start: Start, anyones_folder: Path) -> None:
    """One program that two users run counts apart, and the folder of one is closed to the other."""
    if os.geteuid() != 0:
        pytest.skip("only root can start a program of another user")
    apps = anyones_folder / "apps"
    shutil.copytree(APPS, apps, ignore=shutil.ignore_patterns("__pycache__"))
    as_other = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"]
    probe = [*as_other, sys.executable, "-c", "import hypertrace_prometheus"]
    if subprocess.run(probe, cwd=anyones_folder, capture_output=True, check=False).returncode:
        pytest.skip(f"another user cannot run {sys.executable}, or import what it has installed")
    folder = {"FOLDER": str(anyones_folder), "TALLY": str(anyones_folder / "tally")}
    command = (sys.executable, apps / "once.py")
    program = start(*command, "3", **folder)
    program.folder = anyones_folder
    program.wait((anyones_folder / "tally").exists)
    (anyones_folder / "tally").chmod(0o666)
    start(*as_other, *command, "5", **folder)
    program.wait(lambda: len((anyones_folder / "tally").read_text().splitlines()) == 16)
    assert _answers(program, 2) == _exactly(3, 5)


@pytest.mark.parametrize("shared", [False, True], ids=["apart", "shared"])
def test_two_containers(start: Start, shared: bool) -> None:
    """Programs in two containers count apart, whether they share /dev/shm or not."""
    unshare = ["unshare", "--pid", "--mount", "--fork", "--mount-proc", "--kill-child"]
    try:
        subprocess.run([*unshare, "true"], check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError) as error:
        pytest.skip(f"no namespaces here: {error}")
    mount = "" if shared else "mount -t tmpfs none /dev/shm && "
    program = start(
        "sh",
        "-c",
        f"{' '.join(unshare)} sh -c '{mount}{ONCE} 3' & "
        f"{' '.join(unshare)} sh -c '{mount}{ONCE} 5' & wait",
    )
    program.wait(lambda: len(program.tally.path.read_text().splitlines()) == 16)
    assert _answers(program, 2) == _exactly(3, 5)
