"""InfluxDB exporter: the counts of each interval as points of line protocol."""

from __future__ import annotations

import http.client
import logging
import os
import re
import socket
from base64 import b64encode
from collections import deque
from functools import partial
from typing import TYPE_CHECKING
from urllib.parse import SplitResult, quote, unquote, urlencode, urlsplit

from hypertrace.exporters.answers import RefusalLog, RefusedError
from hypertrace.exporters.events import MAX_EVENTS
from hypertrace.exporters.push import PushExporter
from hypertrace.exporters.series_texts import SeriesTexts
from hypertrace.metrics.flushing import checked_timeout

from .event_lines import EventLines
from .lines import Batch, batches, lines
from .receivers import (
    DatagramReceiver,
    HttpReceiver,
    StreamReceiver,
    connect_tcp,
    connect_udp,
    connect_unix,
)
from .secrets import Secret

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence
    from typing import Unpack

    from hypertrace.metrics import CountingOptions, EventPoint, Metrics, Reading
    from hypertrace.metrics.declared.selections import Selected

    from .receivers import Receiver, Send

TOKEN_VARIABLE = "INFLUX_TOKEN"  # noqa: S105 -- the name of the variable

_UNITS = {"ns": 1_000_000_000, "us": 1_000_000, "ms": 1_000, "s": 1}
"""How many of each are in a second."""
_V1_PRECISIONS = {"ns": "n", "us": "u"}
"""What InfluxDB 1 calls them, where that differs."""

_HTTP = ("http", "https")
_SCHEMES = (*_HTTP, "udp", "tcp", "unix", "unixgram")

_PREFIX = re.compile("[A-Za-z][A-Za-z0-9_.-]*")

_logger = logging.getLogger("hypertrace.exporters")


class InfluxExporter(PushExporter):
    """Sends what was counted as line protocol: to InfluxDB 1 to 3, Telegraf or VictoriaMetrics.

    A point for each series, with the labels that have a value as tags, and all with the time of the
    reading. Counters have the field `val`: what was added in the interval; gauges their value now;
    histograms `count`, `sum`, `mean` and, for each bound, `le_0.1`: how many values of the interval
    are not above it; summaries `count`, `sum`, `mean` and `p50`. Series without change are left
    out. `docs/influxdb.md` has all fields.

    With `events` there is also a point for each event, with its time: its tags are those of
    `EventPoint`, numbers and truth values among them are fields, and the field `val` is the value.
    Declared metrics whose events are sent so have no other points. What waits is sent again until
    the receiver has it.

    What the receiver refuses as wrong (400, 413 and most of 4xx) is logged with its reason, counted
    in `dropped`, and not sent again. All other failures are those of `PushExporter`: what could not
    be sent is part of the next attempt. Where the receiver may have stored it nevertheless, the
    next attempt uses the same time again: InfluxDB then replaces the points, and no value counts
    twice.

    The thread, forks and the end of the program are as in `PushExporter`.

    Attributes:
        address: the URL.
    """

    def __init__(  # type: ignore[misc]  # noqa: PLR0913 -- its prefix is not that of Metrics
        self,
        url: str,
        *,
        database: str | None = None,
        bucket: str | None = None,
        org: str | None = None,
        token: str | None = None,
        username: str | None = None,
        password: str | None = None,
        precision: str = "ns",
        interval: float = 10.0,
        timeout: float = 10.0,
        gzip: bool = True,
        prefix: str = "",
        events: Iterable[Selected] = (),
        max_events: int = MAX_EVENTS,
        metrics: Metrics | None = None,
        **counting: Unpack[CountingOptions],  # pyright: ignore[reportGeneralTypeIssues]
    ) -> None:
        """Start to send.

        Args:
            url: `http://HOST:PORT` or `https://…` of a server, to which `/write` or `/api/v2/write`
                is added; `udp://HOST:PORT`, `tcp://HOST:PORT`, `unix:///PATH` or
                `unixgram:///PATH` of a listener for lines.
            database: where the server writes it, with the interface of InfluxDB 1.
            bucket: where the server writes it, with that of InfluxDB 2 and 3.
            org: whose bucket it is; InfluxDB 2 needs it.
            token: `"file:PATH"` or `"env:NAME"`, where the token is, read again for each reading.
                None: of the variable INFLUX_TOKEN, if it is set and there is no `username`.
            username: for servers that have no tokens.
            password: `"file:PATH"` or `"env:NAME"`, where its password is.
            precision: of times: `ns`, `us`, `ms` or `s`.
            interval: seconds between two readings.
            timeout: seconds to wait for the receiver, each time.
            gzip: whether to compress requests.
            prefix: of the names of all measurements, as `shop` for `shop.function_counter_total`,
                or `shop_` for `shop_function_counter_total`; instead of that of `Metrics`.
            events: what selects the events of which each is a point, with its time: patterns on
                `Class.function`, `EventPattern`, or declared metrics.
            max_events: how many of them may wait to be sent.
            metrics: what to read; None makes one.
            counting: arguments of `Metrics` for the one that is made.

        Raises:
            OSError: the file of the token or password cannot be read.
            TypeError: an argument has the wrong type, or as in `PushExporter`.
            ValueError: an argument is wrong; the message says which, and what to do; or as in
                `PushExporter`.
            RuntimeError: as in `PushExporter`.
        """
        self._texts: SeriesTexts[str] = SeriesTexts()
        self._precision = _checked_precision(precision)
        self._prefix = _checked_prefix(prefix)
        target = _Target(url, checked_timeout(timeout))
        self.address: str = url
        if target.is_http:
            path = _write_path(target.path, database, bucket, org, precision)
            headers = _headers(token, username, password)
            self._receiver: Receiver = HttpReceiver(target.http, path, headers, compress=gzip)
        else:
            _refuse_http_arguments(target.scheme, database, bucket, org, token, username, password)
            self._receiver = target.socket_receiver()
        self._refusals = RefusalLog(_logger, type(self).__name__)
        super().__init__(
            metrics,
            counting,  # type: ignore[arg-type]  # as above
            interval=interval,
            events=events,
            max_events=max_events,
        )

    def begin(self) -> None:
        """Forget times: what comes is not part of an earlier attempt."""
        self._unconfirmed: int | None = None
        self._times: deque[int] = deque(maxlen=4096)
        unit = _UNITS[self._precision]
        self._event_lines = EventLines(self._prefix, self.forwards_to.labels, unit)

    def encode(self, reading: Reading) -> tuple[int, list[Batch]]:
        """Return the time of the points, and their lines in batches."""
        time = self._time_of(reading) if self._unconfirmed is None else self._unconfirmed
        made = lines(reading, time, self._prefix, self._events.names, self._texts)
        return time, batches(made, self._receiver.size)

    def send(self, encoded: tuple[int, list[Batch]]) -> None:
        """Send the batches."""
        time, made = encoded
        with self._receiver.connected() as send:
            # From here on the receiver may have some points, also if this fails.
            self._unconfirmed = time
            for batch in made:
                self._send_batch(send, batch)
        self._unconfirmed = None
        self._times.append(time)

    def encode_events(self, points: Sequence[EventPoint]) -> deque[Batch]:
        """Return the lines of events in batches."""
        return deque(batches(self._event_lines.encode(points), self._receiver.size))

    def send_events(self, encoded: deque[Batch]) -> None:
        """Send the batches; those that were sent are not part of the next attempt."""
        with self._receiver.connected() as send:
            while encoded:
                self._send_batch(send, encoded[0])
                encoded.popleft()

    def _send_batch(self, send: Send, batch: Batch) -> None:
        try:
            send(batch.data)
            self.count_bytes(len(batch.data))
        except RefusedError as refused:
            lines = refused.up_to(batch.lines)
            self.count_dropped(lines)
            self._refusals.add(lines, refused)

    def _time_of(self, reading: Reading) -> int:
        """Return the time of a reading, which no reading has that was sent before.

        Else InfluxDB would replace the points of that one. The clock may have been set back, and
        two readings may be in the same second.
        """
        # Floats have no more than microseconds today.
        unit = _UNITS[self._precision]
        time = round(reading.time * 1_000_000) * unit // 1_000_000
        while time in self._times:
            time += 1
        return time


class _Target:
    """The parts of a URL, checked, and connections there."""

    def __init__(self, url: str, timeout: float) -> None:
        if not isinstance(url, str):
            raise TypeError(f"url must be a str, as 'http://127.0.0.1:8086', not {type(url)}")
        parts = _split(url)
        self.scheme, self._timeout = parts.scheme, timeout
        self.is_http = self.scheme in _HTTP
        self._host = parts.hostname or ""
        self._port = parts.port
        if self.scheme in {"unix", "unixgram"}:
            self.path = unquote(parts.path)
            if parts.netloc or not self.path:
                raise ValueError(
                    f"url must be '{self.scheme}:///PATH', with three slashes: {url!r}"
                )
            if not hasattr(socket, "AF_UNIX"):
                raise ValueError(f"url: this system has no Unix sockets for {url!r}")
        else:
            self.path = quote(parts.path.rstrip("/"), safe="/%:@!$&'()*+,;=")
            if not self._host:
                raise ValueError(f"url has no host: {url!r}")
            if self.is_http and self.path.endswith("/write"):
                raise ValueError(
                    f"url must end before /write or /api/v2/write, which is added to it: {url!r}"
                )
            if not self.is_http and (self._port is None or self.path):
                raise ValueError(f"url must be '{self.scheme}://HOST:PORT', not {url!r}")

    def http(self) -> http.client.HTTPConnection:
        """Return an HTTP connection that is not open."""
        kind = http.client.HTTPSConnection if self.scheme == "https" else http.client.HTTPConnection
        return kind(self._host, self._port, timeout=self._timeout)

    def socket_receiver(self) -> Receiver:
        """Return the listener for lines."""
        if self.scheme == "unix":
            kind = socket.SOCK_STREAM
            return StreamReceiver(partial(connect_unix, self.path, kind, self._timeout))
        if self.scheme == "unixgram":
            kind = socket.SOCK_DGRAM
            return DatagramReceiver(partial(connect_unix, self.path, kind, self._timeout))
        assert self._port is not None  # noqa: S101 -- checked above
        if self.scheme == "tcp":
            return StreamReceiver(partial(connect_tcp, self._host, self._port, self._timeout))
        return DatagramReceiver(partial(connect_udp, self._host, self._port, self._timeout))


def _split(url: str) -> SplitResult:
    try:
        parts = urlsplit(url)
        port_error = not parts.port and parts.port is not None
    except ValueError as error:
        raise ValueError(f"url is none: {error}") from None
    if "@" in parts.netloc:
        # The message does not show it.
        raise ValueError("url has credentials in it: give username and password, or token, instead")
    if parts.scheme not in _SCHEMES:
        raise ValueError(
            f"url must begin with one of {', '.join(f'{s}://' for s in _SCHEMES)}, not {url!r}"
        )
    if parts.query or parts.fragment or port_error or not url.isprintable() or " " in url:
        raise ValueError(
            f"url must be an address without a query, as 'http://127.0.0.1:8086', not {url!r}"
        )
    return parts


def _write_path(
    prefix: str, database: str | None, bucket: str | None, org: str | None, precision: str
) -> str:
    for name, value in (("database", database), ("bucket", bucket), ("org", org)):
        if value is not None and (not isinstance(value, str) or not value):
            raise ValueError(f"{name} must be a text that is not empty, not {value!r}")
    if (database is None) == (bucket is None):
        raise ValueError(
            "give either database (InfluxDB 1, Telegraf's influxdb_listener) or bucket (InfluxDB 2 "
            "and 3)"
        )
    if database is not None:
        if org is not None:
            raise ValueError("org belongs to a bucket: give bucket instead of database")
        query = {"db": database, "precision": _V1_PRECISIONS.get(precision, precision)}
        return f"{prefix}/write?{urlencode(query)}"
    query = {"bucket": bucket or "", "precision": precision}
    if org is not None:
        query = {"org": org, **query}
    return f"{prefix}/api/v2/write?{urlencode(query)}"


def _headers(
    token: str | None, username: str | None, password: str | None
) -> Callable[[], Mapping[str, str]]:
    if username is None and password is None:
        if token is None and os.environ.get(TOKEN_VARIABLE):
            token = f"env:{TOKEN_VARIABLE}"
        if token is None:
            return dict
        secret = Secret("token", token)
        return lambda: {"Authorization": f"Token {secret.read()}"}
    if token is not None:
        raise ValueError("give either token, or username and password")
    if not isinstance(username, str) or not username or ":" in username or password is None:
        raise ValueError("username (a text without ':') and password belong together: give both")
    name, secret = username, Secret("password", password)
    return lambda: {
        "Authorization": f"Basic {b64encode(f'{name}:{secret.read()}'.encode()).decode()}"
    }


def _refuse_http_arguments(scheme: str, *values: str | None) -> None:
    if any(value is not None for value in values):
        raise ValueError(
            "database, bucket, org, token, username and password are for http:// and https://: for "
            f"{scheme}:// the configuration of the listener settles them"
        )


def _checked_precision(precision: str) -> str:
    if precision not in _UNITS:
        raise ValueError(f"precision must be one of {', '.join(_UNITS)}, not {precision!r}")
    return precision


def _checked_prefix(prefix: str) -> str:
    if not isinstance(prefix, str):
        raise TypeError(f"prefix must be a str, as 'shop', not {prefix!r}")
    if prefix and not _PREFIX.fullmatch(prefix):
        raise ValueError(
            f"prefix {prefix!r} is no beginning of a name: it takes letters, digits, '_', '-' and "
            "'.', and a letter first"
        )
    return f"{prefix}." if prefix and prefix[-1] not in "._" else prefix
