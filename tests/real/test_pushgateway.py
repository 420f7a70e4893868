"""Pushgateway, and what it shows of programs that pushed and ended."""

from __future__ import annotations

import math
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry, Counter

import hypertrace
from hypertrace import Tracer, set_trace_function
from hypertrace_prometheus import PrometheusExporter

from .servers import Server, samples_of, with_labels

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from .servers import Samples

LAST_RUN = "jobs_last_run_timestamp_seconds"
LAST_SUCCESS = "jobs_last_success_timestamp_seconds"
AWKWARD = ("plain", 'a "quoted" one', "back\\slash", "two\nlines", "ünïcödé", "}{ ,=", "a 5", "/")


@pytest.fixture(scope="module")
def gateway(
    component: Callable[[str], str],
    free_port: Callable[[], int],
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Server]:
    """Give a running Pushgateway."""
    port = free_port()
    folder = tmp_path_factory.mktemp("pushgateway")
    log = folder / "log"
    command = [
        component("prometheus-pushgateway"),
        f"--web.listen-address=127.0.0.1:{port}",
        f"--persistence.file={folder / 'data'}",  # else Debian's keeps it for the next run
    ]
    with Server(command, port, log, "/-/ready") as server:
        yield server


@pytest.fixture
def exporter() -> Iterator[PrometheusExporter]:
    """Give an exporter that is set, with a counter of the application beside it."""
    registry = CollectorRegistry()
    Counter("own", "Counted by the application itself.", registry=registry).inc(3)
    with PrometheusExporter(registry=registry, allowed_props=["topic"]) as exporter:
        set_trace_function(exporter)
        yield exporter


def _shown(gateway: Server, job: str) -> Samples:
    """Give the samples of a job, but for those of the Pushgateway itself."""
    return {
        (name, labels): value
        for (name, labels), value in samples_of(gateway.ask("/metrics")).items()
        if dict(labels).get("job") == job and not name.startswith("push_")
    }


def _stable(samples: Samples) -> Samples:
    return {
        key: value
        for key, value in samples.items()
        if not key[0].startswith(("process_", "python_"))
    }


def test_it_shows_exactly_what_the_program_counted(
    gateway: Server, exporter: PrometheusExporter
) -> None:
    """Every sample of the page is there, with the labels of the group, and no other."""
    for times, topic in enumerate(AWKWARD, 1):
        tracer = Tracer("Invoices", {"topic": topic})
        for _ in range(times):
            with tracer.span("mail"):
                pass
    exporter.push(gateway.url, job="exact", grouping={"instance": "db/1", "empty": ""})
    shown = with_labels(_stable(samples_of(exporter.metrics())), job="exact", instance="db/1")
    found = {
        (name, tuple(pair for pair in labels if pair != ("empty", ""))): value
        for (name, labels), value in _shown(gateway, "exact").items()
    }
    assert _stable(found) == shown
    assert ("own_total", (("instance", "db/1"), ("job", "exact"))) in found
    processes = {name for name, _ in found if name.startswith("process_")}
    assert "process_cpu_seconds_total" in processes


def test_a_push_replaces_what_was_pushed_before(gateway: Server) -> None:
    """Also metrics that the next run does not have: nothing of an earlier run stays."""
    for function, times in (("mail", 5), ("print", 2)):
        with PrometheusExporter() as exporter:
            set_trace_function(exporter)
            tracer = Tracer("Invoices")
            for _ in range(times):
                tracer.trace(function)
            if function == "mail":
                exporter.forwards_to.counter("mails_total").inc(9)
            exporter.push(gateway.url, job="replaced")
    shown = _shown(gateway, "replaced")
    counts = {
        dict(labels)["id"]: n for (name, labels), n in shown.items() if "counter_total" in name
    }
    assert counts == {"print": 2}
    assert "mails_total" not in {name for name, _ in shown}


def test_a_run_that_fails_keeps_the_last_success(gateway: Server) -> None:
    """The time of the last run goes on, and that of the last success stays."""

    def run(*, fails: bool) -> tuple[float, float]:
        with PrometheusExporter() as exporter:
            try:
                with exporter.run("nightly"):
                    assert not fails
            except AssertionError:
                pass
            exporter.push(gateway.url, job="runs")
        labels = (("instance", ""), ("job", "runs"), ("job_name", "nightly"))
        shown = _shown(gateway, "runs")
        return shown[LAST_RUN, labels], shown[LAST_SUCCESS, labels]

    first = run(fails=False)
    second = run(fails=True)
    third = run(fails=False)
    assert first[0] == first[1] == second[1] < second[0] < third[0] == third[1]


@settings(
    max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(job=st.text(min_size=1), value=st.text())
@example(job="a/b", value="/var/tmp")
@example(job="..", value=".")
@example(job="a b+c%2F", value="")
@example(job="Προμηθεύς", value="a\nb\r\n")
def test_every_label_of_a_group_arrives(
    gateway: Server, exporter: PrometheusExporter, job: str, value: str
) -> None:
    """Whatever characters job and grouping have."""
    job, value = (text.encode(errors="replace").decode() for text in (job, value))
    exporter.push(gateway.url, job=job, grouping={"place": value})
    groups = gateway.ask("/api/v1/metrics")["data"]
    labels = [group["labels"] for group in groups]
    assert any(one["job"] == job and one.get("place", "") == value for one in labels)


def test_what_it_refuses_is_the_reason(gateway: Server) -> None:
    """A metric that another job has pushed with another type: the error says what is wrong."""
    with PrometheusExporter() as exporter:
        exporter.forwards_to.gauge("mixed").set(1)
        exporter.push(gateway.url, job="first")
    with PrometheusExporter() as exporter:
        exporter.forwards_to.summary("mixed").observe(1)
        with pytest.raises(OSError, match=r"/metrics/job/second: 400 .*mixed"):
            exporter.push(gateway.url, job="second")


PROGRAM = """
import sys
from hypertrace import Tracer, set_trace_function
from hypertrace_prometheus import PrometheusExporter

exporter = PrometheusExporter(push=sys.argv[1], job="program")
set_trace_function(exporter)
with exporter.run("program"):
    for number in range(1_000):
        with Tracer("Invoices").span("mail"):
            pass
    sys.exit(0)
"""


def test_a_program_that_ends_at_once(gateway: Server) -> None:
    """All of its counts are there when it has ended, and the run was a success."""
    where = str(Path(hypertrace.__file__).parent.parent)
    subprocess.run(
        [sys.executable, "-c", PROGRAM, gateway.url],
        env={"PYTHONPATH": where},
        check=True,
        timeout=120,
    )
    shown = _shown(gateway, "program")
    names = {name: value for (name, _), value in shown.items()}
    assert names["function_counter_total"] == 1_000
    assert names["function_duration_seconds_count"] == 1_000
    assert math.isclose(names[LAST_SUCCESS], names[LAST_RUN])


WORKERS = """
import multiprocessing, os, sys
from hypertrace import Tracer, set_trace_function
from hypertrace_prometheus import PrometheusExporter

def work(times):
    tracer = Tracer("Invoices")
    for _ in range(times):
        tracer.trace("mail")

if __name__ == "__main__":
    exporter = PrometheusExporter(push=sys.argv[1], job="workers")
    set_trace_function(exporter)
    context = multiprocessing.get_context("fork")
    children = [context.Process(target=work, args=(times,)) for times in (10, 20, 30)]
    for child in children:
        child.start()
    for child in children:
        child.join()
    work(5)
"""


def test_processes_push_one_sum(gateway: Server, tmp_path: Path) -> None:
    """Children that share their counts with the program are part of what it pushes."""
    program = tmp_path / "workers.py"
    program.write_text(WORKERS)
    where = str(Path(hypertrace.__file__).parent.parent)
    subprocess.run(
        [sys.executable, "-W", "ignore", program, gateway.url],
        env={"PYTHONPATH": where},
        check=True,
        timeout=120,
    )
    shown = _shown(gateway, "workers")
    assert [n for (name, _), n in shown.items() if name == "function_counter_total"] == [65]


def test_prometheus_scrapes_it_with_the_configuration_that_is_shipped(
    gateway: Server,
    exporter: PrometheusExporter,
    component: Callable[[str], str],
    free_port: Callable[[], int],
    root: Path,
    tmp_path: Path,
) -> None:
    """The labels of the group are those in Prometheus, and the alert for a failed job fires."""
    folder, port = root / "deploy" / "pushgateway", free_port()
    shipped = (folder / "prometheus.yml").read_text()
    configuration = tmp_path / "prometheus.yml"
    configuration.write_text(
        shipped.replace("127.0.0.1:9091", gateway.url.removeprefix("http://")).replace("15s", "1s")
    )
    (tmp_path / "jobs.rules.yml").write_text((folder / "jobs.rules.yml").read_text())
    for _ in range(4):
        Tracer("Invoices").trace("mail")
    with pytest.raises(KeyError), exporter.run("failing"):
        raise KeyError
    exporter.push(gateway.url, job="scraped", grouping={"instance": "db-1"})
    command = [
        component("prometheus"),
        f"--config.file={configuration}",
        f"--storage.tsdb.path={tmp_path / 'data'}",
        f"--web.listen-address=127.0.0.1:{port}",
    ]
    with Server(command, port, tmp_path / "log", "/-/ready") as prometheus:
        query = 'sum by (job, instance) (function_counter_total{job="scraped"})'
        expected = {(("instance", "db-1"), ("job", "scraped")): 4.0}
        prometheus.wait(lambda: prometheus.query(query) == expected)
        # Rules are evaluated once a minute, so they are asked for.
        groups = prometheus.ask("/api/v1/rules")["data"]["groups"]
        rules = {rule["name"]: rule["query"] for group in groups for rule in group["rules"]}
        assert rules.keys() == {"JobHasNotSucceeded", "JobHasNeverSucceeded"}
        prometheus.wait(
            lambda: (("job_name", "failing"),) in prometheus.query(rules["JobHasNeverSucceeded"])
        )
