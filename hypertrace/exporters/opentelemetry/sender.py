"""Sender: requests by OpenTelemetry's exporter for OTLP over HTTP, each of them one attempt."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import requests
from google.protobuf.message import DecodeError
from opentelemetry import context
from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import (
    ExportMetricsServiceResponse,
)
from opentelemetry.sdk.metrics.export import MetricExportResult

from hypertrace.exporters.answers import SHOWN, RefusedError, check

if TYPE_CHECKING:
    from opentelemetry.sdk.metrics.export import MetricsData

_NOT_INSTRUMENTED = "suppress_instrumentation"
"""Key in OpenTelemetry's context, by which its instrumentations leave a request out."""


class Sender:
    """Sends metric data by the library's exporter, which knows the variables of OpenTelemetry.

    Each request has its own connection, so that processes share none.
    """

    def __init__(self, endpoint: str, timeout: float) -> None:
        """Make the library's exporter.

        Args:
            endpoint: the whole URL.
            timeout: seconds to wait for the receiver.
        """
        self._session = _OneAttempt(timeout)
        self._exporter = OTLPMetricExporter(endpoint, timeout=timeout, session=self._session)

    def send(self, data: MetricsData) -> int:
        """Send metric data, and return how many bytes it was.

        Raises:
            RefusedError: the receiver has refused it or some of it, and would again.
            Exception: it was not sent, as far as is known.
        """
        token = context.attach(context.set_value(_NOT_INSTRUMENTED, value=True))
        try:
            result = self._exporter.export(data)
        except _EndOfAttempt as end:
            raise end.error from None
        finally:
            context.detach(token)
            self._session.close()
        if result is not MetricExportResult.SUCCESS:
            raise OSError("the library of OpenTelemetry could not encode it; its log says why")
        return self._session.size


class _EndOfAttempt(BaseException):
    """The end of an attempt that failed.

    Not an `Exception`: the library would catch it and try again for as long as its timeout is,
    which holds up the next reading and the end of the program.
    """

    def __init__(self, error: Exception) -> None:
        super().__init__(error)
        self.error = error


class _OneAttempt(requests.Session):
    """Session that ends the library's attempts at the first one.

    Attributes:
        size: bytes of the last request.
    """

    size: int = 0

    def __init__(self, timeout: float) -> None:
        super().__init__()
        self._timeout = timeout

    def request(  # type: ignore[override]  # what the library gives is passed on
        self, method: str, url: str, **options: Any
    ) -> requests.Response:
        if self.verify is not True:
            # Else REQUESTS_CA_BUNDLE would win over the certificate that OpenTelemetry is given.
            options.setdefault("verify", self.verify)
        # The library takes what is left of it by a clock that may be set meanwhile.
        options["timeout"] = self._timeout
        options["allow_redirects"] = False
        self.size = len(options["data"])
        try:
            try:
                response = super().request(method, url, **options)
            except requests.exceptions.InvalidHeader:
                # Its message shows the value, which may be a token.
                raise ValueError(
                    "a header in OTEL_EXPORTER_OTLP_HEADERS has a line break or a space before it"
                ) from None
            content = response.content
            check(response.status_code, response.reason, content.decode("utf-8", "replace"))
            _check_all_taken(content)
        except Exception as error:  # noqa: BLE001 -- raised again by the sender
            raise _EndOfAttempt(error) from None
        return response


def _check_all_taken(content: bytes) -> None:
    try:
        answer = ExportMetricsServiceResponse.FromString(content)
    except DecodeError:  # a text, from a receiver that does not follow the protocol here
        return
    if rejected := answer.partial_success.rejected_data_points:
        raise RefusedError(answer.partial_success.error_message[:SHOWN], rejected)
