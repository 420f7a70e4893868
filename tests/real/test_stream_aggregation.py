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
    from collections.abc import Callable, Iterator

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


@pytest.fixture(scope="module")
def victoria(
    component: Callable[[str], str],
    free_port: Callable[[], int],
    root: Path,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Server]:
    """Give a VictoriaMetrics with the shipped aggregation, but for a shorter interval."""
    folder, port = tmp_path_factory.mktemp("victoria"), free_port()
    shipped = (root / "deploy" / "stream_aggregation" / "runs.yml").read_text()
    configuration = folder / "runs.yml"
    configuration.write_text(shipped.replace("interval: 30s", "interval: 1s"))
    command = [
        component("victoria-metrics1"),
        f"-storageDataPath={folder / 'data'}",
        f"-httpListenAddr=127.0.0.1:{port}",
        "-search.latencyOffset=0s",
        f"-streamAggr.config={configuration}",
    ]
    with Server(command, port, folder / "log", "/health") as server:
        yield server


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


def test_counters_of_all_runs_add_up(victoria: Server) -> None:
    """Equal, smaller and larger counts than those of the run before: all are in the sum."""
    total = 0
    for times in (5, 5, 3, 9):
        _run(victoria, times)
        total += times
        for name in (
            "function_counter_total",
            "function_duration_seconds_count",
            'function_duration_seconds_bucket{le="+Inf"}',
        ):
            victoria.wait(partial(_is, victoria, f"sum({name})", float(total)))
    labels = [dict(one) for one in victoria.query("function_counter_total")]
    assert [one["job"] for one in labels] == ["nightly"]
    assert "run" not in labels[0]
    (last,) = victoria.query("max by (job_name) (jobs_last_success_timestamp_seconds)").items()
    assert last[0] == (("job_name", "nightly"),)
    assert last[1] > 1_700_000_000
