"""Faults of receivers and systems: no count is lost, and the application does not notice."""

from __future__ import annotations

import errno
import gc
import json
import os
import socket
import subprocess
import sys
import time
import tracemalloc
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

import hypertrace
from hypertrace import Tracer, set_trace_function
from hypertrace.exporters import processes
from hypertrace.exporters.influx import InfluxExporter
from hypertrace.exporters.json_lines import JsonLinesExporter
from hypertrace.exporters.opentelemetry import OpenTelemetryExporter
from hypertrace.exporters.statsd import StatsdExporter
from hypertrace.metrics import Metrics
from hypertrace.periodic import PeriodicThread

from ..conftest import needs_fork
from .backends import Influx, Lines, Otlp, Statsd
from .recording import NEVER, SOON, Hanging, Recording, exporter_threads, until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from hypertrace.exporters.push import PushExporter

    from .backends import Backend

NAMES = (
    *("statsd over tcp", "statsd over udp", "influx", "json lines"),
    *("otlp with cumulative", "otlp with delta"),
)


def made(name: str, folder: Path) -> Backend:
    """Make a backend, whose receiver is down; a file is there."""
    if name == "influx":
        return Influx()
    if name.startswith("otlp"):
        return Otlp("delta" if name.endswith("delta") else "cumulative")
    return Lines(folder) if name == "json lines" else Statsd(name.rpartition(" ")[2])


@pytest.fixture(params=NAMES)
def backend(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Backend]:
    """Give each backend."""
    one = made(request.param, tmp_path)
    yield one
    one.close()


@pytest.fixture
def metrics() -> Metrics:
    """Set metrics as trace function."""
    counts = Metrics()
    set_trace_function(counts)
    return counts


@pytest.fixture
def export(metrics: Metrics) -> Iterator[Callable[..., PushExporter]]:
    """Give a function that makes the exporter of a backend."""
    exporters: list[PushExporter] = []

    def make(backend: Backend, interval: float = NEVER) -> PushExporter:
        exporters.append(backend.export(metrics, interval))
        return exporters[-1]

    yield make
    for exporter in exporters:
        exporter.stop()
    until(lambda: not exporter_threads())


def trace(times: int) -> None:
    """Trace."""
    for _ in range(times):
        Tracer("object").trace()


def sends(exporter: PushExporter) -> None:
    """Flush until it was sent: the machine may be loaded, and connections need their time."""
    until(lambda: exporter.flush(SOON))


def wait_for(exporter: PushExporter) -> None:
    """Wait until it has sent what came in, at its interval."""
    before = exporter.sent
    until(lambda: exporter.sent > before + 1)


def health(metrics: Metrics, name: str) -> float:
    """Give a number of the only exporter."""
    ((_, value),) = metrics.read().family(f"hypertrace_export_{name}").points
    assert isinstance(value, int | float)
    return value


def test_the_receiver_is_down_at_the_start(
    backend: Backend, export: Callable[..., PushExporter], metrics: Metrics
) -> None:
    """All that was counted until it comes is in the first reading."""
    backend.down()
    exporter = export(backend)
    for times in (3, 2):
        trace(times)
        assert not exporter.flush(SOON)
    assert (exporter.sent, exporter.failures) == (0, 2)
    backend.up()
    sends(exporter)
    assert backend.calls() == 5
    assert health(metrics, "sent_total") == 1
    assert health(metrics, "failed_total") == exporter.failures
    assert health(metrics, "bytes_total") > 100


def test_the_receiver_goes_away_and_comes_back(
    backend: Backend, export: Callable[..., PushExporter], metrics: Metrics
) -> None:
    """Again and again: each count arrives once."""
    backend.up()
    exporter = export(backend)
    for _ in range(3):
        trace(1)
        sends(exporter)
        backend.down()
        before = exporter.failures
        for _ in range(3):
            trace(2)
            assert not exporter.flush(SOON)
        assert exporter.failures == before + 3
        backend.up()
        sends(exporter)
        sends(exporter)
    assert backend.calls() == 21
    assert health(metrics, "failed_total") == exporter.failures >= 9


def test_it_comes_back_at_the_interval(
    backend: Backend, export: Callable[..., PushExporter]
) -> None:
    """Without a flush, the next attempt that succeeds has all."""
    backend.down()
    exporter = export(backend, 0.05)
    trace(5)
    until(lambda: exporter.failures)
    backend.up()
    until(lambda: exporter.sent)
    assert backend.calls() == 5


def test_the_server_answers_500(export: Callable[..., PushExporter], metrics: Metrics) -> None:
    """It is a failure, and no loss."""
    backend = Influx()
    backend.up()
    try:
        exporter = export(backend)
        for status in (500, 503):
            backend.status = status
            trace(2)
            assert not exporter.flush(SOON)
        backend.status = 204
        sends(exporter)
        assert backend.calls() == 4
        assert health(metrics, "dropped_total") == 0
        backend.status = 400
        trace(1)
        assert exporter.flush(SOON)
        assert health(metrics, "dropped_total") == exporter.dropped > 0
    finally:
        backend.close()


@pytest.fixture
def silent() -> Iterator[str]:
    """Give the address of a receiver that accepts and never reads."""
    with socket.socket() as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        yield f"127.0.0.1:{listener.getsockname()[1]}"


@pytest.fixture
def full_pipe(tmp_path: Path) -> Iterator[Path]:
    """Give the path of a pipe that a program has opened, and does not read."""
    fcntl = pytest.importorskip("fcntl")
    path = tmp_path / "pipe"
    os.mkfifo(path)
    reader = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    if hasattr(fcntl, "F_SETPIPE_SZ"):
        fcntl.fcntl(reader, fcntl.F_SETPIPE_SZ, 4096)
    yield path
    os.close(reader)


@pytest.mark.parametrize("name", ["statsd", "influx", "otlp", "json lines"])
def test_the_receiver_accepts_and_never_reads(
    name: str,
    silent: str,
    request: pytest.FixtureRequest,
    metrics: Metrics,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The application goes on, other exporters send, and `stop` ends within its time."""
    monkeypatch.setattr(processes, "EXIT_TIMEOUT", 0.3)
    if name == "json lines":
        stuck: PushExporter = JsonLinesExporter(
            request.getfixturevalue("full_pipe"), metrics=metrics, interval=NEVER
        )
    elif name == "otlp":
        stuck = OpenTelemetryExporter(f"http://{silent}", metrics=metrics, interval=NEVER)
    elif name == "influx":
        stuck = InfluxExporter(f"http://{silent}", database="db", metrics=metrics, interval=NEVER)
    else:
        stuck = StatsdExporter(f"tcp://{silent}", metrics=metrics, interval=NEVER)
    well = Recording(metrics)
    for number in range(5_000):  # more than the buffers of the system hold
        Tracer("object").trace(f"{number:0200}")
    request_made = stuck.request_flush()
    for _ in range(3):
        trace(1)
        assert well.flush(SOON)
    assert sum(well.calls()) == 5_003
    assert not request_made(0.0)
    before = time.monotonic()
    with metrics.flushed(0.2):
        trace(1)
    stuck.stop()
    assert time.monotonic() - before < SOON / 2
    assert stuck.sent == 0
    well.stop()
    assert sum(well.calls()) == 5_004


def test_a_name_that_cannot_be_looked_up(
    backend: Backend,
    export: Callable[..., PushExporter],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """It is a failure as any other; a name is looked up again at each attempt."""
    if isinstance(backend, Lines):
        pytest.skip("a file has no host")
    backend.up()
    exporter = export(backend)
    with monkeypatch.context() as patched:

        def fail(*_: object, **__: object) -> None:
            raise socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution")

        patched.setattr(socket, "getaddrinfo", fail)
        trace(2)
        assert not exporter.flush(SOON)
    assert "Temporary failure in name resolution" in caplog.text
    trace(1)
    sends(exporter)
    assert backend.calls() == 3


@pytest.mark.parametrize("jump", [86_400.0, -86_400.0])
def test_the_clock_jumps(
    backend: Backend,
    export: Callable[..., PushExporter],
    monkeypatch: pytest.MonkeyPatch,
    jump: float,
) -> None:
    """However the clock of the system is set, each count arrives, once, at the interval."""
    backend.up()
    exporter, real, offset = export(backend, 0.02), time.time, [0.0]
    monkeypatch.setattr(time, "time", lambda: real() + offset[0])
    for number in range(6):
        offset[0] = jump if number % 2 else 0.0
        trace(number)
        wait_for(exporter)
    sends(exporter)
    assert exporter.failures == 0  # before the backend is read, which ends connections
    assert backend.calls() == 15


def test_memory_is_bounded_while_the_receiver_is_down(
    backend: Backend, export: Callable[..., PushExporter], metrics: Metrics
) -> None:
    """Attempts that fail hold nothing that grows: the rest is a difference of two readings."""
    backend.down()
    exporter = export(backend)
    for number in range(100):
        Tracer("object").trace(str(number))

    def attempts(times: int) -> None:
        for _ in range(times):
            trace(1)
            assert not exporter.flush(SOON)

    attempts(20)
    gc.collect()
    tracemalloc.start()
    try:
        attempts(60)
        gc.collect()
        grown = tracemalloc.get_traced_memory()[0]
    finally:
        tracemalloc.stop()
    assert grown < 100_000
    backend.up()
    sends(exporter)
    assert backend.calls() == 180


PROGRAM = """
import os, resource, sys
from hypertrace import Tracer, set_trace_function
from hypertrace.metrics import Metrics
from hypertrace.exporters.influx import InfluxExporter
from hypertrace.exporters.json_lines import JsonLinesExporter
from hypertrace.exporters.opentelemetry import OpenTelemetryExporter
from hypertrace.exporters.statsd import StatsdExporter

name, address = sys.argv[1:]
metrics = Metrics(workers=False)
set_trace_function(metrics)


def export():
    if name == "influx":
        return InfluxExporter(address, database="db", metrics=metrics, interval=3600)
    if name.startswith("otlp"):
        from hypertrace.exporters.opentelemetry import OpenTelemetryExporter

        kind = name.rpartition(" ")[2]
        return OpenTelemetryExporter(address, temporality=kind, metrics=metrics, interval=3600)
    kind = JsonLinesExporter if name == "json lines" else StatsdExporter
    return kind(address, metrics=metrics, interval=3600)


def trace(id, times=1):
    for _ in range(times):
        Tracer("object").trace(id)


exporter = export()
"""


def run(name: str, address: str, code: str, folder: Path) -> str:
    """Run a program, and return what it wrote to stderr."""
    program = folder / "program.py"
    program.write_text(PROGRAM + code)
    environment = {k: v for k, v in os.environ.items() if not k.startswith("COVERAGE_")}
    where = str(Path(hypertrace.__file__).parent.parent)
    done = subprocess.run(
        [sys.executable, "-W", "ignore::DeprecationWarning", program, name, address],
        env={**environment, "PYTHONPATH": where},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stderr


@needs_fork
@pytest.mark.parametrize("name", NAMES)
def test_a_fork_between_two_pushes(name: str, tmp_path: Path) -> None:
    """Parent and child each send what they counted, from then on, and nothing twice."""
    backend = made(name, tmp_path)
    backend.up()
    try:
        run(
            name,
            backend.address,  # type: ignore[attr-defined]
            """
trace("parent", 3)
assert exporter.flush(30)
trace("parent", 2)
if (child := os.fork()) == 0:
    trace("child", 10)
    assert exporter.flush(30)
    trace("child", 20)
    sys.exit()
trace("parent", 4)
assert exporter.flush(30)
assert os.waitpid(child, 0)[1] == 0
trace("parent", 1)
""",
            tmp_path,
        )
        assert backend.calls() == 40
    finally:
        backend.close()


def test_a_full_disk(tmp_path: Path) -> None:
    """No part of a line is left behind, and all of it is written once there is room."""
    pytest.importorskip("resource")
    path = tmp_path / "lines"
    errors = run(
        "json lines",
        str(path),
        """
trace("first", 2)
assert exporter.flush(30)
size = os.path.getsize(sys.argv[2])
for room in (0, 1, 100):
    resource.setrlimit(resource.RLIMIT_FSIZE, (size + room, resource.RLIM_INFINITY))
    trace("later", 3)
    assert not exporter.flush(30)
    assert os.path.getsize(sys.argv[2]) == size
resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY,) * 2)
assert exporter.flush(30)
assert exporter.failures == 3
""",
        tmp_path,
    )
    assert "could not send its metrics" in errors
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    points = [point for line in lines for point in line["metrics"]]
    calls = [p["value"] for p in points if p["name"] == "function_counter_total"]
    assert calls == [2, 9]


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no such device")
def test_a_device_that_is_full(metrics: Metrics, caplog: pytest.LogCaptureFixture) -> None:
    """Each attempt fails with the reason of the system."""
    with JsonLinesExporter("/dev/full", metrics=metrics, interval=NEVER) as exporter:
        trace(1)
        assert not exporter.flush(SOON)
    assert os.strerror(errno.ENOSPC) in caplog.text


def test_exporters_that_fail_hang_and_refuse_do_not_slow_the_others(metrics: Metrics) -> None:
    """Each has its own thread and differences, and none waits for another."""
    hanging, refused = Hanging(), Influx()
    refused.status = 400
    refused.up()
    stuck, failing, well = Recording(metrics), Recording(metrics), Recording(metrics, 0.01)
    stuck.on_send = hanging

    def fail() -> None:
        raise OSError("the network is down")

    failing.on_send = fail
    others = refused.export(metrics)
    try:
        stuck.request_flush()
        assert hanging.entered.wait(SOON)
        for _ in range(20):
            trace(1)
            wait_for(well)
            assert not failing.flush(SOON)
            assert others.flush(SOON)
        assert sum(well.calls()) == 20
        failing.on_send = lambda: None
        hanging.released.set()
        for one in (stuck, failing):
            sends(one)
            assert sum(one.calls()) == 20
        dropped = dict(metrics.read().family("hypertrace_export_dropped_total").points)
        assert dropped["InfluxExporter",] == others.dropped >= 20
    finally:
        hanging.released.set()
        for exporter in (stuck, failing, well, others):
            exporter.stop()
        refused.close()


def test_attempts_get_rarer_while_they_fail(
    backend: Backend,
    export: Callable[..., PushExporter],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """So that a receiver that is down costs the application less and less."""
    backend.down()
    delays: list[float] = []
    schedule = PeriodicThread._schedule

    def noted(thread: PeriodicThread) -> None:
        schedule(thread)
        delays.append(thread._delay)

    monkeypatch.setattr("hypertrace.periodic.uniform", lambda _, longest: longest)
    monkeypatch.setattr(PeriodicThread, "_schedule", noted)
    exporter = export(backend, 10.0)
    for _ in range(8):
        assert not exporter.flush(SOON)
    assert delays == [10, 20, 40, 80, 160, 300, 300, 300, 300]
    backend.up()
    sends(exporter)
    assert delays[-1] == 10
