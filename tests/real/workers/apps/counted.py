"""Counted work: what every application does, and the tally that it keeps beside its traces."""

from __future__ import annotations

import os

from hypertrace import Tracer, set_trace_function
from hypertrace.metrics import Counter, Distribution, Sum
from hypertrace_prometheus import PrometheusExporter

exporter = PrometheusExporter(
    port=int(os.environ["EXPORTER_PORT"]) if "EXPORTER_PORT" in os.environ else None,
    declared=[
        Counter("work_total", of="Work.do", tags=["id"]),
        Sum("work_size_total", of="Work.do", value="size"),
        Distribution("work_seconds", of="Work.do", tags=["result"]),
    ],
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
    """Something to do, traced."""

    def __init__(self) -> None:
        self.tracer = Tracer(self)

    def do(self) -> None:
        """Do it once."""
        tally("<")
        self.tracer.trace("traced", size=1)
        with self.tracer.span("timed"):
            pass
        tally(">")


work = Work()
for _ in range(int(os.environ.get("WORK_AT_IMPORT", "0"))):
    work.do()
