"""Textfile: what is in the file, and that it is always whole."""

from __future__ import annotations

import errno
import os
import stat
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry, Gauge
from prometheus_client.parser import text_string_to_metric_families as parse_text

import hypertrace
from hypertrace import Tracer
from hypertrace_prometheus.textfile import _with_job

from .pages import values_in

if TYPE_CHECKING:
    from .running import Export

LAST_RUN = "jobs_last_run_timestamp_seconds"
LAST_SUCCESS = "jobs_last_success_timestamp_seconds"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Give the path of a file that is not there."""
    return tmp_path / "nightly.prom"


def _count(times: int = 3) -> None:
    tracer = Tracer("Invoices")
    for _ in range(times):
        tracer.trace("mail")


def test_the_file_has_all_metrics_with_the_name_of_the_job(export: Export, path: Path) -> None:
    """The job is the name of the file, so that files of several programs do not collide."""
    registry = CollectorRegistry()
    Gauge("own", "Of the application.", registry=registry).set(4)
    exporter = export(registry=registry)
    _count()
    exporter.write_textfile(path)
    text = path.read_text()
    assert values_in(text, "function_counter_total", "job_name", "id") == {("nightly", "mail"): 3}
    assert values_in(text, "own", "job_name") == {("nightly",): 4}
    samples = [sample for family in parse_text(text) for sample in family.samples]
    assert {sample.labels["job_name"] for sample in samples} == {"nightly"}
    assert all(sample.timestamp is None for sample in samples)
    assert text.endswith("\n")


@pytest.mark.parametrize("workers", [False, "auto"])
def test_metrics_of_the_process_are_left_out(export: Export, path: Path, workers: Any) -> None:
    """`node_exporter` has such metrics itself, with the same names."""
    exporter = export(collect_defaults=True, workers=workers)
    _count()
    assert "process_cpu_seconds_total" in exporter.metrics()
    exporter.write_textfile(path)
    assert "\nprocess_" not in path.read_text()
    assert "\npython_" not in path.read_text()


def test_a_series_that_has_the_label_keeps_it(export: Export, path: Path) -> None:
    """Such as the times of runs, which have the name of their job."""
    exporter = export()
    exporter.forwards_to.gauge("own", ["a", "job_name"]).set(1, a='b",job_name="c', job_name="d")
    with exporter.run("other"):
        pass
    exporter.write_textfile(path)
    text = path.read_text()
    assert values_in(text, "own", "job_name") == {("d",): 1}
    assert values_in(text, LAST_SUCCESS, "job_name").keys() == {("other",)}


@given(st.text(min_size=1), st.text(), st.text())
def test_names_and_values_survive(job: str, one: str, other: str) -> None:
    """Whatever characters a job and the labels have, each sample gets one label more."""
    job = job.encode(errors="replace").decode()

    def written(value: str) -> str:
        escaped = value.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n")
        return escaped.encode(errors="replace").decode()

    page = (
        f'# HELP a b\n# TYPE a gauge\na{{x="{written(one)}",y="{written(other)}"}} 1\n'
        f'a{{job_name="{written(other)}"}} 2\na{{}} 3\na 4\n'
    )
    lines = _with_job(page.encode(), job).decode().split("\n")
    label = f'job_name="{written(job)}"'
    assert lines == [
        "# HELP a b",
        "# TYPE a gauge",
        f'a{{{label},x="{written(one)}",y="{written(other)}"}} 1',
        f'a{{job_name="{written(other)}"}} 2',
        f"a{{{label}}} 3",
        f"a{{{label}}} 4",
        "",
    ]


def test_a_failed_run_keeps_the_last_success(export: Export, path: Path) -> None:
    """It is taken from the file, which an earlier program has written."""
    first = export()
    with first.run("nightly"):
        pass
    first.write_textfile(path)
    before = values_in(path.read_text(), LAST_SUCCESS, "job_name")
    first.stop()
    second = export()
    with pytest.raises(KeyError), second.run("nightly"):
        raise KeyError
    second.write_textfile(path)
    text = path.read_text()
    assert values_in(text, LAST_SUCCESS, "job_name") == before
    assert values_in(text, LAST_RUN, "job_name")["nightly",] > before["nightly",]
    assert text.count(f"# TYPE {LAST_SUCCESS} ") == 1


def test_a_program_that_fails_before_its_run_keeps_both_times(export: Export, path: Path) -> None:
    """They are those of the file; counts are those of the program."""
    first = export()
    with first.run("nightly"):
        _count(5)
    first.write_textfile(path)
    before = path.read_text()
    first.stop()
    export().write_textfile(path)
    text = path.read_text()
    for name in (LAST_RUN, LAST_SUCCESS):
        assert values_in(text, name, "job_name") == values_in(before, name, "job_name") != {}
    assert values_in(text, "function_counter_total", "id") == {}


@pytest.mark.parametrize("content", [b"\xff\xfe\0", b"{" * 10_000, b"x" * 100])
def test_a_file_of_other_content_is_replaced(export: Export, path: Path, content: bytes) -> None:
    """Nothing of it stays."""
    path.write_bytes(content)
    export().write_textfile(path)
    assert content not in path.read_bytes()
    assert list(parse_text(path.read_text()))


def test_the_file_is_whole_at_any_time(export: Export, path: Path) -> None:
    """A reader finds the text of before or the new one, and nothing beside it afterwards."""
    exporter = export()
    _count()
    exporter.write_textfile(path)
    lines, done = path.read_text().count("\n"), threading.Event()
    seen: list[int] = []

    def read() -> None:
        while not done.is_set():
            seen.append(path.read_text().count("\n"))
            assert {one.name for one in path.parent.glob("*.prom")} == {path.name}

    reader = threading.Thread(target=read)
    reader.start()
    for _ in range(50):
        exporter.write_textfile(path)
    done.set()
    reader.join()
    assert set(seen) == {lines}
    assert os.listdir(path.parent) == [path.name]  # noqa: PTH208 -- names are enough


def test_several_threads_may_write(export: Export, path: Path) -> None:
    """Each writes a whole file."""
    exporter = export()
    _count()
    threads = [threading.Thread(target=exporter.write_textfile, args=(path,)) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert values_in(path.read_text(), "function_counter_total", "id") == {("mail",): 3}


@pytest.mark.skipif(os.name != "posix", reason="permissions of POSIX")
def test_the_permissions_are_those_of_new_files(export: Export, path: Path) -> None:
    """So that node_exporter, which is another user, can read it."""
    exporter = export()
    before = os.umask(0o027)
    try:
        exporter.write_textfile(path)
    finally:
        os.umask(before)
    assert stat.S_IMODE(path.stat().st_mode) == 0o640


def test_a_full_disk_leaves_the_file_as_it_was(
    export: Export, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The error is raised, and nothing stays beside the file."""
    exporter = export()
    path.write_text("before 1\n")

    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        exporter.write_textfile(path)
    assert path.read_text() == "before 1\n"
    assert os.listdir(path.parent) == [path.name]  # noqa: PTH208 -- names are enough


def test_a_folder_that_is_not_there_is_an_error(export: Export, path: Path) -> None:
    """It names the folder."""
    exporter = export()
    with pytest.raises(FileNotFoundError, match="missing"):
        exporter.write_textfile(path.parent / "missing" / path.name)


@pytest.mark.parametrize("name", ["nightly", "nightly.txt", ".prom", "nightly.prom.bak"])
def test_another_end_of_the_name_is_an_error(export: Export, path: Path, name: str) -> None:
    """`node_exporter` would not read the file."""
    with pytest.raises(ValueError, match=r"path must end in \.prom"):
        export().write_textfile(path.with_name(name))


def test_the_path_may_be_a_text(export: Export, path: Path) -> None:
    """Or anything that `open` takes as one."""
    export().write_textfile(str(path))
    assert path.exists()


def test_a_stopped_exporter_writes_nothing(export: Export, path: Path) -> None:
    """An empty file would hide the last run."""
    exporter = export()
    exporter.stop()
    with pytest.raises(RuntimeError, match="stopped"):
        exporter.write_textfile(path)
    assert not path.exists()


PROGRAM = """
import atexit, sys
from hypertrace import Tracer, set_trace_function
from hypertrace_prometheus import PrometheusExporter

exporter = PrometheusExporter()
set_trace_function(exporter)
atexit.register(exporter.write_textfile, sys.argv[1])
with exporter.run("nightly"):
    Tracer("Invoices").trace("mail")
    raise KeyError
"""


def test_a_program_writes_at_its_end(path: Path) -> None:
    """As docs/pushgateway.md says, with `atexit`; also after an exception."""
    where = str(Path(hypertrace.__file__).parent.parent)
    begin = time.time()
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, path],
        env={"PYTHONPATH": where},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 1
    assert "KeyError" in done.stderr
    text = path.read_text()
    assert values_in(text, "function_counter_total", "id") == {("mail",): 1}
    assert values_in(text, LAST_RUN, "job_name")["nightly",] >= begin
    assert values_in(text, LAST_SUCCESS) == {}
