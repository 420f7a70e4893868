"""Agents that scrape a program and write what they find to a server elsewhere."""

from __future__ import annotations

import re
import shlex
from typing import TYPE_CHECKING

import pytest

from hypertrace import Tracer, set_trace_function
from hypertrace_prometheus import PrometheusExporter

from .servers import Server, samples_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

ADDED = {"__name__", "host", "instance", "job"}
"""Labels that are not the program's."""
FENCED = re.compile(r"^ *```sh\n(.*?)^ *```$", re.MULTILINE | re.DOTALL)


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


@pytest.fixture
def receive(
    component: Callable[[str], str], free_port: Callable[[], int], tmp_path: Path
) -> Iterator[Callable[[str], Server]]:
    """Give a function that starts a server which takes remote write."""
    started: list[Server] = []

    def start(program: str) -> Server:
        folder, port = tmp_path / "receiver", free_port()
        folder.mkdir()
        if program == "victoria-metrics":
            command, ready = _victoria_metrics(folder, port), "/health"
        else:
            command, ready = _prometheus(folder, port), "/-/ready"
        started.append(Server([component(program), *command], port, folder / "log", ready))
        return started[-1]

    yield start
    for server in started:
        server.stop()


def _victoria_metrics(folder: Path, port: int) -> list[str]:
    return [
        f"-storageDataPath={folder / 'data'}",
        f"-httpListenAddr=127.0.0.1:{port}",
        "-search.latencyOffset=0s",
    ]


def _prometheus(folder: Path, port: int) -> list[str]:
    (folder / "prometheus.yml").write_text("")
    return [
        f"--config.file={folder / 'prometheus.yml'}",
        f"--storage.tsdb.path={folder / 'data'}",
        f"--web.listen-address=127.0.0.1:{port}",
        "--web.enable-remote-write-receiver",
    ]


def _has_all(receiver: Server, exporter: PrometheusExporter) -> bool:
    """Whether the server has every counter of the program with its value."""
    expected = {
        (labels, value)
        for (name, labels), value in samples_of(exporter.metrics()).items()
        if name in {"function_counter_total", "function_duration_seconds_count"}
    }
    found = {
        (tuple(pair for pair in labels if pair[0] not in ADDED), value)
        for name in ("function_counter_total", "function_duration_seconds_count")
        for labels, value in receiver.query(f'{name}{{job="shop",host="web-1"}}').items()
    }
    return found == expected


def _configured(path: Path, exporter: PrometheusExporter, receiver: Server, to: Path) -> Path:
    """Write a shipped configuration with the ports of the test, and short intervals."""
    text = path.read_text().replace("scrape_interval: 15s", "scrape_interval: 1s")
    text = text.replace("127.0.0.1:4343", f"127.0.0.1:{exporter.port}")
    text = text.replace("http://127.0.0.1:9090/api/v1/write", f"{receiver.url}/api/v1/write")
    to.write_text(text)
    return to


@pytest.mark.parametrize(
    ("program", "to"), [("prometheus", "prometheus3"), ("prometheus3", "victoria-metrics")]
)
def test_prometheus_as_an_agent(
    program: str,
    to: str,
    receive: Callable[[str], Server],
    exporter: PrometheusExporter,
    shipped: Callable[[str], str],
    component: Callable[[str], str],
    free_port: Callable[[], int],
    root: Path,
    tmp_path: Path,
) -> None:
    """With the file and the command that are shipped, the server has all that was counted."""
    receiver = receive(to)
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
        receiver.wait(lambda: _has_all(receiver, exporter))


@pytest.mark.parametrize("to", ["prometheus", "victoria-metrics"])
def test_vmagent(
    to: str,
    receive: Callable[[str], Server],
    exporter: PrometheusExporter,
    shipped: Callable[[str], str],
    component: Callable[[str], str],
    free_port: Callable[[], int],
    root: Path,
    tmp_path: Path,
) -> None:
    """With the file and the command that are shipped, the server has all that was counted."""
    receiver, port = receive(to), free_port()
    _, *options = shlex.split(shipped("-promscrape.config=deploy/remote_write/vmagent.yml"))
    changed: dict[str, Callable[[str], str]] = {
        "-promscrape.config": lambda file: str(
            _configured(root / file, exporter, receiver, tmp_path / "vmagent.yml")
        ),
        "-httpListenAddr": lambda _: f"127.0.0.1:{port}",
        "-remoteWrite.url": lambda _: f"{receiver.url}/api/v1/write",
        "-remoteWrite.tmpDataPath": lambda folder: str(tmp_path / folder),
    }
    command = [component("vmagent")]
    for option in options:
        name, _, value = option.partition("=")
        command.append(f"{name}={changed[name](value) if name in changed else value}")
    with Server(command, port, tmp_path / "vmagent.log", "/health"):
        receiver.wait(lambda: _has_all(receiver, exporter))


def test_what_was_counted_while_the_server_was_away(
    exporter: PrometheusExporter,
    receive: Callable[[str], Server],
    component: Callable[[str], str],
    free_port: Callable[[], int],
    root: Path,
    tmp_path: Path,
) -> None:
    """The agent keeps it, and the server has it when it is back."""
    receiver, port = receive("prometheus3"), free_port()
    shipped = root / "deploy" / "remote_write" / "prometheus-agent.yml"
    command = [
        component("prometheus3"),
        "--agent",
        f"--config.file={_configured(shipped, exporter, receiver, tmp_path / 'agent.yml')}",
        f"--storage.agent.path={tmp_path / 'agent-data'}",
        f"--web.listen-address=127.0.0.1:{port}",
    ]
    with Server(command, port, tmp_path / "agent.log", "/-/ready"):
        receiver.wait(lambda: _has_all(receiver, exporter))
        receiver.stop()
        tracer = Tracer("Shop")
        for _ in range(5):
            tracer.trace("while away")
        receiver.start()
        receiver.wait(lambda: _has_all(receiver, exporter))
