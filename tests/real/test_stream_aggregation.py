"""VictoriaMetrics that adds up the counters of several runs of a program."""

from __future__ import annotations

import subprocess
import sys
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

import hypertrace

from .servers import Server

if TYPE_CHECKING:
    from collections.abc import Callable

PROGRAM = """
import sys, uuid
from hypertrace import Tracer, set_trace_function
from hypertrace_prometheus import PrometheusExporter

exporter = PrometheusExporter(
    push=sys.argv[1] + "/api/v1/import/prometheus",
    job="nightly",
    grouping={"run": str(uuid.uuid4())},
)
set_trace_function(exporter)
with exporter.run("nightly"):
    tracer = Tracer("Invoices")
    for number in range(int(sys.argv[2])):
        with tracer.span("mail"):
            pass
"""


@pytest.fixture
def aggregation(root: Path, tmp_path: Path) -> Path:
    """Give the shipped aggregation, but for a shorter interval."""
    shipped = (root / "deploy" / "stream_aggregation" / "runs.yml").read_text()
    path = tmp_path / "runs.yml"
    path.write_text(shipped.replace("interval: 30s", "interval: 1s"))
    return path


def _run(victoria: Server, times: int) -> None:
    where = str(Path(hypertrace.__file__).parent.parent)
    subprocess.run(
        [sys.executable, "-c", PROGRAM, victoria.url, str(times)],
        env={"PYTHONPATH": where},
        check=True,
        timeout=120,
    )


def _is(victoria: Server, query: str, value: float) -> bool:
    return victoria.query(query) == {(): value}


def _run_several_times(pushed_to: Server, stored: Server) -> None:
    """Let runs count as much, less and more than the one before: all are in the sum."""
    total = 0
    for times in (5, 5, 3, 9):
        _run(pushed_to, times)
        total += times
        for name in (
            "function_counter_total",
            "function_duration_seconds_count",
            'function_duration_seconds_bucket{le="+Inf"}',
        ):
            stored.wait(partial(_is, stored, f"sum({name})", float(total)))


def test_victoriametrics_adds_up_counters(
    component: Callable[[str], str], free_port: Callable[[], int], aggregation: Path, tmp_path: Path
) -> None:
    """Of all runs, and shows none of the single ones; of gauges it has the last value."""
    port = free_port()
    command = [
        component("victoria-metrics1"),
        f"-storageDataPath={tmp_path / 'data'}",
        f"-httpListenAddr=127.0.0.1:{port}",
        "-search.latencyOffset=0s",
        f"-streamAggr.config={aggregation}",
    ]
    with Server(command, port, tmp_path / "log", "/health") as victoria:
        _run_several_times(victoria, victoria)
        (labels,) = victoria.query("function_counter_total")
        assert dict(labels)["job"] == "nightly"
        assert "run" not in dict(labels)
        (last,) = victoria.query("max by (job_name) (jobs_last_success_timestamp_seconds)").items()
        assert last[0] == (("job_name", "nightly"),)
        assert last[1] > 1_700_000_000


def test_vmagent_adds_up_counters_for_a_prometheus(
    component: Callable[[str], str], free_port: Callable[[], int], aggregation: Path, tmp_path: Path
) -> None:
    """It takes what programs push, and writes the sums to any server."""
    (tmp_path / "prometheus.yml").write_text("")
    port = free_port()
    server = [
        component("prometheus3"),
        f"--config.file={tmp_path / 'prometheus.yml'}",
        f"--storage.tsdb.path={tmp_path / 'data'}",
        f"--web.listen-address=127.0.0.1:{port}",
        "--web.enable-remote-write-receiver",
    ]
    agent_port = free_port()
    agent = [
        str(Path(component("victoria-metrics1")).with_name("vmagent")),
        f"-httpListenAddr=127.0.0.1:{agent_port}",
        f"-remoteWrite.url=http://127.0.0.1:{port}/api/v1/write",
        f"-remoteWrite.tmpDataPath={tmp_path / 'vmagent'}",
        f"-remoteWrite.streamAggr.config={aggregation}",
    ]
    with (
        Server(server, port, tmp_path / "log", "/-/ready") as prometheus,
        Server(agent, agent_port, tmp_path / "agent.log", "/health") as vmagent,
    ):
        _run_several_times(vmagent, prometheus)
