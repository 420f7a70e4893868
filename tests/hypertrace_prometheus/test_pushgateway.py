"""Pushgateway: paths of groups, requests, credentials, and what a push that fails says."""

from __future__ import annotations

import base64
import http.client
import logging
import os
import socket
import ssl
import subprocess
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

import pytest
import trustme
from hypothesis import example, given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry, Gauge
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

import hypertrace
from hypertrace import Tracer, get_trace_function, set_trace_function
from hypertrace.exporters import processes
from hypertrace.exporters.push import NEVER
from hypertrace_prometheus import PrometheusExporter
from hypertrace_prometheus.pushgateway import Pushgateway

from .gateway import Gateway
from .pages import values_in
from .running import LONG

if TYPE_CHECKING:
    from collections.abc import Iterator

    from prometheus_client.core import Metric

    from .running import Export

SOON = 30.0
SECRET = "4bf92f3577b34da6"
LAST_RUN = "jobs_last_run_timestamp_seconds"
LAST_SUCCESS = "jobs_last_success_timestamp_seconds"


@pytest.fixture
def gateway() -> Iterator[Gateway]:
    """Give a running gateway."""
    gateway = Gateway()
    yield gateway
    gateway.stop()


def _count(times: int = 3) -> None:
    tracer = Tracer("Invoices")
    for _ in range(times):
        tracer.trace("mail")


def _labels_of(path: str) -> dict[str, str]:
    """Read a path as the documentation of the Pushgateway says."""
    parts = path.split("/")
    assert parts[:2] == ["", "metrics"]
    labels = {}
    for name, value in zip(parts[2::2], parts[3::2], strict=True):
        assert value not in {"", ".", ".."}
        if name.endswith("@base64"):
            padded = value.rstrip("=") + "=" * (-len(value.rstrip("=")) % 4)
            labels[name.removesuffix("@base64")] = base64.urlsafe_b64decode(padded).decode()
        else:
            labels[name] = unquote(value)
    return labels


def test_a_push_replaces_the_group_of_the_job(export: Export, gateway: Gateway) -> None:
    """It is one PUT of the whole page, in the format that the Pushgateway reads."""
    exporter = export()
    _count(3)
    exporter.push(gateway.url, job="nightly", grouping={"instance": "db-1"})
    (request,) = gateway.requests
    assert request.method == "PUT"
    assert request.path == "/metrics/job/nightly/instance/db-1"
    assert request.headers["Content-Type"] == "text/plain; version=0.0.4; charset=utf-8"
    assert "Authorization" not in request.headers
    assert values_in(request.body, "function_counter_total", "id") == {("mail",): 3}


def test_the_text_is_the_page(export: Export, gateway: Gateway) -> None:
    """Every sample of the page is pushed as it is there."""
    exporter = export(collect_defaults=True, workers=False)
    _count()
    exporter.push(gateway.url, job="nightly")
    pushed, shown = gateway.requests[0].body.splitlines(), exporter.metrics().splitlines()
    changing = ("process_", "python_")

    def samples(lines: list[str]) -> list[str]:
        return [line for line in lines if not line.startswith(("#", *changing))]

    assert samples(pushed) == samples(shown)
    assert any(line.startswith("process_cpu_seconds_total ") for line in pushed)


@given(
    job=st.text(min_size=1),
    grouping=st.dictionaries(
        st.from_regex(r"[a-z][a-z_0-9]*", fullmatch=True).filter({"job", "job_name"}.isdisjoint),
        st.text(),
    ),
)
@example(job="a/b", grouping={"path": "/var/tmp", "empty": "", "dots": "..", "dot": "."})
@example(job="..", grouping={"name": "Προμηθεύς", "query": "a?b#c%2F"})
@example(job="job/metrics", grouping={"line": "a\nHost: b\r\n"})
def test_every_label_of_a_group_arrives(job: str, grouping: dict[str, str]) -> None:
    """Whatever characters a value has, the path means it, and no more."""
    grouping = {name: value for name, value in grouping.items() if name not in {"job", "job_name"}}
    made = Pushgateway("http://127.0.0.1:9091", job, grouping)
    path = made.url.removeprefix("http://127.0.0.1:9091")
    assert path.isascii()
    assert path.isprintable()
    assert " " not in path
    replaced = {n: v.encode(errors="replace").decode() for n, v in grouping.items()}
    assert _labels_of(path) == {"job": job.encode(errors="replace").decode(), **replaced}


def test_runs_are_pushed_apart(export: Export, gateway: Gateway) -> None:
    """Their times are added to another group, so that a failed run leaves the success."""
    exporter = export()
    with exporter.run("nightly"):
        _count()
    with pytest.raises(KeyError), exporter.run("a/b"):
        raise KeyError
    exporter.push(gateway.url, job="jobs")
    counts, failed, succeeded = gateway.requests
    assert [request.method for request in gateway.requests] == ["PUT", "POST", "POST"]
    assert values_in(counts.body, LAST_RUN) == values_in(counts.body, LAST_SUCCESS) == {}
    assert "function_counter_total" in counts.body
    assert _labels_of(failed.path) == {"job": "jobs", "job_name": "a/b"}
    assert values_in(failed.body, LAST_RUN, "job_name").keys() == {("a/b",)}
    assert LAST_SUCCESS not in failed.body
    assert _labels_of(succeeded.path) == {"job": "jobs", "job_name": "nightly"}
    assert values_in(succeeded.body, LAST_SUCCESS, "job_name").keys() == {("nightly",)}


def test_what_only_a_running_program_has_is_left_out(export: Export, gateway: Gateway) -> None:
    """Its alert would fire for each program that has ended. What else exporters count is pushed."""
    exporter = export(push=gateway.url, job="nightly")
    assert exporter._pusher is not None
    for _ in range(2):
        assert exporter._pusher.flush(SOON)
    assert "hypertrace_export_last_success_timestamp_seconds{" in exporter.metrics()
    body = gateway.requests[-1].body
    assert values_in(body, "hypertrace_export_sent_total") == {(): 1}
    assert values_in(body, "hypertrace_export_bytes_total")[()] > 1_000
    assert values_in(body, "hypertrace_export_last_success_timestamp_seconds") == {}


def test_no_sample_has_a_time(export: Export, gateway: Gateway) -> None:
    """A Pushgateway refuses times, which a collector of the application may give."""

    class Timed(Collector):
        def collect(self) -> Iterator[Metric]:
            family = GaugeMetricFamily("timed", "With a time.", labels=["at"])
            family.add_metric(["a 5"], 7, timestamp=1_700_000_000)
            family.add_metric(["b} 5 6"], 8)
            yield family

    registry = CollectorRegistry()
    registry.register(Timed())
    exporter = export(registry=registry)
    assert 'timed{at="a 5"} 7.0 1700000000000\n' in exporter.metrics()
    exporter.push(gateway.url, job="nightly")
    body = gateway.requests[0].body
    assert 'timed{at="a 5"} 7.0\n' in body
    assert 'timed{at="b} 5 6"} 8.0\n' in body


@pytest.mark.parametrize("line", ["shop:" + SECRET, "Bearer " + SECRET])
@pytest.mark.parametrize("kind", ["file", "env"])
def test_credentials_come_from_where_the_argument_says(
    export: Export,
    gateway: Gateway,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    line: str,
    kind: str,
) -> None:
    """The first line is sent, and read again for each push."""
    file = tmp_path / "auth"
    file.write_text(f"# for the Pushgateway\n{line}\n")
    monkeypatch.setenv("PUSH_AUTH", line)
    exporter = export()
    auth = f"file:{file}" if kind == "file" else "env:PUSH_AUTH"
    exporter.push(gateway.url, job="nightly", auth=auth)
    encoded = base64.b64encode(line.encode()).decode()
    expected = line if line.startswith("Bearer") else f"Basic {encoded}"
    assert gateway.requests[0].headers["Authorization"] == expected


def test_credentials_may_stand_in_the_url(export: Export, gateway: Gateway) -> None:
    """They are sent, and no message shows them."""
    exporter = export()
    gateway.answers += [(200, ""), (401, "Unauthorized")]
    url = gateway.url.replace("http://", f"http://shop:{SECRET}%2F@")
    exporter.push(url, job="nightly")
    expected = base64.b64encode(f"shop:{SECRET}/".encode()).decode()
    assert gateway.requests[0].headers["Authorization"] == f"Basic {expected}"
    with pytest.raises(OSError, match="401") as failed:
        exporter.push(url, job="nightly")
    assert SECRET not in str(failed.value)
    assert "shop" not in str(failed.value)


def test_a_push_over_tls(export: Export, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The certificate is checked: by the authority that SSL_CERT_FILE names, and no other."""
    authority = trustme.CA()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    gateway = Gateway(context)
    try:
        exporter = export()
        with pytest.raises(OSError, match="certificate"):
            exporter.push(gateway.url, job="nightly")
        authority.cert_pem.write_to_path(tmp_path / "ca.pem")
        monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "ca.pem"))
        exporter.push(gateway.url, job="nightly")
        assert len(gateway.requests) == 1
    finally:
        gateway.stop()


@pytest.mark.parametrize(
    ("status", "text", "message"),
    [
        (400, "pushed metrics are invalid:\n  or inconsistent", "400 .*invalid: or inconsistent"),
        (500, "", "500"),
        (302, "", "redirects are not followed"),
    ],
)
def test_what_the_server_answers_is_the_reason(
    export: Export, gateway: Gateway, status: int, text: str, message: str
) -> None:
    """A push that is refused raises with the URL and with what the server said."""
    exporter = export()
    gateway.answers.append((status, text))
    with pytest.raises(OSError, match=message) as failed:
        exporter.push(gateway.url, job="nightly")
    assert f"could not push to {gateway.url}/metrics/job/nightly: " in str(failed.value)
    assert len(gateway.requests) == 1


def test_a_gateway_that_is_not_there(export: Export, gateway: Gateway) -> None:
    """A refused connection raises with the URL and the reason."""
    gateway.stop()
    exporter = export()
    with pytest.raises(OSError, match=rf"{gateway.url}/metrics/job/nightly: .*[Rr]efused"):
        exporter.push(gateway.url, job="nightly")


def test_a_gateway_that_never_answers(export: Export) -> None:
    """After the timeout the push raises."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        exporter = export()
        url = f"http://127.0.0.1:{silent.getsockname()[1]}"
        with pytest.raises(OSError, match="timed out"):
            exporter.push(url, job="nightly", timeout=0.1)


def test_a_server_that_speaks_no_http(export: Export) -> None:
    """What it says is a reason like any other."""
    with socket.create_server(("127.0.0.1", 0)) as other:
        exporter = export()
        connection: list[socket.socket] = []

        def answer() -> None:
            connection.append(other.accept()[0])
            connection[0].sendall(b"SSH-2.0\r\n")

        thread = threading.Thread(target=answer, daemon=True)
        thread.start()
        with pytest.raises(OSError, match=r"could not push to .*SSH"):
            exporter.push(f"http://127.0.0.1:{other.getsockname()[1]}", job="nightly")
        thread.join()
        connection[0].close()


def test_proxies_of_the_environment_are_not_used(
    export: Export, gateway: Gateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The Pushgateway is asked directly."""
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
    export().push(gateway.url, job="nightly")
    assert len(gateway.requests) == 1


def test_a_push_counts_nothing(
    export: Export, gateway: Gateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the push itself traces is dropped, as the application did not do it."""
    exporter = export()
    tracer, connect = Tracer("Connection"), http.client.HTTPConnection.connect

    def traced(connection: http.client.HTTPConnection) -> None:
        tracer.trace()
        connect(connection)

    monkeypatch.setattr(http.client.HTTPConnection, "connect", traced)
    exporter.push(gateway.url, job="nightly")
    exporter.push(gateway.url, job="nightly")
    assert values_in(gateway.requests[-1].body, "function_counter_total", "id") == {}


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("127.0.0.1:9091", "begin with http"),
        ("ftp://127.0.0.1", "begin with http"),
        ("http://", "begin with http"),
        ("http://a:b", "url is none"),
        ("http://127.0.0.1:0", "without a query"),
        ("http://127.0.0.1:9091/?a=b", "without a query"),
        ("http://127.0.0.1:9091/a b", "without a query"),
        ("http://127.0.0.1:9091/metrics/job/nightly", "give job and grouping"),
    ],
)
def test_a_url_that_cannot_be_one(url: str, message: str) -> None:
    """The error says what a URL has to be, and does not show what may be a password."""
    with pytest.raises(ValueError, match=message) as raised:
        Pushgateway(url.replace("//", f"//x:{SECRET}@", 1), "nightly")
    assert SECRET not in str(raised.value)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"job": ""}, ValueError, "job must be the name"),
        ({"job": None}, TypeError, "job must be a str"),
        ({"grouping": ["instance"]}, TypeError, "grouping must map"),
        ({"grouping": {"instance": 3}}, TypeError, "texts only"),
        ({"grouping": {"a-b": "c"}}, ValueError, "no label name"),
        ({"grouping": {"__a": "c"}}, ValueError, "no label name"),
        ({"grouping": {"job": "c"}}, ValueError, "set by itself"),
        ({"grouping": {"job_name": "c"}}, ValueError, "set by itself"),
        ({"auth": SECRET}, ValueError, "'file:PATH' or 'env:NAME'"),
        ({"auth": "env:HYPERTRACE_NO_SUCH"}, ValueError, "neither 'name:password' nor"),
        ({"auth": 3}, TypeError, "auth must be a str"),
        ({"auth": "file:no-such-file"}, FileNotFoundError, "no-such-file"),
        ({"timeout": 0}, ValueError, "timeout must be above 0"),
        ({"timeout": True}, TypeError, "timeout must be a number"),
        ({"url": 3}, TypeError, "url must be a str"),
        ({"url": f"http://a:{SECRET}@b", "auth": "env:HOME"}, ValueError, "give one of them"),
    ],
)
def test_wrong_arguments_are_errors(
    arguments: dict[str, Any], error: type[Exception], message: str
) -> None:
    """Each names the argument and the way out, and shows no secret."""
    with pytest.raises(error, match=message) as raised:
        Pushgateway(**{"url": "http://127.0.0.1:9091", "job": "nightly"} | arguments)
    assert SECRET not in str(raised.value)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"push": "http://127.0.0.1:9091"}, "push without job"),
        ({"job": "nightly"}, "job without push"),
        ({"grouping": {"a": "b"}, "push_auth": "env:A"}, "grouping and push_auth without push"),
        ({"push": "127.0.0.1:9091", "job": "nightly"}, "begin with http"),
    ],
)
def test_arguments_of_the_exporter_belong_together(arguments: dict[str, Any], message: str) -> None:
    """What is missing or there for nothing is an error, and leaves nothing behind."""
    registry, running = CollectorRegistry(), len(processes._running)
    with pytest.raises(ValueError, match=message):
        PrometheusExporter(registry=registry, **arguments)
    assert list(registry.collect()) == []
    assert len(processes._running) == running


def test_push_without_a_url(export: Export, gateway: Gateway) -> None:
    """It goes where the exporter was made for; an exporter made for nothing says what to give."""
    exporter = export(push=gateway.url, job="nightly", push_at_exit=False)
    _count()
    exporter.push()
    assert [request.path for request in gateway.requests] == ["/metrics/job/nightly"]
    with pytest.raises(ValueError, match="needs the url"):
        exporter.push(job="other")
    with pytest.raises(ValueError, match="needs the url"):
        export().push()


def test_a_stopped_exporter_pushes_nothing(export: Export, gateway: Gateway) -> None:
    """An empty page would delete what is there."""
    exporter = export()
    exporter.stop()
    with pytest.raises(RuntimeError, match="stopped"):
        exporter.push(gateway.url, job="nightly")
    assert gateway.requests == []


def test_stop_pushes_what_is_left(export: Export, gateway: Gateway) -> None:
    """Once, with all that was counted, and before the metrics are gone; no port is opened."""
    exporter = export(push=gateway.url, job="nightly")
    assert exporter.port is None
    _count(5)
    assert gateway.requests == []
    exporter.stop()
    exporter.stop()
    (request,) = gateway.requests
    assert values_in(request.body, "function_counter_total", "id") == {("mail",): 5}


def test_it_pushes_when_exporters_are_flushed(export: Export, gateway: Gateway) -> None:
    """And not at an interval: the numbers of the last run stay until this one ends."""
    exporter = export(push=gateway.url, job="nightly")
    pusher = exporter._pusher
    assert pusher is not None
    assert pusher.interval == NEVER
    _count(2)
    assert pusher.flush(SOON)
    assert values_in(gateway.requests[0].body, "function_counter_total", "id") == {("mail",): 2}


def test_push_at_exit_can_be_left_out(export: Export, gateway: Gateway) -> None:
    """Then the program pushes when it wants to."""
    exporter = export(push=gateway.url, job="nightly", push_at_exit=False)
    exporter.stop()
    assert gateway.requests == []


def test_a_push_that_fails_at_the_end_is_logged(
    export: Export, gateway: Gateway, caplog: pytest.LogCaptureFixture
) -> None:
    """Nothing is raised; the log has the URL and the reason."""
    gateway.answers.append((400, "collides"))
    exporter = export(push=gateway.url, job="nightly")
    with caplog.at_level(logging.WARNING, "hypertrace.exporters"):
        exporter.stop()
    (record,) = caplog.records
    message = record.getMessage()
    assert f"{gateway.url}/metrics/job/nightly: 400" in message
    assert "collides" in message


def test_a_collector_that_fails_costs_its_own_metrics(export: Export, gateway: Gateway) -> None:
    """All others are pushed."""

    class Broken(Collector):
        def collect(self) -> Iterator[Metric]:
            raise OSError

        def describe(self) -> list[Metric]:
            return []

    registry = CollectorRegistry()
    registry.register(Broken())
    Gauge("own", "Of the application.", registry=registry).set(4)
    exporter = export(registry=registry)
    exporter.push(gateway.url, job="nightly")
    assert "own 4.0\n" in gateway.requests[0].body


PROGRAM = """
import sys
from hypertrace import Tracer, set_trace_function
from hypertrace_prometheus import PrometheusExporter

exporter = PrometheusExporter(push=sys.argv[1], job="nightly", collect_defaults=False)
set_trace_function(exporter)
with exporter.run("nightly"):
    for _ in range(7):
        Tracer("Invoices").trace("mail")
    {end}
"""


def _run(gateway: Gateway, end: str) -> subprocess.CompletedProcess[str]:
    where = str(Path(hypertrace.__file__).parent.parent)
    return subprocess.run(
        [sys.executable, "-c", PROGRAM.format(end=end), gateway.url],
        env={"PYTHONPATH": where},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


@pytest.mark.parametrize(
    ("end", "status", "succeeds"),
    [
        ("pass", 0, True),
        ("sys.exit()", 0, True),
        ("sys.exit(3)", 3, False),
        ("sys.exit('no')", 1, False),
        ("raise KeyError", 1, False),
        ("raise KeyboardInterrupt", -2, False),
    ],
)
def test_a_program_pushes_when_it_ends(
    gateway: Gateway, end: str, status: int, succeeds: bool
) -> None:
    """However it ends, all that it counted arrives; a success only if it was one."""
    done = _run(gateway, end)
    assert done.returncode == status, done.stderr
    counts, runs = gateway.requests
    assert values_in(counts.body, "function_counter_total", "id") == {("mail",): 7}
    assert values_in(runs.body, LAST_RUN, "job_name").keys() == {("nightly",)}
    assert (LAST_SUCCESS in runs.body) == succeeds


@pytest.mark.skipif(os.name != "posix", reason="signals of POSIX")
def test_sigterm_pushes_what_is_left(gateway: Gateway) -> None:
    """If the program asks for it, as for any exporter that pushes."""
    end = (
        "import hypertrace.exporters, os, signal; hypertrace.exporters.flush_on_sigterm(); "
        "os.kill(os.getpid(), signal.SIGTERM); signal.pause()"
    )
    assert _run(gateway, end).returncode == -15
    assert values_in(gateway.requests[0].body, "function_counter_total", "id") == {("mail",): 7}


def test_a_gateway_that_hangs_does_not_keep_the_program(gateway: Gateway) -> None:
    """It ends within the deadline, with the same status, and the log says so."""
    answer = threading.Event()
    gateway.on_request = lambda: answer.wait(LONG)
    done = _run(gateway, "sys.exit(0)")
    answer.set()
    assert done.returncode == 0
    assert "did not send its last reading within 2 seconds" in done.stderr


def test_a_program_whose_gateway_is_gone_ends_as_before(gateway: Gateway) -> None:
    """It has the same status, and the log says what was not pushed."""
    gateway.stop()
    done = _run(gateway, "sys.exit(0)")
    assert done.returncode == 0
    assert f"could not push to {gateway.url}/metrics/job/nightly" in done.stderr


def test_the_exporter_stays_the_trace_function(export: Export, gateway: Gateway) -> None:
    """A push leaves what is set as it is."""
    exporter = export()
    before = get_trace_function()
    exporter.push(gateway.url, job="nightly")
    assert get_trace_function() is before
    set_trace_function(exporter)
