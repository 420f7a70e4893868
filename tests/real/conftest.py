"""Real Prometheus, started with the configuration that the project ships."""

import functools
import json
import re
import shutil
import subprocess
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Protocol

import pytest

DEMO_PORT = 4343
PROGRAMS = ("prometheus", "prometheus3")
"""Prometheus 2.42, as Debian has it, and 3.5."""
FEATURES = ("exemplar-storage",)
DEADLINE = 60.0  # seconds; the first scrape comes some 6 s after the start


class Prometheus:
    """A running Prometheus, and the questions that tests ask it."""

    def __init__(
        self, program: str, configuration: Path, port: int, features: Sequence[str]
    ) -> None:
        """Start `program` on loopback `port`; its data and log go beside `configuration`."""
        self.url = f"http://127.0.0.1:{port}"
        self._log = configuration.with_suffix(".log")
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                [
                    program,
                    f"--config.file={configuration}",
                    f"--storage.tsdb.path={configuration.with_suffix('.data')}",
                    f"--web.listen-address=127.0.0.1:{port}",
                    f"--enable-feature={','.join(features)}",
                ],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )

    def stop(self) -> None:
        """End the process and wait for its end."""
        self._process.terminate()
        try:
            self._process.wait(timeout=10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def query(self, promql: str) -> list[tuple[dict[str, str], float]]:
        """Evaluate `promql` now; each series of the answer as its labels and its value."""
        return [
            (r["metric"], float(r["value"][1])) for r in self._ask("query", query=promql)["result"]
        ]

    def series(self, selector: str) -> list[dict[str, str]]:
        """Give the labels of every series that `selector` matches, `__name__` among them."""
        found: list[dict[str, str]] = self._ask("series", **{"match[]": selector})
        return found

    def exemplars(self, promql: str, since: float) -> list[dict[str, Any]]:
        """Give the exemplars of the series that `promql` asks for, from `since` (epoch) to now."""
        found: list[dict[str, Any]] = self._ask(
            "query_exemplars", query=promql, start=str(since), end=str(time.time() + 1)
        )
        return found

    def targets(self) -> list[dict[str, Any]]:
        """Give the scraped targets, each with its `health` and `lastError`."""
        active: list[dict[str, Any]] = self._ask("targets", state="active")["activeTargets"]
        return active

    def wait_for_scrape(self, job: str) -> None:
        """Wait for a successful scrape of `job` that begins after this call.

        Raises:
            AssertionError: none came in time; with what the targets or the log say.
        """
        up = f'up{{job="{job}"}}'
        # Prometheus may move a scrape's timestamp by 2 ms.
        begin = time.time() + 0.01
        self._wait(lambda: bool(self.query(f"timestamp({up}) > {begin} and {up} == 1")))

    def _wait(self, done: Callable[[], bool]) -> None:
        deadline = time.monotonic() + DEADLINE
        while time.monotonic() < deadline and self._process.poll() is None:
            try:
                if done():
                    return
            except (urllib.error.URLError, ConnectionError):
                pass  # not ready yet
            time.sleep(0.05)
        raise AssertionError(self._story())

    def _story(self) -> str:
        if self._process.poll() is not None:
            return f"Prometheus ended: {self._log.read_text()}"
        errors = {target["scrapeUrl"]: target["lastError"] for target in self.targets()}
        return f"no scrape within {DEADLINE} s; targets: {errors}"

    def _ask(self, endpoint: str, **parameters: str) -> Any:
        url = f"{self.url}/api/v1/{endpoint}?{urllib.parse.urlencode(parameters)}"
        with urllib.request.urlopen(url, timeout=10) as answer:
            return json.load(answer)["data"]


class StartPrometheus(Protocol):
    """What the fixture `start_prometheus` gives."""

    def __call__(
        self,
        port: int,
        *,
        instead_of: int = DEMO_PORT,
        jobs: str = "",
        program: str = "prometheus",
        features: Sequence[str] = FEATURES,
    ) -> Prometheus:
        """Start a Prometheus that scrapes `port` where prometheus.yml says `instead_of`.

        What `jobs` has are more items of its list `scrape_configs`. `program` is one of PROGRAMS,
        which has some `features` turned on.
        """


@pytest.fixture(scope="module", params=PROGRAMS)
def each_prometheus(
    request: pytest.FixtureRequest, start_prometheus: StartPrometheus
) -> StartPrometheus:
    """Give a function that starts a Prometheus of one version, and then of the other."""
    start: StartPrometheus = functools.partial(start_prometheus, program=request.param)
    return start


@pytest.fixture(scope="module")
def start_prometheus(
    root: Path,
    component: Callable[[str], str],
    free_port: Callable[[], int],
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[StartPrometheus]:
    """Give a function that starts a Prometheus which scrapes an application every second.

    Its configuration is a copy of the shipped prometheus.yml, and of the rules that it names, with
    the application's port and the intervals changed. Each one runs until the tests of the module
    end, as its scrapes and rules would slow the tests after them.
    """
    started: list[Prometheus] = []

    def start(
        port: int,
        *,
        instead_of: int = DEMO_PORT,
        jobs: str = "",
        program: str = "prometheus",
        features: Sequence[str] = FEATURES,
    ) -> Prometheus:
        path = component(program)
        configuration = tmp_path_factory.mktemp("prometheus") / "prometheus.yml"
        shipped = (root / "prometheus.yml").read_text()
        configuration.write_text(_for_tests(shipped, port, instead_of) + jobs)
        shutil.copytree(root / "grafana" / "rules", configuration.parent / "grafana" / "rules")
        started.append(Prometheus(path, configuration, free_port(), features))
        return started[-1]

    yield start
    for prometheus in started:
        prometheus.stop()


def _for_tests(shipped: str, port: int, instead_of: int) -> str:
    text, ports = re.subn(rf":{instead_of}\b", f":{port}", shipped)
    text, intervals = re.subn(r"(\w+_(?:interval|timeout)):\s*\S+", r"\1: 1s", text)
    assert ports, f"prometheus.yml scrapes no port {instead_of}"
    assert intervals, "prometheus.yml sets no scrape_interval"
    return text
