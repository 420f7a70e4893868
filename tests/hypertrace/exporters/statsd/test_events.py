"""StatsD: events, service checks and values of sets, as real sockets receive them."""

from __future__ import annotations

import logging
import os
import socket
import subprocess
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

import hypertrace
from hypertrace import Tracer, set_trace_function
from hypertrace.exporters.statsd import StatsdExporter, messages
from hypertrace.exporters.statsd.transports import Tcp
from hypertrace.metrics import Counter, Metrics, Sum
from hypertrace.patterns import EventPattern
from hypertrace.stats import Stats

from ..recording import NEVER, SOON, exporter_threads, until
from .parsers import Check, Event, Metric, parse
from .receivers import Receiver

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

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


@pytest.fixture
def export() -> Iterator[Callable[..., StatsdExporter]]:
    """Give a function that makes an exporter, which the end of the test stops."""
    made: list[StatsdExporter] = []

    def make(address: str | None, **settings: Any) -> StatsdExporter:
        settings = {"interval": NEVER, "tags": "dogstatsd", **settings}
        if "metrics" not in settings:
            settings = {"workers": False, **settings}
        made.append(StatsdExporter(address, **settings))
        return made[-1]

    yield make
    for exporter in made:
        exporter.stop()
    until(lambda: not exporter_threads())


@pytest.fixture
def receive(tmp_path: Path) -> Iterator[Callable[..., Receiver]]:
    """Give a function that makes a receiver, which reads and ends with the test."""
    made: list[Receiver] = []

    def make(scheme: str = "udp", address: str = "") -> Receiver:
        where = f"unix://{tmp_path / 's'}" if scheme == "unix" else f"{scheme}://127.0.0.1:0"
        made.append(Receiver(address or where))
        return made[-1]

    yield make
    for receiver in made:
        receiver.stop()


def received(receiver: Receiver, kind: type[Any]) -> list[Any]:
    """Give what came of one kind."""
    parsed = [one for packet in receiver.packets for one in parse(packet)]
    return [one for one in parsed if isinstance(one, kind)]


def values_of(receiver: Receiver, name: str) -> list[str]:
    """Give the values that came for a set."""
    lines = [line.partition("|") for line in receiver.lines()]
    pairs = [text.rpartition(":") for text, _, rest in lines if rest.partition("|")[0] == "s"]
    return sorted(value for found, _, value in pairs if found == name)


@pytest.mark.parametrize("scheme", SCHEMES)
def test_events_and_service_checks_are_received(
    scheme: str, export: Callable[..., StatsdExporter], receive: Callable[..., Receiver]
) -> None:
    """Each once, with the tags of the process, beside the metrics."""
    receiver = receive(scheme).start()
    exporter = export(receiver.address, labels={"service": "shop"})
    exporter.event("Deployed", "one\ntwo", alert_type="success", tags={"team": "a"})
    exporter.service_check("shop.database", "ok", message="5 | 7", tags=["urgent"])
    assert exporter.flush(SOON)
    assert exporter.flush(SOON)
    until(lambda: received(receiver, Event) and received(receiver, Check))
    (event,), (check,) = received(receiver, Event), received(receiver, Check)
    assert (event.title, event.text) == ("Deployed", "one\ntwo")
    assert event.tags == ["service:shop", "team:a"]
    assert event.fields["t"] == "success"
    assert (check.name, check.status) == ("shop.database", "ok")
    assert check.tags == ["service:shop", "urgent"]
    assert check.fields["m"] == "5 _ 7"


@pytest.mark.parametrize("scheme", SCHEMES)
def test_messages_wait_for_a_receiver(
    scheme: str, export: Callable[..., StatsdExporter], receive: Callable[..., Receiver]
) -> None:
    """While there is none they are held, up to their limit, and then each is sent once."""
    first = receive(scheme)
    first.stop()
    if scheme == "unix":
        Path(first.address.removeprefix("unix://")).unlink()
    exporter = export(first.address, max_events=5)
    for number in range(7):
        exporter.event(f"event {number}")
        assert not exporter.flush(SOON)
    assert exporter.dropped_events == 2
    receiver = receive(scheme, first.address).start()
    assert exporter.flush(SOON)
    until(lambda: len(received(receiver, Event)) == 5)
    assert exporter.flush(SOON)
    receiver.stop()
    assert [one.title for one in received(receiver, Event)] == [f"event {n}" for n in range(5)]


@pytest.mark.skipif(not hasattr(socket, "AF_UNIX"), reason="this system has no Unix sockets")
def test_messages_that_arrived_are_not_sent_again(
    export: Callable[..., StatsdExporter],
    receive: Callable[..., Receiver],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A receiver whose buffer is full has the first packets, and gets the others later."""
    monkeypatch.setattr("hypertrace.exporters.statsd.transports.TIMEOUT", 0.05)
    receiver = receive("unix")
    exporter = export(receiver.address)
    for number in range(900):
        exporter.event(f"event {number}", "x" * 7_000)
    assert not exporter.flush(SOON)
    receiver.start()
    until(lambda: exporter.flush(SOON))
    until(lambda: len(received(receiver, Event)) >= 900)
    titles = [one.title for one in received(receiver, Event)]
    assert titles == [f"event {number}" for number in range(900)]


def test_no_message_is_longer_than_a_packet(
    export: Callable[..., StatsdExporter], receive: Callable[..., Receiver]
) -> None:
    """Of UDP 1432 bytes; none is left out for its length."""
    receiver = receive().start()
    exporter = export(receiver.address)
    exporter.event("å" * 200, "å" * 9_000, tags={f"t{n}": "x" * 99 for n in range(99)})
    exporter.service_check("c", "ok", message="å" * 9_000)
    assert exporter.flush(SOON)
    until(lambda: received(receiver, Check))
    assert received(receiver, Event)
    assert max(map(len, receiver.packets)) <= 1432
    assert exporter.dropped == 0


def test_a_call_after_the_end_is_dropped(
    export: Callable[..., StatsdExporter], receive: Callable[..., Receiver]
) -> None:
    """What was called before is sent."""
    receiver = receive().start()
    exporter = export(receiver.address)
    exporter.event("before")
    exporter.stop()
    exporter.event("after")
    exporter.service_check("after", "ok")
    assert exporter.dropped_events == 2
    until(lambda: [one.title for one in received(receiver, Event)] == ["before"])


@pytest.mark.parametrize("tags", ["none", "graphite"])
def test_without_dogstatsd_no_message_is_sent(
    tags: str,
    export: Callable[..., StatsdExporter],
    receive: Callable[..., Receiver],
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Other receivers take them for bad lines. It is logged once, and raises nothing."""
    messages._report.cache_clear()
    receiver = receive().start()
    exporter = export(receiver.address, tags=tags)
    with caplog.at_level(logging.WARNING):
        for _ in range(2):
            exporter.event("event")
            exporter.service_check("check", "ok")
    assert exporter.flush(SOON)
    until(receiver.lines)
    assert not [line for line in receiver.lines() if line.startswith("_")]
    (record,) = caplog.records
    assert "needs tags='dogstatsd'" in record.getMessage()


def test_events_need_dogstatsd() -> None:
    """It is an error of the constructor, which starts nothing."""
    with pytest.raises(ValueError, match="events together with tags='none': only DogStatsD has"):
        StatsdExporter("host:1", events=["Cart.*"])
    with pytest.raises(ValueError, match="can match nothing"):
        StatsdExporter("host:1", events=["Cart"], tags="dogstatsd")
    assert exporter_threads() == []


class Cart:
    """Is paid."""

    def __init__(self) -> None:
        self.tracer = Tracer(self)

    def pay(self, price: float, *, fails: bool = False) -> None:
        """Trace a span, and an event in it."""
        with self.tracer.span("card", price=price) as span:
            self.tracer.trace("asked")
            if fails:
                span.fail(ValueError("x"))


def test_traced_events_are_sent(
    export: Callable[..., StatsdExporter], receive: Callable[..., Receiver]
) -> None:
    """By patterns, and by declared metrics with their tags and value."""
    receiver = receive().start()
    paid = Sum("paid_total", of="Cart.*", id="card", value="price", tags=["result"])
    exporter = export(
        receiver.address, events=[EventPattern("Cart.*", "card"), paid], allowed_props=["price"]
    )
    set_trace_function(exporter)
    cart = Cart()
    cart.pay(2.5)
    cart.pay(1, fails=True)
    assert exporter.flush(SOON)
    until(lambda: len(received(receiver, Event)) == 4)
    events = received(receiver, Event)
    assert [one.title for one in events] == ["Cart.pay", "paid_total"] * 2
    assert [one.fields["t"] for one in events] == ["info", "info", "error", "error"]
    assert "id:card" in events[0].tags
    assert "result:ok" in events[0].tags
    assert "caller_props_price: 2.5" in events[0].text.split("\n")
    assert "exception:ValueError" in events[2].tags
    assert (events[1].text, events[1].tags) == ("value: 2.5\nresult: ok", ["result:ok"])
    assert events[3].text == "result: error"  # of value 1


def test_a_call_waits_for_nothing(
    export: Callable[..., StatsdExporter], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Though the thread of the exporter hangs in a send."""
    entered, released = threading.Event(), threading.Event()

    def hang(*_: object) -> list[int]:
        entered.set()
        assert released.wait(SOON)
        return []

    exporter = export("127.0.0.1:1")
    monkeypatch.setattr("hypertrace.exporters.statsd.transports.Udp.deliver", hang)
    try:
        assert not exporter.flush(0)
        assert entered.wait(SOON)
        for _ in range(20):
            exporter.event("event")
        assert exporter.dropped_events == 0
    finally:
        released.set()


FORKS = """
import os, sys
from hypertrace.exporters.statsd import StatsdExporter
from hypertrace.stats import Stats

exporter = StatsdExporter(sys.argv[1], interval=3600, tags="dogstatsd")
client = Stats(metrics=exporter.forwards_to)
client.set("users", "before")
assert exporter.flush(30)  # this process sends the metrics of both from now on
exporter.event("before")
child = os.fork()
exporter.event("child" if child == 0 else "parent")
if child == 0:
    exporter.service_check("child", 0)
    client.set("users", "child")
    assert exporter.flush(30)
    os._exit(0)
assert os.waitpid(child, 0)[1] == 0
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system does not fork")
def test_a_worker_sends_its_own(receive: Callable[..., Receiver]) -> None:
    """Though another one sends the metrics of both; what waits at a fork is the parent's."""
    receiver = receive("unix").start()
    where = str(Path(hypertrace.__file__).parent.parent)
    subprocess.run(
        [sys.executable, "-c", FORKS, receiver.address],
        env={**os.environ, "PYTHONPATH": where, "COVERAGE_PROCESS_START": ""},
        check=True,
        timeout=60,
    )
    receiver.stop()
    assert sorted(one.title for one in received(receiver, Event)) == ["before", "child", "parent"]
    assert [one.name for one in received(receiver, Check)] == ["child"]
    assert values_of(receiver, "users") == ["before", "child"]


@pytest.mark.parametrize("tags", ["none", "dogstatsd", "graphite"])
@pytest.mark.parametrize("scheme", SCHEMES)
def test_values_of_sets_are_received(
    scheme: str,
    tags: str,
    export: Callable[..., StatsdExporter],
    receive: Callable[..., Receiver],
) -> None:
    """Each that came since the last time, once; how many there were is a gauge, too."""
    receiver = receive(scheme).start()
    metrics = Metrics(labels={"service": "web"})
    exporter = export(receiver.address, metrics=metrics, tags=tags, prefix="shop")
    client = Stats(metrics=metrics)
    for users in (("ann", "bob", "ann"), (), ("bob", "a b|c\n")):
        for user in users:
            client.set("users", user, tags={"country": "de"})
        assert exporter.flush(SOON)
    name = {
        "none": "shop.users.de",
        "dogstatsd": "shop.users",
        "graphite": "shop.users;service=web;country=de",
    }[tags]
    until(lambda: len(values_of(receiver, name)) == 4)
    first, second, third, hashed = sorted(values_of(receiver, name), key=lambda v: (len(v), v))
    assert (first, second, third) == ("ann", "bob", "bob")
    assert len(hashed) == 16
    assert int(hashed, 16) >= 0
    if tags == "dogstatsd":
        sets = [one for one in received(receiver, Metric) if one.kind == "s"]
        assert {tuple(one.tags) for one in sets} == {("service:web", "country:de")}
    gauge = name.replace("users", "users_distinct") + ":3|g"
    until(lambda: any(line.startswith(gauge) for line in receiver.lines()))


def test_values_of_sets_wait_for_a_receiver(
    export: Callable[..., StatsdExporter], receive: Callable[..., Receiver]
) -> None:
    """Those that came while there was none are sent when it is there."""
    first = receive()
    first.stop()
    metrics = Metrics(declared=[Counter("logins_total")])
    exporter = export(first.address, metrics=metrics)
    client = Stats(metrics=metrics)
    for user in ("ann", "bob"):
        client.set("users", user)
        assert not exporter.flush(SOON)
    receiver = receive("udp", first.address).start()
    assert exporter.flush(SOON)
    until(lambda: values_of(receiver, "users") == ["ann", "bob"])


@pytest.mark.skipif(not hasattr(socket, "AF_UNIX"), reason="this system has no Unix sockets")
@pytest.mark.parametrize("scheme", ["unix", "unixstream"])
def test_a_stream_has_packets_after_their_lengths(
    scheme: str, export: Callable[..., StatsdExporter], tmp_path: Path
) -> None:
    """As agents read it; `unix:` finds out which kind of socket there is."""
    path = tmp_path / "s"
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as server:
        server.bind(str(path))
        server.listen()
        server.settimeout(SOON)
        exporter = export(f"{scheme}://{path}")
        exporter.event("event")
        assert exporter.flush(SOON)
        packets: list[bytes] = []
        while not any(packet.startswith(b"_e") for packet in packets):
            connection, _ = server.accept()
            with connection, connection.makefile("rb") as file:
                while size := file.read(4):
                    packets.append(file.read(int.from_bytes(size, "little")))
    assert [one.title for packet in packets for one in parse(packet) if isinstance(one, Event)]


def test_tcp_leaves_no_half_of_a_character_that_is_a_line_break() -> None:
    """Node.js, which runs the StatsD daemon, drops the highest bit of each byte."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(SOON)
        got: list[bytes] = []

        def read() -> None:
            connection, _ = server.accept()
            with connection, connection.makefile("rb") as file:
                got.append(file.read())

        thread = threading.Thread(target=read)
        thread.start()
        text = "a\u010ab\u2261c\U0001f40ad\xe5e\u0a0af".encode()
        assert list(Tcp("127.0.0.1", server.getsockname()[1]).deliver([text])) == [1]
        thread.join(SOON)
    assert got == ["a??b\u2261c????d\xe5e???f\n".encode()]
    assert bytes(byte & 127 for byte in got[0]).count(b"\n") == 1
