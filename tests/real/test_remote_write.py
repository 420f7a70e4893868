"""Agents that scrape a program and write what they find to a server elsewhere."""

from __future__ import annotations

import re
import shlex
from typing import TYPE_CHECKING, NamedTuple

import pytest

from hypertrace import Tracer, set_trace_function
from hypertrace_prometheus import PrometheusExporter

from .servers import Server, samples_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

CALLS = 'sum by (host, job, id) (function_counter_total{host="web-1"})'

FENCED = re.compile(r"^ *```sh\n(.*?)^ *```$", re.MULTILINE | re.DOTALL)


class Receiver(NamedTuple):
    """A server that takes remote write."""

    server: Server
    path: str
    """Where it takes it."""


@pytest.fixture(scope="module")
def exporter() -> Iterator[PrometheusExporter]:
    """Give an exporter with a server that has counted."""
    with PrometheusExporter(0) as exporter:
        set_trace_function(exporter)
        tracer = Tracer("Shop")
        for function, times in (("sell", 7), ("buy", 11)):
            for _ in range(times):
                tracer.trace(function)
            with tracer.span(function):
                pass
        yield exporter


@pytest.fixture(scope="module")
def shipped(root: Path) -> Callable[[str], str]:
    """Give a function that finds the command on the page that names a file or option."""
    page = (root / "docs" / "remote_write.md").read_text()
    commands: list[str] = [
        line.strip() for block in FENCED.findall(page) for line in block.splitlines()
    ]

    def find(text: str) -> str:
        (found,) = [command for command in commands if text in command]
        return found

    return find


def _prometheus_receiver(
    program: str, component: Callable[[str], str], port: int, folder: Path
) -> Receiver:
    (folder / "prometheus.yml").write_text("")
    command = [
        component(program),
        f"--config.file={folder / 'prometheus.yml'}",
        f"--storage.tsdb.path={folder / 'data'}",
        f"--web.listen-address=127.0.0.1:{port}",
        "--web.enable-remote-write-receiver",
    ]
    return Receiver(Server(command, port, folder / "log", "/-/ready"), "/api/v1/write")


@pytest.fixture(params=["prometheus", "prometheus3", "victoria-metrics"])
def receiver(
    request: pytest.FixtureRequest,
    component: Callable[[str], str],
    free_port: Callable[[], int],
    tmp_path: Path,
) -> Iterator[Receiver]:
    """Give a running server that takes remote write."""
    folder, port = tmp_path / "receiver", free_port()
    folder.mkdir()
    if request.param == "victoria-metrics":
        command = [
            component("victoria-metrics"),
            f"-storageDataPath={folder / 'data'}",
            f"-httpListenAddr=127.0.0.1:{port}",
            "-search.latencyOffset=0s",
        ]
        found = Receiver(Server(command, port, folder / "log", "/health"), "/api/v1/write")
    else:
        found = _prometheus_receiver(request.param, component, port, folder)
    with found.server:
        yield found


def _has_all(receiver: Receiver, exporter: PrometheusExporter) -> bool:
    """Whether the server has every counter of the program with its value."""
    expected = {
        (labels, value)
        for (name, labels), value in samples_of(exporter.metrics()).items()
        if name in {"function_counter_total", "function_duration_seconds_count"}
    }
    found = {
        (tuple(pair for pair in labels if pair[0] not in added), value)
        for name in ("function_counter_total", "function_duration_seconds_count")
        for labels, value in receiver.server.query(f'{name}{{job="shop",host="web-1"}}').items()
    }
    return found == expected


added = {"__name__", "host", "instance", "job"}
"""Labels that are not the program's."""


def _configured(path: Path, exporter: PrometheusExporter, receiver: Receiver, to: Path) -> Path:
    """Write a shipped configuration with the ports of the test, and short intervals."""
    text = path.read_text().replace("scrape_interval: 15s", "scrape_interval: 1s")
    text = text.replace("127.0.0.1:4343", f"127.0.0.1:{exporter.port}")
    text = text.replace(
        "http://127.0.0.1:9090/api/v1/write", f"{receiver.server.url}{receiver.path}"
    )
    to.write_text(text)
    return to


@pytest.mark.parametrize("program", ["prometheus", "prometheus3"])
def test_prometheus_as_an_agent(
    program: str,
    receiver: Receiver,
    exporter: PrometheusExporter,
    shipped: Callable[[str], str],
    component: Callable[[str], str],
    free_port: Callable[[], int],
    root: Path,
    tmp_path: Path,
) -> None:
    """With the file and the command that are shipped, the server has all that was counted."""
    command = shlex.split(shipped("--config.file=deploy/remote_write/prometheus-agent.yml"))
    port, file = free_port(), command[2].removeprefix("--config.file=")
    configuration = _configured(root / file, exporter, receiver, tmp_path / "agent.yml")
    mode = "--agent" if program == "prometheus3" else "--enable-feature=agent"
    assert command == [
        "prometheus",
        "--agent",
        f"--config.file={file}",
        "--storage.agent.path=agent-data",
        "--web.listen-address=127.0.0.1:9095",
    ]
    agent = [
        component(program),
        mode,
        f"--config.file={configuration}",
        f"--storage.agent.path={tmp_path / 'agent-data'}",
        f"--web.listen-address=127.0.0.1:{port}",
    ]
    with Server(agent, port, tmp_path / "agent.log", "/-/ready"):
        receiver.server.wait(lambda: _has_all(receiver, exporter))


def test_vmagent(
    receiver: Receiver,
    exporter: PrometheusExporter,
    shipped: Callable[[str], str],
    component: Callable[[str], str],
    free_port: Callable[[], int],
    root: Path,
    tmp_path: Path,
) -> None:
    """With the file and the command that are shipped, the server has all that was counted."""
    port = free_port()
    _, *options = shlex.split(shipped("-promscrape.config=deploy/remote_write/vmagent.yml"))
    changed: dict[str, Callable[[str], str]] = {
        "-promscrape.config": lambda file: str(
            _configured(root / file, exporter, receiver, tmp_path / "vmagent.yml")
        ),
        "-httpListenAddr": lambda _: f"127.0.0.1:{port}",
        "-remoteWrite.url": lambda _: f"{receiver.server.url}{receiver.path}",
        "-remoteWrite.tmpDataPath": lambda folder: str(tmp_path / folder),
    }
    command = [component("vmagent")]
    for option in options:
        name, _, value = option.partition("=")
        command.append(f"{name}={changed[name](value) if name in changed else value}")
    with Server(command, port, tmp_path / "vmagent.log", "/health"):
        receiver.server.wait(lambda: _has_all(receiver, exporter))


def test_what_was_counted_while_the_server_was_away(
    exporter: PrometheusExporter,
    component: Callable[[str], str],
    free_port: Callable[[], int],
    root: Path,
    tmp_path: Path,
) -> None:
    """The agent keeps it, and the server has it when it is back."""
    folder, port = tmp_path / "receiver", free_port()
    folder.mkdir()
    receiver = _prometheus_receiver("prometheus3", component, port, folder)
    try:
        configuration = _configured(
            root / "deploy" / "remote_write" / "prometheus-agent.yml",
            exporter,
            receiver,
            tmp_path / "agent.yml",
        )
        agent_port = free_port()
        command = [
            component("prometheus3"),
            "--agent",
            f"--config.file={configuration}",
            f"--storage.agent.path={tmp_path / 'agent-data'}",
            f"--web.listen-address=127.0.0.1:{agent_port}",
        ]
        with Server(command, agent_port, tmp_path / "agent.log", "/-/ready"):
            receiver.server.wait(lambda: _has_all(receiver, exporter))
            receiver.server.stop()
            tracer = Tracer("Shop")
            for _ in range(5):
                tracer.trace("while away")
            receiver.server.start()
            receiver.server.wait(lambda: _has_all(receiver, exporter))
    finally:
        receiver.server.stop()
