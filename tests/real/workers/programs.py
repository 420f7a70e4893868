"""Programs under test: started in a session each, driven over HTTP, compared with their tally."""

from __future__ import annotations

import os
import signal
import subprocess
import threading
import time
import urllib.error
import urllib.request
import uuid
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass
from http.client import HTTPException
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias, TypeVar

from prometheus_client.parser import text_string_to_metric_families

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

APPS = Path(__file__).parent / "apps"
MARK = "HYPERTRACE_TEST_PROGRAM"
"""Variable in the environment of all processes of a program, whichever session they are in."""
DEADLINE = 30.0
"""Seconds that only a test that fails takes."""
CLIENTS = 4
_SHOWN = 20_000
"""Characters of a log that are read."""

T = TypeVar("T")
Enough: TypeAlias = "Callable[[set[int]], object]"
"""Condition on the workers that have answered."""


def any_worker(workers: set[int]) -> bool:
    """Accept all answers, also those that name no worker."""
    return True


def several(workers: set[int]) -> bool:
    """Accept two workers or more."""
    return len(workers) > 1


def run_until(
    condition: Callable[[], T | None], seconds: float = DEADLINE, *, why: object = ""
) -> T:
    """Call `condition` until it returns something true, and return that.

    An `OSError`, such as a refused connection, or an `AssertionError` counts as not yet.

    Args:
        condition: what to wait for.
        seconds: when to give up.
        why: what the failure says; a callable is called then.

    Raises:
        AssertionError: it did not come true in time.
    """
    deadline = time.monotonic() + seconds
    last: object = None
    while time.monotonic() < deadline:
        try:
            if last := condition():
                return last
        except (OSError, AssertionError) as error:
            last = error
        time.sleep(0.02)
    story = why() if callable(why) else why
    raise AssertionError(f"not within {seconds} s; at last {last!r}\n{story}")


@dataclass(frozen=True)
class Answer:
    """An answer over HTTP, and the process that gave it, where it says so."""

    text: str
    worker: int | None


def get(url: str) -> Answer:
    """Ask for `url` over a connection that serves nothing else."""
    with urllib.request.urlopen(url, timeout=DEADLINE) as answer:
        worker = answer.headers["X-Worker"]
        return Answer(answer.read().decode(), int(worker) if worker else None)


SUMS = (
    "work_size_total",
    "work_seconds_count",
    "work_sizes_count",
    "work_sizes_sum",
    "work_bytes_count",
    "work_bytes_sum",
    "direct_total",
    "direct_seconds_count",
    "direct_seconds_sum",
    "direct_sizes_count",
    "direct_bytes_count",
    "direct_bytes_sum",
)
"""Samples of declared metrics and of instruments to which each call of `Work.do` adds 1."""


@dataclass(frozen=True)
class Counts:
    """Sums over the series of a page of metrics, those of `Work.do` in the applications."""

    traced: float
    timed: float
    in_buckets: float
    in_progress: float
    declared: float
    others: tuple[float, ...]

    @classmethod
    def of(cls, page: str) -> Counts:
        """Read the sums from a page in the text format."""
        sums: Counter[str] = Counter()
        for family in text_string_to_metric_families(page):
            for sample in family.samples:
                which = (sample.labels.get("id"), sample.labels.get("le"))
                sums[f"{sample.name} {which}"] += sample.value  # type: ignore[assignment]
                sums[sample.name] += sample.value  # type: ignore[assignment]
        return cls(
            traced=sums["function_counter_total ('traced', None)"],
            timed=sums["function_duration_seconds_count ('timed', None)"],
            in_buckets=sums["function_duration_seconds_bucket ('timed', '+Inf')"],
            in_progress=sums["function_in_progress"],
            declared=sums["work_total ('traced', None)"],
            others=tuple(sums[name] for name in SUMS),
        )

    @classmethod
    def exactly(cls, calls: int) -> Counts:
        """Give the sums after so many calls that have all ended."""
        return cls(calls, calls, calls, 0, calls, (calls,) * len(SUMS))


def gauges_of(page: str) -> dict[str, list[float]]:
    """Read the gauges of `Work` from a page, each with all its values in order."""
    return {
        family.name: sorted(sample.value for sample in family.samples)
        for family in text_string_to_metric_families(page)
        if family.name.endswith(("_calls", "_pulled", "_added"))
    }


class Tally:
    """A file in which each call of `Work.do` has a line before its traces and one after."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def _pids(self, mark: str) -> Counter[int]:
        lines = self.path.read_text().splitlines() if self.path.exists() else []
        return Counter(int(line[1:]) for line in lines if line[0] == mark)

    @property
    def begun(self) -> int:
        """How many calls have begun."""
        return self._pids("<").total()

    @property
    def done(self) -> int:
        """How many calls have ended."""
        return self._pids(">").total()

    @property
    def workers(self) -> Counter[int]:
        """How many calls have ended in each process, by its pid."""
        return self._pids(">")

    def calls(self) -> int:
        """Give the number of calls, none of which is under way.

        Raises:
            AssertionError: one is under way, or was when its process was killed.
        """
        begun, done = self.begun, self.done
        assert begun == done, "a call is under way"
        return done


class Program:
    """A program that runs one of the applications, with all processes that it starts."""

    def __init__(
        self, command: Sequence[str | Path], folder: Path, environment: Mapping[str, str]
    ) -> None:
        """Start `command` in a new session, with `folder` for its log and its tally."""
        self.folder = folder
        self.tally = Tally(folder / "tally")
        self._log = folder / "log"
        self._mark = f"{MARK}={uuid.uuid4().hex}"
        inherited = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith(("COV_", "HYPERTRACE_WORKERS", "PROMETHEUS_", "PYTEST_"))
        }
        inherited.update(
            PYTHONPATH=str(APPS),
            PYTHONUNBUFFERED="1",
            TALLY=str(self.tally.path),
            FOLDER=str(folder),
        )
        name, value = self._mark.split("=")
        self._watched = folder / "watched.py"
        self._watched.touch()
        with self._log.open("ab") as log:
            self.process = subprocess.Popen(
                command,
                cwd=folder,
                env={**inherited, **environment, name: value},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    @property
    def log(self) -> str:
        """What its processes have printed, the last of it."""
        return self._log.read_text(errors="replace")[-_SHOWN:]

    def pids(self) -> set[int]:
        """Find its processes, also those that have left its session; without zombies.

        A mark in the environment finds them, and the session those that overwrote their environment
        for another title.
        """
        mark, found = self._mark.encode(), set()
        for entry in Path("/proc").iterdir():
            if entry.name.isdigit():
                try:
                    status = (entry / "stat").read_text(errors="replace").rpartition(")")[2].split()
                    marked = mark in (entry / "environ").read_bytes().split(b"\0")
                except OSError:
                    continue  # it has ended, or is of another user
                if status[0] != "Z" and (marked or int(status[3]) == self.process.pid):
                    found.add(int(entry.name))
        return found

    def pages(self) -> dict[str, str]:
        """Read what its processes have answered (apps/answers.py), by the name of the answer."""
        return {path.name[5:]: path.read_text() for path in self.folder.glob("page-*")}

    def answers(self, number: int) -> dict[str, str]:
        """Let its processes answer, and wait for so many answers."""
        (self.folder / "quiet").touch()

        def all_answers() -> dict[str, str] | None:
            found = self.pages()
            assert len(found) == number, found.keys()
            return found

        return self.wait(all_answers)

    def touch_watched(self) -> None:
        """Change a file that reloaders watch."""
        self._watched.write_text(f"# {time.time()}\n")

    def wait(self, condition: Callable[[], T | None], seconds: float = DEADLINE) -> T:
        """Wait as `run_until` does; a failure shows the log."""
        return run_until(condition, seconds, why=lambda: self.log)

    def stop(self, seconds: float = 10.0) -> None:
        """End it as an administrator does, and by force what is left then."""
        with suppress(FileNotFoundError):  # a test may have removed it
            (self.folder / "end").touch()
        pids = self.pids()
        first = self.process.pid if self.process.pid in pids else min(pids, default=None)
        if first is not None:
            _send(first, signal.SIGTERM)
        deadline = time.monotonic() + seconds
        while self.pids() and time.monotonic() < deadline:
            self.process.poll()
            time.sleep(0.02)
        self.end()

    def end(self) -> None:
        """End all its processes by force."""
        deadline = time.monotonic() + 10
        while (pids := self.pids()) and time.monotonic() < deadline:
            for pid in pids:
                _send(pid, signal.SIGKILL)
            self.process.poll()
        self.process.wait(10)


def _send(pid: int, number: signal.Signals) -> None:
    with suppress(ProcessLookupError):
        os.kill(pid, number)


class Site:
    """A program that serves an application over HTTP, in several workers perhaps."""

    def __init__(self, program: Program, port: int) -> None:
        """Wait until the application answers on loopback `port`."""
        self.program = program
        self.url = f"http://127.0.0.1:{port}"
        program.wait(lambda: get(f"{self.url}/ready"))

    def work(self, requests: int = 40, enough: Enough = any_worker) -> set[int]:
        """Ask for that much work at the least, and for more until those who answer are enough.

        Returns:
            The processes that answered.
        """
        before = self.program.tally.done
        answers = self._gather("/work", requests, enough)
        # A worker that was killed while idle leaves a whole tally.
        assert self.program.tally.calls() - before == len(answers), self.program.log
        return _workers(answers)

    def work_when_up(self) -> set[int]:
        """Wait until the application answers again, then ask for work."""
        self.program.wait(lambda: get(f"{self.url}/ready"))
        return self.work()

    def pages(self, enough: Enough = any_worker) -> list[Answer]:
        """Ask for the metrics until the workers that answered are enough."""
        return self._gather("/metrics", CLIENTS, enough)

    def check(self, enough: Enough = any_worker) -> set[int]:
        """Compare the pages of enough workers with the tally, and return the workers."""
        expected = Counts.exactly(self.program.tally.calls())
        pages = self.pages(enough)
        found = {(page.worker, Counts.of(page.text)) for page in pages}
        assert found == {(page.worker, expected) for page in pages}, self.program.log
        return _workers(pages)

    def kill(self, worker: int) -> None:
        """Kill a worker, and wait until it is gone."""
        os.kill(worker, signal.SIGKILL)
        self.program.wait(lambda: worker not in self.program.pids())

    def load(self, while_working: Callable[[], object]) -> None:
        """Call `while_working` while clients ask for work; their failed requests do not matter."""
        ended = threading.Event()

        def client() -> None:
            while not ended.is_set():
                try:
                    get(f"{self.url}/work")
                except (OSError, HTTPException):
                    time.sleep(0.01)

        threads = [threading.Thread(target=client, daemon=True) for _ in range(CLIENTS)]
        for thread in threads:
            thread.start()
        try:
            while_working()
        finally:
            ended.set()
            for thread in threads:
                thread.join(DEADLINE)

    def _gather(self, path: str, requests: int, enough: Enough) -> list[Answer]:
        """Ask from several threads at once, so that one worker cannot take all; failures raise."""
        answers: list[Answer] = []
        failed: list[BaseException] = []
        deadline = time.monotonic() + DEADLINE

        def ended() -> bool:
            return bool(failed) or (
                len(answers) >= requests and bool(enough(_workers(answers.copy())))
            )

        def client() -> None:
            try:
                while not ended() and time.monotonic() < deadline:
                    answers.append(get(self.url + path))
            except BaseException as error:  # noqa: BLE001 -- raised below
                failed.append(error)

        threads = [threading.Thread(target=client, daemon=True) for _ in range(CLIENTS)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(2 * DEADLINE)
        if failed:
            raise AssertionError(f"{path} failed:\n{self.program.log}") from failed[0]
        assert ended(), f"only {_workers(answers)} answered {path}:\n{self.program.log}"
        return answers


def _workers(answers: list[Answer]) -> set[int]:
    return {answer.worker for answer in answers if answer.worker is not None}


def page_of(port: int) -> str:
    """Ask the server of an exporter for its page."""
    return get(f"http://127.0.0.1:{port}/metrics").text


def check_page(program: Program, port: int) -> None:
    """Wait until an exporter of `program` serves, and compare its page with the tally."""
    page = program.wait(lambda: page_of(port))
    assert Counts.of(page) == Counts.exactly(program.tally.calls()), program.log


def listeners(port: int, among: set[int]) -> set[int]:
    """Find the processes of `among` that hold a socket which listens on loopback `port`."""
    listening = "0A"
    rows = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    sockets = {
        f"socket:[{row[9]}]"
        for row in rows
        if row[3] == listening and int(row[1].rpartition(":")[2], 16) == port
    }
    return {pid for pid in among if sockets & _open_files(pid)}


def _open_files(pid: int) -> set[str]:
    found = set()
    try:
        for descriptor in Path(f"/proc/{pid}/fd").iterdir():
            found.add(str(descriptor.readlink()))
    except OSError:
        pass  # it ends
    return found
