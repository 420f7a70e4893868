"""Third-party collectors whose samples do not make a real Prometheus refuse the page."""

import http.server
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Protocol

import pytest
from prometheus_client.core import Metric
from prometheus_client.registry import Collector
from prometheus_client.samples import Exemplar, Sample

from hypertrace import Tracer, set_trace_function, swallowed_errors
from hypertrace_prometheus import PrometheusExporter
from hypertrace_prometheus.endpoint import TEXT_TYPE

JOB = """\
  - job_name: text
    static_configs:
      - targets: ["localhost:{port}"]
"""
CHARACTERS = "".join(map(chr, [*range(32), 0x7F, 0x85, 0x2028, 0xFEFF, 0xFFFE, 0x10FFFF]))


class Prometheus(Protocol):
    """What these tests need of the running Prometheus in conftest.py."""

    def query(self, promql: str) -> list[tuple[dict[str, str], float]]:
        """Evaluate `promql` now."""

    def wait_for_scrape(self, job: str) -> None:
        """Wait for a scrape of `job` that begins after this call."""


def _hostile() -> list[tuple[str, Any]]:
    """Give samples by the type of their family, such that Prometheus may refuse the page."""
    good = Exemplar({"trace_id": "a"}, 1)
    times: list[Any] = [-1.5, 1e300, "1.2.3"]
    return [
        *(("counter", {"exemplar": Exemplar({"a": f"x{c}"}, 1)}) for c in CHARACTERS),
        *(("gauge", {"labels": {"a": f"x{c}y"}}) for c in CHARACTERS),
        ("gauge", {"labels": {"__name__": "other"}}),
        ("gauge", {"labels": {"a.b": "1", "a_b": "2"}}),
        ("gauge", {"labels": {"job": "1", "exported_job": "2", "__address__": "3"}}),
        ("gauge", {"labels": {"a": "x" * 100_000}}),
        *(("gauge", {"timestamp": t}) for t in (-1, 0, 1e17, 1e30, 10**400, "1.2.3", "1e999")),
        *(("gauge", {"timestamp": float(t)}) for t in ("nan", "inf", "-inf", "1e300", "5e-324")),
        *(("gauge", {"value": float(v)}) for v in ("nan", "inf", "-inf", "1e308", "5e-324")),
        ("gauge", {"exemplar": good}),
        ("histogram", {"exemplar": good}),
        ("counter", {"exemplar": Exemplar({"__name__": "a", "le": "b"}, 1)}),
        ("counter", {"exemplar": Exemplar({"a": "x" * 1000}, float("nan"))}),
        ("counter", {"exemplar": Exemplar({"a.b": "1", "a_b": "2"}, 1)}),
        *(("counter", {"exemplar": Exemplar({"a": "b"}, 1, t)}) for t in times),
        *((kind, {}) for kind in ("untyped", "info", "stateset", "gaugehistogram", "nonsense")),
    ]


class Hostile(Collector):
    """A collector of all of them."""

    def collect(self) -> Iterator[Metric]:
        for number, (kind, more) in enumerate(_hostile()):
            name = f"hostile_{number}"
            family = Metric(name, f"Has {CHARACTERS}.", "gauge")
            family.type = kind
            sample = Sample(name + "_total" * (kind == "counter"), {}, 1)
            family.samples = [sample._replace(**more)]
            yield family


@contextmanager
def _text_of(exporter: PrometheusExporter) -> Iterator[int]:
    """Serve the text format to a client that asks for another; give the port."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = exporter.metrics().encode()
            self.send_response(200)
            self.send_header("Content-Type", TEXT_TYPE)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(("localhost", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield server.server_port
        finally:
            server.shutdown()
            thread.join()


FORMATS = {
    "text": ("exemplar-storage",),
    "messages": ("exemplar-storage", "native-histograms"),
}
"""What Prometheus asks for, by its features."""


@pytest.mark.parametrize("features", FORMATS.values(), ids=FORMATS)
def test_nothing_that_a_collector_gives_costs_the_page(
    each_prometheus: Callable[..., Prometheus], features: tuple[str, ...]
) -> None:
    """In each format the page is read, with the samples that have a bad exemplar, and ours."""
    exemplars = iter([{"trace_id": "a\0b"}])
    with PrometheusExporter(0, exemplar=lambda: next(exemplars, None)) as exporter:
        exporter.registry.register(Hostile())
        set_trace_function(exporter)
        with Tracer("Cart").span():
            pass
        assert swallowed_errors() == 1
        assert exporter.port
        with _text_of(exporter) as port:
            prometheus = each_prometheus(
                exporter.port, jobs=JOB.format(port=port), features=features
            )
            for job in ("hypertrace", "text"):
                prometheus.wait_for_scrape(job)
            spans = prometheus.query("function_duration_seconds_count")
            counters = prometheus.query('{__name__=~"hostile_.*_total"}')
    assert sorted((labels["job"], value) for labels, value in spans) == [
        ("hypertrace", 1),
        ("text", 1),
    ]
    expected = sum(kind == "counter" for kind, _ in _hostile())
    assert len(counters) == 2 * expected > 60
