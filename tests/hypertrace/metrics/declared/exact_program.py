"""Program: traces in threads, finalizers and a signal handler at once; prints what was counted.

`python exact_program.py ROUNDS [DIRECTORY]` prints one JSON object: what each metric counted, by
the value of a prop, what it should have, and how many errors and events were swallowed. Numbers are
in files of the directory, or in memory.
"""

import gc
import json
import signal
import sys
import threading
import time

from hypertrace import Tracer, dropped_events, set_trace_function, swallowed_errors
from hypertrace.metrics import Counter, Distribution, Metrics, Sum

ROUNDS = int(sys.argv[1])

metrics = Metrics(
    declared=[
        Counter("a_total", tags=["k"]),
        Sum("s_total", value="n", tags=["k"]),
        Distribution("d_seconds", tags=["k"]),
    ],
    allowed_props=["k"],
    workers=sys.argv[2] if len(sys.argv) > 2 else False,
)
set_trace_function(metrics)


class Node:
    """Is in a cycle, and traces when the collector finds it."""

    def __init__(self) -> None:
        self.tracer = Tracer(self)
        self.me = self

    def __del__(self) -> None:
        self.tracer.trace(k="finalizer", n=1)
        with self.tracer.span(k="finalizer"):
            pass


handled = Tracer("Handler")
signals = [0]
is_over = False
running: list[None] = []
"""One entry for each call of the handler that runs now."""


def next_signal(seconds: float = 0.0005) -> None:
    """Ask for one signal: a slow handler would get periodic ones inside each other without end."""
    signal.setitimer(signal.ITIMER_REAL, 0 if is_over else seconds)


def handle(*_: object) -> None:
    """Trace in the middle of whatever runs, also of the handler itself, but most of the time not.

    The next signal comes when the program has run for longer than the handler.
    """
    begin = time.monotonic()
    running.append(None)
    if len(running) < 4:
        next_signal()
    handled.trace(k="signal", n=1)
    signals[0] += 1
    running.pop()
    if not running:
        next_signal(max(0.0005, 3 * (time.monotonic() - begin)))


def work(name: str) -> None:
    """Trace, and make nodes."""
    tracer = Tracer("Worker")
    for n in range(ROUNDS):
        Node()
        tracer.trace(k=name, n=2)
        with tracer.span(k=name):
            pass
        if n % 500 == 0:
            metrics.read()


def counted(name: str) -> dict[str, object]:
    """Return the numbers of a metric by the prop; of a distribution, how many there are."""
    found: dict[str, object] = {}
    for point in metrics.read().family(name).points:
        value: object = point.value
        found[point.labels[0]] = getattr(value, "count", value)
    return found


signal.signal(signal.SIGALRM, handle)
next_signal()
gc.set_threshold(3)
threads = [threading.Thread(target=work, args=(name,)) for name in ("one", "two")]
for thread in threads:
    thread.start()
work("main")
for thread in threads:
    # Not without limit: a signal may interrupt another thread, and CPython 3.11 calls the handler,
    # and under coverage goes on at all, only once this one runs.
    while thread.is_alive():
        thread.join(0.01)
is_over = True
next_signal()
gc.set_threshold(700)
gc.collect()

each = dict.fromkeys(("one", "two", "main"), ROUNDS)
twice = {name: 2 * rounds for name, rounds in each.items()}
found = {name: counted(name) for name in ("a_total", "s_total", "d_seconds")}
expected = {
    "a_total": twice | {"finalizer": 6 * ROUNDS, "signal": signals[0]},
    "s_total": twice | {"finalizer": 3 * ROUNDS, "signal": signals[0]},
    "d_seconds": each | {"finalizer": 3 * ROUNDS},
}
metrics.close()
lost = swallowed_errors() + dropped_events()
sys.stdout.write(
    json.dumps({"found": found, "expected": expected, "signals": signals[0], "lost": lost})
)
