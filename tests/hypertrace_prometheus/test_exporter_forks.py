"""Exporter in forked children, and beside threads and signal handlers that hang."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from .wire import needs_fork

pytestmark = needs_fork

SETTING = """
import faulthandler, gc, os, signal, sys, threading
from hypertrace import Caller, TraceEvent, TracedObject, Tracer, set_trace_function
from hypertrace_prometheus import PrometheusExporter

exporter = PrometheusExporter(allowed_props=["topic"], upstream=True)
set_trace_function(exporter)
tracer = Tracer("forked")


def sum_of(name, part=""):
    lines = [line for line in exporter.metrics().splitlines() if line.startswith(name + "{")]
    return sum(int(line.rpartition(" ")[2]) for line in lines if part in line)


def wait_for(child):
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
"""

HELD = """
LOCKS = type(threading.Lock()), type(threading.RLock())


def members(one):
    names = {name for kind in type(one).__mro__ for name in getattr(kind, "__slots__", ())}
    slots = [getattr(one, name, None) for name in names]
    return [*getattr(one, "__dict__", {}).values(), *vars(type(one)).values(), *slots]


def locks():
    "Find every lock that the packages have, wherever it is kept."
    ours = [one for name, one in sys.modules.items() if name.startswith("hypertrace")]
    for one in gc.get_objects():
        if str(getattr(type(one), "__module__", "")).startswith("hypertrace"):
            ours.append(one)
    found = [lock for one in ours for lock in members(one) if type(lock) in LOCKS]
    return {id(lock): lock for lock in [*found, exporter.registry._lock]}.values()


def hold():
    for lock in locks():
        lock.acquire(blocking=False)


def work(name):
    for number in range(100):
        tracer.trace(topic=f"{name} {number}")
        tracer.trace()
        with tracer.span(topic=f"{name} {number}"), tracer.span("old"):
            pass


def in_thread():
    hold()
    held.set()
    forked.wait()
    for lock in locks():
        lock.release()


held, forked = threading.Event(), threading.Event()
work("parent")
if sys.argv[1] == "another thread":
    holder = threading.Thread(target=in_thread)
    holder.start()
    held.wait()
else:
    hold()
# No call of `trace()` waits for any of them.
work("parent")
child = os.fork()
if child == 0:
    faulthandler.dump_traceback_later(10, exit=True)
    work("child")
    counts = [sum_of("function_counter_total", part) for part in ("", '"child ', '"parent ')]
    spans = sum_of("function_duration_seconds_count"), sum_of("function_in_progress")
    exporter.stop()
    again = PrometheusExporter(registry=exporter.registry)
    found = counts, spans, exporter.metrics().count("# TYPE function_counter_total")
    expected = [1_200, 200, 400], (600, 0), 1
    print(found, file=sys.stderr) if found != expected else None
    os._exit(0 if found == expected else 3)
status = wait_for(child)
forked.set()
print(status)
if sys.argv[1] == "another thread":
    holder.join()
    print(sum_of("function_counter_total"), sum_of("function_counter_total", '"child '))
"""

AT_ANY_MOMENT = """
done = threading.Event()
counted = []


def work(index):
    number = 0
    while not done.is_set():
        tracer.trace(topic=f"{index} {number % 300}")
        with tracer.span("span"):
            pass
        number += 1
    counted.append(2 * number)


threads = [threading.Thread(target=work, args=(index,)) for index in range(3)]
for thread in threads:
    thread.start()
statuses, forked, earlier = [], 0, 0
for _ in range(8):
    child = os.fork()
    if child == 0:
        faulthandler.dump_traceback_later(10, exit=True)
        for number in range(100):
            tracer.trace(topic=f"child {number % 10}")
            with tracer.span("child"):
                pass
        own = sum_of("function_counter_total", '"child')
        spans = sum_of("function_duration_seconds_count", 'id="child"')
        alone = exporter.forwards_to.read(worker="self").family("function_counter_total")
        all_of_it = sum(point.value for point in alone.points)
        os._exit(0 if (own - earlier, spans - 100 * forked, all_of_it) == (200, 100, 200) else 3)
    forked += 1
    earlier += 200
    statuses.append(wait_for(child))
done.set()
for thread in threads:
    thread.join()
print(set(statuses), sum_of("function_counter_total") == sum(counted) + 8 * 200)
"""

SIGNALS = """
sys.setswitchinterval(1e-5)
caller = Caller("f", "/srv/app.py", "app", 1, 1)
handled = ghosts = counted = 0


def count(number):
    exporter(TraceEvent(str(number % 500), TracedObject("Thing", 1), None, caller))


def handle(*_):
    global handled
    handled += 1
    count(handled)


class Ghost:
    def __init__(self):
        self.cycle = self

    def __del__(self):
        global ghosts
        ghosts += 1
        count(ghosts)


def scrape():
    while not done.is_set():
        exporter.metrics()


done = threading.Event()
scraper = threading.Thread(target=scrape)
scraper.start()
signal.signal(signal.SIGALRM, handle)
gc.set_threshold(5)
signal.setitimer(signal.ITIMER_REAL, 0.0005, 0.0005)
while handled < 300:
    Ghost()
    count(counted)
    counted += 1
signal.setitimer(signal.ITIMER_REAL, 0)
done.set()
scraper.join()
gc.collect()
print(sum_of("function_counter_total") == counted + ghosts + handled, ghosts > 100)
"""


def run(*arguments: str) -> tuple[str, str]:
    """Run a program, and give what it prints."""
    # Not measured by coverage, whose own lock may be held at a fork.
    environment = {k: v for k, v in os.environ.items() if not k.startswith("COVERAGE_")}
    process = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", *arguments],
        env=environment,
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    return process.stdout, process.stderr


@pytest.mark.parametrize("holder", ["another thread", "the one that forks"])
def test_a_fork_while_every_lock_is_held(holder: str) -> None:
    """Whichever thread holds a lock of the packages, others trace and a child can do everything."""
    own = "1200 200\n" if holder == "another thread" else ""
    assert run(SETTING + HELD, holder) == (f"0\n{own}", "")


def test_forks_at_any_moment() -> None:
    """While threads make series and time spans, children count from zero, and nothing is lost."""
    assert run(SETTING + AT_ANY_MOMENT) == ("{0} True\n", "")


def test_signals_and_finalizers_at_any_moment() -> None:
    """A handler and a `__del__` that trace while series are made and scraped lose no count."""
    assert run(SETTING + SIGNALS) == ("True True\n", "")
