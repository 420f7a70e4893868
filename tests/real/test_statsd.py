"""Counts that the real StatsD daemon has received, over UDP and TCP."""

from __future__ import annotations

import json
import random
import shutil
import socket
import subprocess
import time
import urllib.error
import urllib.parse
import urllib.request
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import pytest

from hypertrace import Caller, SpanEvent, TracedObject, TraceEvent
from hypertrace.exporters.statsd import StatsdExporter
from hypertrace.metrics import LastValue, Metrics, Sum, Summary
from hypertrace.stats import Stats

from .databases import VICTORIA

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from pathlib import Path

    from hypertrace.exporters.statsd.lines import Tags

DEADLINE = 30.0
"""Seconds that a test waits for what takes less than one."""
FLUSH = 100
"""Milliseconds between two readings of the daemon."""

BACKEND = """
exports.init = function (startup, config, events) {
  events.on("flush", function (time, metrics) {
    const { counters, gauges, timers, timer_counters } = metrics;
    const sets = Object.fromEntries(
      Object.entries(metrics.sets).map(([name, set]) => [name, set.values()])
    );
    const line = JSON.stringify({ counters, gauges, timers, timer_counters, sets });
    require("fs").appendFileSync(config.out, line + "\\n");
  });
  return true;
};
"""
"""Module of the daemon that writes each of its readings as a line."""

CALLER = Caller("pay", "app.py", "app", 1, 1)
CART = TracedObject("Cart", 1)


@dataclass
class Daemon:
    """A running daemon, and what it has received.

    Attributes:
        readings: how many of its readings are part of the others.
        counters: sums by name.
        timed: how many values came for each timer, by their weights.
        times: the values that came for each timer.
        gauges: the last values.
        sets: the values that came for each set.
    """

    process: subprocess.Popen[bytes]
    ports: dict[str, int]
    out: Path
    readings: int = 0
    counters: Counter[str] = field(default_factory=Counter)
    timed: Counter[str] = field(default_factory=Counter)
    times: dict[str, list[float]] = field(default_factory=dict)
    gauges: dict[str, float] = field(default_factory=dict)
    sets: dict[str, set[str]] = field(default_factory=dict)
    _end: int = 0

    def address(self, scheme: str) -> str:
        return f"{scheme}://127.0.0.1:{self.ports[scheme]}"

    def read(self) -> None:
        """Read what the daemon has received by now."""
        before = self._read_lines()
        until(lambda: self._read_lines() > before + 1)

    def _read_lines(self) -> int:
        if self.out.exists():
            with self.out.open("rb") as file:
                file.seek(self._end)
                for line in file:
                    if line.endswith(b"\n"):
                        self._add(json.loads(line))
                        self._end += len(line)
        return self.readings

    def _add(self, reading: dict[str, Any]) -> None:
        self.readings += 1
        self.counters.update({name: n for name, n in reading["counters"].items() if n})
        self.timed.update(reading["timer_counters"])
        for name, values in reading["timers"].items():
            self.times.setdefault(name, []).extend(values)
        self.gauges = reading["gauges"]
        for name, values in reading["sets"].items():
            self.sets.setdefault(name, set()).update(values)


@pytest.fixture(scope="module")
def daemon(
    component: Callable[[str], str],
    free_port: Callable[[], int],
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Daemon]:
    """Start a daemon that receives over UDP and TCP until the tests of this file end."""
    program = component("statsd")
    if shutil.which("node") is None:
        pytest.skip("node is missing: apt-get install -y nodejs")
    folder = tmp_path_factory.mktemp("statsd")
    backend, out, configuration = folder / "backend.js", folder / "out", folder / "config.js"
    backend.write_text(BACKEND)
    ports = {"udp": free_port(), "tcp": free_port(), "management": free_port()}
    settings = {
        "servers": [
            {"server": f"./servers/{name}", "address": "127.0.0.1", "port": ports[name]}
            for name in ("udp", "tcp")
        ],
        "mgmt_address": "127.0.0.1",
        "mgmt_port": ports["management"],
        "flushInterval": FLUSH,
        "deleteCounters": True,
        "deleteTimers": True,
        "backends": [str(backend)],
        "out": str(out),
    }
    configuration.write_text(json.dumps(settings))
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen([program, configuration], stdout=log, stderr=log)
    running = Daemon(process, ports, out)
    try:
        running.read()
        yield running
        assert process.poll() is None, (folder / "log").read_text()
    finally:
        process.terminate()
        process.wait(timeout=10)


def until(condition: Callable[[], object]) -> None:
    """Wait until something holds."""
    deadline = time.monotonic() + DEADLINE
    while not condition():
        assert time.monotonic() < deadline, "it does not come to hold"
        time.sleep(0.05)


def beginning(values: Mapping[str, Any], prefix: str) -> dict[str, Any]:
    """Give those whose names begin so."""
    return {name: value for name, value in values.items() if name.startswith(prefix)}


def expected_name(prefix: str, metric: str, tags: Tags, topic: str, *result: str) -> str:
    """Give the name that the daemon has for a series."""
    if tags == "none":
        return ".".join((prefix, metric, "Cart", "pay", topic, "_", "app_py", *result))
    labels = f"object_classname=Cart;caller_functionname=pay;caller_filename=app.py;id={topic}"
    return ";".join((f"{prefix}.{metric}", labels, *(f"result={each}" for each in result)))


@pytest.mark.parametrize("workers", [False, True])
@pytest.mark.parametrize("tags", ["none", "graphite"])
@pytest.mark.parametrize("scheme", ["udp", "tcp"])
def test_the_daemon_counts_what_the_program_did(
    daemon: Daemon, scheme: str, tags: Tags, workers: bool, tmp_path: Path
) -> None:
    """Each counter and each duration is exactly right; of very many, the number is."""
    prefix, chance = f"{scheme}_{tags}_{workers}", random.Random(1)
    exporter = StatsdExporter(
        daemon.address(scheme),
        prefix=prefix,
        tags=tags,
        interval=3600,
        max_samples=0.02,  # 72 of each series until they are sent
        workers=str(tmp_path / "run") if workers else False,
    )
    topics = [f"topic{number}" for number in range(60)]
    calls: Counter[str] = Counter()
    seconds: dict[str, list[float]] = {}
    with exporter:
        for _ in range(4):
            for topic in chance.choices(topics, range(1, 61), k=600):
                taken = 10 ** chance.uniform(-4, 0)
                exporter(SpanEvent(topic, CART, None, CALLER, taken, "ok", None))
                calls[topic] += 1
                seconds.setdefault(topic, []).append(taken)
            assert exporter.flush(DEADLINE)
        for _ in range(5_000):  # one whose values are sampled
            exporter(SpanEvent("often", CART, None, CALLER, 0.02, "ok", None))
        calls["often"], seconds["often"] = 5_000, [0.02] * 5_000
    daemon.read()
    counter, timer = "function_counter_total", "function_duration_milliseconds"
    assert beginning(daemon.counters, f"{prefix}.{counter}") == {
        expected_name(prefix, counter, tags, topic): number for topic, number in calls.items()
    }
    names = {topic: expected_name(prefix, timer, tags, topic, "ok") for topic in calls}
    timed, times = beginning(daemon.timed, f"{prefix}.{timer}"), daemon.times
    assert timed == pytest.approx({names[topic]: number for topic, number in calls.items()})
    assert times[names["often"]] == pytest.approx([20] * len(times[names["often"]]))
    assert 72 <= len(times[names["often"]]) < 100
    for topic in calls.keys() - {"often"}:
        expected = sorted(1000 * each for each in seconds[topic])
        assert sorted(times[names[topic]]) == pytest.approx(expected)
    assert daemon.counters["statsd.bad_lines_seen"] == 0


@pytest.mark.parametrize("scheme", ["udp", "tcp"])
def test_the_daemon_reads_counters_of_dogstatsd(daemon: Daemon, scheme: str) -> None:
    """It does not know distributions, which Datadog's agent reads."""
    prefix = f"{scheme}_dogstatsd"
    exporter = StatsdExporter(
        daemon.address(scheme), prefix=prefix, tags="dogstatsd", interval=3600
    )
    with exporter:
        for number in range(1, 61):
            for _ in range(number):
                exporter(TraceEvent(f"topic{number}", CART, None, CALLER))
    daemon.read()
    counter = "function_counter_total"
    assert beginning(daemon.counters, f"{prefix}.{counter}") == {
        expected_name(prefix, counter, "dogstatsd", f"topic{number}"): number
        for number in range(1, 61)
    }
    assert daemon.counters["statsd.bad_lines_seen"] == 0


@pytest.mark.parametrize("tags", ["none", "dogstatsd", "graphite"])
@pytest.mark.parametrize("scheme", ["udp", "tcp"])
def test_sums_gauges_and_summaries_arrive(daemon: Daemon, scheme: str, tags: Tags) -> None:
    """Sums need not be whole; a gauge below zero is set, and set again, not added to."""
    prefix = f"declared_{scheme}_{tags}"
    metrics = Metrics(
        declared=[
            Sum("paid_total", value="price"),
            LastValue("balance", value="balance"),
            Summary("price", value="price"),
        ]
    )
    exporter = StatsdExporter(
        daemon.address(scheme), metrics=metrics, prefix=prefix, tags=tags, interval=3600
    )
    with exporter:
        for balance in (4.5, -2.5, -7):
            caller = Caller("pay", "app.py", "app", 1, 1, {"price": 0.25, "balance": balance})
            exporter(TraceEvent(None, CART, None, caller))
            assert exporter.flush(DEADLINE)
    daemon.read()
    counters = daemon.counters
    assert counters[f"{prefix}.paid_total"] == counters[f"{prefix}.price.sum"] == 0.75
    assert counters[f"{prefix}.price.count"] == 3
    gauges = daemon.gauges
    assert gauges[f"{prefix}.balance"] == -7
    assert gauges[f"{prefix}.price.p50"] == pytest.approx(0.25, rel=0.01)
    assert daemon.counters["statsd.bad_lines_seen"] == 0


HOSTILE = [
    *("a:1|c\nevil:7|c", "\r\nevil:7|c\r\n", "x|c|@0.1", "x|#evil:1,b:2", ";evil=1", "~evil=1"),
    # Node.js drops the highest bit of each byte over TCP: these end in line breaks and colons.
    *("\u010aevil\u01ba7\u01bcc", "\u2028", "\x85evil", "\ud800", "å🐦", "\0", " ", "", "a" * 300),
]


@pytest.mark.parametrize("tags", ["none", "dogstatsd", "graphite"])
@pytest.mark.parametrize("scheme", ["udp", "tcp"])
def test_no_value_injects_a_line(daemon: Daemon, scheme: str, tags: Tags) -> None:
    """Whatever is in ids and classes, all lines are good, have our prefix, and add up."""
    prefix = f"hostile_{scheme}_{tags}"
    daemon.read()
    before = set(daemon.counters)
    exporter = StatsdExporter(daemon.address(scheme), prefix=prefix, tags=tags, interval=3600)
    with exporter:
        for value in HOSTILE:
            exporter(TraceEvent(value, TracedObject(value, 1), None, CALLER))
    daemon.read()
    new = set(daemon.counters) - before
    assert {name for name in new if not name.startswith(prefix)} == set()
    calls = beginning(daemon.counters, f"{prefix}.function_counter_total")
    assert sum(calls.values()) == len(HOSTILE)
    assert daemon.counters["statsd.bad_lines_seen"] == 0


@pytest.mark.parametrize("tags", ["none", "dogstatsd", "graphite"])
@pytest.mark.parametrize("scheme", ["udp", "tcp"])
def test_the_daemon_counts_distinct_values(daemon: Daemon, scheme: str, tags: Tags) -> None:
    """Those of two processes that send are one set, whatever the values have in them."""
    prefix = f"sets_{scheme}_{tags}"
    for users in (["ann", "bob", *HOSTILE], ["bob", "eve", "x/y", *HOSTILE[:5]]):
        metrics = Metrics(workers=False)
        exporter = StatsdExporter(
            daemon.address(scheme), metrics=metrics, prefix=prefix, tags=tags, interval=3600
        )
        with exporter:
            for user in users:
                Stats(metrics=metrics).set("users", user, tags={"to": "a b"})
                assert user != "bob" or exporter.flush(DEADLINE)
    daemon.read()
    name = f"{prefix}.users" + (".a_b" if tags == "none" else ";to=a_b")
    found = daemon.sets[name]
    assert {"ann", "bob", "eve", "x/y"} < found
    assert len(found) == len({"ann", "bob", "eve", "x/y", *HOSTILE})
    assert daemon.counters["statsd.bad_lines_seen"] == 0


@pytest.fixture
def started() -> Iterator[Callable[..., None]]:
    """Give a function that starts a program, which ends with the test."""
    processes: list[subprocess.Popen[bytes]] = []

    def start(folder: Path, *command: object) -> None:
        with (folder / f"log{len(processes)}").open("wb") as log:
            processes.append(subprocess.Popen([*map(str, command)], stdout=log, stderr=log))

    yield start
    for process in processes:
        process.terminate()
        process.wait(timeout=30)


@pytest.mark.parametrize("program", VICTORIA)
@pytest.mark.parametrize("tags", ["dogstatsd", "graphite"])
def test_labels_come_out_of_victoria_metrics(
    tags: Tags,
    program: str,
    component: Callable[[str], str],
    free_port: Callable[[], int],
    started: Callable[..., None],
    tmp_path: Path,
) -> None:
    """The way of docs/statsd.md: through the daemon and Graphite's protocol, with every label."""
    http, graphite, port = free_port(), free_port(), free_port()
    started(
        tmp_path,
        component(program),
        f"-storageDataPath={tmp_path / 'data'}",
        f"-httpListenAddr=127.0.0.1:{http}",
        f"-graphiteListenAddr=127.0.0.1:{graphite}",
        "-search.latencyOffset=0s",
    )
    settings = {
        "port": port,
        "address": "127.0.0.1",
        "mgmt_port": free_port(),
        "flushInterval": 1000,
        "backends": ["./backends/graphite"],
        "graphiteHost": "127.0.0.1",
        "graphitePort": graphite,
    }
    (tmp_path / "config.js").write_text(json.dumps(settings))

    def ask(promql: str) -> dict[str, tuple[dict[str, str], float]]:
        query = urllib.parse.urlencode({"query": promql})
        try:
            with urllib.request.urlopen(
                f"http://127.0.0.1:{http}/api/v1/query?{query}", timeout=10
            ) as answer:
                found = json.load(answer)["data"]["result"]
        except (urllib.error.URLError, ConnectionError):
            return {}  # not ready yet
        return {each["metric"]["id"]: (each["metric"], float(each["value"][1])) for each in found}

    until(lambda: _is_open(http) and _is_open(graphite))
    started(tmp_path, component("statsd"), tmp_path / "config.js")
    exporter = StatsdExporter(f"127.0.0.1:{port}", prefix="shop", tags=tags, interval=3600)
    calls = {"dial": 30, "hang up": 7}
    with exporter:
        for trace_id, number in calls.items():
            for _ in range(number):
                exporter(SpanEvent(trace_id, CART, None, CALLER, 0.02, "ok", None))
        until(lambda: exporter.flush(DEADLINE))
        name = "stats_counts.shop.function_counter_total"
        totals = f'sum_over_time({{__name__="{name}"}}[1m])'
        expected = {trace_id.replace(" ", "_"): number for trace_id, number in calls.items()}
        until(lambda: {each: value for each, (_, value) in ask(totals).items()} == expected)
    (labels, _) = ask(f'{{__name__="{name}"}}')["dial"]
    assert labels == {
        "__name__": name,
        "object_classname": "Cart",
        "caller_functionname": "pay",
        "caller_filename": "app.py",
        "id": "dial",
    }
    if tags == "graphite":  # this daemon does not know distributions
        times = "stats.timers.shop.function_duration_milliseconds.mean"
        assert ask(f'{{__name__="{times}",result="ok"}}')["dial"][1] == pytest.approx(20)


def _is_open(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), 1).close()
    except OSError:
        return False
    return True
