"""Program with two exporters, each of which counts other work, also in a forked child."""

from __future__ import annotations

import os

from answers import FOLDER, wait_for
from counted import Work, exporter, work

from hypertrace import set_trace_function
from hypertrace_prometheus import PrometheusExporter

other = PrometheusExporter()
other_work = Work(other.forwards_to)


def do(first: int, second: int) -> None:
    """Count so many calls with the one exporter, and so many with the other."""
    for exporter_of_them, its_work, calls in (
        (exporter, work, first),
        (other, other_work, second),
    ):
        set_trace_function(exporter_of_them)
        for _ in range(calls):
            its_work.do()


def answer(name: str) -> None:
    """Write both pages."""
    for number, page in enumerate([exporter.metrics(), other.metrics()]):
        written = FOLDER / f".{name}"
        written.write_text(f"\n{page}")
        written.rename(FOLDER / f"page-{name}-{number}")
    wait_for("end")


do(3, 5)
if os.fork() == 0:
    do(10, 20)
    (FOLDER / "child").touch()
    answer("child")
    os._exit(0)
wait_for("child")
answer("parent")
os.wait()
