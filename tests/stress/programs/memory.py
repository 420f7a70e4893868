"""Risks of growth: series, caches, objects that live longer because they are traced."""

import gc
import logging
import time
import tracemalloc
import weakref
from collections.abc import Callable
from types import CodeType, FunctionType
from typing import Any

import hypertrace
from hypertrace import Tracer, set_trace_function
from hypertrace_prometheus import PrometheusExporter

from .tools import OVERFLOW, Swarm, counts, resident, samples

OURS = ("hypertrace", "hypertrace_prometheus")


class Lines(logging.Handler):
    """Remembers what the counting and the exporter log."""

    def __init__(self) -> None:
        super().__init__()
        self.texts: list[str] = []
        for name in ("hypertrace.metrics", "hypertrace_prometheus"):
            logging.getLogger(name).addHandler(self)

    def emit(self, record: logging.LogRecord) -> None:
        self.texts.append(record.getMessage())


def distinct_values(values: int, limit: int) -> dict[str, Any]:
    """Trace with ever new values of a prop, and once more with them all."""
    lines = Lines()
    exporter = PrometheusExporter(allowed_props=["peer"], max_series=limit, collect_defaults=False)
    set_trace_function(exporter)
    swarm = Swarm()
    tracemalloc.start()
    before = tracemalloc.get_traced_memory()[0]
    for peer in range(values):
        swarm.meet(f"peer {peer}")
    held = tracemalloc.get_traced_memory()[0] - before
    tracemalloc.stop()
    found = counts(exporter.metrics())
    return {
        "overflow": found.pop(OVERFLOW),
        "series": len(found),
        "rest": sum(found.values()),
        "held": held / 1e6,
        "lines": lines.texts,
    }


def _growth(work: Callable[[int], object], times: int) -> float:
    """Return by how many MB the process grows while something is done, once it runs smoothly."""
    for i in range(times // 4):
        work(i)
    gc.collect()
    before = resident()
    for i in range(times // 4, times):
        work(i)
    gc.collect()
    return resident() - before


def objects(number: int) -> dict[str, Any]:
    """Make objects, trace them in every way, and drop them."""
    exporter = PrometheusExporter(allowed_props=["topic"], collect_defaults=False)
    set_trace_function(exporter)
    parent = Swarm({"topic": "a"})

    def work(i: int) -> None:
        swarm = Swarm({"topic": "b"})
        swarm.tracer.set_parent(parent.tracer)
        swarm.connect()
        swarm.dial()
        swarm.join()

    growth = _growth(work, number)
    found = counts(exporter.metrics())
    return {"growth": growth, "series": len(found), "total": sum(found.values())}


def objects_by_number(number: int) -> dict[str, Any]:
    """The same with the objects' numbers as labels: each has its own series while it lives."""
    exporter = PrometheusExporter(object_ids=True, max_series=10_000, collect_defaults=False)
    set_trace_function(exporter)

    def work(i: int) -> None:
        swarm = Swarm()
        swarm.connect()
        swarm.join()

    growth = _growth(work, number)
    living = [Swarm() for _ in range(100)]
    for swarm in living:
        swarm.connect()
    during = _of_objects(exporter)
    del living, swarm
    return {"growth": growth, "living": during, "dead": _of_objects(exporter)}


def _of_objects(exporter: PrometheusExporter) -> int:
    return sum("object_id=" in series for series in samples(exporter.metrics()))


METHOD = """
def go(tracer):
    tracer.trace()
    with tracer.span("in", peer=1):
        pass
"""


def _function(i: int) -> FunctionType:
    """Return a function whose code is not that of any other."""
    names: dict[str, Any] = {"__name__": f"made.{i % 7}"}
    exec(compile(METHOD, f"<made {i}>", "exec"), names)
    made: FunctionType = names["go"]
    return made


def dynamic_code(number: int) -> dict[str, Any]:
    """Trace in code that is made at run time, and dropped."""
    exporter = PrometheusExporter(allowed_props=["peer"], max_series=1_000, collect_defaults=False)
    set_trace_function(exporter)
    tracer = Tracer("made")
    codes: list[weakref.ref[CodeType]] = []

    def work(i: int) -> None:
        go = _function(i)
        go(tracer)
        codes.append(weakref.ref(go.__code__))

    start = time.monotonic()
    growth = _growth(work, number)
    living = sum(code() is not None for code in codes)
    total = sum(counts(exporter.metrics()).values())
    return {"growth": growth, "living": living, "total": total, "seconds": time.monotonic() - start}


def dynamic_classes(number: int) -> dict[str, Any]:
    """Trace objects of classes that are made at run time, and dropped."""
    exporter = PrometheusExporter(max_series=1_000, collect_defaults=False)
    set_trace_function(exporter)
    classes: list[weakref.ref[type]] = []

    def work(i: int) -> None:
        made = type(f"Made{i}", (Swarm,), {})
        swarm = made()
        swarm.connect()
        swarm.join()
        classes.append(weakref.ref(made))

    growth = _growth(work, number)
    living = sum(cls() is not None for cls in classes)
    total = sum(counts(exporter.metrics()).values())
    return {"growth": growth, "living": living, "total": total}


def trace_ids(number: int) -> dict[str, Any]:
    """Trace with ever new ids."""
    exporter = PrometheusExporter(max_series=1_000, collect_defaults=False)
    set_trace_function(exporter)
    tracer = Tracer("ids")

    def work(i: int) -> None:
        tracer.trace(f"id {i}")
        with tracer.span(f"id {i}"):
            pass

    growth = _growth(work, number)
    return {"growth": growth, "total": sum(counts(exporter.metrics()).values())}


def collector_off(number: int) -> dict[str, Any]:
    """Drop traced objects while the garbage collector is off; then let it look for ours."""
    exporter = PrometheusExporter(allowed_props=["peer"], collect_defaults=False, object_ids=True)
    living = 0
    for function in (exporter, PrometheusExporter(), lambda event: None, lambda event: event.wrong):
        set_trace_function(function)
        gc.collect()
        gc.disable()
        references = []
        for i in range(number):
            swarm = Swarm({"topic": "a"} if i % 2 else None)
            swarm.connect()
            swarm.dial()
            swarm.meet(str(i % 10))
            swarm.join()
            references.append(weakref.ref(swarm))
            del swarm
            living += references[-1]() is not None
        gc.set_debug(gc.DEBUG_SAVEALL)
        gc.enable()
        gc.collect()
        gc.set_debug(0)
    exporter.metrics()
    ours = [repr(each)[:200] for each in gc.garbage if type(each).__module__.startswith(OURS)]
    return {"living": living, "ours": ours, "errors": hypertrace.swallowed_errors()}
