"""Function series: the series of the built-in metrics, found by what an event says."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeAlias

from hypertrace import Upstream, current_entry, suppress_tracing
from hypertrace.inspection import type_name

from . import exemplars, labels
from .declarations import CALLS, DURATIONS, EDGES, EXCEPTIONS, IN_PROGRESS
from .series_kinds import CALL_SERIES, COUNT_SERIES, NATIVE_CALL_SERIES
from .tables import calls_families, read_table

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Iterator, Mapping

    from hypertrace import Caller, SpanEvent, TracedObject, TraceEvent

    from .aggregations import Calls, Count, Histogram, Spans
    from .exemplars import ExemplarFunction
    from .labels import Labeller, Values
    from .names import Names
    from .reading import Family
    from .series import SeriesTable
    from .storage import Storage, View
    from .tables import Usage

    EdgeFunction = Callable[[Upstream], Callable[[], object]]
    BoundsOf = Callable[[str, str], tuple[float, ...]]

Site: TypeAlias = "tuple[Values, Caller, TracedObject | None]"
"""What the calls of a call site have in common: label values, caller, and the object whose series
they are, None where series are shared."""


class FunctionSeries:
    """The series of the built-in metrics. Any thread may use it.

    Attributes:
        calls: counts calls, and records spans.
        exceptions: counts the exceptions that ended spans.
        edges: counts spans in other spans; None if they are not counted.
        by_entry: whether the series depend on the entry that a thread or task works for.
    """

    def __init__(  # noqa: PLR0913 -- a setting each
        self,
        labeller: Labeller,
        *,
        shown_names: Names,
        max_series: int,
        own_series: bool,
        bounds_of: BoundsOf,
        exemplar: ExemplarFunction | None,
        upstream: bool,
        native_histograms: bool,
        by_entry: bool,
        storage: Storage,
    ) -> None:
        """Start without series.

        Args:
            labeller: makes label values.
            shown_names: what the metrics are called.
            max_series: of each metric.
            own_series: the series of an object are its own, and go with it.
            bounds_of: returns the bounds of the buckets for a class name and a trace id.
            exemplar: returns the exemplar of a span that ends.
            upstream: count which function calls which.
            native_histograms: count durations in exponential buckets, too.
            by_entry: the entry that a thread or task works for is a label. Spans start without one:
                they get the entry's name at their end, when it is known.
            storage: where the numbers are kept.
        """
        self.labeller = labeller
        self._own_series = own_series
        self._bounds_of = bounds_of
        self._exemplar = exemplar
        self._share_keys: set[Hashable] = set()
        self.by_entry: bool = by_entry
        names = labeller.site_names
        props = (*labeller.prop_names, *((labels.ENTRY,) if by_entry else ()))
        self._trace_id = names.index(labels.TRACE_ID)
        shown = shown_names.shown
        kind = NATIVE_CALL_SERIES if native_histograms else CALL_SERIES
        self.calls: SeriesTable[Calls] = storage.table(
            shown(CALLS), max_series, (names, props), kind
        )
        self.calls.parts = shown(DURATIONS), shown(IN_PROGRESS)
        exception_names = names, (*props, *EXCEPTIONS.labels)
        self.exceptions: SeriesTable[Count] = storage.table(
            shown(EXCEPTIONS), max_series, exception_names, COUNT_SERIES
        )
        edge_names = (labels.CLASS,), EDGES.labels
        self.edges: SeriesTable[Count] | None = (
            storage.table(shown(EDGES), max_series, edge_names, COUNT_SERIES) if upstream else None
        )

    @property
    def overflow_spans(self) -> Spans:
        """The spans past the limit. Spans are calls: one limit holds for both."""
        return self.calls.overflow.spans_in(self._bounds_of("", ""))

    def site_of(self, event: TraceEvent) -> Site:
        """Return what the events of this one's call site have in common."""
        # Not the event itself: a recorder that is shared must not keep an object's props. Tracers
        # of decorated functions number no object, and share their series: none goes with one.
        is_owner = self._own_series and event.object.id
        owner = event.object if is_owner else None
        return self.labeller.of_site(event), event.caller, owner

    def share_key(self, traced: TracedObject, parent: TracedObject | None) -> Hashable:
        """Return the label values that the events of a tracer have in common.

        None where each object has its own series, and where there is no room for further
        series: what is bound for such a tracer must not outlive it.
        """
        if self._own_series:
            return None
        key = self.labeller.of_objects(traced, parent)
        if not self.calls.is_full:
            self._share_keys.add(key)
        return key if key in self._share_keys else None

    def calls_at(self, site: Site, props: Values) -> Calls:
        """Return the series of the calls of a site for the label values of their props."""
        return self._calls_of(site, (*props, *self._entry()))

    def spans_at(self, site: Site, props: Values) -> Spans:
        """Return the spans of the series that spans start in."""
        return self._spans_of(site, (*props, "") if self.by_entry else props)

    def _entry(self) -> Values:
        """Return the label value of the entry of this moment, if it is a label."""
        return (self.labeller.text(current_entry()),) if self.by_entry else ()

    def _calls_of(self, site: Site, others: Values) -> Calls:
        values, caller, owner = site
        return self.calls.get((values, others), caller, owner)

    def _spans_of(self, site: Site, others: Values) -> Spans:
        values, _, _ = site
        calls = self._calls_of(site, others)
        if self.calls.is_overflow(calls):
            return self.overflow_spans
        return calls.spans_in(self._bounds_of(values[0], values[self._trace_id]))

    def spans_of(self, event: SpanEvent) -> Spans:
        """Return the spans of the series that a span ends in."""
        props = self.labeller.of_props(event.caller.props)
        return self._spans_of(self.site_of(event), (*props, *self._entry()))

    def count_exception(self, event: SpanEvent) -> None:
        """Count the exception that ended a span, if there is one."""
        if event.exception is not None:
            values, caller, owner = self.site_of(event)
            exception = self.labeller.text(type_name(event.exception))
            # An event that was made by hand may have any.
            raised = "inside" if event.raised == "inside" else "here"
            props = self.labeller.of_props(event.caller.props)
            others = (*props, *self._entry(), exception, raised)
            self.exceptions.get((values, others), caller, owner).cell.increment()

    def edge_of(self, event: TraceEvent) -> EdgeFunction | None:
        """Return what finds the counter of an event's span in another one; None without edges."""
        edges, of_edge, caller = self.edges, self.labeller.of_edge, event.caller
        if edges is None:
            return None
        inner = Upstream(event.object.class_name, caller.function_name)
        # Objects share their edges, so no edge goes with an object.
        return lambda outer: edges.get((("",), of_edge(outer, inner)), caller).cell.increment

    @property
    def is_simple(self) -> bool:
        """Whether nothing but the duration is wanted of a span that ends well."""
        return exemplars.is_never(self._exemplar) and not self.by_entry

    def exemplar(self) -> Mapping[str, str] | None:
        """Return the exemplar of the span that ends now, None if it has none.

        Raises:
            Exception: the application's function raised it; or a `ValueError`, if what it returned
                cannot be shown.
        """
        function = self._exemplar
        # In `suppress_tracing` what a signal handler traces is dropped: so only where it is needed.
        if function is None or exemplars.is_never(function):
            return None
        return suppress_tracing(exemplars.ask, function)

    def histograms(self) -> Iterator[Histogram]:
        """Return the series of durations."""
        for calls in self.calls.all():
            if calls.spans is not None:
                yield from calls.spans.results.copy().values()

    def read(self, view: View) -> tuple[list[Family], list[Usage]]:
        """Return the families of a view, and how much room each metric takes.

        Counts and durations of a series agree.
        """
        (calls, durations, in_progress), usages = calls_families(self.calls, view)
        families = [calls, durations]
        # Not by their truth: an empty table is false, and still a family.
        for table in (table for table in (self.exceptions, self.edges) if table is not None):
            family, usage = read_table(table, view)
            families.append(family)
            usages.append(usage)
        families.insert(3, in_progress)
        return families, usages
