"""Events of exporters: which are taken, how many may wait, and that none is lost silently."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections import Counter as Tally
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

import hypertrace
from hypertrace import Tracer, clear_trace_function, handlers, set_trace_function
from hypertrace.exporters.push import PushExporter
from hypertrace.metrics import Counter, Metrics, Sum
from hypertrace.patterns import EventPattern

from ..conftest import needs_fork
from .recording import NEVER, SOON, Hanging, exporter_threads, until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from hypertrace.metrics import EventPoint, Reading


class Sending(PushExporter):
    """Keeps the events it sends.

    Attributes:
        points: what was sent.
        on_send, on_reading: called before that is done.
    """

    def __init__(self, *events: Any, metrics: Metrics | None = None, **settings: Any) -> None:
        self.points: list[EventPoint] = []
        self.readings = 0
        self.on_send: Callable[[], object] = lambda: None
        self.on_reading: Callable[[], object] = lambda: None
        settings = {"interval": NEVER, **settings}
        super().__init__(Metrics() if metrics is None else metrics, {}, events=events, **settings)

    def encode(self, reading: Reading) -> Reading:
        return reading

    def send(self, encoded: Reading) -> None:
        self.on_reading()
        self.readings += 1

    def encode_events(self, points: Sequence[EventPoint]) -> list[EventPoint]:
        return list(points)

    def send_events(self, encoded: list[EventPoint]) -> None:
        self.on_send()
        self.points += encoded

    def numbers(self) -> list[int]:
        """Give the numbers of the events that were sent."""
        return [point.number for point in self.points]

    def names(self) -> Tally[str]:
        """Give how many events of each name were sent."""
        return Tally(point.name for point in self.points)


@pytest.fixture
def export() -> Iterator[Callable[..., Sending]]:
    """Give a function that makes an exporter and sets it as trace function."""
    made: list[Sending] = []

    def make(*events: Any, **settings: Any) -> Sending:
        made.append(Sending(*events, **settings))
        set_trace_function(made[-1])
        return made[-1]

    yield make
    for exporter in made:
        exporter.stop()
    until(lambda: not exporter_threads())


class Cart:
    """Something that is traced."""

    def __init__(self) -> None:
        self.tracer = Tracer(self)

    def add(self, times: int = 1, **props: Any) -> None:
        for _ in range(times):
            self.tracer.trace("item", **props)

    def pay(self) -> None:
        with self.tracer.span():
            pass


def fail(*_: object) -> None:
    raise OSError("the network is down")


def test_what_is_selected_is_sent(export: Callable[..., Sending]) -> None:
    """In order; calls and spans, each with its number."""
    exporter = export("Cart.*")
    cart = Cart()
    cart.add()
    cart.pay()
    Tracer("other").trace()
    assert exporter.flush()
    assert exporter.names() == {"Cart.add": 1, "Cart.pay": 1}
    assert exporter.numbers() == [1, 2]
    assert exporter.flush()
    assert len(exporter.points) == 2


def test_an_event_is_sent_once_for_patterns_and_once_for_each_metric(
    export: Callable[..., Sending],
) -> None:
    """However many patterns select it."""
    exporter = export(
        "Cart.*",
        EventPattern("*.add", "item"),
        Counter("adds_total", of="Cart.add"),
        Sum("size_total", of="Cart.add", value="size"),
        "*",
    )
    cart = Cart()
    cart.add(3, size=2)
    cart.pay()
    assert exporter.flush()
    assert exporter.names() == {"Cart.add": 3, "Cart.pay": 1, "adds_total": 3, "size_total": 3}


def test_without_events_nothing_is_attached(export: Callable[..., Sending]) -> None:
    """The path of an event is as it was."""
    export()
    assert handlers() == []


def test_events_come_also_beside_another_trace_function(export: Callable[..., Sending]) -> None:
    """Or with none: they are those of the process."""
    exporter = export("Cart.*")
    cart = Cart()
    set_trace_function(lambda _: None)
    cart.add()
    clear_trace_function()
    cart.add()
    assert exporter.flush()
    assert exporter.names() == {"Cart.add": 2}


def test_exporters_have_their_own_events(export: Callable[..., Sending]) -> None:
    """One that hangs keeps none from the others, also with the same metrics."""
    metrics = Metrics()
    hanging = Hanging()
    first, second = export("Cart.add", metrics=metrics), export("Cart.*", metrics=metrics)
    first.on_send = hanging
    cart = Cart()
    cart.add(2)
    first.flush(0)
    assert hanging.entered.wait(SOON)
    cart.pay()
    assert second.flush()
    assert second.names() == {"Cart.add": 2, "Cart.pay": 1}
    hanging.released.set()
    until(lambda: first.names() == {"Cart.add": 2})


def test_a_full_queue_drops_and_counts(
    export: Callable[..., Sending], caplog: pytest.LogCaptureFixture
) -> None:
    """What is dropped leaves a gap in the numbers, and a line in the log."""
    exporter = export("Cart.*", max_events=10)
    hanging = Hanging()
    exporter.on_send = hanging
    cart = Cart()
    cart.add(5)  # half of the queue: it is sent
    assert hanging.entered.wait(SOON)
    cart.add(9)
    assert exporter.dropped_events == 4
    exporter.on_send = lambda: None
    hanging.released.set()
    until(lambda: len(exporter.points) == 10)
    cart.add()
    assert exporter.flush()
    assert exporter.numbers() == [*range(1, 11), 15]
    assert "Sending dropped 4 events, as 10 were waiting already" in caplog.text
    assert exporter.dropped == 4


def test_half_a_queue_is_sent_before_the_interval(export: Callable[..., Sending]) -> None:
    """So that a burst drops nothing."""
    exporter = export("Cart.*", max_events=1_000)
    cart = Cart()
    for number in range(1, 11):
        cart.add(500)
        expected = 500 * number
        until(lambda: len(exporter.points) == expected)  # noqa: B023 -- called at once
    assert exporter.dropped_events == 0


def test_events_that_could_not_be_sent_are_sent_later(export: Callable[..., Sending]) -> None:
    """As they were; a reading is not kept from being sent, and not the other way either."""
    exporter = export("Cart.*")
    cart = Cart()
    exporter.on_send = fail
    cart.add(3)
    assert not exporter.flush()
    assert (exporter.readings, exporter.failures) == (1, 1)
    exporter.on_reading = fail
    exporter.on_send = lambda: None
    cart.add(2)
    assert not exporter.flush()
    assert exporter.numbers() == [1, 2, 3, 4, 5]


def test_events_that_cannot_be_encoded_are_dropped(export: Callable[..., Sending]) -> None:
    """And counted: those that follow are sent."""
    exporter = export("Cart.*")
    encode = exporter.encode_events
    exporter.encode_events = fail  # type: ignore[method-assign, assignment]
    cart = Cart()
    cart.add(3)
    assert not exporter.flush()
    exporter.encode_events = encode  # type: ignore[method-assign]
    cart.add(2)
    assert exporter.flush()
    assert (exporter.numbers(), exporter.dropped_events) == ([4, 5], 3)


def test_stop_sends_what_waits_and_takes_no_more(export: Callable[..., Sending]) -> None:
    """So no call is made at the tracers any more."""
    exporter = export("Cart.*")
    cart = Cart()
    cart.add(3)
    exporter.stop()
    cart.add()
    assert exporter.numbers() == [1, 2, 3]
    assert handlers() == []


def test_threads_lose_no_event(export: Callable[..., Sending]) -> None:
    """While the exporter sends; each has another number."""
    exporter = export("Cart.*", max_events=100_000, interval=0.001)
    threads = [threading.Thread(target=Cart().add, args=(2_000,)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert exporter.flush(SOON)
    assert sorted(exporter.numbers()) == list(range(1, 8_001))


def test_a_receiver_that_hangs_does_not_hold_the_application(
    export: Callable[..., Sending],
) -> None:
    """Nor does the memory grow: the queue is bounded."""
    exporter = export("Cart.*", max_events=100)
    hanging = Hanging()
    exporter.on_send = hanging
    Cart().add(10_000)
    assert exporter._events.waiting <= 101
    hanging.released.set()


@pytest.mark.parametrize(
    ("limit", "error"), [(0, ValueError), (-1, ValueError), (1.5, TypeError), (True, TypeError)]
)
def test_a_limit_is_a_number_of_events(limit: Any, error: type[Exception]) -> None:
    """An error at configuration, before there is a thread."""
    with pytest.raises(error, match="max_events"):
        Sending("Cart.*", max_events=limit)
    assert exporter_threads() == []


PROGRAM = """
import os, sys
from hypertrace import Tracer, set_trace_function
from hypertrace.exporters.json_lines import JsonLinesExporter
from hypertrace.metrics import Metrics

exporter = JsonLinesExporter(sys.argv[1], interval=3600, events=["Cart.*"], workers=WORKERS)
set_trace_function(exporter)


class Cart:
    def __init__(self):
        self.tracer = Tracer(self)

    def add(self, id, times):
        for _ in range(times):
            self.tracer.trace(id)


Cart().add("parent", 3)
if (child := os.fork()) == 0:
    Cart().add("child", 2)
    sys.exit()
assert os.waitpid(child, 0)[1] == 0
Cart().add("parent", 1)
"""


@needs_fork
@pytest.mark.parametrize("workers", [False, True])
def test_each_process_sends_its_own_events(tmp_path: Path, workers: bool) -> None:
    """Each once, in a session of its process; also where one process sends all counts."""
    path = tmp_path / "lines"
    where = str(Path(hypertrace.__file__).parent.parent)
    subprocess.run(
        [sys.executable, "-c", PROGRAM.replace("WORKERS", repr(workers)), path],
        env={**os.environ, "PYTHONPATH": where, "COVERAGE_PROCESS_START": ""},
        check=True,
        timeout=60,
    )
    lines = [json.loads(line) for line in path.read_text().splitlines() if line]
    events = [line for line in lines if "event" in line]
    assert Tally(line["id"] for line in events) == {"parent": 4, "child": 2}
    sessions = {line["session"]: line["pid"] for line in lines}
    assert len(sessions) == len(set(sessions.values())) == 2
    for session in sessions:
        numbers = sorted(line["sequence"] for line in lines if line["session"] == session)
        assert numbers == list(range(1, len(numbers) + 1))


EVERYWHERE = """
import os, signal, sys, threading, time, warnings
from hypertrace import Tracer, dropped_events, set_trace_function
from hypertrace.exporters.json_lines import JsonLinesExporter

warnings.simplefilter("ignore")  # of forks with threads
exporter = JsonLinesExporter(sys.argv[1], interval=0.02, events=["Cart.*"], workers=False)
set_trace_function(exporter)


class Cart:
    def __init__(self):
        self.tracer = Tracer(self)

    def add(self):
        self.tracer.trace("item")


class Finalized:
    def __del__(self):
        add()


def add(*_):
    Cart().add()
    done.append(None)


def work():
    while not is_over:
        add()
        time.sleep(0.0001)


done, is_over = [], False
signal.signal(signal.SIGALRM, add)
signal.setitimer(signal.ITIMER_REAL, 0.003, 0.003)
threads = [threading.Thread(target=work) for _ in range(3)]
for thread in threads:
    thread.start()
for _ in range(20):
    Finalized()
    if (child := os.fork()) == 0:
        signal.setitimer(signal.ITIMER_REAL, 0)
        for _ in range(5):
            Cart().add()
        os._exit(not exporter.flush(30))
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    time.sleep(0.01)
signal.setitimer(signal.ITIMER_REAL, 0)
is_over = True
for thread in threads:
    thread.join()
exporter.stop()
print(os.getpid(), len(done) - dropped_events() - exporter.dropped_events)
"""


@needs_fork
def test_no_event_is_lost_between_threads_signals_finalizers_and_forks(tmp_path: Path) -> None:
    """Each has a line in the session of its process, or is counted as dropped."""
    path = tmp_path / "lines"
    where = str(Path(hypertrace.__file__).parent.parent)
    printed = subprocess.run(
        [sys.executable, "-c", EVERYWHERE, path],
        env={**os.environ, "PYTHONPATH": where, "COVERAGE_PROCESS_START": ""},
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    ).stdout
    parent, expected = map(int, printed.split())
    lines = [json.loads(line) for line in path.read_text().splitlines() if line]
    numbers: dict[str, list[int]] = {}
    events: Tally[int] = Tally()
    for line in lines:
        numbers.setdefault(line["session"], []).append(line["sequence"])
        events[line["pid"]] += "event" in line
    assert events.pop(parent) == expected
    assert sorted(events.values()) == [5] * 20
    for found in numbers.values():
        assert sorted(found) == list(range(1, len(found) + 1))
