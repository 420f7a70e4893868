"""Run directory: found by all processes of a program, made once, removed by the last or a later."""

from __future__ import annotations

import os
import signal
import stat
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Self

import pytest

if sys.platform == "win32":
    pytest.skip("Windows counts in memory", allow_module_level=True)

import fcntl

from hypertrace.metrics.shared import directory, keys, program, removal
from hypertrace.metrics.shared.directory import (
    NotShared,
    RunDirectory,
    again,
    find,
    keep_linked,
    remove_if_last,
)
from hypertrace.metrics.shared.keys import name_of_root
from hypertrace.metrics.shared.program import ProcessId, root_process, this_process

from ....running import LONG

if TYPE_CHECKING:
    from collections.abc import Iterator

    from .conftest import Programs

pytestmark = pytest.mark.skipif(
    not sys.platform.startswith("linux"), reason="roots are known by /proc"
)

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root becomes another user")

ENDED = ProcessId(1 << 22, 1)
"""A process that is not there: the pid is larger than Linux gives."""


def _only(monkeypatch: pytest.MonkeyPatch, first: Path, second: Path) -> None:
    """Let there be two bases: XDG_RUNTIME_DIR and the temporary directory, and no /dev/shm."""
    stat_of = os.stat

    def without_shm(path: str, **options: object) -> os.stat_result:
        if path == "/dev/shm":
            raise FileNotFoundError(2, "No such file or directory")
        return stat_of(path, **options)  # type: ignore[arg-type]

    monkeypatch.setenv("XDG_RUNTIME_DIR", str(first))
    monkeypatch.setattr(tempfile, "tempdir", str(second))
    monkeypatch.setattr(os, "stat", without_shm)


@pytest.fixture(autouse=True)
def base(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Give the base directory of this test, the only one with room for run directories."""
    base = tmp_path / "base"
    base.mkdir(mode=0o700)
    _only(monkeypatch, base, tmp_path / "missing")
    monkeypatch.delenv("HYPERTRACE_WORKERS", raising=False)
    monkeypatch.setattr(directory, "_ordinals", {})
    return base


@pytest.fixture
def user(base: Path) -> Path:
    """Give the folder of this user in the base directory."""
    user = base / f"hypertrace-{os.geteuid()}"
    user.mkdir(mode=0o700)
    return user


def _found(workers: bool | str = "auto", name: str = "") -> RunDirectory:
    found = find(workers, name=name)
    assert found is not None
    return found


def _run(user: Path, root: ProcessId, *files: str, seconds: float = 3600) -> Path:
    """Make the directory of a run that was last used some seconds ago."""
    return _aged(user / name_of_root(root, "", 0), *files, seconds=seconds)


def _aged(path: Path, *files: str, seconds: float = 3600) -> Path:
    path.mkdir(mode=0o700, exist_ok=True)
    for file in files:
        (path / file).touch()
    _age(path, seconds)
    return path


def _age(path: Path, seconds: float) -> None:
    moment = time.time() - seconds
    for entry in [*path.iterdir(), path]:
        os.utime(entry, (moment, moment))


class _Locked:
    """The file of a worker, locked by another process as its worker would."""

    def __init__(self, path: Path) -> None:
        code = (
            "import fcntl, os, sys; file = os.open(sys.argv[1], os.O_RDWR | os.O_CREAT, 0o600); "
            "fcntl.flock(file, fcntl.LOCK_EX); print('locked', flush=True); input()"
        )
        self._process = subprocess.Popen(
            [sys.executable, "-c", code, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        assert self._process.stdout is not None
        assert self._process.stdout.readline() == b"locked\n"

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.communicate()


# --- finding ------------------------------------------------------------------------------


def test_the_directory_is_for_this_user_alone(base: Path) -> None:
    """Only the user enters the directories, whose name has the root of the program in it."""
    found = _found()
    path = Path(found.path)
    assert path.parent == base / f"hypertrace-{os.geteuid()}"
    assert stat.S_IMODE(path.stat().st_mode) == stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    assert keys.root_of(path.name) == found.root == root_process()
    assert not found.is_kept


def test_a_umask_changes_nothing() -> None:
    """The usual umasks leave the mode as it must be."""
    for umask in (0, 0o022, 0o077):
        before = os.umask(umask)
        try:
            path = _found().path
        finally:
            os.umask(before)
        assert stat.S_IMODE(os.lstat(path).st_mode) == 0o700


def test_false_is_memory(base: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without sharing nothing is made, also if the environment says so."""
    assert find(False, name="") is None
    monkeypatch.setenv("HYPERTRACE_WORKERS", "off")
    assert find("auto", name="") is None
    assert list(base.iterdir()) == []


@pytest.mark.parametrize("workers", ["auto", True])
def test_two_in_one_process_are_apart(workers: bool | str) -> None:
    """Each call has its own directory, and so has each name."""
    paths = [_found(workers, name).path for name in ("", "", "x:1", "x:2", "x:1")]
    assert len(set(paths)) == 5


RACE = """
import os, sys, probe
ready, go = os.pipe()
for _ in range(12):
    if not os.fork():
        os.close(go)
        os.read(ready, 1)
        probe.report()
        os._exit(0)
os.close(go)
for _ in range(12):
    os.wait()
"""


def test_processes_that_start_at_once_get_one_directory(programs: Programs) -> None:
    """Whichever process makes the directory, all others join it."""
    for _ in range(5):
        reports = programs.run(RACE)[-12:]
        assert len({report.pid for report in reports}) == 12
        assert len({report.path for report in reports}) == 1


def test_true_shares_among_all_processes_of_one_path(programs: Programs) -> None:
    """Programs of one path share with `True`, however they were started, and others do not."""
    text = "import probe; probe.report(workers=True)"
    for _ in range(2):
        programs.run(text)
    programs.run_command(sys.executable, programs.write("other.py", text))
    one, same, other = programs.reports()
    assert one.path == same.path != other.path


def test_a_path_is_used_and_kept(tmp_path: Path, base: Path) -> None:
    """A path of the user is made, is the same for all names, and stays."""
    path = tmp_path / "some" / "where"
    found = _found(str(path), "x:1")
    assert found == RunDirectory(str(path), is_kept=True, root=None, name="x:1", ordinal=0)
    assert path.is_dir()
    assert not remove_if_last(found, None)
    assert path.is_dir()
    assert list(base.iterdir()) == []
    second = _found(str(path), "x:2")
    assert second.path == str(path / "2")
    path.joinpath("2").rmdir()
    assert again(second) == second
    assert path.joinpath("2").is_dir()
    keep_linked(second)


def test_the_variable_can_be_a_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`HYPERTRACE_WORKERS` wins over the argument."""
    monkeypatch.setenv("HYPERTRACE_WORKERS", str(tmp_path / "here"))
    assert _found().path == str(tmp_path / "here")


def test_a_path_that_is_a_file_is_not_shared(tmp_path: Path) -> None:
    """The reason names the path."""
    (tmp_path / "file").touch()
    with pytest.raises(NotShared, match=rf"{tmp_path}/file: File exists"):
        find(str(tmp_path / "file"), name="")


def test_an_unknown_root_is_not_shared(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without /proc, `auto` says how to share all the same; `True` needs no root."""
    monkeypatch.setattr(directory, "_root", None)
    monkeypatch.setattr(program, "_read", lambda pid, name: b"")
    with pytest.raises(NotShared, match=r"workers=True or a path, .*HYPERTRACE_WORKERS"):
        find("auto", name="")
    assert _found(True).root is None


def test_a_child_keeps_a_root_that_lives_on(programs: Programs) -> None:
    """A daemon that was forked after the first directory finds further ones beside its root."""
    reports = programs.run(
        "import os, time, probe\n"
        "probe.report()\n"
        "end, alive = os.pipe()\n"
        "if not os.fork():\n"
        "    parent = os.getpid()\n"
        "    if os.fork():\n"
        "        os._exit(0)\n"
        "    while os.getppid() == parent: time.sleep(0.01)\n"
        "    probe.report(name='x')\n"
        "    os._exit(0)\n"
        "os.close(alive)\n"
        "os.read(end, 1)\n"
        "probe.report(name='x')\n"
    )
    assert reports[1].path == reports[2].path


# --- places -------------------------------------------------------------------------------


@pytest.mark.parametrize("fault", ["missing", "file", "relative", "open", "planted", "wide"])
def test_a_place_that_cannot_be_used_is_passed_over(
    fault: str, base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The next place is used, and if there is none, the reasons are given for all."""
    other = tmp_path / "other"
    other.mkdir(mode=0o700)
    name = f"hypertrace-{os.geteuid()}"
    _only(monkeypatch, base, other)
    reason = _break(fault, base, name, tmp_path)
    if fault == "relative":
        monkeypatch.setenv("XDG_RUNTIME_DIR", "base")
    assert _found().path.startswith(str(other / name))
    (other / name).rename(tmp_path / "aside")
    (other / name).touch()
    with pytest.raises(NotShared, match=reason) as caught:
        find("auto", name="")
    assert f"{other / name}: not a directory" in str(caught.value)
    assert "/dev/shm: No such file" in str(caught.value)


def _break(fault: str, base: Path, name: str, elsewhere: Path) -> str:
    """Make a base unusable, and return the reason that is to be given."""
    if fault in {"missing", "file"}:
        base.rmdir()
    if fault == "file":
        base.touch()
    if fault == "open":
        base.chmod(0o777)
    if fault == "planted":
        (elsewhere / "trap").mkdir(mode=0o700)
        (base / name).symlink_to(elsewhere / "trap")
    if fault == "wide":
        (base / name).mkdir()
        (base / name).chmod(0o755)
    return {
        "missing": f"{base}: No such file",
        "file": f"{base}: not a directory",
        "relative": "^no directory for",
        "open": rf"{base}: others can rename what is in it \(mode 777\)",
        "planted": f"{base / name}: not a directory",
        "wide": f"{base / name}: has mode 755, not 700",
    }[fault]


@needs_root
def test_a_directory_of_another_user_is_passed_over(
    base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What another user has made in advance is not entered."""
    _only(monkeypatch, base, base)
    path = base / "hypertrace-0"
    path.mkdir(mode=0o700)
    os.chown(path, 65534, 65534)
    with pytest.raises(NotShared, match=f"{path}: belongs to user 65534"):
        find("auto", name="")


@needs_root
def test_a_read_only_place_is_passed_over(
    base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A read-only file system has no room, whether the directory of the user is there or not."""
    if subprocess.run(["mount", "-t", "tmpfs", "x", str(base)], check=False).returncode:
        pytest.skip("mounting is not permitted here")
    try:
        _only(monkeypatch, base, base)
        subprocess.run(["mount", "-o", "remount,ro", str(base)], check=True)
        with pytest.raises(NotShared, match="Read-only file system"):
            find("auto", name="")
        subprocess.run(["mount", "-o", "remount,rw", str(base)], check=True)
        _found()
        subprocess.run(["mount", "-o", "remount,ro", str(base)], check=True)
        with pytest.raises(NotShared, match="not writable"):
            find("auto", name="")
    finally:
        subprocess.run(["umount", str(base)], check=True)


@needs_root
def test_a_full_place_ends_the_search(
    base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No process goes to another place because the first one is full: others may have got in."""
    command = ["mount", "-t", "tmpfs", "-o", "nr_inodes=2", "x", str(base)]
    if subprocess.run(command, check=False).returncode:
        pytest.skip("mounting is not permitted here")
    try:
        _only(monkeypatch, base, tmp_path)
        with pytest.raises(NotShared, match="No space left"):
            find("auto", name="")
    finally:
        subprocess.run(["umount", str(base)], check=True)


def test_a_directory_that_exists_in_a_later_place_is_joined(
    base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A place that can be used only later does not part the processes of a program."""
    other = tmp_path / "other"
    other.mkdir(mode=0o700)
    _only(monkeypatch, tmp_path / "missing", other)
    first = _found()
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(base))
    assert again(first) == first
    monkeypatch.setattr(directory, "_ordinals", {})
    assert _found() == first


# --- again, and aliases -------------------------------------------------------------------


def test_a_removed_directory_is_made_again_under_its_key() -> None:
    """A process that lost its directory meets the others in a new one of the same name."""
    first = _found()
    Path(first.path).rmdir()
    assert again(first) == first
    assert Path(first.path).is_dir()


def test_a_directory_that_is_removed_at_once_is_made_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A process of the same program that ends between two steps does not end the search."""
    make = directory._make
    made = []

    def make_and_lose(path: str) -> bool:
        is_new = make(path)
        made.append(path)
        if len(made) == 2:
            Path(path).rmdir()
        return is_new

    monkeypatch.setattr(directory, "_make", make_and_lose)
    assert Path(_found().path).is_dir()
    assert len(made) == 3


def test_an_alias_leads_to_the_directory_and_stands_for_its_name(user: Path) -> None:
    """The new root finds the old name, also after the directory was removed."""
    old = name_of_root(ENDED, "", 0)
    own = root_process()
    assert own is not None
    alias = user / name_of_root(own, "", 0)
    alias.symlink_to(old)
    for _ in range(2):
        directory._ordinals.clear()
        assert _found().path == str(user / old)
        (user / old).rmdir()


def test_an_alias_that_leads_elsewhere_is_not_followed(
    user: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Only names of run directories beside it are followed."""
    own = root_process()
    assert own is not None
    other = tmp_path / "other"
    other.mkdir(mode=0o700)
    _only(monkeypatch, tmp_path / "base", other)
    (user / name_of_root(own, "", 0)).symlink_to(tmp_path)
    assert _found().path.startswith(str(other))


SPAWNING_DAEMON = """
import multiprocessing, os, sys, time, probe
from hypertrace.metrics.shared.directory import find, keep_linked
from hypertrace.metrics.shared.program import this_process

if __name__ == "__main__":
    found = find("auto", name="")
    origin = os.getpid()
    if os.fork():
        os._exit(0)
    while os.getppid() == origin:
        time.sleep(0.01)
    keep_linked(found)
    keep_linked(found)
    child = multiprocessing.get_context("spawn").Process(target=probe.report)
    child.start()
    child.join()
    open(os.environ["REPORTS"], "a").write('["parent", 0, %d, "%s"]\\n' % (os.getpid(), found.path))
"""


def test_what_a_daemon_starts_finds_the_directory_from_before(programs: Programs) -> None:
    """A program that becomes a daemon after its first directory leaves an alias for later."""
    programs.run_command(sys.executable, programs.write("program.py", SPAWNING_DAEMON))
    reports = programs.folder / "reports"
    _wait_for(lambda: reports.exists() and "parent" in reports.read_text())
    child, parent = programs.reports()
    assert child.path == parent.path
    assert child.root == parent.root


def _wait_for(condition: object) -> None:
    assert callable(condition)
    deadline = time.monotonic() + LONG
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


# --- the sweep of a newcomer --------------------------------------------------------------


def test_directories_of_programs_that_have_ended_are_removed(user: Path) -> None:
    """A newcomer removes the directory of a program whose root and workers are gone."""
    dead = _run(user, ENDED, "names", "dead", "lock", "w-1-abc", ".w-2-abc")
    _found()
    assert not dead.exists()


def test_a_program_that_was_killed_leaves_nothing_for_long(programs: Programs) -> None:
    """The directory of a real program is removed after it was killed, and not before."""
    programs.write(
        "program.py",
        "import fcntl, os, probe\n"
        "directory = probe.find('auto', name='')\n"
        "file = os.open(directory.path + '/w-1-abc', os.O_RDWR | os.O_CREAT)\n"
        "fcntl.flock(file, fcntl.LOCK_EX)\n"
        "print(directory.path, flush=True)\n"
        "input()\n",
    )
    process = programs.start(sys.executable, "program.py")
    assert process.stdout is not None
    path = Path(process.stdout.readline().strip())
    _age(path, 3600)
    newcomer = "import probe; probe.report()"
    programs.write("newcomer.py", newcomer)
    programs.run_command(sys.executable, "newcomer.py")
    assert path.exists()
    process.send_signal(signal.SIGKILL)
    process.communicate()
    programs.run_command(sys.executable, "newcomer.py")
    assert not path.exists()


def test_a_directory_with_a_locked_file_stays(user: Path) -> None:
    """A worker that outlives its root keeps the directory, also while it makes its file."""
    for name in ("w-1-abc", ".w-1-abc"):
        path = _run(user, ENDED, "names", name)
        with _Locked(path / name):
            _age(path, 3600)
            _found()
            assert path.exists()
            assert (path / "names").exists()
        _age(path, 3600)
        _found()
        assert not path.exists()


def test_a_young_directory_or_file_stays(user: Path) -> None:
    """What was made just now is not removed: its process may not have locked it yet."""
    path = _run(user, ENDED, "names", seconds=0)
    _found()
    assert path.exists()
    _aged(path, ".w-1-abc")
    os.utime(path / ".w-1-abc")
    _found()
    assert path.exists()


def test_the_directory_of_a_living_root_stays(user: Path) -> None:
    """A program between two workers keeps its directory."""
    parent = program._stat(os.getppid())
    assert parent is not None
    path = _run(user, parent.process, "names", "w-1-abc")
    _found()
    assert path.exists()


def test_the_target_of_a_living_alias_stays(user: Path) -> None:
    """A root that has taken the place of another one keeps its directory."""
    path = _run(user, ENDED, "names")
    alias = user / name_of_root(ProcessId(os.getppid(), 0), "", 0)
    alias.symlink_to(path.name)
    _found()
    assert path.exists()
    assert alias.is_symlink()


def test_aliases_that_lead_nowhere_are_removed(user: Path) -> None:
    """An alias goes with its directory, or later, unless its root lives."""
    path = _run(user, ENDED)
    (user / name_of_root(ENDED._replace(started=2), "", 0)).symlink_to(path.name)
    (user / name_of_root(ENDED._replace(started=3), "", 0)).symlink_to("nowhere")
    living = user / name_of_root(ProcessId(os.getppid(), 0), "", 0)
    living.symlink_to("nowhere")
    found = _found()
    assert set(user.iterdir()) == {Path(found.path), living}


def test_a_run_without_a_root_is_removed_at_the_second_look(user: Path) -> None:
    """With `True`, and in another pid namespace, a program may be about to start again."""
    other = name_of_root(ENDED, "", 0).split("-")
    other[3] = "00000000"
    for name in ("p-" + "0" * 24, "-".join(other)):
        path = _aged(user / name, "w-1-abc")
        with _Locked(path / "w-1-abc"):
            _age(path, 3600)
            _found()
            assert stat.S_IMODE(path.stat().st_mode) == 0o700
        _found()
        assert stat.S_IMODE(path.stat().st_mode) == 0o1700
        _age(path, removal.RESTART / 2)
        _found()
        assert path.exists()
        _age(path, 3600)
        _found()
        assert not path.exists()


def test_joining_takes_back_the_first_look() -> None:
    """A directory that a program has come back to is seen as new by the next sweep."""
    found = _found(True)
    path = Path(found.path)
    path.chmod(0o1700)
    _age(path, 3600)
    directory._ordinals.clear()
    assert _found(True) == found
    assert stat.S_IMODE(path.stat().st_mode) == 0o700
    assert path.stat().st_mtime > time.time() - 60


def test_what_is_no_run_directory_stays(user: Path, tmp_path: Path) -> None:
    """Other names, files and links are left as they are, and nothing is followed."""
    outside = _aged(tmp_path / "outside", "names", "w-1-abc")
    name = name_of_root(ENDED, "", 0)
    (user / name).symlink_to(outside)
    others = [_aged(user / "other"), user / name_of_root(ENDED._replace(started=2), "", 0)]
    others[1].touch()
    inside = _run(user, ENDED._replace(started=4))
    (inside / "names").symlink_to(outside / "names")
    (inside / "w-1-abc").symlink_to(outside / "w-1-abc")
    _age_link(inside)
    _found()
    assert (user / name).is_symlink()
    assert all(path.exists() for path in others)
    assert sorted(path.name for path in outside.iterdir()) == ["names", "w-1-abc"]


def _age_link(path: Path) -> None:
    moment = time.time() - 3600
    os.utime(path, (moment, moment))


def test_a_removal_that_was_interrupted_is_finished(user: Path) -> None:
    """A directory that a killed process was just removing is removed by the next newcomer."""
    path = _aged(user / ("gone-" + "0" * 16), "names", "w-1-abc")
    _found()
    assert not path.exists()


def test_a_sweep_is_bounded_and_begins_with_the_oldest(
    user: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A newcomer looks into so many directories, and leaves the rest to the next ones."""
    monkeypatch.setattr(removal, "MOST_SWEPT", 2)
    paths = [
        _run(user, ENDED._replace(started=number), "names", seconds=3600 + number)
        for number in range(1, 6)
    ]
    _found()
    assert [path.exists() for path in paths] == [True, True, True, False, False]


def test_two_sweeps_at_once_remove_once_and_raise_nothing(programs: Programs) -> None:
    """Newcomers that start at once do not disturb each other."""
    user = programs.base / f"hypertrace-{os.geteuid()}"
    user.mkdir(mode=0o700)
    for number in range(1, 40):
        _run(user, ENDED._replace(started=number), "names", "w-1-abc")
    programs.write("program.py", "import probe; probe.report()")
    script = f"for number in 1 2 3 4; do {sys.executable} program.py & done; wait"
    assert len(programs.run_command("sh", "-c", script)) == 4
    assert {path.name for path in user.iterdir()} <= {
        Path(report.path).name for report in programs.reports()
    }


def test_a_directory_that_is_entered_while_it_is_removed_comes_back(
    user: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A newcomer that locks its file between the look and the renaming keeps the directory."""
    path = _run(user, ENDED, "names")
    rename = os.rename
    opened: list[int] = []

    def enter_and_rename(source: str, target: str) -> None:
        if not opened:
            opened.append(os.open(path / "w-1-abc", os.O_RDWR | os.O_CREAT))
            fcntl.flock(opened[0], fcntl.LOCK_EX)
        rename(source, target)

    monkeypatch.setattr(os, "rename", enter_and_rename)
    assert not removal.remove(str(user), path.name)
    os.close(opened[0])
    assert sorted(file.name for file in path.iterdir()) == ["names", "w-1-abc"]
    assert list(user.iterdir()) == [path]


# --- the end of a process -----------------------------------------------------------------


@pytest.fixture
def own(user: Path) -> Iterator[RunDirectory]:
    """Give a directory whose root is this process, with its locked file `w-1-own`."""
    path = _run(user, this_process(), "names", "dead", "lock", "w-1-own", "w-2-dead")
    file = os.open(path / "w-1-own", os.O_RDWR)
    fcntl.flock(file, fcntl.LOCK_EX)
    yield RunDirectory(str(path), is_kept=False, root=this_process())
    os.close(file)


def test_the_last_process_removes_the_directory(own: RunDirectory, user: Path) -> None:
    """Nothing is left where no other process has a locked file."""
    (user / name_of_root(ENDED, "", 0)).symlink_to(Path(own.path).name)
    assert remove_if_last(own, "w-1-own")
    assert list(user.iterdir()) == []
    assert remove_if_last(own, "w-1-own")


def test_a_process_is_not_the_last_while_others_count(
    own: RunDirectory, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A locked file of another process keeps the directory, under its name at every moment."""
    monkeypatch.setattr(os, "rename", pytest.fail)
    with _Locked(Path(own.path) / "w-3-other"):
        assert not remove_if_last(own, "w-1-own")
    assert not remove_if_last(own, None)
    assert Path(own.path).is_dir()


def test_a_process_is_not_the_last_while_another_root_lives(own: RunDirectory, user: Path) -> None:
    """A master may start further workers, also one that has taken the place of another."""
    parent = ProcessId(os.getppid(), 0)
    foreign = RunDirectory(own.path, is_kept=False, root=parent)
    assert not remove_if_last(foreign, "w-1-own")
    orphaned = RunDirectory(own.path, is_kept=False, root=ENDED)
    alias = user / name_of_root(parent, "", 0)
    alias.symlink_to(Path(own.path).name)
    assert not remove_if_last(orphaned, "w-1-own")
    alias.unlink()
    assert remove_if_last(orphaned, "w-1-own")


def test_a_process_is_not_the_last_while_a_forked_child_lives(own: RunDirectory) -> None:
    """A child that was forked just now may not have locked its file yet."""
    child = os.fork()
    if not child:
        signal.pause()
    is_gone = remove_if_last(own, "w-1-own")
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    assert not is_gone
    assert remove_if_last(own, "w-1-own")
