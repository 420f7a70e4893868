"""Command `hypertrace serve`: which directory it serves, and that it serves it."""

from __future__ import annotations

import http.client
import json
import os
import re
import signal
import socket
import subprocess
import sys
from contextlib import closing
from functools import partial
from typing import TYPE_CHECKING

import pytest

from hypertrace.cli.main import main
from hypertrace.metrics.shared import directory
from hypertrace_prometheus import PrometheusExporter

from .metrics_proto import families
from .test_endpoint import PROTOBUF
from .wire import until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

pytest.importorskip("fcntl", reason="this system has no POSIX locks")

PROGRAM = """
import sys
from hypertrace import Tracer, set_trace_function
from hypertrace.metrics import Metrics

metrics = Metrics()
set_trace_function(metrics)
Tracer("Cart").trace(sys.argv[1])
print(flush=True)
sys.stdin.read()
"""


NATIVE = """
import sys
from hypertrace import Tracer, set_trace_function
from hypertrace_prometheus import PrometheusExporter

set_trace_function(PrometheusExporter(None, native_histograms=True))
tracer = Tracer("Cart")
for duration in (0.3, 0.3, 5.0):
    tracer.record(duration)
print(flush=True)
sys.stdin.read()
"""


LEADER = """
import sys
from hypertrace import Tracer, set_trace_function
from hypertrace.exporters.json_lines import JsonLinesExporter
from hypertrace.metrics import Metrics

metrics = Metrics(workers=sys.argv[1])
set_trace_function(metrics)
exporter = JsonLinesExporter(sys.argv[2], metrics=metrics, interval=0.05)
exporter.flush()
print(flush=True)
sys.stdin.read()
"""


COMMAND = """
import os, sys
from hypertrace.cli.main import main
from hypertrace.metrics.shared import directory
from hypertrace_prometheus import PrometheusExporter

directory._bases = lambda _: iter([os.environ["XDG_RUNTIME_DIR"]])
sys.exit(main(["serve", "--port", "0", *sys.argv[1:]]))
"""


@pytest.fixture(autouse=True)
def runtime(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Keep the run directories in a folder of the test."""
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    # Other programs of this user may well run on this machine.
    monkeypatch.setattr(directory, "_bases", lambda _: iter([str(tmp_path)]))
    monkeypatch.delenv("HYPERTRACE_WORKERS", raising=False)
    return tmp_path


@pytest.fixture
def start() -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """Give a function that starts a Python program and waits for its first line."""
    started: list[subprocess.Popen[str]] = []

    def start(*arguments: str, **variables: str) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [sys.executable, *arguments],
            env=os.environ | variables,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        started.append(process)
        return process

    yield start
    for process in started:
        process.kill()
        process.communicate()


def line(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline()


def content(said: str, **headers: str) -> bytes:
    found = re.search(r"http://127\.0\.0\.1:(\d+)(/\S*)", said)
    assert found, said
    with closing(http.client.HTTPConnection("127.0.0.1", int(found[1]))) as connection:
        connection.request("GET", found[2], headers=headers)
        return connection.getresponse().read()


def page(said: str) -> str:
    return content(said).decode()


def program(start: Callable[..., subprocess.Popen[str]], trace_id: str, **variables: str) -> int:
    """Start a program that counts one trace, and return its pid."""
    process = start("-c", PROGRAM, trace_id, **variables)
    line(process)
    return process.pid


def test_the_one_program_that_runs_is_served(
    start: Callable[..., subprocess.Popen[str]],
) -> None:
    """Without a directory, the counts of the one program that runs are served, until SIGTERM."""
    program(start, "first")
    command = start("-c", COMMAND, "--path", "/counts")
    said = line(command)
    assert "/counts " in said
    assert 'id="first"' in page(said)
    # Those of the worker, and none of the command itself.
    assert len(re.findall(r"^process_threads{", page(said), re.MULTILINE)) == 1
    assert 'process_threads{worker="1"} ' in page(said)
    command.send_signal(signal.SIGTERM)
    assert command.wait(10) == 0


@pytest.mark.parametrize("by", ["argument", "variable"])
def test_a_directory_is_served_without_workers(
    start: Callable[..., subprocess.Popen[str]], runtime: Path, by: str
) -> None:
    """A directory is served that the command makes, whichever workers come and go in it."""
    counts = str(runtime / "counts")
    given = [counts] if by == "argument" else []
    variables = {} if by == "argument" else {"HYPERTRACE_WORKERS": counts}
    command = start("-c", COMMAND, *given, **variables)
    said = line(command)
    assert counts in said
    pid = program(start, "late", HYPERTRACE_WORKERS=counts)
    assert 'id="late"' in page(said)
    os.kill(pid, signal.SIGKILL)
    assert 'id="late"' in page(said)
    command.send_signal(signal.SIGINT)
    assert command.wait(10) == 0


def test_native_histograms_are_served(
    start: Callable[..., subprocess.Popen[str]], runtime: Path
) -> None:
    """Exponential buckets of all workers are served to Prometheus, also once these are gone."""
    counts = str(runtime / "counts")
    command = start("-c", COMMAND, counts)
    said = line(command)
    for number in (1, 2):
        worker = start("-c", NATIVE, HYPERTRACE_WORKERS=counts)
        line(worker)
        for _ in range(2):
            found = families(content(said, Accept=PROTOBUF))
            (family,) = [one for one in found if one.name == "function_duration_seconds"]
            (metric,) = family.metric
            histogram = metric.histogram
            assert (histogram.schema, histogram.sample_count) == (3, 3 * number)
            assert list(histogram.positive_delta) == [2 * number, -number]
            assert histogram.bucket[-1].cumulative_count == 3 * number
            worker.kill()
            worker.wait()


def lines_of(file: Path, trace_id: str) -> list[int]:
    """Return what each line of a file says came in under a trace id."""
    points = [json.loads(line)["metrics"] for line in file.read_text().splitlines()]
    return [
        sum(p["value"] for p in each if p["labels"].get("id") == trace_id and "value" in p)
        for each in points
    ]


def has_come_in(file: Path, count: int) -> bool:
    return sum(lines_of(file, "order")) == count


def test_lines_of_json_are_written_beside(
    start: Callable[..., subprocess.Popen[str]], runtime: Path
) -> None:
    """The command writes what workers count, whichever of them serves; once, over restarts."""
    counts, file = str(runtime / "counts"), runtime / "lines.jsonl"
    options = counts, "--json-lines", str(file), "--interval", "0.05"
    # A worker that leads, and pushes itself.
    leader = start("-c", LEADER, counts, str(runtime / "others.jsonl"))
    line(leader)
    for run in range(1, 3):
        program(start, "order", HYPERTRACE_WORKERS=counts)
        command = start("-c", COMMAND, *options)
        line(command)
        until(partial(has_come_in, file, run))
        command.send_signal(signal.SIGTERM)
        assert command.wait(10) == 0
    program(start, "order", HYPERTRACE_WORKERS=counts)
    command = start("-c", COMMAND, *options[:-1], "3600")
    line(command)
    command.send_signal(signal.SIGTERM)  # what is left is written at the end
    assert command.wait(10) == 0
    assert sum(lines_of(file, "order")) == 3
    until(partial(has_come_in, runtime / "others.jsonl", 3))


@pytest.mark.parametrize(
    ("options", "error"),
    [
        (["--json-lines", "/nowhere/lines"], "No such file or directory: /nowhere/lines"),
        (["--json-lines", "lines", "--interval", "0"], "interval must be above 0"),
    ],
)
def test_a_file_that_cannot_be_written_is_reported(
    runtime: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    options: list[str],
    error: str,
) -> None:
    """A wrong file or interval ends the command with one line."""
    monkeypatch.setenv("HYPERTRACE_WORKERS", "auto")  # put back after the test
    monkeypatch.chdir(runtime)
    assert main(["serve", str(runtime / "counts"), "--port", "0", *options]) == 1
    assert error in capsys.readouterr().err


def test_several_programs_are_listed(
    start: Callable[..., subprocess.Popen[str]], capsys: pytest.CaptureFixture[str]
) -> None:
    """Of several programs none is guessed: they are listed with directory, name and pid."""
    pids = [program(start, "one"), program(start, "two")]
    assert main(["serve", "--port", "0"]) == 1
    error = capsys.readouterr().err
    assert "name the directory of one" in error
    assert error.count("/hypertrace-") == 2
    for pid in pids:
        assert f"pid {pid})" in error


def test_no_program_is_an_error_that_says_how_to_share(
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Where no program shares counts, the error says what to set."""
    assert main(["serve", "--port", "0"]) == 1
    assert "HYPERTRACE_WORKERS" in capsys.readouterr().err


def test_a_program_that_has_ended_is_not_served(
    start: Callable[..., subprocess.Popen[str]], capsys: pytest.CaptureFixture[str]
) -> None:
    """A directory in which no process counts any more does not stand for a program."""
    process = start("-c", PROGRAM, "ended")
    line(process)
    process.kill()
    process.wait()
    assert main(["serve", "--port", "0"]) == 1
    assert "no program of this user" in capsys.readouterr().err


def test_a_busy_port_is_reported(
    runtime: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A port in use ends the command with one line and the way out."""
    monkeypatch.setenv("HYPERTRACE_WORKERS", "auto")  # put back after the test
    with socket.create_server(("127.0.0.1", 0)) as busy:
        port = str(busy.getsockname()[1])
        assert main(["serve", str(runtime / "counts"), "--port", port]) == 1
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert f"port {port} of 127.0.0.1 is in use" in error
    assert "--port" in error


def test_the_page_says_why_counts_are_not_shared() -> None:
    """Where sharing was asked for and is not possible, the page at `/` says what to do."""
    with PrometheusExporter(0, workers="/dev/null/counts") as exporter:
        shown = page((exporter.url or "").removesuffix("metrics"))
    assert "Counts are in the memory of this process" in shown
    assert "/dev/null/counts" in shown
    with PrometheusExporter(0, workers=False) as exporter:
        assert 'role="alert"' not in page((exporter.url or "").removesuffix("metrics"))
