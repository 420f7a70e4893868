"""Collection from a registry, collector by collector: one that fails costs only its own metrics."""

from __future__ import annotations

import queue
import sys
import threading
import traceback
from collections import deque
from contextlib import suppress
from time import monotonic
from typing import TYPE_CHECKING, Any, Generic, TypeAlias, TypeVar
from weakref import WeakValueDictionary

from prometheus_client import CollectorRegistry
from prometheus_client.core import Metric
from prometheus_client.registry import Collector

from hypertrace.forks import after_fork_in_child

from .collector import ExporterCollector
from .failures import Failures
from .multiprocess import with_all_processes
from .process import DEFAULTS
from .registries import held_by

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from collections.abc import Set as AbstractSet


T = TypeVar("T")

Convert: TypeAlias = "Callable[[Metric, CollectorRun[T]], T]"

PATIENCE = 4.0
"""Seconds after which a collector is taken to hang. A scrape with a timeout of 5 seconds or more
still gets its page."""

_STEP = 0.5
"""Seconds without a result after which the next collectors get another thread."""

_DEFAULT_KINDS = frozenset(map(id, DEFAULTS.values()))
_failures_of_no_exporter = Failures()


class CollectorRun(Generic[T]):
    """One collection from one collector.

    Attributes:
        results: of the families, as far as they arrived in time.
        collector: what is collected from.
        has_failed: some or all families are missing.
    """

    def __init__(
        self,
        collector: Collector,
        convert: Convert[T],
        failures: Failures,
        left_out: AbstractSet[str] = frozenset(),
    ) -> None:
        """Start without results.

        Args:
            collector: what to collect from.
            convert: returns the result of a family.
            failures: where a failure is counted.
            left_out: names of families of a default collector that are not wanted.
        """
        self.collector = collector
        self.results: list[T] = []
        self.has_failed = False
        self._convert = convert
        self._failures = failures
        self._left_out = left_out if self.is_default else ()
        self._is_given_up = False
        self._started = 0.0
        self._thread: int | None = None

    @property
    def is_lost(self) -> bool:
        """Whether all families are missing."""
        return self.has_failed and not self.results

    @property
    def is_default(self) -> bool:
        """Whether the collector is one of the default metrics."""
        # By identity: the metaclass of a collector may compare as it likes.
        return id(type(self.collector)) in _DEFAULT_KINDS

    @property
    def is_own(self) -> bool:
        """Whether the collector is the one of an exporter, whose errors are not swallowed."""
        return type(self.collector) is ExporterCollector

    @property
    def is_quick(self) -> bool:
        """Whether it needs no separate thread, because no code of the application runs in it."""
        return self.is_default or type(self.collector) is _TargetInfo

    @property
    def is_hanging(self) -> bool:
        """Whether an earlier collection from the same collector has not ended in time."""
        earlier = [reference() for reference in _under_way.valuerefs()]
        return any(one and one.collector is self.collector and one.is_late for one in earlier)

    @property
    def is_late(self) -> bool:
        """Whether it has not ended in time."""
        return self._is_given_up or monotonic() - self._started > PATIENCE

    def run(self) -> None:
        """Collect, in this thread.

        Raises:
            Exception: the collector of an exporter raised it. Errors of third-party collectors are
                counted.
        """
        self._started, self._thread = monotonic(), threading.get_ident()
        _under_way[id(self)] = self
        try:
            self._run()
        except Exception as error:
            if self.is_own:
                raise
            self.fail(error)
        finally:
            _under_way.pop(id(self), None)

    def fail(self, error: BaseException) -> None:
        """Count the collector as failed, once for any number of calls."""
        if not self.has_failed and not self._is_given_up:
            self.has_failed = True
            self._failures.count(self.collector, error)

    def give_up(self) -> None:
        """Accept no further results."""
        self.fail(
            TimeoutError(
                "other collectors took all the time there was"
                if self._thread is None
                else "it has not returned in time, and is left out until it has; it stands at\n"
                + _stack(self._thread)
            )
        )
        self._is_given_up = True

    def skip(self) -> None:
        """Leave out the collector, which has hung since an earlier collection."""
        self.fail(TimeoutError("it has not returned from an earlier scrape"))

    def _run(self) -> None:
        one = self.collector
        families = one.page() if type(one) is ExporterCollector else one.collect()
        for family in families:
            if self._is_given_up:
                break
            if self._left_out and family.name in self._left_out:
                continue
            try:
                result = self._convert(family, self)
            except Exception as error:
                if self.is_own:
                    raise
                self.fail(error)
            else:
                self.results.append(result)


def collect(
    registry: Collector,
    convert: Convert[T],
    *,
    bounded: bool = False,
) -> list[CollectorRun[T]]:
    """Collect from all collectors of a registry.

    A collector that raises or hangs is counted and logged, and only what it did not give is
    missing. Errors of the exporter itself are raised.

    Args:
        registry: has the collectors. One that is not of `prometheus_client` is collected from as if
            it were a single collector.
        convert: returns the result of a family, from the family and its run, whose `fail()` it may
            call with an error that costs a part of the family.
        bounded: run third-party collectors in daemon threads, and give up those that have not
            returned within 4 seconds. Otherwise all run in the calling thread.

    Returns:
        A run for each collector, in the order in which they were registered.
    """
    held = held_by(registry)
    own = next((one for one in held or () if type(one) is ExporterCollector), None)
    failures = _failures_of_no_exporter if own is None else own.failures
    instead = frozenset[str]() if own is None else own.instead
    runs = [CollectorRun(one, convert, failures, instead) for one in _asked(registry, held)]
    apart = []
    for run in runs:  # before any of them runs: the first may be the one of the exporter
        if not run.is_own and not run.is_quick:
            failures.expect(run.collector)
    for run in runs:
        if not run.is_own and run.is_hanging:
            run.skip()
        elif bounded and not run.is_own and not run.is_quick:
            apart.append(run)
        else:
            run.run()
    if apart:
        _run_apart(apart)
    return runs


def _asked(registry: Any, held: dict[Collector, list[str]] | None) -> Iterator[Collector]:
    own_way = getattr(registry.collect, "__func__", None) is not CollectorRegistry.collect
    if held is None or own_way:
        yield registry
        return
    target = getattr(registry, "_target_info", None)
    if target:
        yield _TargetInfo(target)
    yield from with_all_processes(registry, held)


class _TargetInfo(Collector):
    """Gives the target info of the application, which a registry holds without a collector."""

    def __init__(self, labels: dict[str, str]) -> None:
        self._labels = labels

    def collect(self) -> Iterator[Metric]:
        family = Metric("target", "Target metadata", "info")
        family.add_sample("target_info", self._labels, 1)
        yield family


def _run_apart(runs: list[CollectorRun[T]]) -> None:
    """Run in daemon threads: one, and more while a collector hangs."""
    waiting, back = deque(runs), queue.SimpleQueue[CollectorRun[T]]()
    deadline = monotonic() + PATIENCE
    away = dict.fromkeys(runs)
    _start(waiting, back)
    while away and (left := deadline - monotonic()) > 0:
        try:
            del away[back.get(timeout=min(left, _STEP))]
        except queue.Empty:
            if waiting:
                _start(waiting, back)
    waiting.clear()
    for run in away:
        run.give_up()


def _start(waiting: deque[CollectorRun[T]], back: queue.SimpleQueue[CollectorRun[T]]) -> None:
    def work() -> None:
        with suppress(IndexError):  # none is left
            while True:
                run = waiting.popleft()
                try:
                    run.run()
                except BaseException as error:  # noqa: BLE001 -- such as SystemExit
                    run.fail(error)
                finally:
                    back.put(run)

    try:
        threading.Thread(target=work, name="hypertrace-metrics-collectors", daemon=True).start()
    except RuntimeError:  # the system has no thread left
        work()


def _stack(thread: int) -> str:
    frame = sys._current_frames().get(thread)  # noqa: SLF001 -- it is documented
    return "".join(traceback.format_stack(frame)).rstrip() if frame else "its end"


_under_way: WeakValueDictionary[int, CollectorRun[Any]] = WeakValueDictionary()
"""Runs that have not ended. Weak, so that one ended by an interrupt is dropped."""

after_fork_in_child(_under_way.clear)  # their threads are gone there
