"""Files that programs wrote for node_exporter, as promtool and node_exporter judge them."""

from __future__ import annotations

import configparser
import shlex
import subprocess
from typing import TYPE_CHECKING

import pytest
from prometheus_client import CollectorRegistry, Counter

from hypertrace import Tracer, set_trace_function
from hypertrace.metrics import Distribution, Summary
from hypertrace_prometheus import PrometheusExporter

from .servers import Server, samples_of, with_labels

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from .servers import Samples

AWKWARD = ("plain", 'a "quoted" one', "back\\slash", "two\nlines", "ünïcödé", "}{ ,=", "a 5", "/")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Give the folder that node_exporter reads."""
    return tmp_path_factory.mktemp("textfile")


@pytest.fixture(scope="module")
def node(
    component: Callable[[str], str], free_port: Callable[[], int], folder: Path, root: Path
) -> Iterator[Server]:
    """Give a node_exporter, started as the unit that is shipped says, but for folder and port."""
    unit = configparser.ConfigParser(interpolation=None, strict=False)
    unit.optionxform = str  # type: ignore[assignment,method-assign]
    unit.read(root / "deploy" / "node_exporter" / "node_exporter.service")
    program, *arguments = shlex.split(unit["Service"]["ExecStart"])
    port = free_port()
    command = [component(program.rpartition("/")[2])]
    for argument in arguments:
        option, _, value = argument.partition("=")
        if option == "--collector.textfile.directory":
            assert value in unit["Service"]["ExecStartPre"]
            value = str(folder)
        if option == "--web.listen-address":
            value = f"127.0.0.1:{port}"
        command.append(f"{option}={value}")
    assert len(command) == 3
    log = folder.parent / "node_exporter.log"
    with Server(command, port, log, "/") as server:
        yield server


@pytest.fixture
def exporter() -> Iterator[PrometheusExporter]:
    """Give an exporter that has counted metrics of each kind."""
    registry = CollectorRegistry()
    Counter("own", "Counted by the application itself.", registry=registry).inc(3)
    declared = [
        Summary("sizes", of="Invoices.*", value="size", description="Of invoices."),
        Distribution(
            "lengths_metres",
            of="Invoices.*",
            value="size",
            native=True,
            description="Of paper.",
        ),
    ]
    with PrometheusExporter(
        registry=registry,
        allowed_props=["topic"],
        declared=declared,
        labels={"service": "invoices"},
    ) as exporter:
        set_trace_function(exporter)
        for times, topic in enumerate(AWKWARD, 1):
            tracer = Tracer("Invoices", {"topic": topic})
            for _ in range(times):
                with tracer.span("mail", size=times):
                    pass
        yield exporter


def test_promtool_finds_only_the_word_counter(
    exporter: PrometheusExporter, component: Callable[[str], str], folder: Path
) -> None:
    """The file is flawless but for a name that is kept; see `test_promtool.py`."""
    path = folder / "checked.prom"
    with exporter.run("nightly"):
        pass
    exporter.write_textfile(path)
    run = subprocess.run(
        [component("promtool"), "check", "metrics"],
        input=path.read_text(),
        capture_output=True,
        text=True,
        check=False,
    )
    path.unlink()
    findings = (run.stdout + run.stderr).splitlines()
    assert findings == ["function_counter_total metric name should not include type 'counter'"]


def test_it_shows_what_several_programs_have_written(
    exporter: PrometheusExporter, node: Server, folder: Path
) -> None:
    """Each sample of each file is there, with the name of the job, and nothing is an error."""
    expected: Samples = {}
    for job in ("day", "night"):
        if job == "night":
            with exporter.run("night"):
                pass
        exporter.write_textfile(folder / f"{job}.prom")
        samples = samples_of(exporter.metrics())
        kept = {k: v for k, v in samples.items() if not k[0].startswith(("process_", "python_"))}
        expected |= with_labels(kept, job_name=job)
    page = node.ask("/metrics")
    shown = {key: v for key, v in samples_of(page).items() if "job_name" in dict(key[1])}
    assert shown == expected
    assert "node_textfile_scrape_error 0" in page
    assert "collected metric" not in node.log()


def test_counts_of_the_next_run_replace_those_before(node: Server, folder: Path) -> None:
    """And it sees a file again as soon as that is written."""
    for times in (5, 3):
        with PrometheusExporter() as exporter:
            set_trace_function(exporter)
            tracer = Tracer("Backup")
            for _ in range(times):
                tracer.trace("copy")
            exporter.write_textfile(folder / "backup.prom")
        shown = samples_of(node.ask("/metrics"))
        counts = [
            value
            for (name, labels), value in shown.items()
            if name == "function_counter_total" and dict(labels)["job_name"] == "backup"
        ]
        assert counts == [times]
