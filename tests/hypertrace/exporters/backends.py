"""Backends with receivers that fail in every way, and say what arrived."""

from __future__ import annotations

import gzip
import json
import socket
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from line_protocol_parser import parse_line

from hypertrace.exporters.influx import InfluxExporter
from hypertrace.exporters.json_lines import JsonLinesExporter
from hypertrace.exporters.opentelemetry import OpenTelemetryExporter
from hypertrace.exporters.statsd import StatsdExporter

from .opentelemetry.receiver import Receiver as OtlpReceiver
from .recording import NEVER
from .statsd.receivers import Receiver

if TYPE_CHECKING:
    from hypertrace.exporters.opentelemetry.exporter import Temporality
    from hypertrace.exporters.push import PushExporter
    from hypertrace.metrics import Metrics

COUNTER = "function_counter_total"


class Backend(Protocol):
    """An exporter, and what it sends to."""

    def export(self, metrics: Metrics, interval: float = NEVER) -> PushExporter:
        """Make an exporter."""

    def up(self) -> None:
        """Let the receiver take what comes."""

    def down(self) -> None:
        """Let the receiver be gone."""

    def calls(self) -> float:
        """Give how many calls have arrived, none of them twice; the receiver is up."""

    def close(self) -> None:
        """Free what it uses."""


class Statsd:
    """A StatsD daemon; what it gets over TCP or UDP is in its sums at once."""

    def __init__(self, scheme: str) -> None:
        self._receiver = Receiver(f"{scheme}://127.0.0.1:0")
        self.address = self._receiver.address
        self._ended = 0.0
        self._is_up = False
        self._receiver.socket.close()

    def export(self, metrics: Metrics, interval: float = NEVER) -> PushExporter:
        """Make an exporter."""
        return StatsdExporter(self.address, metrics=metrics, interval=interval)

    def up(self) -> None:
        """Listen at the same address."""
        self._receiver = Receiver(self.address).start()
        self._is_up = True

    def down(self) -> None:
        """Stop to listen."""
        if self._is_up:
            self._receiver.stop()
            self._ended += self._sum()
            self._is_up = False

    def calls(self) -> float:
        """Read all that is there."""
        self.down()
        self.up()
        return self._ended

    def close(self) -> None:
        """Stop to listen."""
        self.down()

    def _sum(self) -> float:
        sums = self._receiver.counters()
        return sum(value for name, value in sums.items() if name.startswith(COUNTER))


class Influx:
    """A server that replaces points of the same series and time, as InfluxDB does.

    Attributes:
        status: what it answers.
    """

    def __init__(self) -> None:
        self.status = 204
        self._points: dict[tuple[str, int], float] = {}
        self._http: ThreadingHTTPServer | None = None
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self._port: int = probe.getsockname()[1]
        self.address = f"http://127.0.0.1:{self._port}"

    def export(self, metrics: Metrics, interval: float = NEVER) -> PushExporter:
        """Make an exporter."""
        return InfluxExporter(
            self.address, database="db", metrics=metrics, interval=interval, timeout=1.0
        )

    def up(self) -> None:
        """Serve at the same address."""
        backend = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = gzip.decompress(self.rfile.read(int(self.headers["Content-Length"])))
                if backend.status == 204:
                    backend._keep(body.decode())
                self.send_response(backend.status)
                self.end_headers()

            def log_message(self, *_: object) -> None:
                pass

        self._http = ThreadingHTTPServer(("127.0.0.1", self._port), Handler)
        threading.Thread(target=self._http.serve_forever, args=(0.01,), daemon=True).start()

    def down(self) -> None:
        """Stop to serve."""
        if self._http is not None:
            self._http.shutdown()
            self._http.server_close()
            self._http = None

    def calls(self) -> float:
        """Add up the points."""
        return sum(self._points.values())

    def close(self) -> None:
        """Stop to serve."""
        self.down()

    def _keep(self, lines: str) -> None:
        for line in filter(None, lines.split("\n")):
            parsed: dict[str, Any] = parse_line(line)
            if parsed["measurement"] == COUNTER:
                series = line.rsplit(" ", 2)[0]
                self._points[series, parsed["time"]] = parsed["fields"]["val"]


class Otlp:
    """A receiver of OTLP, which adds up differences, or keeps the totals of each instance."""

    def __init__(self, temporality: Temporality) -> None:
        self._temporality = temporality
        self._receiver = OtlpReceiver()
        self.address = self._receiver.url
        self._requests = self._receiver.taken
        self._is_up = True
        self.down()

    def export(self, metrics: Metrics, interval: float = NEVER) -> PushExporter:
        """Make an exporter."""
        return OpenTelemetryExporter(
            self.address,
            temporality=self._temporality,
            metrics=metrics,
            interval=interval,
            timeout=1.0,
        )

    def up(self) -> None:
        """Serve at the same address."""
        self._receiver = OtlpReceiver(self._receiver.port)
        self._receiver.taken = self._requests
        self._is_up = True

    def down(self) -> None:
        """Stop to serve."""
        if self._is_up:
            self._receiver.stop()
            self._is_up = False

    def calls(self) -> float:
        """Add up what came, or what came last."""
        calls = self._receiver.calls()
        if self._temporality == "delta":
            return sum(calls)
        instances = [one.resource["service.instance.id"] for one in self._requests]
        return sum(dict(zip(instances, calls, strict=True)).values())

    def close(self) -> None:
        """Stop to serve."""
        self.down()


class Lines:
    """A file, whose folder is renamed while it is down."""

    def __init__(self, folder: Path) -> None:
        self._there, self._away = folder / "lines", folder / "away"
        self._there.mkdir()
        self.address = str(self._there / "metrics.jsonl")

    def export(self, metrics: Metrics, interval: float = NEVER) -> PushExporter:
        """Make an exporter; a folder that is missing then would be an error."""
        is_down = self._away.exists()
        self.up()
        made = JsonLinesExporter(self.address, metrics=metrics, interval=interval)
        if is_down:
            self.down()
        return made

    def up(self) -> None:
        """Be where it was."""
        if self._away.exists():
            self._away.rename(self._there)

    def down(self) -> None:
        """Be elsewhere."""
        if self._there.exists():
            self._there.rename(self._away)

    def calls(self) -> float:
        """Add up the last line of each number."""
        last: dict[tuple[Any, ...], float] = {}
        with Path(self.address).open() as file:
            for line in map(json.loads, filter(str.strip, file)):
                points = [p["value"] for p in line["metrics"] if p["name"] == COUNTER]
                last[line["pid"], line["started"], line["sequence"]] = sum(points)
        return sum(last.values())

    def close(self) -> None:
        """Do nothing."""
