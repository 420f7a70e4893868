"""Runs of jobs: which ends are a success, and what is shown of them."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hypertrace.metrics import LastValue, Metrics
from hypertrace_prometheus.runs import LAST_RUN, LAST_SUCCESS, Run, RunTimes, shown_names

from .pages import values

if TYPE_CHECKING:
    from .running import Export


def test_a_run_sets_when_it_has_ended(export: Export) -> None:
    """Both times are that of its end, and on every page."""
    exporter = export()
    begin = time.time()
    with exporter.run("nightly"):
        between = time.time()
    for name in (LAST_RUN, LAST_SUCCESS):
        shown = values(exporter, name, "job_name")
        assert shown.keys() == {("nightly",)}
        assert begin <= between <= shown["nightly",] <= time.time()


def test_a_run_in_progress_shows_nothing(export: Export) -> None:
    """What has not ended has neither succeeded nor failed."""
    exporter = export()
    with exporter.run("nightly"):
        assert values(exporter, LAST_RUN, "job_name") == {}


@pytest.mark.parametrize(
    ("error", "succeeds"),
    [
        (SystemExit(), True),
        (SystemExit(0), True),
        (SystemExit(1), False),
        (SystemExit("no"), False),
        (KeyboardInterrupt(), False),
        (ValueError(), False),
    ],
)
def test_an_exception_is_no_success(export: Export, error: BaseException, succeeds: bool) -> None:
    """But for an exit with status 0; it goes on to the caller in any case."""
    exporter = export()
    with pytest.raises(type(error)) as raised, exporter.run("nightly"):
        raise error
    assert raised.value is error
    assert values(exporter, LAST_RUN, "job_name").keys() == {("nightly",)}
    assert (values(exporter, LAST_SUCCESS, "job_name") != {}) == succeeds


def test_an_exit_whose_code_cannot_be_compared_is_no_success(export: Export) -> None:
    """Code of the application runs for no comparison."""

    class Code:
        __hash__ = None  # type: ignore[assignment]

        def __eq__(self, other: object) -> bool:
            raise AssertionError

    exporter = export()
    with pytest.raises(SystemExit), exporter.run("nightly"):
        raise SystemExit(Code())
    assert values(exporter, LAST_SUCCESS, "job_name") == {}


def test_a_later_run_that_fails_leaves_the_success(export: Export) -> None:
    """The time of the last success stays, and that of the last run goes on."""
    exporter = export()
    with exporter.run("nightly"):
        pass
    before = values(exporter, LAST_SUCCESS, "job_name")
    with pytest.raises(KeyError), exporter.run("nightly"):
        raise KeyError
    assert values(exporter, LAST_SUCCESS, "job_name") == before
    assert values(exporter, LAST_RUN, "job_name")["nightly",] > before["nightly",]


@pytest.mark.parametrize(("job", "error"), [("", ValueError), (3, TypeError), (None, TypeError)])
def test_a_job_has_a_name(export: Export, job: Any, error: type[Exception]) -> None:
    """An error says so, where the run is made."""
    with pytest.raises(error, match="job must be"):
        export().run(job)


def test_a_metric_of_the_same_name_is_an_error(export: Export) -> None:
    """The message says which metric is there already."""
    exporter = export(declared=[LastValue(LAST_RUN, of="A.b", value="c")])
    with pytest.raises(ValueError, match=LAST_RUN):
        exporter.run("nightly")


def test_the_gauges_have_the_prefix_of_the_metrics() -> None:
    """And are found on a page under it, before and after the first run."""
    metrics = Metrics(prefix="shop_", workers=False)
    line = f'shop_{LAST_RUN}{{job_name="nightly"}} 17.5\n'
    assert RunTimes.read(line, metrics).text().endswith(line)
    assert shown_names(metrics) == frozenset()
    with Run(metrics, "nightly"):
        pass
    assert metrics.read().family(f"shop_{LAST_SUCCESS}").kind == "gauge"
    assert RunTimes.read(line, metrics).text().endswith(line)
    assert shown_names(metrics) == {f"shop_{LAST_RUN}", f"shop_{LAST_SUCCESS}"}


@given(st.text(min_size=1), st.text(min_size=1))
def test_names_of_jobs_survive_a_text(one: str, other: str) -> None:
    """What is read from a text is what was written to it, whatever a name is."""
    metrics = Metrics(workers=False)
    gauges = {(LAST_RUN, "When."): {one: "1.5", other: "2.5e9"}}
    written = RunTimes(gauges).text()
    assert RunTimes.read(f"# HELP\n{written}x 5\n", metrics).text().count("\n") == (
        written.count("\n")
    )
    assert RunTimes.read(written, metrics).jobs == sorted({one, other})


def test_earlier_times_stay_for_other_jobs() -> None:
    """Of a job that is in both, the later time is shown."""
    earlier = RunTimes({(LAST_RUN, "a"): {"x": "1", "y": "1"}, (LAST_SUCCESS, "b"): {"x": "1"}})
    later = RunTimes({(LAST_RUN, "a"): {"x": "2"}})
    both = later.after(earlier)
    assert both.text("x") == (
        f'# HELP {LAST_RUN} a\n# TYPE {LAST_RUN} gauge\n{LAST_RUN}{{job_name="x"}} 2\n'
        f'# HELP {LAST_SUCCESS} b\n# TYPE {LAST_SUCCESS} gauge\n{LAST_SUCCESS}{{job_name="x"}} 1\n'
    )
    assert both.text("y") == (
        f'# HELP {LAST_RUN} a\n# TYPE {LAST_RUN} gauge\n{LAST_RUN}{{job_name="y"}} 1\n'
    )


@pytest.mark.parametrize(
    "line",
    [
        f'{LAST_RUN}{{job_name="a"}} 1 5',
        f'{LAST_RUN}{{job_name="a",other="b"}} 1',
        f"{LAST_RUN} 1",
        f'# {LAST_RUN}{{job_name="a"}} 1',
        f'{LAST_RUN}{{job_name="a"b"}} 1',
    ],
)
def test_other_lines_are_ignored(line: str) -> None:
    """What we would not have written is not kept."""
    assert RunTimes.read(f"{line}\n", Metrics(workers=False)).jobs == []
