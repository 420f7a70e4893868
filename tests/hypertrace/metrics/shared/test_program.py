"""Program: which processes have one root, judged by real trees of processes."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from typing import TYPE_CHECKING

import pytest

from hypertrace.metrics.shared import program
from hypertrace.metrics.shared.program import (
    ProcessId,
    has_forked_children,
    is_alive,
    program_path,
    root_process,
    this_process,
)

from ....running import LONG

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from .conftest import Programs, Report

pytestmark = pytest.mark.skipif(
    not sys.platform.startswith("linux"), reason="roots are known by /proc"
)

needs_root = pytest.mark.skipif(
    not hasattr(os, "geteuid") or os.geteuid() != 0, reason="only root becomes another user"
)


def _wait(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + LONG
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def _are_one(reports: list[Report], count: int) -> bool:
    """Return whether so many processes reported, and found one root and one directory."""
    return (
        len({report.pid for report in reports}) == count
        and len({(report.root, report.path) for report in reports}) == 1
    )


def _are_apart(reports: list[Report], count: int) -> bool:
    return len(reports) == count and len({report.path for report in reports}) == count


# --- processes ----------------------------------------------------------------------------


def test_a_process_is_alive_until_it_ends() -> None:
    """A process is alive while it runs, and neither as a zombie nor after it."""
    process = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    stat = program._stat(process.pid)
    assert stat is not None
    assert is_alive(stat.process)
    process.kill()
    _wait(lambda: (found := program._stat(process.pid)) is not None and found.state == b"Z")
    assert not is_alive(stat.process)
    assert not is_alive(ProcessId(process.pid, 0))
    process.communicate()
    assert not is_alive(stat.process)


def test_another_process_with_the_same_pid_is_not_it() -> None:
    """A pid that was given to a process that started at another time is not alive."""
    own = this_process()
    assert own.pid == os.getpid()
    assert own.started > 0
    assert is_alive(own)
    assert is_alive(ProcessId(own.pid, 0))
    assert not is_alive(ProcessId(own.pid, own.started - 1))
    parent = os.getppid()
    assert is_alive(ProcessId(parent, 0))
    assert not is_alive(ProcessId(parent, 1 << 60))


def test_a_process_name_with_spaces_and_parentheses_is_read() -> None:
    """A name such as `) Z 1 (` does not shift the fields behind it."""
    code = (
        "import ctypes; ctypes.CDLL(None).prctl(15, b') Z 1 2 (', 0, 0, 0); "
        "from hypertrace.metrics.shared.program import *; import os; "
        "print(root_process().pid == os.getpid(), is_alive(this_process())); "
        "print(open('/proc/self/comm').read())"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout.split("\n")[:2] == ["True True", ") Z 1 2 ("]


@pytest.mark.parametrize(
    "text", [b"", b"7 (x", b"7 (x) S 1", b"x (x) S " + b"1 " * 40, b"7 (x) S " + b"? " * 40]
)
def test_a_stat_file_that_is_not_understood_is_no_process(
    text: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What /proc says is not relied on: other text means that the process is unknown."""
    monkeypatch.setattr(program, "_read", lambda pid, name: text)
    assert program._stat(7) is None
    assert root_process() is None
    assert this_process() == (os.getpid(), 0)


def test_without_proc_the_root_is_unknown_and_pids_are_looked_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Without /proc a process is alive if its pid takes signals."""
    child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    monkeypatch.setattr(program, "_read", lambda pid, name: b"")
    assert root_process() is None
    assert not has_forked_children()
    assert is_alive(ProcessId(child.pid, 5))
    child.communicate()
    assert not is_alive(ProcessId(child.pid, 5))
    assert not is_alive(ProcessId(1 << 80, 0))


def test_a_proc_that_says_too_little_makes_the_root_unknown(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Where not even the own stack is shown, or the pids are those of another namespace: None."""
    own = program._stat("self")
    assert own is not None
    monkeypatch.setattr(program, "_stat", lambda pid: own._replace(start_of_stack=0))
    assert root_process() is None
    monkeypatch.setattr(program, "_stat", lambda pid: own._replace(pid=own.pid + 1))
    assert root_process() is None


def test_a_walk_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    """Parents that lead round in a circle are left after a number of steps."""
    own = program._stat("self")
    assert own is not None
    circle = own._replace(parent=own.pid, flags=own.flags | program._FORKED_WITHOUT_EXEC)
    monkeypatch.setattr(program, "_stat", lambda pid: circle)
    assert root_process() == this_process()


def test_a_younger_process_is_no_parent(monkeypatch: pytest.MonkeyPatch) -> None:
    """A process that got the pid of a parent of `multiprocessing` later is not taken for it."""
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as other:
        younger = program._stat(other.pid)
        assert younger is not None
        monkeypatch.setattr(program, "_stat_of_multiprocessing_parent", lambda: younger)
        _wait(lambda: younger is not None and younger.started > this_process().started)
        root = root_process()
        other.communicate()
    assert root != younger.process


# --- one program --------------------------------------------------------------------------


def test_a_plain_script_is_its_own_root(programs: Programs) -> None:
    """A program of one process is the root of itself."""
    (report,) = programs.run("import probe; probe.report()")
    assert report.root == report.pid


FORK = """
import os, sys, probe
if "early" in sys.argv:
    probe.report()
for number in range(2):
    child = os.fork()
    if not child:
        if number and not os.fork():
            probe.report()
            os._exit(0)
        probe.report()
        number and os.wait()
        os._exit(0)
    os.waitpid(child, 0)
if "early" not in sys.argv:
    probe.report()
"""


@pytest.mark.parametrize("when", ["early", "late"])
def test_forked_children_have_the_root_of_their_parent(programs: Programs, when: str) -> None:
    """Children and grandchildren of `os.fork` belong to the first process."""
    reports = programs.run(FORK, when)
    pids = {report.pid for report in reports}
    assert len(pids) == 4
    assert {report.root for report in reports} <= pids
    assert len({report.root for report in reports}) == 1
    if when == "late":
        assert _are_one(reports, 4)


MULTIPROCESSING = """
import multiprocessing, os, sys, probe
from concurrent.futures import ProcessPoolExecutor

def nested(method):
    probe.report("child")
    child = multiprocessing.get_context(method).Process(target=probe.report, args=("grandchild",))
    child.start()
    child.join()

if __name__ == "__main__":
    kind, method = sys.argv[1:]
    context = multiprocessing.get_context(method)
    probe.report("main") if kind != "late" else None
    if kind == "pool":
        with context.Pool(2) as pool:
            pool.map(probe.report, ["child"] * 4)
    elif kind == "futures":
        with ProcessPoolExecutor(2, mp_context=context) as pool:
            list(pool.map(probe.report, ["child"] * 4))
    else:
        child = context.Process(target=nested, args=(method,))
        child.start()
        child.join()
"""


@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
@pytest.mark.parametrize("kind", ["process", "pool", "futures"])
def test_children_of_multiprocessing_have_the_root_of_the_main_process(
    programs: Programs, kind: str, method: str
) -> None:
    """Whichever way the standard library starts its workers, they belong to the program."""
    reports = programs.run(MULTIPROCESSING, kind, method)
    main = reports[0]
    assert main.what == "main"
    assert main.root == main.pid
    assert len(reports) > 2
    assert {report.root for report in reports} == {main.root}


ORPHANS = """
import multiprocessing, os, sys, time, probe

def orphan():
    parent = os.getppid()
    print("up", flush=True)
    while os.getppid() == parent:
        time.sleep(0.01)
    probe.report()

if __name__ == "__main__":
    context = multiprocessing.get_context(sys.argv[1])
    child = context.Process(target=orphan)
    child.start()
    time.sleep(100)
"""


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_an_orphan_is_not_taken_for_a_child_of_init(programs: Programs, method: str) -> None:
    """A child whose parent was killed is a root, however it was started."""
    process = programs.start(sys.executable, programs.write("program.py", ORPHANS), method)
    assert process.stdout is not None
    assert process.stdout.readline() == "up\n"
    process.kill()
    process.communicate()
    _wait((programs.folder / "reports").exists)
    _wait(programs.reports)
    (report,) = programs.reports()
    assert report.root == report.pid


REAPER = """
import ctypes, os, subprocess, sys
ctypes.CDLL(None).prctl(36, 1, 0, 0, 0)  # orphans become its children
command = [sys.executable, "program.py", "spawn"]
if sys.argv[1] == "session":
    process = subprocess.Popen(command, stdout=subprocess.PIPE, start_new_session=True)
    process.stdout.readline()
    process.kill()
    process.wait()
    os.wait()
else:
    script = '"$@" >started & while ! [ -s started ]; do :; done; kill -9 $!; wait; '
    script += 'while ! [ -s reports ]; do :; done'
    os.execvp("sh", ["sh", "-c", script, "sh", *command])
"""


@pytest.mark.parametrize("other", ["session", "program"])
def test_an_orphan_is_not_taken_for_a_child_of_another_reaper(
    programs: Programs, other: str
) -> None:
    """What takes in orphans belongs to another session or runs another program than a parent."""
    programs.write("program.py", ORPHANS)
    programs.run_command(sys.executable, programs.write("reaper.py", REAPER), other)
    _wait((programs.folder / "reports").exists)
    _wait(programs.reports)
    (report,) = programs.reports()
    assert report.root == report.pid


DAEMON = """
import os, subprocess, sys, time, probe
def daemonise():
    if os.fork():
        os._exit(0)
    os.setsid()
    first = os.getpid()
    if os.fork():
        os._exit(0)
    while os.getppid() == first:
        time.sleep(0.01)
daemonise()
probe.report("daemon")
if not os.fork():
    probe.report("worker")
    os._exit(0)
os.wait()
open(os.environ["REPORTS"] + ".end", "w").close()
"""


def test_a_daemon_is_its_own_root(programs: Programs) -> None:
    """A program that has made itself a daemon, and its workers, have the daemon as root."""
    programs.run_command(sys.executable, programs.write("program.py", DAEMON))
    _wait((programs.folder / "reports.end").exists)
    daemon, worker = programs.reports()
    assert worker.root == daemon.root == daemon.pid


RELOADER = """
import os, subprocess, sys, probe
probe.report("reloader" if "{variable}" not in os.environ else "reloaded")
if "{variable}" not in os.environ:
    environment = {{**os.environ, "{variable}": "true"}}
    sys.exit(subprocess.call([sys.executable, os.path.abspath(__file__)], env=environment))
if {titled}:
    import setproctitle
    setproctitle.setproctitle("a title that is longer than the arguments")
if not os.fork():
    probe.report("worker")
    os._exit(0)
os.wait()
other = [sys.executable, "-c", "import probe; probe.report('other')"]
subprocess.call(other)
subprocess.call(["sh", "-c", '"$@"; true', "sh", *other])
"""


@pytest.mark.parametrize("titled", [False, True])
@pytest.mark.parametrize("variable", ["WERKZEUG_RUN_MAIN", "RUN_MAIN"])
def test_the_child_of_a_reloader_belongs_to_it_and_its_own_programs_do_not(
    programs: Programs, variable: str, titled: bool
) -> None:
    """The variable of a reloader makes one program of the two, but is inherited by others, too."""
    if titled:
        pytest.importorskip("setproctitle")
    reports = programs.run(RELOADER.format(variable=variable, titled=titled))
    one = [report for report in reports if report.what in {"reloader", "reloaded"}]
    others = [report for report in reports if report.what == "other"]
    assert _are_one(one, 2)
    worker = next(report for report in reports if report.what == "worker")
    assert worker.root == one[0].root
    assert len(others) == 2
    assert all(report.root == report.pid for report in others)


GUNICORN = """
import os, subprocess, sys, time, probe
def fork_worker(what):
    if not os.fork():
        probe.report(what)
        os._exit(0)
    os.wait()

if "GUNICORN_PID" not in os.environ:
    fork_worker("old")
    new = os.fork()
    if not new:
        os.environ["GUNICORN_PID"] = str(os.getppid())
        os.execv(sys.executable, [sys.executable, os.path.abspath(__file__)])
    while not os.path.exists("reports.upgraded"):
        time.sleep(0.01)
    os._exit(0)
if {titled}:
    import setproctitle
    setproctitle.setproctitle("gunicorn: master [a title that is longer than the arguments]")
fork_worker("new")
subprocess.call([sys.executable, "-c", "import probe; probe.report('other')"])
old = os.getppid()
open("reports.upgraded", "w").close()
while os.getppid() == old:
    time.sleep(0.01)
del os.environ["GUNICORN_PID"]
fork_worker("later")
open("reports.end", "w").close()
"""


@pytest.mark.parametrize("titled", [False, True])
def test_the_master_of_an_upgrade_goes_on_in_the_directory_of_the_old_one(
    programs: Programs, titled: bool
) -> None:
    """After USR2, workers of both masters share a directory, also when the old master is gone."""
    if titled:
        pytest.importorskip("setproctitle")
    programs.run(GUNICORN.format(titled=titled))
    _wait((programs.folder / "reports.end").exists)
    old, new, other, later = programs.reports()
    assert [old.what, new.what, other.what, later.what] == ["old", "new", "other", "later"]
    assert old.path == new.path == later.path
    assert old.root == new.root != later.root
    assert other.root == other.pid


@needs_root
@pytest.mark.parametrize("titled", [False, True])
def test_a_worker_that_became_another_user_belongs_to_its_master(
    programs: Programs, titled: bool
) -> None:
    """A master that is not readable for its workers is known by what all can read."""
    title = "setproctitle.setproctitle('worker')" if titled else ""
    if titled:
        pytest.importorskip("setproctitle")
    ran = programs.run_command(
        sys.executable,
        programs.write(
            "program.py",
            "import os, probe\n"
            + ("import setproctitle\n" if titled else "")
            + "from hypertrace.metrics.shared.program import root_process\n"
            "probe.report(name=str(os.getpid()))\n"
            "reports = os.open(os.environ['REPORTS'], os.O_WRONLY | os.O_APPEND)\n"
            "if not os.fork():\n"
            "    os.setgid(65534); os.setuid(65534)\n"
            f"    {title}\n"
            '    line = \'["", %d, %d, ""]\\n\' % (os.getpid(), root_process().pid)\n'
            "    os.write(reports, line.encode())\n"
            "    os._exit(0)\n"
            "os.wait()\n",
        ),
    )
    assert ran[0].root == ran[1].root == ran[0].pid


# --- separate programs --------------------------------------------------------------------


def test_programs_of_one_shell_script_are_apart(programs: Programs) -> None:
    """Two programs that one shell script starts, and the rounds of its loop, share nothing."""
    programs.write("program.py", "import probe; probe.report()")
    script = f"""
    {sys.executable} program.py &
    {sys.executable} program.py &
    for round in 1 2 3; do {sys.executable} program.py; done
    wait
    exec {sys.executable} program.py
    """
    assert _are_apart(programs.run_command("sh", "-c", script), 6)


def test_programs_that_a_python_program_starts_are_apart(programs: Programs) -> None:
    """One that starts itself twice with `subprocess` shares with neither of the two."""
    reports = programs.run(
        "import subprocess, sys, probe\n"
        "probe.report()\n"
        "if len(sys.argv) < 2:\n"
        "    for _ in range(2):\n"
        "        subprocess.run([sys.executable, __file__, 'child'], check=True)\n"
    )
    assert _are_apart(reports, 3)


def test_a_child_that_executes_a_program_is_apart_without_random_addresses(
    programs: Programs,
) -> None:
    """Where every stack begins at one address, an executed program is still another one."""
    if subprocess.run(["setarch", "-R", "true"], check=False).returncode:
        pytest.skip("setarch cannot switch off random addresses here")
    path = programs.write(
        "program.py",
        "import os, subprocess, sys, probe\n"
        "probe.report()\n"
        "if len(sys.argv) < 2:\n"
        "    if not os.fork():\n"
        "        os.execv(sys.executable, [sys.executable, __file__, 'child'])\n"
        "    os.wait()\n",
    )
    assert _are_apart(programs.run_command("setarch", "-R", sys.executable, path), 2)


def test_the_workers_of_a_test_run_are_apart(programs: Programs) -> None:
    """The workers of pytest-xdist share nothing."""
    programs.write("test_one.py", "import probe\ndef test_it(): probe.report()")
    programs.write("test_two.py", "import probe\ndef test_it(): probe.report()")
    reports = programs.run_command(
        sys.executable, "-m", "pytest", "-q", "-n2", "--dist=each", "-p", "no:cacheprovider"
    )
    assert len(reports) == 4
    assert len({report.root for report in reports}) == 2
    assert {report.root for report in reports} == {report.pid for report in reports}


# --- forked children, and paths -----------------------------------------------------------


def test_only_children_that_executed_nothing_are_forked_children() -> None:
    """A child counts until it executes a program or ends."""
    assert not has_forked_children()
    other = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    assert not has_forked_children()
    other.communicate()
    child = os.fork()
    if not child:
        signal.pause()
    living = has_forked_children()
    os.kill(child, signal.SIGKILL)
    _wait(lambda: (found := program._stat(child)) is not None and found.state == b"Z")
    dead = has_forked_children()
    os.waitpid(child, 0)
    assert (living, dead) == (True, False)


def test_all_processes_of_a_program_have_one_path(programs: Programs) -> None:
    """The path is that of the main module, also while a spawned child imports that."""
    path = programs.write(
        "program.py",
        "import multiprocessing, os\n"
        "from hypertrace.metrics.shared.program import program_path\n"
        "print(program_path(), flush=True)\n"
        "def show(): print(program_path(), flush=True)\n"
        "if __name__ == '__main__':\n"
        "    for method in ('fork', 'spawn', 'forkserver'):\n"
        "        child = multiprocessing.get_context(method).Process(target=show)\n"
        "        child.start()\n"
        "        child.join()\n",
    )
    with programs.start(sys.executable, "program.py") as process:
        said, _ = process.communicate(timeout=100)
    assert len(said.split()) >= 6
    assert set(said.split()) == {path}


@pytest.mark.parametrize(
    ("first", "path"),
    [
        ("/opt/program", "/opt/program"),
        ("bin/program", "{folder}/bin/program"),
        ("here", "{folder}/here"),
        ("uwsgi", "uwsgi"),
        ("-c", "{folder}/-c"),
        ("", "{folder}"),
    ],
)
def test_without_a_main_file_the_path_is_the_first_argument(
    first: str, path: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A command that is no file in the working directory stays as it is."""
    (tmp_path / "here").touch()
    monkeypatch.chdir(tmp_path)
    monkeypatch.delattr(sys.modules["__main__"], "__file__", raising=False)
    monkeypatch.setattr(sys, "argv", [first])
    assert program_path() == path.format(folder=tmp_path)
    monkeypatch.delattr(sys, "argv")
    assert program_path() == str(tmp_path)
