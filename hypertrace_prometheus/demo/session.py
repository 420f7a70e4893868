"""Session of the demo: the library at work with tracing on, and its counts at a terminal."""

import math
import shutil
import signal
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TextIO

from prometheus_client import CollectorRegistry

from hypertrace import clear_trace_function, set_trace_function
from hypertrace.metrics import DEFAULT_BUCKETS
from hypertrace_prometheus.exporter import PrometheusExporter

from .ledger import Ledger
from .library import Library
from .workload import Workload

DEFAULT_PORT = 4343
"""The port that `prometheus.yml` scrapes."""

ALLOWED_PROPS = ("topic", "outcome", "kind")

BUCKETS = (0.00005, 0.0001, 0.00025, *DEFAULT_BUCKETS)
"""Bounds for durations: much of what the library does takes less than a millisecond."""

_BANNER = """\
A library of Python's documentation is open: {volumes} files, visitors asking.

 1. Metrics     {url}
 2. Prometheus  prometheus --config.file=prometheus.yml --storage.tsdb.path=data
                in another terminal, in a checkout of hypertrace;
                {target}
 3. First graph http://127.0.0.1:9090/graph with this query:
                sum by (object_classname, caller_functionname)
                  (rate(function_counter_total[1m]))
 4. Dashboards  hypertrace dashboards
                writes them to a folder, for Grafana to import

{ending}
"""


def make_exporter(port: int, host: str = "127.0.0.1") -> PrometheusExporter:
    """Make an exporter that shows all there is to see of the demo; it raises as that does."""
    return PrometheusExporter(
        port,
        host=host,
        strict_port=True,
        allowed_props=ALLOWED_PROPS,
        buckets=BUCKETS,
        upstream=True,
    )


def run(
    exporter: PrometheusExporter,
    out: TextIO,
    *,
    duration: float = math.inf,
    questions: int | None = None,
) -> None:
    """Run the demo until interrupted, and say on `out` what it does.

    Args:
        exporter: receives all traces; must run a server.
        out: where a person reads.
        duration: seconds after which it ends by itself.
        questions: number of questions after which the work stops, while the metrics stay.

    SIGINT and SIGTERM end it early, which is no error. Must be called from the main thread.
    """
    end = time.monotonic() + duration
    with _interruptible(), _tracing(exporter):
        library = Library()
        workload = Workload(library, questions=questions)
        report = _Report(exporter.registry, library.ledger)
        try:
            print(_banner(exporter, library, duration), file=out, flush=True)
            workload.start()
            if _watch(workload, end, report, _LiveLine(out)):
                workload.stop()
                print(
                    f"{report.line()}\nAll questions are asked. Serving on.", file=out, flush=True
                )
                _rest(end)
        except KeyboardInterrupt:
            pass
        finally:
            workload.stop()
        print(f"{report.line()}\n\n{report.most_called()}", file=out, flush=True)


class _Report:
    """Report of a running demo."""

    def __init__(self, registry: CollectorRegistry, ledger: Ledger) -> None:
        self._registry = registry
        self._ledger = ledger
        self._started = time.monotonic()

    def line(self) -> str:
        """The counts of this moment in one line."""
        seconds = time.monotonic() - self._started
        cache = self._ledger.details("cache")
        from_cache = cache.get("hit", 0) / max(sum(cache.values()), 1)
        return (
            f"{seconds:5.0f} s  {self._calls().total():,} calls traced: "
            f"{self._ledger.total('question'):,} questions, {from_cache:.0%} from the cache, "
            f"{self._ledger.total('visitor puzzled'):,} unanswered, "
            f"{self._ledger.total('insert'):,} texts indexed"
        )

    def most_called(self) -> str:
        """The functions at the top, a line each."""
        top = (f"{count:13,}  {name}" for name, count in self._calls().most_common(8))
        return "\n".join(("The most called functions, as hypertrace counted them:", *top))

    def _calls(self) -> Counter[str]:
        """Return how often each traced function was called, by its name with its class."""
        calls: Counter[str] = Counter()
        for family in self._registry.collect():
            for sample in family.samples:
                if sample.name == "function_counter_total":
                    name = "{object_classname}.{caller_functionname}".format_map(sample.labels)
                    calls[name] += int(sample.value)
        return calls


class _LiveLine:
    """The latest counts: one line rewritten in place on a terminal, else a line now and then."""

    def __init__(self, out: TextIO) -> None:
        self._out = out
        self._in_place = out.isatty()
        self.pause = 1.0 if self._in_place else 5.0

    def show(self, text: str) -> None:
        """Show `text`, cut to the width of the terminal."""
        if self._in_place:
            width = shutil.get_terminal_size().columns - 1
            print(f"\r{text[:width]:{width}}", end="", file=self._out, flush=True)
        else:
            print(text, file=self._out, flush=True)

    def close(self) -> None:
        """Leave the line as it is; what is printed next starts on another one."""
        if self._in_place:
            print(file=self._out, flush=True)


@contextmanager
def _interruptible() -> Iterator[None]:
    """Let SIGTERM do what Ctrl-C does.

    SIGINT is set too: a shell that starts a program in the background has it ignored.
    """
    signals = (signal.SIGINT, signal.SIGTERM)
    previous = [signal.signal(each, signal.default_int_handler) for each in signals]
    try:
        yield
    finally:
        for each, handler in zip(signals, previous, strict=True):
            signal.signal(each, handler)


@contextmanager
def _tracing(exporter: PrometheusExporter) -> Iterator[None]:
    set_trace_function(exporter)
    try:
        yield
    finally:
        clear_trace_function()


def _watch(workload: Workload, end: float, report: _Report, line: _LiveLine) -> bool:
    """Show the counts until `end`; return True at once when all questions are asked."""
    try:
        while (left := end - time.monotonic()) > 0:
            line.show(report.line())
            if workload.wait(min(left, line.pause)):
                return True
    finally:
        line.close()
    return False


def _rest(end: float) -> None:
    while (left := end - time.monotonic()) > 0:
        # A signal that comes between Python's last look and the system's sleep does not end
        # that sleep, only the next one; so none is long.
        time.sleep(min(left, 0.5))


def _banner(exporter: PrometheusExporter, library: Library, duration: float) -> str:
    port = exporter.port
    return _BANNER.format(
        volumes=len(library.catalogue),
        url=exporter.url,
        target=(
            f"that file scrapes port {port}"
            if port == DEFAULT_PORT
            else f"write {port} in place of {DEFAULT_PORT} in that file"
        ),
        ending="Stop with Ctrl-C." if math.isinf(duration) else f"Ends after {duration:g} s.",
    )
