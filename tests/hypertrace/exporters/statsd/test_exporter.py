"""StatsD: packets that real sockets receive, and what becomes of counts while none receives."""

from __future__ import annotations

import math
import os
import random
import select
import socket
import struct
import subprocess
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

import hypertrace
from hypertrace import Caller, SpanEvent, TracedObject, TraceEvent, Tracer, set_trace_function
from hypertrace.exporters.statsd import StatsdExporter, transports
from hypertrace.metrics import Counter, Metrics, Sum

from ..recording import NEVER, SOON, exporter_threads, until
from .receivers import Receiver, counters_in

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

CALLER = Caller("connect", "app.py", "app", 1, 1)
NAME = "shop.function_counter_total.Swarm.connect.dial._.app_py"

SCHEMES = (
    "udp",
    "tcp",
    pytest.param(
        "unix",
        marks=pytest.mark.skipif(
            not hasattr(socket, "AF_UNIX"), reason="this system has no Unix sockets"
        ),
    ),
)


def event(trace_id: str = "dial") -> TraceEvent:
    """Give an event."""
    return TraceEvent(trace_id, TracedObject("Swarm", 1), None, CALLER)


@pytest.fixture
def export() -> Iterator[Callable[..., StatsdExporter]]:
    """Give a function that makes an exporter, which the end of the test stops."""
    made: list[StatsdExporter] = []

    def make(address: str | None, **settings: Any) -> StatsdExporter:
        made.append(StatsdExporter(address, **{"interval": NEVER, "prefix": "shop", **settings}))
        return made[-1]

    yield make
    for exporter in made:
        exporter.stop()
    until(lambda: not exporter_threads())


@pytest.fixture
def receive(tmp_path: Path) -> Iterator[Callable[..., Receiver]]:
    """Give a function that makes a receiver, which reads and ends with the test."""
    made: list[Receiver] = []

    def make(scheme: str, address: str = "") -> Receiver:
        where = f"unix://{tmp_path / 's'}" if scheme == "unix" else f"{scheme}://127.0.0.1:0"
        made.append(Receiver(address or where))
        return made[-1]

    yield make
    for receiver in made:
        receiver.stop()


@pytest.mark.parametrize("scheme", SCHEMES)
def test_what_came_in_is_received(
    scheme: str, export: Callable[..., StatsdExporter], receive: Callable[..., Receiver]
) -> None:
    """Counters are differences, whole numbers or not; a series without change has no line."""
    receiver = receive(scheme).start()
    metrics = Metrics(declared=[Sum("paid_total", value="price", of="Cart.*")])
    exporter = export(receiver.address, metrics=metrics)
    set_trace_function(exporter)

    class Cart:
        def pay(self, price: float) -> None:
            Tracer(self).trace("paid", price=price)

    for price, calls in ((0.25, 2), (1.5, 1)):
        for _ in range(calls):
            exporter(event())
            Cart().pay(price)
        assert exporter.flush(SOON)
    assert exporter.flush(SOON)
    until(lambda: receiver.counters().get("shop.paid_total") == 2)
    lines = [line for line in receiver.lines() if line.startswith((NAME, "shop.paid_total"))]
    paid = ["shop.paid_total:0.5|c", "shop.paid_total:1.5|c"]
    assert sorted(lines) == [f"{NAME}:1|c", f"{NAME}:2|c", *paid]
    assert (exporter.sent, exporter.failures) == (3, 0)


@pytest.mark.parametrize("scheme", SCHEMES)
def test_packets_have_whole_lines_up_to_their_limit(
    scheme: str, export: Callable[..., StatsdExporter], receive: Callable[..., Receiver]
) -> None:
    """1432 bytes over UDP, 8192 to a Unix socket; nothing is lost of many."""
    receiver = receive(scheme).start()
    exporter = export(receiver.address, tags="graphite")
    for number in range(3_000):
        exporter(event(f"id{number}"))
    assert exporter.flush(SOON)
    until(lambda: len(receiver.counters()) == 3_000)
    if scheme != "tcp":
        limit = {"udp": 1432, "unix": 8192}[scheme]
        sizes = [len(packet) for packet in receiver.packets]
        assert max(sizes) <= limit
        assert min(sizes[:-1]) > limit - 200
    assert set(receiver.counters().values()) == {1}


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("series", [1, 500])
def test_nothing_is_lost_while_no_receiver_is_there(
    scheme: str,
    series: int,
    export: Callable[..., StatsdExporter],
    receive: Callable[..., Receiver],
) -> None:
    """Down at the start, there, gone, and back: the sums are right, and failures are counted."""
    first = receive(scheme)
    first.stop()
    address = first.address

    def count() -> None:
        for number in range(series):
            exporter(event(f"id{number}"))

    if scheme == "unix":
        Path(address.removeprefix("unix://")).unlink()
    exporter = export(address)
    count()
    assert not exporter.flush(SOON)
    assert exporter.failures == 1
    received: list[str] = []
    for _ in range(2):
        receiver = receive(scheme, address).start()
        count()
        assert exporter.flush(SOON)
        receiver.stop()
        received += receiver.lines()
        if scheme == "unix":
            Path(address.removeprefix("unix://")).unlink()
        count()
        assert not exporter.flush(SOON)
    receiver = receive(scheme, address).start()
    assert exporter.flush(SOON)
    receiver.stop()
    sums = counters_in([*received, *receiver.lines()])
    assert sums == {NAME.replace("dial", f"id{number}"): 5 for number in range(series)}
    assert exporter.failures == 3


@pytest.mark.skipif(not hasattr(socket, "AF_UNIX"), reason="this system has no Unix sockets")
def test_what_arrived_before_a_buffer_was_full_is_not_sent_again(
    export: Callable[..., StatsdExporter],
    receive: Callable[..., Receiver],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """An attempt that fails in the middle counts as far as it came; the next one has the rest."""
    monkeypatch.setattr(transports, "TIMEOUT", 0.05)
    receiver = receive("unix")
    exporter = export(receiver.address, tags="graphite")
    for _ in range(2):
        for number in range(9_000):
            exporter(event(f"id{number}"))
        assert not exporter.flush(SOON)  # more than any buffer has, and nothing reads
    receiver.start()
    until(lambda: exporter.flush(SOON))
    exporter(event("id0"))
    assert exporter.flush(SOON)
    until(lambda: sum(receiver.counters().values()) >= 18_001)
    sums = list(receiver.counters().values())
    assert (len(sums), sum(sums), max(sums)) == (9_000, 18_001, 3)


@pytest.mark.skipif(not hasattr(select, "POLLRDHUP"), reason="this system does not say when")
def test_a_connection_that_is_reset_did_not_receive(
    export: Callable[..., StatsdExporter], receive: Callable[..., Receiver]
) -> None:
    """A receiver that ends before it has read all of it does not have it."""
    receiver = receive("tcp")
    exporter = export(receiver.address)
    exporter(event())

    def reset() -> None:
        connection = None
        while connection is None:
            try:
                connection, _ = receiver.socket.accept()
            except TimeoutError:
                continue
        poll = select.poll()  # until all was sent; none of it is read
        poll.register(connection, select.POLLRDHUP)
        poll.poll(SOON * 1000)
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        connection.close()

    thread = threading.Thread(target=reset)
    thread.start()
    assert not exporter.flush(SOON)
    thread.join(SOON)
    receiver.start()
    assert exporter.flush(SOON)
    until(lambda: receiver.counters().get(NAME) == 1)


def test_a_host_that_has_no_address_is_a_failure(export: Callable[..., StatsdExporter]) -> None:
    """It is looked up each time, so that it may get one later."""
    exporter = export("udp://host.invalid:8125")
    exporter(event())
    assert not exporter.flush(SOON)
    assert exporter.failures == 1


def test_each_address_of_a_host_is_tried(
    export: Callable[..., StatsdExporter],
    receive: Callable[..., Receiver],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """`localhost` is ::1 first, where a daemon of IPv4 does not listen."""
    receiver = receive("udp").start()
    port = int(receiver.address.rpartition(":")[2])
    found = socket.getaddrinfo("127.0.0.1", port, type=socket.SOCK_DGRAM)
    closed = socket.getaddrinfo("127.0.0.2", port, type=socket.SOCK_DGRAM)
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: closed + found)
    exporter = export(f"udp://localhost:{port}")
    exporter(event())
    assert exporter.flush(SOON)
    until(lambda: receiver.counters().get(NAME) == 1)


def test_a_line_that_no_receiver_can_read_is_left_out(
    export: Callable[..., StatsdExporter], receive: Callable[..., Receiver]
) -> None:
    """It would be cut, and keep all others from being sent; how many there were is known."""
    receiver = receive("udp").start()
    exporter = export(receiver.address, max_label_length=100_000)
    exporter(event("x" * 9_000))
    exporter(event())
    assert exporter.flush(SOON)
    until(lambda: receiver.counters() == {NAME: 1})
    assert exporter.dropped == 1


def test_the_environment_says_where_to(
    export: Callable[..., StatsdExporter],
    receive: Callable[..., Receiver],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Without an address it is read from there."""
    receiver = receive("udp").start()
    monkeypatch.setenv("DD_DOGSTATSD_URL", receiver.address)
    exporter = export(None)
    exporter(event())
    assert exporter.flush(SOON)
    assert exporter.address == receiver.address
    until(lambda: receiver.counters() == {NAME: 1})


@pytest.mark.parametrize(
    ("address", "settings"),
    [
        *[("nowhere:x", {}), ("host:1", {"tags": "x"}), ("host:1", {"prefix": " "})],
        *[("host:1", {"max_samples": each}) for each in (-1, 1_001, math.nan, math.inf)],
    ],
)
def test_wrong_arguments_start_nothing(address: str, settings: Any) -> None:
    """They are errors of the constructor."""
    with pytest.raises(ValueError, match=r"address must|tags must|prefix ' '|max_samples must be"):
        StatsdExporter(address, **settings)
    assert exporter_threads() == []


@pytest.mark.parametrize("wrong", [None, "1", True])
def test_a_number_of_samples_is_a_number(wrong: Any) -> None:
    """Others are refused."""
    with pytest.raises(TypeError, match=f"max_samples must be a number, not {wrong!r}"):
        StatsdExporter("host:1", max_samples=wrong)


def ended(metrics: Callable[..., object], *durations: float) -> None:
    """Record spans that ended."""
    for seconds in durations:
        metrics(SpanEvent("dial", TracedObject("Swarm", 1), None, CALLER, seconds, "ok", None))


def timers(receiver: Receiver) -> tuple[list[float], float]:
    """Give the values that came of durations, and the sum of their weights."""
    values: list[float] = []
    weights = 0.0
    for line in receiver.lines():
        head, *fields = line.split("|")
        if fields[0] in {"ms", "d"}:
            _, *texts = head.split(":")
            rates = [float(field[1:]) for field in fields if field.startswith("@")]
            values += map(float, texts)
            weights += len(texts) / (rates[0] if rates else 1)
    return values, weights


@pytest.mark.parametrize("workers", [False, True])
@pytest.mark.parametrize("tags", ["none", "dogstatsd", "graphite"])
def test_durations_arrive_as_they_were(
    tags: str,
    workers: bool,
    export: Callable[..., StatsdExporter],
    receive: Callable[..., Receiver],
    tmp_path: Path,
) -> None:
    """Each once, also those of an attempt that failed; estimates stand only for earlier ones."""
    receiver = receive("udp")
    receiver.stop()
    where = str(tmp_path / "run") if workers else False
    exporter = export(receiver.address, tags=tags, workers=where, max_samples=0.01)
    ended(exporter, 0.001, 0.002)
    assert not exporter.flush(SOON)
    ended(exporter, 0.003)
    receiver = receive("udp", receiver.address).start()
    assert exporter.flush(SOON)
    ended(exporter, 0.0123456)
    assert exporter.flush(SOON)
    assert exporter.flush(SOON)
    until(lambda: timers(receiver)[1] >= 4)
    assert timers(receiver) == ([1, 2, 3, 12.3456], 4)


@pytest.mark.parametrize("tags", ["none", "dogstatsd"])
def test_of_many_durations_some_are_sent(
    tags: str, export: Callable[..., StatsdExporter], receive: Callable[..., Receiver]
) -> None:
    """With rates that add up to the number of all, and values that add up to their sum."""
    receiver = receive("udp").start()
    exporter = export(receiver.address, tags=tags, workers=False, interval=10, max_samples=5)
    chance = random.Random(1)
    durations = [chance.lognormvariate(-4, 1) for _ in range(3_000)]
    ended(exporter, *durations)
    assert exporter.flush(SOON)
    until(lambda: timers(receiver)[1] > 2_999.5)
    values, weights = timers(receiver)
    assert weights == pytest.approx(3_000)
    known = {float(f"{1000 * each:.9g}") for each in durations}
    assert sum(value in known for value in values) == 50
    assert len(values) < 50 + 30


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system does not fork")
def test_durations_of_other_workers_are_estimates(
    export: Callable[..., StatsdExporter], receive: Callable[..., Receiver], tmp_path: Path
) -> None:
    """The process that sends for all has single ones of itself; number and sum are those of all."""
    receiver = receive("udp").start()
    exporter = export(receiver.address, workers=str(tmp_path / "run"), buckets=(0.01, 1))
    ended(exporter, 0.25, 0.5)
    child = os.fork()
    if not child:
        ended(exporter, *[0.125] * 3, 0.003)
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0
    ended(exporter, 0.75)
    assert exporter.flush(SOON)
    until(lambda: timers(receiver)[1] >= 7)
    values, weights = timers(receiver)
    assert weights == 7
    assert {250, 500, 750} < set(values)
    assert sum(values) == pytest.approx(250 + 500 + 750 + 3 * 125 + 3)


@pytest.mark.skipif(not hasattr(socket, "AF_UNIX"), reason="this system has no Unix sockets")
@pytest.mark.parametrize("tags", ["graphite", "dogstatsd"])
def test_the_number_of_durations_is_right_after_an_attempt_that_failed_in_the_middle(
    tags: str,
    export: Callable[..., StatsdExporter],
    receive: Callable[..., Receiver],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """What had arrived is not sent again, whether as samples or as estimates."""
    monkeypatch.setattr(transports, "TIMEOUT", 0.05)
    receiver = receive("unix")
    exporter = export(receiver.address, tags=tags, max_label_length=2_000)
    for number in range(600):
        caller = Caller("f", "app.py", "app", 1, 1)
        for seconds in (0.25, 0.5, 0.75):
            name = f"{number}{'x' * 1_500}"
            exporter(SpanEvent(name, TracedObject("Swarm", 1), None, caller, seconds, "ok", None))
    assert not exporter.flush(SOON)  # more than any buffer has, and nothing reads
    ended(exporter, 0.125)
    receiver.start()
    until(lambda: exporter.flush(SOON))
    until(lambda: timers(receiver)[1] >= 1_801)
    values, weights = timers(receiver)
    assert weights == 1_801
    assert 125 in values


def test_without_samples_values_are_estimates(
    export: Callable[..., StatsdExporter], receive: Callable[..., Receiver]
) -> None:
    """Their number and sum are right, and nothing is kept."""
    receiver = receive("udp").start()
    exporter = export(receiver.address, workers=False, buckets=(0.01, 1), max_samples=0)
    ended(exporter, 0.25, 0.75)
    assert all(series.samples is None for series in exporter.forwards_to.histograms())
    assert exporter.flush(SOON)
    until(lambda: timers(receiver) == ([500, 500], 2))


def test_an_exporter_that_stopped_keeps_nothing(
    export: Callable[..., StatsdExporter], receive: Callable[..., Receiver]
) -> None:
    """The metrics that it was given go on without samples."""
    metrics = Metrics(workers=False)
    exporter = export(receive("udp").start().address, metrics=metrics)
    ended(exporter, 0.25)
    assert [series.samples is None for series in metrics.histograms()] == [False]
    exporter.stop()
    assert [series.samples is None for series in metrics.histograms()] == [True]


def test_metrics_may_be_given(
    export: Callable[..., StatsdExporter], receive: Callable[..., Receiver]
) -> None:
    """Labels of the process are tags of all lines."""
    receiver = receive("udp").start()
    metrics = Metrics(declared=[Counter("dials_total", of="Swarm.*")], labels={"service": "shop"})
    exporter = export(receiver.address, metrics=metrics, tags="dogstatsd")
    metrics(event())
    assert exporter.flush(SOON)
    until(lambda: "shop.dials_total:1|c|#service:shop" in receiver.lines())
    assert all("|#service:shop" in line for line in receiver.lines())


FORKS = """
import os, sys
from hypertrace import Caller, TracedObject, TraceEvent
from hypertrace.exporters.statsd import StatsdExporter

event = TraceEvent("dial", TracedObject("Swarm", 1), None, Caller("f", "app.py", "app", 1, 1))
exporter = StatsdExporter(sys.argv[1], interval=3600, workers=False)
exporter(event)
assert exporter.flush()
child = os.fork()
exporter(event)
if child == 0:
    exporter(event)
    assert exporter.flush()
    os._exit(0)
assert os.waitpid(child, 0)[1] == 0
exporter(event)
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system does not fork")
@pytest.mark.parametrize("scheme", SCHEMES)
def test_a_fork_and_the_end_of_a_program_lose_nothing(
    scheme: str, receive: Callable[..., Receiver]
) -> None:
    """Parent and child each send what they count; the end of the program sends the rest."""
    receiver = receive(scheme).start()
    where = str(Path(hypertrace.__file__).parent.parent)
    subprocess.run(
        [sys.executable, "-c", FORKS, receiver.address],
        env={**os.environ, "PYTHONPATH": where, "COVERAGE_PROCESS_START": ""},
        check=True,
        timeout=60,
    )
    receiver.stop()
    (value,) = receiver.counters().values()
    assert value == 5
