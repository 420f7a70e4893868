"""Receiver of OTLP over HTTP: decodes requests with OpenTelemetry's own messages, and adds up."""

from __future__ import annotations

import gzip
import threading
from collections import deque
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any, NamedTuple

from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import (
    ExportMetricsServiceRequest,
)

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable, Iterator
    from email.message import Message

CALLS = "function_counter_total"

Labels = frozenset[tuple[str, str]]


class Request(NamedTuple):
    """What a receiver got."""

    path: str
    headers: Message
    data: ExportMetricsServiceRequest

    @property
    def resource(self) -> dict[str, str]:
        (found,) = self.data.resource_metrics
        return attributes_of(found.resource)

    @property
    def metrics(self) -> dict[str, Any]:
        """The metrics by name, which are all different."""
        (of_resource,) = self.data.resource_metrics
        metrics = [metric for scope in of_resource.scope_metrics for metric in scope.metrics]
        found = {metric.name: metric for metric in metrics}
        assert len(found) == len(metrics)
        return found

    def points(self, name: str) -> Iterator[Any]:
        metric = self.metrics.get(name)
        if metric is not None:
            yield from getattr(metric, metric.WhichOneof("data")).data_points

    def numbers(self, name: str) -> dict[Labels, float]:
        """The value of each series."""
        return {
            frozenset(attributes_of(point).items()): getattr(point, point.WhichOneof("value"))
            for point in self.points(name)
        }


class Receiver:
    """Keeps what it gets, and answers as the test says.

    Attributes:
        answers: the next ones, with status and body; an empty 200 if there is none. A request that
            is answered with a body that begins with `stored` counts, whatever the status.
        taken: the requests that it has not refused.
    """

    def __init__(self, port: int = 0, tls: ssl.SSLContext | None = None) -> None:
        self.requests: list[Request] = []
        self.taken: list[Request] = []
        self.answers: deque[tuple[int, bytes]] = deque()
        self.on_request: Callable[[], object] = lambda: None
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                if self.headers["Content-Encoding"] == "gzip":
                    body = gzip.decompress(body)
                data = ExportMetricsServiceRequest.FromString(body)
                request = Request(self.path, self.headers, data)
                receiver.requests.append(request)
                receiver.on_request()
                status, text = receiver.answers.popleft() if receiver.answers else (200, b"")
                if status == 200 or text.startswith(b"stored"):
                    receiver.taken.append(request)
                self.send_response(status)
                if status == 302:
                    self.send_header("Location", f"{receiver.url}/elsewhere")
                self.send_header("Content-Length", str(len(text)))
                self.end_headers()
                self.wfile.write(text)

            def log_message(self, *_: object) -> None:
                pass

        self._http = ThreadingHTTPServer(("127.0.0.1", port), Handler)
        self._http.daemon_threads = True
        self.port: int = self._http.server_port
        self.url = f"http://127.0.0.1:{self.port}"
        if tls is not None:
            self.url = self.url.replace("http", "https")
            self._http.socket = tls.wrap_socket(self._http.socket, server_side=True)
        threading.Thread(target=self._http.serve_forever, args=(0.01,), daemon=True).start()

    def calls(self) -> list[float]:
        """Give the calls in each request that it has taken."""
        return [sum(request.numbers(CALLS).values()) for request in self.taken]

    def stop(self) -> None:
        self._http.shutdown()
        self._http.server_close()


def attributes_of(holder: Any) -> dict[str, str]:
    found = {one.key: one.value.string_value for one in holder.attributes}
    assert len(found) == len(holder.attributes)
    return found
