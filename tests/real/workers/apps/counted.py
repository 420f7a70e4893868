"""Counted work: what every application does, and the tally that it keeps beside its traces."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, get_args

from hypertrace import Tracer, set_trace_function
from hypertrace.metrics import Counter, Distribution, LastValue, Sum, Summary, declare
from hypertrace.metrics.measurements import Workers
from hypertrace_prometheus import PrometheusExporter

if TYPE_CHECKING:
    from hypertrace.metrics import Metrics

WORKERS: tuple[Workers, ...] = get_args(Workers)

declare(
    Counter("work_total", of="Work.do", tags=["id"]),
    Sum("work_size_total", of="Work.do", value="size"),
    Distribution("work_seconds", of="Work.do", tags=["result"]),
    Distribution("work_sizes", of="Work.do", value="size", native=True),
    Summary("work_bytes", of="Work.do", value="size", unit="bytes"),
    LastValue("work_added", of="Work.do", value="size", mode="add"),
    *(LastValue(f"{each}_calls", of="Work.do", value="call", workers=each) for each in WORKERS),
)
exporter = PrometheusExporter(
    port=int(os.environ["EXPORTER_PORT"]) if "EXPORTER_PORT" in os.environ else None
)
set_trace_function(exporter)


def tally(mark: str) -> None:
    """Append a line to the tally; lines of processes that write at once stay whole."""
    file = os.open(os.environ["TALLY"], os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o666)
    try:
        os.write(file, f"{mark}{os.getpid()}\n".encode())
    finally:
        os.close(file)


class Work:
    """Something to do, traced and counted directly."""

    def __init__(self, metrics: Metrics) -> None:
        """Make the instruments of `metrics`."""
        self.tracer = Tracer(self)
        self._pid, self._calls = os.getpid(), 0
        self._counter = metrics.counter("direct_total", ["how"])
        self._add = self._counter.labels(how="bound").inc
        self._gauge = metrics.gauge("direct_added")
        self._distribution = metrics.distribution("direct_seconds")
        self._native = metrics.distribution("direct_sizes", native=True)
        self._summary = metrics.summary("direct_bytes", unit="bytes")
        for each in WORKERS:
            if each != "latest":
                metrics.gauge(f"{each}_pulled", read=lambda: self.calls, workers=each)

    @property
    def calls(self) -> int:
        """How often this process has done it."""
        return self._calls if self._pid == os.getpid() else 0

    def do(self) -> None:
        """Do it once."""
        tally("<")
        self._pid, self._calls = os.getpid(), self.calls + 1
        self.tracer.trace("traced", size=1, call=self._calls)
        with self.tracer.span("timed"):
            pass
        self._add(0.5)
        self._counter.inc(0.5, how="unbound")
        self._gauge.inc()
        for instrument in (self._distribution, self._native, self._summary):
            instrument.observe(1)
        tally(">")


work = Work(exporter.forwards_to)
for _ in range(int(os.environ.get("WORK_AT_IMPORT", "0"))):
    work.do()
