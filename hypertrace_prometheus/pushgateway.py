"""Pushgateway: a server that keeps the metrics of programs that end, for Prometheus to scrape."""

from __future__ import annotations

import http.client
import re
from base64 import b64encode, urlsafe_b64encode
from collections.abc import Mapping
from typing import TYPE_CHECKING
from urllib.parse import SplitResult, quote, unquote_to_bytes, urlsplit

from hypertrace.exporters.answers import SHOWN, check
from hypertrace.exporters.push import NEVER, PushExporter
from hypertrace.metrics.flushing import checked_timeout

from .http.access import authorization
from .runs import LABEL

if TYPE_CHECKING:
    from collections.abc import Callable

    from hypertrace.metrics import Metrics, Reading

    from .snapshot import Snapshot

_PLAIN = re.compile(r"[a-zA-Z0-9_-][a-zA-Z0-9_.:-]*")
"""Values that stand in a path as they are; routers give some others another meaning."""
_LABEL_NAME = re.compile(r"(?!__)[a-zA-Z_][a-zA-Z0-9_]*")

_HEADERS = {"Content-Type": "text/plain; version=0.0.4; charset=utf-8"}


class Pushgateway:
    """One group of metrics at a Pushgateway.

    What is pushed replaces all metrics of the group. The times of runs are in another group, which
    has the label `job_name`, too: there a run that fails leaves the time of the last success.
    """

    def __init__(
        self,
        url: str,
        job: str | None,
        grouping: Mapping[str, str] | None = None,
        auth: str | None = None,
        timeout: float = 10.0,
    ) -> None:
        """Know where to push; nothing is sent yet.

        Args:
            url: `http://HOST:PORT` or `https://…` of the Pushgateway, to which `/metrics/job/…` is
                added. A name and a password may stand before the host.
            job: label `job` of all metrics.
            grouping: further labels of all metrics.
            auth: `"file:PATH"` or `"env:NAME"`, where the credentials are: `name:password` or
                `Bearer TOKEN`, read again for each push.
            timeout: seconds to wait for each step: the connection, the answers.

        Raises:
            TypeError: an argument has the wrong type.
            ValueError: an argument is wrong; the message says which, and what to do.
            OSError: the file of the credentials cannot be read.
        """
        parts = _split(url)
        self._is_secure = parts.scheme == "https"
        self._host, self._port = parts.hostname or "", parts.port
        self._timeout = checked_timeout(timeout)
        self._group = "".join(
            _path_of(name, value) for name, value in _labels(job, grouping).items()
        )
        self._prefix = f"{quote(parts.path.rstrip('/'), safe='/%:@!$&()*+,;=')}/metrics"
        self._address = f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}"
        self._basic = _basic(parts)
        self._auth = auth
        if auth is not None:
            if self._basic is not None:
                raise ValueError("url has credentials in it, and auth has others: give one of them")
            authorization("auth", auth)

    @property
    def url(self) -> str:
        """Where the group is, without credentials."""
        return f"{self._address}{self._prefix}{self._group}"

    def push(self, snapshot: Snapshot) -> None:
        """Replace the group by what a snapshot has, and set the times of its runs.

        Raises:
            OSError: it was not pushed, or only in part. The message has the URL and the reason,
                such as the answer of the server.
            ValueError: the source of the credentials has none any more.
        """
        connection = self._connection()
        try:
            self._send(connection, "PUT", self._group, snapshot.metrics)
            for job in snapshot.runs.jobs:
                group = self._group + _path_of(LABEL, job)
                # Not PUT, which would remove the time of the last success.
                self._send(connection, "POST", group, snapshot.runs.text(job).encode())
        except (OSError, http.client.HTTPException) as error:
            reason = str(error) or type(error).__name__
            raise OSError(f"could not push to {self.url}: {reason}") from error
        finally:
            connection.close()

    def _connection(self) -> http.client.HTTPConnection:
        kind = http.client.HTTPSConnection if self._is_secure else http.client.HTTPConnection
        return kind(self._host, self._port, timeout=self._timeout)

    def _send(
        self, connection: http.client.HTTPConnection, method: str, group: str, body: bytes
    ) -> None:
        connection.request(method, f"{self._prefix}{group}", body, self._headers())
        response = connection.getresponse()
        answer = response.read(SHOWN * 4).decode("utf-8", "replace")
        if not response.isclosed():  # there is more: the next request connects again
            connection.close()
        check(response.status, response.reason, answer)

    def _headers(self) -> dict[str, str]:
        sent = self._basic if self._auth is None else authorization("auth", self._auth)
        return _HEADERS if sent is None else {**_HEADERS, "Authorization": sent}


class PushgatewayExporter(PushExporter):
    """Pushes to a Pushgateway when the program ends.

    Where workers share their counts, the one that leads pushes for all.
    """

    def __init__(
        self, gateway: Pushgateway, snapshot: Callable[[], Snapshot], metrics: Metrics
    ) -> None:
        """Start the thread.

        Args:
            gateway: where to push.
            snapshot: returns what to push.
            metrics: what is counted.

        Raises:
            RuntimeError: the system has no thread left.
        """
        self.gateway: Pushgateway = gateway
        self._snapshot = snapshot
        super().__init__(metrics, {}, interval=NEVER)

    def changes(self, reading: Reading, previous: Reading | None) -> Reading:  # noqa: ARG002 -- as below
        """Return all: what is pushed replaces what was there before."""
        return reading

    def encode(self, reading: Reading) -> Snapshot:  # noqa: ARG002 -- other collectors have more
        """Return what the registry shows now."""
        return self._snapshot()

    def send(self, encoded: Snapshot) -> None:
        """Push it."""
        self.gateway.push(encoded)
        self.count_bytes(len(encoded.metrics))


def _split(url: str) -> SplitResult:
    if not isinstance(url, str):
        raise TypeError(f"url must be a str, as 'http://127.0.0.1:9091', not {type(url)}")
    # Messages do not show it: it may have a password in it.
    try:
        parts = urlsplit(url)
        has_port = parts.port != 0
    except ValueError as error:
        raise ValueError(f"url is none: {error}") from None
    if parts.scheme not in {"http", "https"} or not parts.hostname:
        raise ValueError(
            "url of the Pushgateway must begin with http:// or https:// and a host, as "
            "'http://127.0.0.1:9091'"
        )
    if parts.query or parts.fragment or not has_port or not url.isprintable() or " " in url:
        raise ValueError("url must be an address without a query, as 'http://127.0.0.1:9091'")
    if "/metrics/job" in parts.path:
        raise ValueError("url must end before /metrics/job: give job and grouping instead")
    return parts


def _basic(parts: SplitResult) -> str | None:
    """Return the header with the credentials of a URL, None if it has none."""
    if parts.username is None and parts.password is None:
        return None
    name, password = (unquote_to_bytes(part or "") for part in (parts.username, parts.password))
    return f"Basic {b64encode(name + b':' + password).decode()}"


def _labels(job: str | None, grouping: Mapping[str, str] | None) -> dict[str, str]:
    grouping = {} if grouping is None else grouping
    if not isinstance(job, str):
        raise TypeError(f"job must be a str, the name of the job, not {job!r}")
    if not job:
        raise ValueError("job must be the name of the job, and is empty")
    if not isinstance(grouping, Mapping):
        raise TypeError(
            f'grouping must map names of labels to values, as {{"instance": "a"}}, not {grouping!r}'
        )
    for name, value in grouping.items():
        if not isinstance(name, str) or not isinstance(value, str):
            raise TypeError(f"grouping must have texts only, not {name!r}: {value!r}")
        if not _LABEL_NAME.fullmatch(name):
            raise ValueError(f"grouping has {name!r}, which Prometheus takes for no label name")
        if name in {"job", LABEL}:
            raise ValueError(f"grouping has {name!r}, which is set by itself: give job")
    return {"job": job, **grouping}


def _path_of(name: str, value: str) -> str:
    """Return a label as a part of a path."""
    if _PLAIN.fullmatch(value):
        return f"/{name}/{value}"
    # As much as the empty text needs.
    encoded = urlsafe_b64encode(value.encode(errors="replace")).decode() or "="
    return f"/{name}@base64/{encoded}"
