"""Risks for the application: trace functions that raise, props that misbehave, endings."""

import asyncio
import logging
import random
import signal
import sys
import time
from collections import Counter
from collections.abc import Callable
from typing import Any, NoReturn

import hypertrace
from hypertrace import (
    Tracer,
    clear_trace_function,
    get_trace_function,
    rate_limit,
    set_trace_function,
)
from hypertrace_prometheus import PrometheusExporter

from .tools import COUNTER, Swarm, counts, get, in_threads

MINUTE = 60.0


class Lines(logging.Handler):
    """Remembers the records of a logger."""

    def __init__(self, name: str) -> None:
        super().__init__()
        self.records: list[logging.LogRecord] = []
        logging.getLogger(name).addHandler(self)
        logging.getLogger(name).propagate = False

    def emit(self, record: logging.LogRecord) -> None:
        self.records.append(record)


class Recorded:
    """A trace function whose recorders call it."""

    def __init__(self, function: Callable[[Any], object]) -> None:
        self._function = function

    def __call__(self, event: Any) -> None:
        self._function(event)

    def share_key(self, traced: object, parent: object) -> None:
        return None

    def bind(self, event: Any) -> Callable[[], object]:
        return lambda: self._function(event)

    def bind_props(self, event: Any) -> Callable[[object], object]:
        return lambda props: self._function(event)


def raising(calls: int, *, bound: bool) -> dict[str, Any]:
    """Call `trace()` with a trace function that raises each time.

    Args:
        calls: how often.
        bound: the trace function has recorders.
    """
    reached = [0]

    def fail(event: object) -> None:
        reached[0] += 1
        raise ValueError("of the trace function")

    function = Recorded(fail) if bound else fail
    lines = Lines("hypertrace")
    set_trace_function(function)
    swarm = Swarm()
    start = time.monotonic()
    for _ in range(calls - 1):
        swarm.connect()
    seconds = time.monotonic() - start
    during = Counter(record.args[0] for record in lines.records if isinstance(record.args, tuple))
    # One more, a minute later: its line says how many there were without one.
    now = time.monotonic
    time.monotonic = lambda: now() + MINUTE + 1
    rate_limit.monotonic = time.monotonic  # type: ignore[attr-defined]
    swarm.connect()
    return {
        "reached": reached[0],
        "counted": hypertrace.swallowed_errors(),
        "still set": get_trace_function() is function,
        "lines": max(during.values()),
        "minutes": 1 + int(seconds // MINUTE),
        "reported": len(lines.records) + sum(map(_left_out, lines.records)),
    }


def _left_out(record: logging.LogRecord) -> int:
    assert isinstance(record.args, tuple)
    left_out = record.args[-1]
    assert isinstance(left_out, int)
    return left_out


def cost_of_raising(rounds: int, calls: int) -> dict[str, Any]:
    """Compare `trace()` with a trace function that raises to one with the same that does not."""
    error = ValueError("of the trace function")

    def succeed(event: object) -> None:
        str(event is error)

    def fail(event: object) -> NoReturn:
        str(event is error)
        raise ValueError("of the trace function")

    Lines("hypertrace")
    set_trace_function(succeed)
    swarm = Swarm()
    times: dict[Any, list[float]] = {succeed: [], fail: []}
    for _ in range(rounds):
        for function, taken in times.items():
            set_trace_function(function)
            swarm.connect()
            start = time.perf_counter()
            for _ in range(calls):
                swarm.connect()
            taken.append((time.perf_counter() - start) / calls)
    best = {function: min(taken) for function, taken in times.items()}
    return {"ratio": best[fail] / best[succeed], "ns": best[fail] * 1e9}


def interrupted(seconds: float) -> dict[str, Any]:
    """Interrupt tracing and scraping with exceptions that pass through, all the time."""
    kinds = [KeyboardInterrupt, SystemExit, asyncio.CancelledError]
    exporter = PrometheusExporter(allowed_props=["peer"], max_series=500, collect_defaults=False)
    set_trace_function(exporter)
    passed = {kind.__name__: 0 for kind in kinds}
    armed = [False]

    def interrupt(number: int, frame: object) -> None:
        if armed[0]:
            armed[0] = False
            raise random.choice(kinds)

    signal.signal(signal.SIGALRM, interrupt)
    signal.setitimer(signal.ITIMER_REAL, 0.0005, 0.0005)
    escaped: list[str] = []
    end, i = time.monotonic() + seconds, 0
    while time.monotonic() < end:
        i += 1
        try:
            armed[0] = True
            try:
                _all_ways(f"peer {i % 1000}", 1)
                if not i % 50:
                    exporter.metrics()
            finally:
                armed[0] = False
        except (KeyboardInterrupt, SystemExit, asyncio.CancelledError) as error:
            passed[type(error).__name__] += 1
        except Exception as error:  # noqa: BLE001 -- what may not be
            escaped.append(repr(error))
    signal.setitimer(signal.ITIMER_REAL, 0)
    # Whatever stayed locked or set would stop these.
    before = counts(exporter.metrics()).values()
    traced = sum(before)
    in_threads(4, lambda thread: _all_ways(f"thread {thread}", 100))
    after = sum(counts(exporter.metrics()).values())
    seen: list[object] = []
    set_trace_function(seen.append)
    Swarm().connect()
    return {"passed": passed, "escaped": escaped, "after": after - traced, "events": len(seen)}


def _all_ways(peer: str, times: int) -> None:
    for _ in range(times):
        swarm = Swarm()
        swarm.connect()
        swarm.dial()
        swarm.meet(peer)
        swarm.join()


def stopped_trace_function(times: int) -> dict[str, Any]:
    """Let a trace function be stopped by what passes through, and see that it is called again."""
    kinds = [KeyboardInterrupt, SystemExit, asyncio.CancelledError, GeneratorExit]
    calls = [0]
    raises: list[type[BaseException]] = []

    def stop(event: object) -> None:
        calls[0] += 1
        if raises:
            raise raises.pop()

    set_trace_function(stop)
    swarm, passed = Swarm(), 0
    for i in range(times):
        raises.append(kinds[i % 4])
        try:
            swarm.connect()
        except BaseException as error:  # noqa: BLE001 -- each of them is meant to come out
            passed += type(error) is kinds[i % 4]
        swarm.connect()
    clear_trace_function()
    return {"calls": calls[0], "passed": passed, "swallowed": hypertrace.swallowed_errors()}


def _broken(name: str) -> Callable[..., Any]:
    def fails(self: object, *_: object) -> Any:
        match random.randrange(3):
            case 0:
                raise ValueError(name)
            case 1:
                return getattr(self, name)(*_)  # recurses until Python ends it
            case _:
                return object()

    return fails


_METHODS = ("__str__", "__repr__", "__hash__", "__eq__", "__len__", "__format__", "__bool__")
_LETTERS = ["a", "é", "\u4f60", "😀", '"', "\\", "\n", "\r", "\t", "\0", "\x85", "\u2028", "\ud800"]
_LETTERS += ["{", "}", ",", "=", "#", " ", "\x1b", "\ufeff", "\udfff"]
_BYTES = [b"a", b"\xff", b"\xc3", b"\xc3\xa9", b'"', b"\\", b"\n", b"\0", b"\xed\xa0\x80"]
LONGEST = 256


def _awkward(draw: random.Random) -> tuple[object, str]:
    """Return a value, and what is promised to be shown of it."""
    match draw.randrange(4):
        case 0:
            broken = {name: _broken(name) for name in _METHODS if draw.random() < 0.5}
            kind = type("Odd", (), {**broken, "__str__": _broken("__str__")})
            return kind(), "<unprintable Odd>"
        case 1:
            broken = {name: _broken(name) for name in _METHODS[2:] if draw.random() < 0.5}
            text = _text(draw)
            kind = type("Odd", (), {**broken, "__str__": lambda self: text})
            return kind(), _documented(text)
        case 2:
            value = b"".join(draw.choices(_BYTES, k=draw.choice([1, 3, 70, 300])))
            return value, _documented(value.decode("utf-8", "backslashreplace"))
        case _:
            text = _text(draw)
            return text, _documented(text)


def _text(draw: random.Random) -> str:
    return "".join(draw.choices(_LETTERS, k=draw.choice([1, 3, 30, 255, 256, 257, 400])))


def _documented(text: str) -> str:
    shown = text.encode("utf-8", "backslashreplace").decode()
    return shown if len(shown) <= LONGEST else shown[: LONGEST - 1] + "…"


def awkward_values(values: int, seed: int) -> dict[str, Any]:
    """Trace with values that misbehave, and read them back from a scrape after every hundred."""
    from prometheus_client.parser import text_string_to_metric_families  # noqa: PLC0415

    draw = random.Random(seed)
    random.seed(seed)
    read, answers = 0, []
    for start in range(0, values, 100):
        with PrometheusExporter(port=0, allowed_props=["peer"], collect_defaults=False) as exporter:
            set_trace_function(exporter)
            swarm = Swarm()
            expected: dict[str, int] = {}
            for _ in range(min(100, values - start)):
                value, shown = _awkward(draw)
                swarm.meet(value)
                expected[shown] = expected.get(shown, 0) + 1
            assert exporter.port is not None
            status, _, body = get(exporter.port)
            answers.append(status)
            found = {
                sample.labels.get("caller_props_peer", ""): int(sample.value)
                for family in text_string_to_metric_families(body.decode())
                for sample in family.samples
                if sample.name == COUNTER and sample.labels.get("caller_functionname") == "meet"
            }
            read += sum(found.get(shown) == number and number for shown, number in expected.items())
    return {"read": read, "answers": sorted(set(answers))}


def huge_props(megabytes: int, names: int) -> dict[str, Any]:
    """Trace with huge values and with many props; return what they cost and what is shown."""
    exporter = PrometheusExporter(allowed_props=["peer"], collect_defaults=False)
    set_trace_function(exporter)
    swarm = Swarm()
    size = megabytes * 10**6
    values = ["x" * size, b"\xff" * size, "\ud800" * size]
    start = time.perf_counter()
    for value in values:
        swarm.meet(value)
    huge = time.perf_counter() - start
    few = {"peer": "a", **{f"prop {i}": i for i in range(9)}}
    many = {"peer": "a", **{f"prop {i}": i for i in range(names - 1)}}
    cost = {len(props): _best(swarm.tracer, props) for props in (few, many)}
    copy = min(_timed(lambda: dict(many)) for _ in range(20))
    return {
        "seconds": huge,
        "longest": max(map(len, counts(exporter.metrics()))),
        "few": cost[10] * 1e6,
        "many": cost[names] * 1e6,
        "copy": copy * 1e6,
    }


def _best(tracer: Tracer, props: dict[str, object]) -> float:
    return min(_timed(lambda: tracer.trace(props)) for _ in range(50))


def _timed(work: Callable[[], object]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


ENDING = """
import atexit, os, sys, threading
import hypertrace
from hypertrace import Tracer, set_trace_function
from hypertrace_prometheus import PrometheusExporter

set_trace_function({function})


class Swarm:
    make = Tracer

    def __init__(self):
        self.tracer = Tracer(self)
        self.me = self

    def __del__(self):
        self.tracer.trace()
        self.tracer.trace("late", peer=1)
        with self.tracer.span():
            pass
        self.make(self).trace()
        self.make("late").trace()


def forever(swarm):
    while True:
        swarm.tracer.trace()
        swarm.tracer.trace(peer=1)
        with swarm.tracer.span():
            pass
        Swarm()


def trace(swarm):
    swarm.tracer.trace()
    swarm.tracer.trace("exit", peer=1)
    with swarm.tracer.span():
        pass


cycle, kept = Swarm(), Swarm()
cycle.me = cycle
kept.me = None
sys.kept = Swarm()
kept.hook = Swarm()
atexit.register(trace, kept)
assert threading.active_count() == 1 and len(os.listdir("/proc/self/task")) == 1
{threads}
{end}
"""

THREADS = """
for _ in range(3):
    threading.Thread(target=forever, args=(Swarm(),), daemon=True).start()
"""


def endings(times: int) -> dict[str, Any]:
    """End programs that trace to the last, in several ways; return how each that failed did."""
    import subprocess  # noqa: PLC0415

    functions = [
        "PrometheusExporter()",
        "lambda event: None",
        "PrometheusExporter(object_ids=True)",
    ]
    ends = ["", "sys.exit(0)", "for name in list(globals()): globals()[name] = None"]
    bad = []
    for i in range(times):
        threads = THREADS if i % 2 else ""
        code = ENDING.format(
            function=functions[i % 3], threads=threads, end=ends[i // 3 % 3] if not threads else ""
        )
        done = subprocess.run(
            [sys.executable, "-X", "faulthandler", "-W", "error", "-c", code],
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )
        if (done.returncode, done.stderr, done.stdout) != (0, "", ""):
            bad.append([i, done.returncode, done.stderr[-2000:]])
    return {"bad": bad}
