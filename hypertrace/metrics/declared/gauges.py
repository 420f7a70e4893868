"""Pull gauges: gauges whose values are read from the application when the metrics are read."""

from __future__ import annotations

import logging
import sys
import threading
import traceback
from collections import deque
from collections.abc import Callable, Mapping
from contextlib import suppress
from time import monotonic
from typing import TYPE_CHECKING, Any, TypeAlias
from weakref import WeakSet

from hypertrace import suppress_tracing, tallies
from hypertrace.forks import around_fork
from hypertrace.inspection import type_name
from hypertrace.metrics.distinct import DistinctValues, SetValues
from hypertrace.periodic import PeriodicThread
from hypertrace.rate_limit import RateLimit
from hypertrace.weak_methods import weakly

from .lines import line_of_application

if TYPE_CHECKING:
    from types import TracebackType
    from typing import Self

    from hypertrace.metrics.labels import Values
    from hypertrace.metrics.measurements import Gauge
    from hypertrace.metrics.measurements import Number as Sum
    from hypertrace.metrics.series import SeriesTable
    from hypertrace.metrics.storage import Storage

    from .instruments import Instrument
    from .kinds import DeclaredMetric

Number: TypeAlias = "float | None"
Read: TypeAlias = "Callable[[], Number | Mapping[Any, Number]]"
"""Returns the value, None if there is none now. Of a gauge whose tags have no values, it returns a
mapping from values of the tag to numbers; the keys are tuples if there are several tags."""

PATIENCE = 1.5
"""Seconds after which a gauge is taken to hang. All gauges together may take as long, which is less
than an exporter has for its last reading at exit."""
INTERVAL = 5.0
"""Seconds after which a worker reads its gauges for the others."""
THREAD_NAME = "hypertrace-gauges"
READER_NAME = "hypertrace-gauges-reader"

_STEP = 0.5
"""Seconds without a result after which the next gauges get another thread."""
_FORK_TIMEOUT = 0.1
"""Seconds that a fork waits for a thread that is just reading."""

_logger = logging.getLogger("hypertrace.metrics")


class PullGauge:
    """A gauge that is read from the application; the handle to remove it.

    It is there until `stop()`, until the end of a `with` block, or until the object is gone whose
    bound method it reads. It does not keep that object. Any thread may use it.

    Attributes:
        metric: what the metric is.
    """

    def __init__(
        self,
        instrument: Instrument[Any],
        read: Read,
        texts: Values | None,
        holder: dict[PullGauge, None],
    ) -> None:
        """Know what to read.

        Args:
            instrument: has the series.
            read: returns the values.
            texts: of the labels; None if `read` returns a mapping.
            holder: has the gauge until it is removed.
        """
        self.metric: DeclaredMetric = instrument.metric
        self.texts: Values | None = texts
        self._instrument = instrument
        self._line = line_of_application()
        self._read = weakly(read, self._remove)
        self._shown: dict[Values, Gauge] = {}
        self._is_removed = False
        self._holder = holder
        self._log_limit = RateLimit()
        self._run: _Run | None = None
        self._has_returned = False

    def __repr__(self) -> str:
        """Show the name, and the labels or their values."""
        stopped = ", stopped" if self._is_removed else ""
        names = self.metric.labels
        labels = [*names] if self.texts is None else dict(zip(names, self.texts, strict=True))
        return f"<PullGauge {self.metric.name!r}, labels {labels}{stopped}>"

    @property
    def is_stopped(self) -> bool:
        """Whether the gauge is gone."""
        return self._is_removed

    def stop(self) -> None:
        """Remove the gauge: it is read no more, and has no value. May be called more than once."""
        self._remove()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.stop()

    def read(self) -> dict[Values, Any]:
        """Return the numbers of this moment by the texts of their labels.

        Raises:
            Exception: the function of the application raised it, or returned something else.
        """
        function = self._read()
        if function is None:
            return {}
        found = suppress_tracing(function)
        del function  # it may hold the object
        if self.texts is not None:
            return {self.texts: found}
        if not isinstance(found, Mapping):
            raise TypeError(
                f"read of the gauge {self.metric.name} must return a mapping from values of "
                f"{', '.join(self.metric.labels)} to numbers, not {type_name(found)}"
            )
        return {self._texts_of(key): number for key, number in found.items()}

    def show(self, numbers: Mapping[Values, Any]) -> None:
        """Set the series of some labels, and let all others of this gauge be without a value."""
        shown, table = {}, self._instrument.table
        for texts, number in numbers.items():
            if number is None:
                continue
            series = table.get((texts, ()), self._line)
            if not table.is_overflow(series):
                before = series.cell.read()[0]
                series.cell.set(number)
                if series.cell.read()[0] != before:  # else it is no number, which is counted
                    shown[texts] = series
        before_this, self._shown = self._shown, shown
        for texts, series in before_this.items():
            if texts not in shown:
                series.cell.clear()
        if self._is_removed:  # meanwhile
            self._remove()

    def fail(self, error: BaseException) -> None:
        """Count an error, log it once a minute at the most, and be without a value."""
        self.show({})
        with suppress(Exception):  # a broken log handler must not cost the reading
            tallies.swallowed.increment()
            if self._log_limit.allow():
                suppress_tracing(self._log, error)

    def _log(self, error: BaseException) -> None:
        _logger.error(
            "The gauge %s could not be read, and has no value (%d more failures not logged)",
            self.metric.name,
            self._log_limit.take_suppressed(),
            exc_info=error,
        )

    def _texts_of(self, key: object) -> Values:
        values = key if type(key) is tuple else (key,)
        if len(values) != len(self.metric.labels):
            raise TypeError(
                f"read of the gauge {self.metric.name} must return a mapping whose keys are values "
                f"of {', '.join(self.metric.labels)}, not {key!r}"
            )
        return tuple("" if value is None else self._instrument.text(value) for value in values)

    def _remove(self, _: object = None) -> None:
        """Be gone. It may run in a finalizer: there is no lock, and nothing that waits."""
        self._is_removed = True
        self._holder.pop(self, None)
        shown, self._shown = self._shown, {}
        for series in shown.values():
            series.cell.clear()


class PullCounter(PullGauge):
    """A counter whose total is read from where it is kept; see `PullGauge`.

    What the total has risen by is added, from the start of the process: a forked child begins at
    zero, and its total must, too.
    """

    def __init__(self, *args: Any) -> None:
        """Know what to read; the arguments are those of `PullGauge`."""
        super().__init__(*args)
        self._begun: set[Values] = set()

    def show(self, numbers: Mapping[Values, Any]) -> None:
        """Let the series of some labels have these totals; all others stay as they are."""
        table: SeriesTable[Sum] = self._instrument.table
        for texts, number in numbers.items():
            if number is None:
                continue
            series = table.get((texts, ()), self._line)
            # Sums of floats may be a bit above the total, which is no change.
            more = max(0.0, number - series.value)
            if not table.is_overflow(series) and (more or texts not in self._begun):
                series.add(more)
                self._begun.add(texts)


class PullGauges:
    """The pull gauges of one `Metrics`. Any thread may use it."""

    def __init__(self, storage: Storage) -> None:
        """Start without gauges.

        Args:
            storage: has the series, and shows those of this process to other workers.
        """
        self._storage = storage
        self._gauges: dict[PullGauge, None] = {}
        _all.add(self)

    def add(
        self,
        instrument: Instrument[Any],
        read: Read,
        texts: Values | None,
        kind: type[PullGauge] = PullGauge,
    ) -> PullGauge:
        """Read a gauge from now on; the arguments are those of `PullGauge`, and its class.

        Raises:
            ValueError: another gauge of the same name has the same labels.
        """
        metric = instrument.metric
        for other in self._held():
            if texts is not None and (other.metric.name, other.texts) == (metric.name, texts):
                tags = dict(zip(metric.labels, texts, strict=True))
                raise ValueError(
                    f"{metric.name} with the tags {tags} is read already; stop() that gauge "
                    "first, or give this one other tags"
                )
        gauge = kind(instrument, read, texts, self._gauges)
        self._gauges[gauge] = None
        if gauge.is_stopped:  # the object is gone already
            gauge.stop()
        if self._storage.is_shared:
            _publisher.start()
        return gauge

    def refresh(self) -> None:
        """Read all gauges, within `PATIENCE` seconds.

        Each is read in a separate thread. One that raises or hangs has no value, and is counted in
        `hypertrace_swallowed_errors_total`. Where no thread can start, as when the interpreter
        ends, those are read that were read before: one that hangs would cost the whole reading.
        """
        if threading.get_ident() in _readers:  # a gauge reads the metrics
            return
        runs: list[_Run] = []
        waiting: deque[_Run] = deque()
        for gauge in self._held():
            run = gauge._run
            if run is None:
                run = gauge._run = _Run(gauge)
                waiting.append(run)
            elif run.is_late:
                gauge.fail(TimeoutError("it has not returned from an earlier reading"))
                continue
            runs.append(run)
        if runs:
            _finish(runs, waiting)

    def sets(self) -> list[SetValues]:
        """Return the sets whose numbers of values are gauges."""
        found = []
        for gauge in self._held():
            values = getattr(gauge._read(), "__self__", None)
            if type(values) is DistinctValues and gauge.texts is not None:
                metric = gauge._instrument.table.declaration
                found.append(SetValues(metric, gauge.texts, values.read()))
        return found

    def _held(self) -> list[PullGauge]:
        # A copy first: a finalizer may remove a gauge when a list is made of a dict.
        return [*self._gauges.copy()]

    def publish(self) -> None:
        """Read all gauges, if other workers show them.

        A process that has forked and counts nothing itself, as a server that has loaded the
        application before it forks its workers, is none of the workers: its gauges are not theirs.
        """
        storage = self._storage
        if storage.is_shared and (storage.is_worker or not _publisher.has_forked):
            self.refresh()

    def forget_runs(self) -> None:
        """Forget the readings of threads that are gone, in a forked child."""
        for gauge in self._held():
            gauge._run = None


class _Run:
    """One reading of one gauge."""

    __slots__ = ("_gauge", "_is_given_up", "_started", "_thread", "done")

    def __init__(self, gauge: PullGauge) -> None:
        self._gauge = gauge
        self._started = monotonic()
        self._thread: int | None = None
        self._is_given_up = False
        self.done = threading.Event()

    @property
    def is_late(self) -> bool:
        """Whether it has not ended in time."""
        return self._is_given_up or monotonic() - self._started > PATIENCE

    def work(self) -> None:
        """Read, in this thread."""
        self._thread = threading.get_ident()
        _readers.add(self._thread)
        try:
            numbers = self._gauge.read()
            self._gauge._has_returned = True
            if not self._is_given_up:
                self._gauge.show(numbers)
        except BaseException as error:  # noqa: BLE001 -- such as SystemExit
            if not self._is_given_up:
                self._gauge.fail(error)
        finally:
            _readers.discard(self._thread)
            self._gauge._run = None
            self.done.set()

    def work_alone(self) -> None:
        """Read in this thread, of which the reading needs the time; not what may never return."""
        if self._gauge._has_returned:
            self.work()
        else:
            self._gauge._run = None
            self.done.set()

    def give_up(self) -> None:
        """Accept no result."""
        if not self._is_given_up:
            self._is_given_up = True
            self._gauge.fail(
                TimeoutError(
                    "other gauges took all the time there was"
                    if self._thread is None
                    else "it has not returned in time, and is left out until it has; it stands at\n"
                    + _stack(self._thread)
                )
            )


def _finish(runs: list[_Run], waiting: deque[_Run]) -> None:
    """Wait for some runs, and start threads for those without: one, and more while one hangs."""
    if waiting:
        _start(waiting)
    deadline = monotonic() + PATIENCE
    for run in runs:
        while not run.done.wait(min(_STEP, max(0.0, deadline - monotonic()))):
            if monotonic() >= deadline:
                break
            if waiting:
                _start(waiting)
    abandoned = [*waiting]
    waiting.clear()
    for run in runs:
        if not run.done.is_set():
            run.give_up()
    for run in abandoned:
        run._gauge._run = None  # no thread has it


def _start(waiting: deque[_Run]) -> None:
    def work(read: Callable[[_Run], object]) -> None:
        with suppress(IndexError):  # none is left
            while True:
                read(waiting.popleft())

    try:
        threading.Thread(target=work, args=(_Run.work,), name=READER_NAME, daemon=True).start()
    except RuntimeError:  # the system has no thread left, or the interpreter ends
        work(_Run.work_alone)


def _stack(thread: int) -> str:
    frame = sys._current_frames().get(thread)
    return "".join(traceback.format_stack(frame)).rstrip() if frame else "its end"


class _Publisher:
    """The daemon thread of a worker that reads its pull gauges for other workers.

    There is one for all. It starts with the first gauge; it ends before a fork, and starts again
    after it in both processes.
    """

    def __init__(self) -> None:
        self._is_needed = False
        self.has_forked: bool = False
        self._thread = PeriodicThread(_publish, INTERVAL, THREAD_NAME)

    def start(self) -> None:
        """Start the thread, unless it runs."""
        self._is_needed = True
        with suppress(RuntimeError):  # the system has no thread left, or the interpreter ends
            self._thread.start()

    def before_fork(self) -> None:
        """End the thread."""
        if self._is_needed:
            self._thread.end()
            self._thread.join(_FORK_TIMEOUT)

    def after_fork_in_parent(self) -> None:
        """Start the thread again."""
        self.has_forked = True
        if self._is_needed:
            self.start()

    def after_fork_in_child(self) -> None:
        """Start another thread: those of the parent are gone."""
        _readers.clear()
        self.has_forked = False
        for gauges in [*_all]:
            gauges.forget_runs()
        if self._is_needed:
            self._thread = PeriodicThread(_publish, INTERVAL, THREAD_NAME)
            self.start()


def _publish() -> bool:
    for gauges in [*_all]:
        gauges.publish()
    return True


_all: WeakSet[PullGauges] = WeakSet()
_readers: set[int] = set()
"""The threads that read gauges now."""
_publisher = _Publisher()
around_fork(
    before=_publisher.before_fork,
    after_in_parent=_publisher.after_fork_in_parent,
    after_in_child=_publisher.after_fork_in_child,
)
