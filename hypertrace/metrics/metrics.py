"""Metrics: the trace function that counts, and holds all series that exporters read."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, TypedDict
from weakref import finalize

from hypertrace import SpanEvent

from .aggregations import DEFAULT_BUCKETS, checked_bounds
from .allowlist import label_names
from .declarations import CALLS
from .declared.declared import Declared, checked
from .declared.instruments import Instruments
from .declared.registry import listen
from .declared.selections import selection_of
from .declared.sites import DeclaredSite
from .exemplars import opentelemetry_exemplar
from .exports import Exports
from .flushing import FLUSH_TIMEOUT, Flushed
from .functions import FunctionSeries
from .health import Health
from .labels import Labeller
from .names import Names
from .process_labels import process_labels
from .reading import Reading
from .recorders import EntryRecorder, PropsIndex, SpansRecorder, props_recorder
from .samples import Samples, watch
from .sharing import make_storage
from .tables import with_others

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence

    from hypertrace import Cell, SpanRecorder, TracedObject, TraceEvent
    from hypertrace.patterns import EventPattern

    from .aggregations import Histogram, Spans
    from .declared.kinds import DeclaredMetric
    from .declared.selections import EventSelection
    from .distinct import SetValues
    from .exemplars import ExemplarFunction
    from .exponential_series import Exponential
    from .labels import Values
    from .measurements import ValueHistogram
    from .storage import Storage, View

    Props = Mapping[str, object]


class CountingOptions(TypedDict, total=False):
    """The arguments of `Metrics`, which every exporter takes, too."""

    declared: Iterable[DeclaredMetric]
    allowed_props: Iterable[str]
    unsafe_props: Iterable[str]
    counter_name: str
    prefix: str
    names: Mapping[str, str] | None
    labels: Mapping[str, str] | None
    object_ids: bool
    max_series: int
    max_label_length: int
    buckets: Sequence[float]
    buckets_for: Mapping[str, Sequence[float]] | None
    exemplar: ExemplarFunction | None
    upstream: bool
    native_histograms: bool
    entry_label: bool
    workers: bool | str | os.PathLike[str]


class Metrics(Instruments):
    """Counts every `trace()` and times every span; any number of exporters read it.

    Give it, or an exporter of it, to `hypertrace.set_trace_function`. Any thread may trace and
    read. What is counted stays as long as the object does.
    """

    def __init__(  # noqa: PLR0913 -- a setting each
        self,
        *,
        declared: Iterable[DeclaredMetric] = (),
        allowed_props: Iterable[str] = (),
        unsafe_props: Iterable[str] = (),
        counter_name: str = CALLS.name,
        prefix: str = "",
        names: Mapping[str, str] | None = None,
        labels: Mapping[str, str] | None = None,
        object_ids: bool = False,
        max_series: int = 10_000,
        max_label_length: int = 256,
        buckets: Sequence[float] = DEFAULT_BUCKETS,
        buckets_for: Mapping[str, Sequence[float]] | None = None,
        exemplar: ExemplarFunction | None = opentelemetry_exemplar,
        upstream: bool = False,
        native_histograms: bool = False,
        entry_label: bool = False,
        workers: bool | str | os.PathLike[str] = "auto",
        name: str = "",
    ) -> None:
        """Start without series.

        Args:
            declared: metrics that are recorded besides the built-in ones; see `declare`.
            allowed_props: names of the props that become labels `object_props_X`,
                `parent_object_props_X` and `caller_props_X`; all others are ignored. Characters
                outside `[a-zA-Z0-9_]` become `_`. Names that look like secrets (`password`,
                `api-key`, `authToken`), or are called like labels of Prometheus (`le`, `quantile`,
                `job`, `instance`, `__x`), are refused.
            unsafe_props: those of the allowed props that are not refused for their name.
            counter_name: name of the counter of calls, without the prefix.
            prefix: before the names of the metrics of functions and of declared ones, as `shop_`.
            names: other names for some of these metrics, by the names that they have by default,
                as `{"function_counter_total": "shop_calls_total"}`; without the prefix.
            labels: of the whole process, as `{"service": "shop", "version": "1.4"}`: on all series
                that are pushed, and `target_info` for Prometheus. They are added to those of the
                environment (`HYPERTRACE_SERVICE`, `OTEL_SERVICE_NAME`,
                `OTEL_RESOURCE_ATTRIBUTES`), and win over them. Names are refused as those of props.
            object_ids: add the labels `object_id` and `parent_object_id`: separate series for
                each object, dropped once the object's tracer is gone.
            max_series: how many series of each metric are held at the most. Past it, updates are
                counted in one series `{object_classname="<overflow>"}`, and a warning is logged
                once.
            max_label_length: longer label values are cut to so many characters.
            buckets: upper bounds, in seconds, of the buckets that durations are counted in.
            buckets_for: other buckets for some classes or trace ids, by their name; those of an id
                win over those of a class.
            exemplar: returns the labels of an exemplar for a span that ends, such as
                `{"trace_id": "4bf9"}`, or None; by default those of OpenTelemetry's current span
                if the application uses it.
            upstream: count in `function_edges_total` which function's span started inside which.
            native_histograms: count durations in exponential buckets, too, for the native
                histograms of Prometheus.
            entry_label: add the label `entry` to the metrics of functions: the name of the request,
                job or other entry that the thread or task works for, as far as it is known then.
                Calls and spans take longer with it.
            workers: whether all processes of the application share their counts, in files that any
                of them reads. `"auto"` shares among the processes that descend from one, as under
                gunicorn or `multiprocessing`; True among all processes of this user that run this
                program; a path among all that name this directory. False keeps the counts in the
                memory of this process. The environment variable `HYPERTRACE_WORKERS` wins.
            name: distinguishes several `Metrics` of one process, for sharing.

        Raises:
            ValueError: a name that Prometheus refuses, one name for two metrics, a prop that looks
                like a secret, two props that would become the same label, a number out of range, or
                two declared metrics of one name that differ.
            TypeError: an argument of the wrong type.
        """
        self._names = Names(prefix=prefix, names=names, counter_name=counter_name)
        _check_number("max_series", max_series, 1)
        _check_number("max_label_length", max_label_length, 16)
        labeller = Labeller(
            label_names(allowed_props, unsafe_props), max_label_length, object_ids=object_ids
        )
        self._labels = process_labels(labels, os.environ, labeller.text)
        bounds_of = _bounds_of(buckets, {} if buckets_for is None else buckets_for)
        self._buckets = bounds_of("", "")
        _check_exemplar(exemplar)
        declared = checked(declared, {})
        self._names.check(declared)
        # Last, so that a wrong argument leaves no files.
        self._storage = make_storage(workers=workers, name=name, object_ids=object_ids)
        self._functions = FunctionSeries(
            labeller,
            shown_names=self._names,
            max_series=max_series,
            own_series=object_ids,
            bounds_of=bounds_of,
            exemplar=exemplar,
            upstream=upstream,
            native_histograms=native_histograms,
            by_entry=entry_label,
            storage=self._storage,
        )
        self._health = Health(self._functions.labeller.text, self._storage)
        self._exports = Exports(self._storage)
        self._declared = Declared(
            self._storage,
            labeller,
            max_series=max_series,
            bounds=self._buckets,
            names=self._names,
            count_invalid=self._health.count_invalid,
        )
        finalize(self, _close, self._health, self._storage).atexit = False
        self._declared.declare(declared)
        listen(self)
        watch(self)

    def __call__(self, event: TraceEvent) -> None:
        """Count one event; of a span whose start was not recorded, its start, too."""
        functions = self._functions
        site, props = functions.site_of(event), functions.labeller.of_props(event.caller.props)
        if isinstance(event, SpanEvent):
            recorder = self._recorder(functions.spans_at(site, props), event)
            recorder.start()
            if recorder.edge is not None and event.upstream is not None:
                recorder.edge(event.upstream)()
            recorder.end(event)
        else:
            functions.calls_at(site, props).cell.increment()
        for feed in self._declared.feeds_of(event):
            feed.record(event)

    def share_key(self, traced: TracedObject, parent: TracedObject | None) -> Hashable:
        """Return the label values that the events of a tracer have in common; see the protocol."""
        key = self._functions.share_key(traced, parent)
        return None if key is None else self._declared.share_key(key, traced, parent)

    def bind(self, event: TraceEvent) -> Callable[[], object]:
        """Return what counts events like this one; it runs in C, unless entries are a label."""
        functions = self._functions
        bind: Callable[[], Callable[[], object]]
        if (declared := self._declared_at(event)) is not None:
            bind = declared.calls
        else:
            site, props = functions.site_of(event), functions.labeller.of_props(None)

            def bind() -> Callable[[], object]:
                return functions.calls_at(site, props).cell.increment

        return EntryRecorder(bind).record if functions.by_entry else bind()

    def bind_props(self, event: TraceEvent) -> Callable[[Props], object]:
        """Return what counts events like this one, each with its own props."""
        functions = self._functions
        bind: Callable[[], Callable[[Props], object]]
        if (declared := self._declared_at(event)) is not None:
            bind = declared.calls_with_props
        else:
            site, overflow = functions.site_of(event), functions.calls.overflow.cell

            # The cell itself, which can be called, and not its method: there is one a series.
            def make(props: Values) -> Cell:
                return functions.calls_at(site, props).cell

            def bind() -> Callable[[Props], object]:
                return props_recorder(
                    PropsIndex(functions.labeller, make, lambda cell: cell is not overflow)
                )

        return EntryRecorder(bind).record if functions.by_entry else bind()

    def bind_span(self, event: TraceEvent) -> SpanRecorder:
        """Return what records spans like this one."""
        if (declared := self._declared_at(event)) is not None:
            return declared.spans()
        functions = self._functions
        site, props = functions.site_of(event), functions.labeller.of_props(None)
        return self._recorder(functions.spans_at(site, props), event)

    def bind_span_props(self, event: TraceEvent) -> Callable[[Props], SpanRecorder]:
        """Return what finds the recorder for spans like this one, each with its own props."""
        if (declared := self._declared_at(event)) is not None:
            return declared.spans_with_props()
        functions, site = self._functions, self._functions.site_of(event)
        edge, simple = functions.edge_of(event), functions.is_simple
        overflow = functions.overflow_spans
        # One for all, so that none is kept for each.
        overflowing = SpansRecorder(overflow, functions, edge, simple=simple)

        def make(props: Values) -> SpansRecorder:
            spans = functions.spans_at(site, props)
            if spans is overflow:
                return overflowing
            return SpansRecorder(spans, functions, edge, simple=functions.is_simple)

        return PropsIndex(
            functions.labeller, make, lambda recorder: recorder is not overflowing
        ).find

    def declare(self, *metrics: DeclaredMetric) -> None:
        """Record more metrics, from the next event of each call site on, without a restart.

        Declaring an equal metric again does nothing. A metric that was undeclared, and is declared
        again with the same labels, goes on with the numbers it had. A span that is open is recorded
        as it was when it started. Any thread may call it.

        An event that one counter or distribution is about costs little more than before; one with a
        number of its props about a microsecond. A function of the event (`keep`, `drop`, `value`)
        takes some microseconds, and objects of the classes that `of` may mean then share no
        recorders: begin `of` with the name of a class where many objects are made.

        Args:
            metrics: `Counter`, `Sum`, `LastValue`, `Distribution` or `Summary`.

        Raises:
            TypeError: one is no such metric.
            ValueError: another metric of the same name differs; the message shows how. Then none of
                them is declared.
        """
        self._declared.declare(metrics)

    def undeclare(self, name: str) -> None:
        """Record a declared metric no more, and leave it out of readings. Any thread may call it.

        Args:
            name: of the metric.

        Raises:
            LookupError: no metric of this name is declared.
        """
        self._declared.undeclare(name)

    def selection(self, selected: EventPattern | DeclaredMetric) -> EventSelection:
        """Return what reads single events, for exporters that send one by one.

        Nothing is counted by it. Tags have the same texts as labels, of the same allowed props.

        Args:
            selected: a pattern, or a declared metric, which need not be one of these metrics.
        """
        return selection_of(
            selected, self._functions.labeller, self._names.of, self._health.count_invalid
        )

    def sets(self) -> list[SetValues]:
        """Return the sets of `hypertrace.stats`, with the values of the last minute.

        They are those of this process; of more than 1 024, a part. How many distinct values there
        are is a gauge of each reading. The values are for exporters whose receivers count them.
        Any thread may call it.
        """
        return self._declared.gauges.sets()

    @property
    def labels(self) -> Mapping[str, str]:
        """Labels of the whole process, as each reading has them."""
        return self._labels

    @property
    def buckets(self) -> tuple[float, ...]:
        """Upper bounds, in seconds, of the buckets of durations that have no others."""
        return self._buckets

    @property
    def storage(self) -> Storage:
        """Where the numbers are kept."""
        return self._storage

    def read(self, since: Reading | None = None, *, worker: int | str | None = None) -> Reading:
        """Return all families and points of this moment, those of the counting itself included.

        Costs some 100 ns a series, and some 5 µs one with spans. Any thread may read; no thread
        that traces waits for it.

        Args:
            since: an earlier reading, to get what came in after it: differences of counters and
                histograms, without the series that did not change, and gauges as they are.
            worker: the number of the worker to read, or `"self"` for this process; None reads the
                sum of all workers, including those that are gone.

        Raises:
            LookupError: there is no such worker.
        """
        reading = self.reading(self.view(worker))
        return reading if since is None else reading.since(since)

    def view(self, worker: int | str | None = None) -> View:
        """Return the numbers of this moment, for exporters that keep them.

        Pull gauges are read before, which may take 1.5 seconds if one of them hangs.

        Args:
            worker: as of `read`.

        Raises:
            LookupError: there is no such worker.
        """
        self._declared.gauges.refresh()
        return self._storage.view(worker)

    def reading(self, view: View) -> Reading:
        """Return what a view shows.

        Args:
            view: as `view()` returns it, or one that `storage` has saved.
        """
        now = time.time()
        families, usages = self._functions.read(view)
        declared, more = self._declared.read(view)
        families, usages = [*families, *declared], [*usages, *more]
        if others := self._storage.foreign_tables:
            families = with_others(families, others, view)
        own = [*self._health.read(usages, view), *self._exports.read(view)]
        return Reading(now, [*families, *own], self._labels)

    @property
    def exports(self) -> Exports:
        """The exporters that push what is counted here; for exporters."""
        return self._exports

    def flush(self, timeout: float = FLUSH_TIMEOUT) -> bool:
        """Let all exporters that push send now what came in, at the same time, and wait for it.

        Any thread may call it. Nothing is raised for an exporter that fails.

        Args:
            timeout: seconds to wait at the most.

        Returns:
            Whether all have sent it in time. What one has not sent is part of its next attempt.
        """
        return self._exports.flush(timeout)

    def flushed(self, timeout: float = FLUSH_TIMEOUT) -> Flushed:
        """Return a block, or decorator, after which all exporters that push have sent what came in.

        For programs that are frozen or ended when a function has returned::

            with metrics.flushed(): ...
            async with metrics.flushed(): ...

            @metrics.flushed()
            def handler(event, context): ...

        What the block raises passes through unchanged. What is not sent in time is logged; it is
        part of the next attempt.

        Args:
            timeout: seconds that the end of the block may take at the most.

        Raises:
            TypeError: `timeout` is no number.
            ValueError: `timeout` is not above zero, or longer than an hour.
        """
        return Flushed(self.flush, timeout)

    def sample(self, room: int) -> Samples:
        """Keep single values of distributions and durations from now on, for an exporter.

        Costs some 4 ns a value (pure Python: 200 ns), and 8 bytes for each that is kept, until
        it is closed. Values that other workers add are not among them. Any thread may call it.

        Args:
            room: how many values of each series are kept at the most, until they are taken; of
                more, some are kept at random.
        """
        return Samples(self, room)

    def histograms(self) -> Iterator[Histogram | ValueHistogram | Exponential]:
        """Return the series whose values are in buckets, those without any included."""
        yield from self._functions.histograms()
        yield from self._declared.histograms()

    def close(self) -> None:
        """Free the files in which counts are shared. What is counted later is in memory.

        The sums of the application keep what this process has counted. May be called more than
        once; it happens by itself at the end of the process.
        """
        _close(self._health, self._storage)

    def _declared_at(self, event: TraceEvent) -> DeclaredSite | None:
        """Return the declared metrics at the call site of an event; None if there are none."""
        feeds = self._declared.feeds_of(event)
        return DeclaredSite(feeds, event, self._functions) if feeds else None

    def _recorder(self, spans: Spans, event: TraceEvent) -> SpansRecorder:
        functions = self._functions
        return SpansRecorder(spans, functions, functions.edge_of(event), simple=functions.is_simple)


def _close(health: Health, storage: Storage) -> None:
    health.close()
    storage.close()


def _bounds_of(
    buckets: Sequence[float], buckets_for: Mapping[str, Sequence[float]]
) -> Callable[[str, str], tuple[float, ...]]:
    bounds = checked_bounds(buckets)
    if not isinstance(buckets_for, Mapping) or not all(isinstance(n, str) for n in buckets_for):
        raise TypeError(
            "buckets_for must map names of classes or trace ids to buckets, "
            f'as {{"Cart": [0.1, 1.0]}}, not {buckets_for!r}'
        )
    special = {
        name: checked_bounds(others, f"buckets_for[{name!r}]")
        for name, others in buckets_for.items()
    }
    return lambda class_name, trace_id: special.get(trace_id, special.get(class_name, bounds))


def _check_exemplar(exemplar: ExemplarFunction | None) -> None:
    if exemplar is not None and not callable(exemplar):
        raise TypeError(f"exemplar must be a function without arguments or None, not {exemplar!r}")


def _check_number(name: str, value: object, least: int) -> None:
    if not isinstance(value, int) or isinstance(value, bool):
        raise TypeError(f"{name} must be an int, not {value!r}")
    if value < least:
        raise ValueError(f"{name} must be {least} or more, not {value}")
