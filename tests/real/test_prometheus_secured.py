"""Scrapes by a real Prometheus with TLS, a client certificate and credentials."""

import logging
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

import pytest
import trustme

from hypertrace import Tracer, set_trace_function
from hypertrace_prometheus import PrometheusExporter

JOB = """\
  - job_name: {name}
    scheme: https
    tls_config:
      ca_file: {folder}/ca.pem
{more}
    static_configs:
      - targets: ["localhost:{port}"]
"""
CERTIFICATE = """\
      cert_file: {folder}/client.pem
      key_file: {folder}/client.key
"""
BASIC = """\
    basic_auth:
      username: prometheus
      password: "correct: horse"
"""
BEARER = """\
    authorization:
      credentials: battery-staple
"""
JOBS = {
    "basic": CERTIFICATE + BASIC,
    "bearer": CERTIFICATE + BEARER,
    "stranger": CERTIFICATE,
    "uncertified": BEARER,
}
SECRETS = "prometheus:correct: horse\nBearer battery-staple\n"


class Prometheus(Protocol):
    """What these tests need of the running Prometheus in conftest.py."""

    def query(self, promql: str) -> list[tuple[dict[str, str], float]]:
        """Evaluate `promql` now."""

    def targets(self) -> list[dict[str, Any]]:
        """Give the scraped targets."""

    def wait_for_scrape(self, job: str) -> None:
        """Wait for a scrape of `job` that begins after this call."""


def _certificates(folder: Path) -> None:
    authority = trustme.CA()
    authority.cert_pem.write_to_path(folder / "ca.pem")
    for name in ("localhost", "client"):
        certificate = authority.issue_cert(name)
        certificate.cert_chain_pems[0].write_to_path(folder / f"{name}.pem")
        certificate.private_key_pem.write_to_path(folder / f"{name}.key")


def test_prometheus_scrapes_with_what_is_asked_for(
    start_prometheus: Callable[..., Prometheus],
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """With a client certificate and a password or token it scrapes; without either it does not."""
    caplog.set_level(logging.WARNING)
    _certificates(tmp_path)
    (tmp_path / "secrets").write_text(SECRETS)
    with PrometheusExporter(
        0,
        certfile=tmp_path / "localhost.pem",
        keyfile=tmp_path / "localhost.key",
        client_ca=tmp_path / "ca.pem",
        auth=f"file:{tmp_path}/secrets",
    ) as exporter:
        set_trace_function(exporter)
        Tracer("Cart").trace("bought")
        assert exporter.port
        jobs = "".join(
            JOB.format(
                name=name, port=exporter.port, folder=tmp_path, more=more.format(folder=tmp_path)
            )
            for name, more in JOBS.items()
        )
        prometheus = start_prometheus(exporter.port, jobs=jobs)
        for job in ("basic", "bearer"):
            prometheus.wait_for_scrape(job)
        counted = prometheus.query('function_counter_total{id="bought"}')
        assert {(labels["job"], value) for labels, value in counted} == {
            ("basic", 1),
            ("bearer", 1),
        }
        assert "401" in _error(prometheus, "stranger")
        assert "tls" in _error(prometheus, "uncertified")
        assert _error(prometheus, "hypertrace")  # plain HTTP, as in prometheus.yml
    assert caplog.messages == []


def _error(prometheus: Prometheus, job: str) -> str:
    """Return why Prometheus cannot scrape, once it has tried."""
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        for target in prometheus.targets():
            if target["labels"]["job"] == job and target["health"] == "down":
                return str(target["lastError"])
        time.sleep(0.1)
    raise AssertionError(prometheus.targets())
