"""OpenTelemetry exporter: what is sent, what is refused, what fails, and what is sent again."""

from __future__ import annotations

import logging
import os
import socket
import ssl
import subprocess
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import requests
import trustme
from opentelemetry import context, trace
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import (
    ExportMetricsServiceResponse,
)

import hypertrace
from hypertrace import Tracer, set_trace_function, traced
from hypertrace.exporters.opentelemetry import OpenTelemetryExporter
from hypertrace.metrics import Distribution, Metrics, Summary

from ...conftest import needs_fork
from ..recording import NEVER, SOON, Hanging, until
from .receiver import CALLS, Receiver

if TYPE_CHECKING:
    from collections.abc import Callable

    from opentelemetry.sdk.trace import TracerProvider

    Export = Callable[..., OpenTelemetryExporter]


def buy(times: int = 1, name: str = "buy") -> None:
    tracer = Tracer("shop")
    for _ in range(times):
        tracer.trace(name)


def test_totals_are_sent_each_time(receiver: Receiver, export: Export) -> None:
    """Of all series, with one start and growing times."""
    exporter = export()
    buy(3)
    assert exporter.flush()
    buy(2, "sell")
    assert exporter.flush()
    assert receiver.calls() == [3, 5]
    points = [*receiver.taken[0].points(CALLS), *receiver.taken[1].points(CALLS)]
    assert len({point.start_time_unix_nano for point in points}) == 1
    assert points[0].start_time_unix_nano <= points[0].time_unix_nano < points[1].time_unix_nano
    assert all(
        request.metrics[CALLS].sum.aggregation_temporality == 2 for request in receiver.taken
    )
    assert (exporter.sent, exporter.failures, exporter.dropped) == (2, 0, 0)


def test_differences_are_sent_once(receiver: Receiver, export: Export) -> None:
    """Without series that did not change; one interval begins where the one before has ended."""
    exporter = export(temporality="delta")
    buy(3)
    assert exporter.flush()
    buy(2, "sell")
    assert exporter.flush()
    assert exporter.flush()
    assert receiver.calls() == [3, 2, 0]
    (first,) = receiver.taken[0].points(CALLS)
    (second,) = receiver.taken[1].points(CALLS)
    assert second.start_time_unix_nano == first.time_unix_nano
    assert receiver.taken[0].metrics[CALLS].sum.aggregation_temporality == 1


@pytest.mark.parametrize(
    ("preference", "expected"),
    [("", "cumulative"), ("Cumulative", "cumulative"), ("delta", "delta"), ("LOWMEMORY", "delta")],
)
def test_the_environment_prefers_a_temporality(
    export: Export, monkeypatch: pytest.MonkeyPatch, preference: str, expected: str
) -> None:
    """The argument wins."""
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE", preference)
    assert export().temporality == expected
    assert export(temporality="cumulative").temporality == "cumulative"


def test_all_kinds_are_sent(receiver: Receiver, export: Export) -> None:
    """As the library decodes them: spans, distributions with exponential buckets, summaries."""
    exporter = export(
        declared=[
            Distribution("sizes", of="*", value="size", native=True),
            Summary("weights", of="*", value="size"),
        ]
    )
    with Tracer("shop").span("buy", {"size": 5.0}):
        pass
    assert exporter.flush()
    (request,) = receiver.taken
    kinds = {name: metric.WhichOneof("data") for name, metric in request.metrics.items()}
    assert kinds["function_duration_seconds"] == "histogram"
    assert kinds["function_in_progress"] == "gauge"
    assert kinds["sizes"] == "exponential_histogram"
    assert kinds["weights"] == "gauge"
    assert kinds["weights_count"] == kinds["weights_sum"] == "sum"
    assert kinds["hypertrace_build_info"] == "sum"


def test_exponential_histograms_are_preferred_by_the_environment(
    receiver: Receiver, export: Export, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of durations that are counted in both kinds of buckets."""
    name = "OTEL_EXPORTER_OTLP_METRICS_DEFAULT_HISTOGRAM_AGGREGATION"
    monkeypatch.setenv(name, "base2_exponential_bucket_histogram")
    exporter = export(native_histograms=True)
    with Tracer("shop").span("buy"):
        pass
    assert exporter.flush()
    metric = receiver.taken[0].metrics["function_duration_seconds"]
    assert metric.WhichOneof("data") == "exponential_histogram"


def test_exemplars_lead_to_the_traces_of_the_application(
    receiver: Receiver, export: Export, traces: TracerProvider
) -> None:
    """Those of the interval, once."""
    exporter = export()
    with (
        traces.get_tracer("test").start_as_current_span("request") as span,
        Tracer("shop").span("buy"),
    ):
        ids = span.get_span_context()
    assert exporter.flush()
    assert exporter.flush()
    first, second = ([*one.points("function_duration_seconds")] for one in receiver.taken)
    (exemplar,) = first[0].exemplars
    assert exemplar.trace_id == ids.trace_id.to_bytes(16, "big")
    assert exemplar.span_id == ids.span_id.to_bytes(8, "big")
    assert not second[0].exemplars


def test_labels_of_the_process_are_the_resource(
    receiver: Receiver, export: Export, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Those of the environment among them; none is an attribute of a point."""
    monkeypatch.setenv("OTEL_RESOURCE_ATTRIBUTES", "deployment.environment=test,service.name=x")
    exporter = export(labels={"service": "shop"})
    buy()
    assert exporter.flush()
    (request,) = receiver.taken
    assert request.resource["service.name"] == "shop"
    assert request.resource["deployment.environment"] == "test"
    assert len(request.resource) == 3
    (labels,) = request.numbers(CALLS)
    assert {name for name, _ in labels} == {
        *("object_classname", "caller_functionname", "caller_filename", "id")
    }


def test_the_instance_and_the_start_are_those_of_the_counts(
    receiver: Receiver, export: Export
) -> None:
    """Two exporters of one `Metrics` agree; another `Metrics` is another instance."""
    metrics = Metrics(workers=False)
    buy_one = [export(metrics=metrics), export(metrics=metrics), export(workers=False)]
    for exporter in buy_one:
        assert exporter.flush()
    one, two, other = (request.resource["service.instance.id"] for request in receiver.taken)
    assert one == two != other


@pytest.mark.parametrize(
    ("endpoint", "path"),
    [("", "/v1/metrics"), ("/", "/v1/metrics"), ("/otlp/v1/metrics?a=b", "/otlp/v1/metrics?a=b")],
)
def test_an_endpoint_without_a_path_has_the_one_of_the_protocol(
    receiver: Receiver, export: Export, endpoint: str, path: str
) -> None:
    """Any other path is asked for as it is."""
    exporter = export(receiver.url + endpoint)
    assert exporter.flush()
    assert receiver.requests[0].path == path
    assert exporter.endpoint == receiver.url + path


@pytest.mark.parametrize(
    ("variables", "path"),
    [
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": ""}, "/v1/metrics"),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "/base/"}, "/base/v1/metrics"),
        (
            {
                "OTEL_EXPORTER_OTLP_ENDPOINT": "/base",
                "OTEL_EXPORTER_OTLP_METRICS_ENDPOINT": "/metrics",
            },
            "/metrics",
        ),
    ],
)
def test_the_environment_says_where_headers_and_compression(
    receiver: Receiver,
    export: Export,
    monkeypatch: pytest.MonkeyPatch,
    variables: dict[str, str],
    path: str,
) -> None:
    """As the specification of OpenTelemetry has it."""
    for name, value in variables.items():
        monkeypatch.setenv(name, receiver.url + value)
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_HEADERS", "api-key=secret%20one")
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_COMPRESSION", "gzip")
    assert export(None).flush()
    (request,) = receiver.requests
    assert request.path == path
    assert request.headers["api-key"] == "secret one"
    assert request.headers["Content-Encoding"] == "gzip"
    assert request.headers["Content-Type"] == "application/x-protobuf"


def test_a_header_that_cannot_be_sent_is_not_logged(
    receiver: Receiver,
    export: Export,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """It may be a token."""
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_HEADERS", "api-key=secret%0Aone")
    assert not export().flush()
    assert "a header in OTEL_EXPORTER_OTLP_HEADERS" in caplog.text
    assert "secret" not in caplog.text
    assert not receiver.requests


def test_without_any_address_it_is_the_port_of_a_collector_here(export: Export) -> None:
    """As in OpenTelemetry's SDK."""
    assert export(None).endpoint == "http://localhost:4318/v1/metrics"


@pytest.mark.parametrize(
    ("settings", "error", "text"),
    [
        ({"endpoint": 4318}, TypeError, "endpoint must be a str"),
        ({"endpoint": "localhost:4318"}, ValueError, "endpoint must be 'http://HOST:PORT/PATH'"),
        ({"endpoint": "grpc://localhost:4317"}, ValueError, "must be 'http://"),
        ({"endpoint": "http://"}, ValueError, "must be 'http://"),
        ({"endpoint": "http://host:x"}, ValueError, "is no URL"),
        ({"endpoint": "http://host:0"}, ValueError, "must be 'http://"),
        ({"endpoint": "http://host/a b"}, ValueError, "must be 'http://"),
        ({"endpoint": "http://ann:secret@host"}, ValueError, "has credentials"),
        ({"temporality": "totals"}, ValueError, "temporality must be one of cumulative, delta"),
        ({"timeout": "10"}, TypeError, "timeout must be a number"),
        ({"timeout": True}, TypeError, "timeout must be a number"),
        ({"timeout": 0}, ValueError, "timeout must be above 0"),
        ({"interval": 0}, ValueError, "interval must be above 0"),
        ({"metrics": 1}, TypeError, "metrics must be"),
        ({"no_such": 1}, TypeError, "no_such"),
    ],
)
def test_wrong_arguments_are_errors_that_name_them(
    settings: dict[str, Any], error: type[Exception], text: str
) -> None:
    """And leave no thread behind."""
    before = threading.active_count()
    with pytest.raises(error, match=text) as raised:
        OpenTelemetryExporter(**settings)
    assert "secret" not in str(raised.value)
    assert threading.active_count() == before


def test_a_wrong_variable_is_an_error_that_names_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where no argument takes its place."""
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "collector:4317")
    with pytest.raises(ValueError, match="OTEL_EXPORTER_OTLP_ENDPOINT must be"):
        OpenTelemetryExporter()
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc")
    with pytest.raises(ValueError, match="gRPC"):
        OpenTelemetryExporter()
    for wrong in ("10s", "0", "nan"):
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_TIMEOUT", wrong)
        with pytest.raises(ValueError, match=f"OTEL_EXPORTER_OTLP_TIMEOUT must .* not '{wrong}'"):
            OpenTelemetryExporter("http://127.0.0.1:4318")


def test_without_the_extra_the_error_says_what_to_install() -> None:
    """Whatever of it is missing."""
    program = """
import sys
sys.modules[sys.argv[1]] = None
try:
    import hypertrace.exporters.opentelemetry
except ModuleNotFoundError as error:
    print(error)
"""
    for missing in ("opentelemetry", "opentelemetry.exporter.otlp.proto.http", "requests"):
        done = subprocess.run(
            [sys.executable, "-c", program, missing],
            env={**os.environ, "PYTHONPATH": str(Path(hypertrace.__file__).parent.parent)},
            capture_output=True,
            text=True,
            check=True,
            timeout=60,
        )
        assert 'needs more: pip install "hypertrace[opentelemetry]"' in done.stdout


@pytest.mark.parametrize("temporality", ["cumulative", "delta"])
@pytest.mark.parametrize("status", [500, 502, 503, 429, 404, 401, 302])
def test_what_could_not_be_sent_is_part_of_the_next_attempt(
    receiver: Receiver,
    export: Export,
    caplog: pytest.LogCaptureFixture,
    temporality: str,
    status: int,
) -> None:
    """Each attempt is one request: the library does not repeat it, or follow it elsewhere."""
    receiver.answers.append((status, b"out of   order"))
    exporter = export(temporality=temporality)
    buy(3)
    assert not exporter.flush()
    assert len(receiver.requests) == 1
    buy(2)
    assert exporter.flush()
    assert len(receiver.requests) == 2
    assert receiver.calls() == [5]
    assert (exporter.failures, exporter.dropped) == (1, 0)
    assert f"{status} " in caplog.text
    assert "out of order" in caplog.text
    assert {record.name for record in caplog.records} == {"hypertrace.exporters"}


@pytest.mark.parametrize(("temporality", "calls"), [("cumulative", [5]), ("delta", [2])])
@pytest.mark.parametrize("status", [400, 413, 422])
def test_what_is_refused_is_dropped(
    receiver: Receiver,
    export: Export,
    caplog: pytest.LogCaptureFixture,
    temporality: str,
    calls: list[int],
    status: int,
) -> None:
    """The receiver would refuse it again; totals are in the next reading all the same."""
    receiver.answers.append((status, b"no such \xff metric"))
    exporter = export(temporality=temporality)
    buy(3)
    assert exporter.flush()
    dropped = exporter.dropped
    assert dropped >= 1
    buy(2)
    assert exporter.flush()
    assert receiver.calls() == calls
    assert (exporter.failures, exporter.dropped) == (0, dropped)
    assert f"was refused {dropped} points, which are dropped: {status} " in caplog.text
    assert "no such \ufffd metric" in caplog.text


def test_a_part_that_is_refused_is_logged(
    receiver: Receiver, export: Export, caplog: pytest.LogCaptureFixture
) -> None:
    """With the reason of the receiver; the rest has arrived."""
    answer = ExportMetricsServiceResponse()
    answer.partial_success.rejected_data_points = 2
    answer.partial_success.error_message = "too old"
    receiver.answers.append((200, answer.SerializeToString()))
    exporter = export(temporality="delta")
    buy(3)
    assert exporter.flush()
    buy(2)
    assert exporter.flush()
    assert receiver.calls() == [3, 2]
    assert (exporter.failures, exporter.dropped) == (0, 2)
    assert "was refused 2 points, which are dropped: too old" in caplog.text


@pytest.mark.parametrize(("rejected", "is_dropped"), [(2**62, True), (-1, False)])
def test_no_more_points_are_dropped_than_were_sent(
    receiver: Receiver, export: Export, rejected: int, is_dropped: bool
) -> None:
    """Whatever a receiver says: to count as many as it likes would take the thread for ever."""
    answer = ExportMetricsServiceResponse()
    answer.partial_success.rejected_data_points = rejected
    receiver.answers.append((200, answer.SerializeToString()))
    exporter = export()
    assert exporter.flush()
    assert bool(exporter.dropped) is is_dropped


@pytest.mark.parametrize("body", [b"ok", b"\n", b'{"partialSuccess":{}}'])
def test_other_answers_of_success_are_success(
    receiver: Receiver, export: Export, body: bytes
) -> None:
    """From receivers that do not answer with a message of the protocol."""
    receiver.answers.append((200, body))
    exporter = export()
    assert exporter.flush()
    assert (exporter.failures, exporter.dropped) == (0, 0)


def test_what_the_library_cannot_encode_fails(
    receiver: Receiver, export: Export, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is not taken for sent."""
    exporter = export()
    monkeypatch.setattr(exporter, "encode", lambda _: None)
    assert not exporter.flush()
    assert exporter.failures == 1
    assert not receiver.requests


def test_a_receiver_that_is_missing_and_comes(
    receiver: Receiver, export: Export, free_port: Callable[[], int]
) -> None:
    """Nothing is lost."""
    port = free_port()
    exporter = export(f"http://127.0.0.1:{port}", temporality="delta")
    buy(3)
    assert not exporter.flush()
    late = Receiver(port)
    try:
        buy(2)
        until(lambda: exporter.flush(0.5))
        assert sum(late.calls()) == 5
    finally:
        late.stop()


@pytest.mark.parametrize("where", ["argument", "environment"])
def test_a_receiver_that_never_answers_costs_the_timeout(
    receiver: Receiver,
    export: Export,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    where: str,
) -> None:
    """One attempt of it, and the stop no more than its own."""
    settings = {"timeout": 0.2} if where == "argument" else {}
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_TIMEOUT", "60" if settings else "0.2")
    with socket.create_server(("127.0.0.1", 0)) as silent:
        exporter = export(f"http://127.0.0.1:{silent.getsockname()[1]}", **settings)
        buy(3)
        assert not exporter.flush(SOON)
        assert exporter.failures == 1
        exporter.stop()
    assert exporter.failures == 2
    assert "timed out" in caplog.text


def test_a_stop_does_not_wait_for_a_receiver_that_hangs(
    receiver: Receiver, export: Export, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It waits for its own time limit, and says that a reading may be lost."""
    monkeypatch.setattr("hypertrace.exporters.processes.EXIT_TIMEOUT", 0.05)
    hang = receiver.on_request = Hanging()
    exporter = export()
    stopped = threading.Thread(target=exporter.stop)
    stopped.start()
    assert hang.entered.wait(SOON)
    stopped.join(SOON)
    assert not stopped.is_alive()
    hang.released.set()


def test_requests_of_the_exporter_are_traced_by_no_one(
    receiver: Receiver, export: Export, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither as events here, nor by instrumentations of OpenTelemetry; the context is put back."""
    suppressed: list[object] = []
    send = requests.Session.send

    @traced
    def watched(*arguments: Any, **options: Any) -> Any:
        suppressed.append(context.get_value("suppress_instrumentation"))
        return send(*arguments, **options)

    monkeypatch.setattr(requests.Session, "send", watched)
    exporter = export()
    buy(2)
    assert exporter.flush()
    assert exporter.flush()
    assert suppressed == [True, True]
    assert receiver.calls() == [2, 2]


def test_tls_with_the_certificate_of_the_environment(
    export: Export, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Without it the receiver is not trusted, and gets nothing."""
    authority = trustme.CA()
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(tls)
    secured = Receiver(tls=tls)
    try:
        exporter = export(secured.url)
        assert not exporter.flush()
        exporter.stop()
        assert not secured.requests
        authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_CERTIFICATE", str(tmp_path / "ca.pem"))
        assert export(secured.url).flush()
        assert len(secured.requests) == 1
    finally:
        secured.stop()


def test_the_rest_is_sent_when_it_is_stopped(receiver: Receiver, export: Export) -> None:
    """And nothing after that."""
    exporter = export()
    buy(3)
    exporter.stop()
    assert receiver.calls() == [3]
    assert not exporter.flush()


@needs_fork
@pytest.mark.parametrize("temporality", ["cumulative", "delta"])
def test_a_forked_child_that_counts_alone_is_another_instance(
    receiver: Receiver, temporality: str
) -> None:
    """It counts from zero, with a later start; its parent goes on."""
    program = f"""
import os, sys, warnings
warnings.simplefilter("ignore")
from hypertrace import Tracer, set_trace_function
from hypertrace.exporters.opentelemetry import OpenTelemetryExporter

exporter = OpenTelemetryExporter(
    sys.argv[1], workers=False, interval=3600, temporality={temporality!r}
)
set_trace_function(exporter)
shop = Tracer("shop")
[shop.trace() for _ in range(3)]
assert exporter.flush(30)
child = os.fork()
if child == 0:
    [shop.trace() for _ in range(5)]
    os._exit(0 if exporter.flush(30) else 3)
assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
shop.trace()
exporter.stop()
"""
    environment = {k: v for k, v in os.environ.items() if not k.startswith("COVERAGE_")}
    subprocess.run(
        [sys.executable, "-c", program, receiver.url],
        env={**environment, "PYTHONPATH": str(Path(hypertrace.__file__).parent.parent)},
        check=True,
        timeout=120,
    )
    assert receiver.calls() == ([3, 5, 4] if temporality == "cumulative" else [3, 5, 1])
    before, child, after = (request.resource["service.instance.id"] for request in receiver.taken)
    assert before == after != child
    starts = [next(one.points(CALLS)).start_time_unix_nano for one in receiver.taken]
    assert starts[1] > starts[0]
    if temporality == "cumulative":
        assert starts[0] == starts[2]


WORKERS = """
import os, signal, sys, time, warnings
warnings.simplefilter("ignore")
from hypertrace import Tracer, set_trace_function
from hypertrace.exporters.opentelemetry import OpenTelemetryExporter

exporter = OpenTelemetryExporter(
    sys.argv[1], workers=sys.argv[2], interval=3600, temporality=sys.argv[3]
)
set_trace_function(exporter)
for _ in range(int(sys.argv[4])):
    Tracer("shop").trace()
assert exporter.flush(30)
print("counted", flush=True)
sys.stdin.read()
"""


@needs_fork
@pytest.mark.parametrize(("temporality", "calls"), [("cumulative", [3, 8]), ("delta", [3, 5])])
def test_a_worker_that_takes_over_continues_the_same_totals(
    receiver: Receiver, tmp_path: Path, temporality: str, calls: list[int]
) -> None:
    """After the one that sent was killed: of the same instance, with the same start."""

    def start(times: int) -> subprocess.Popen[bytes]:
        arguments = [receiver.url, str(tmp_path / "shared"), temporality, str(times)]
        process = subprocess.Popen(
            [sys.executable, "-c", WORKERS, *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env={**os.environ, "PYTHONPATH": str(Path(hypertrace.__file__).parent.parent)},
        )
        assert process.stdout is not None
        assert process.stdout.readline() == b"counted\n"
        return process

    first = start(3)
    first.kill()
    first.communicate()
    second = start(5)
    second.communicate(timeout=60)
    assert receiver.calls()[:2] == calls
    assert len({request.resource["service.instance.id"] for request in receiver.taken}) == 1
    points = [next(one.points(CALLS)) for one in receiver.taken[:2]]
    if temporality == "cumulative":
        assert points[0].start_time_unix_nano == points[1].start_time_unix_nano
    else:
        assert points[0].time_unix_nano <= points[1].start_time_unix_nano


def test_an_exporter_is_stopped_by_the_end_of_a_block(receiver: Receiver) -> None:
    """As every exporter is."""
    with OpenTelemetryExporter(receiver.url, interval=NEVER) as exporter:
        set_trace_function(exporter)
        buy()
    assert receiver.calls() == [1]


def test_no_span_of_the_application_is_touched(receiver: Receiver, export: Export) -> None:
    """The exporter sets no tracer provider, and logs nothing where all is well."""
    assert export().flush()
    assert isinstance(trace.get_tracer_provider(), trace.ProxyTracerProvider)
    assert logging.getLogger("opentelemetry").level == logging.NOTSET
