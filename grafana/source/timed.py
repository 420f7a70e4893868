"""Work that is timed, as requests, jobs and queries: panels for how often, how well, how long."""

from dataclasses import dataclass, field

from . import queries
from .graphs import colored, graph
from .panels import heat, number
from .parts import BAD, ERRORS, GOOD, RATIO, SECONDS, Limits, Panel, Size
from .queries import SHARES, Query, legend, series, total
from .tables import Column, rows

_ROWS = 25


@dataclass(frozen=True)
class Timed:
    """A histogram of durations, and panels of it."""

    metric: str
    """Name of the histogram."""
    noun: str
    """What it counts, in the plural, as `requests`."""
    failed: str
    """A matcher of what failed."""
    names: dict[str, str]
    """Labels that distinguish what is done, each with a heading."""
    matchers: tuple[str, ...] = ()
    """Of what is looked at."""
    between: str = " "
    """Between the labels in the name of a line."""
    more: dict[str, str] = field(default_factory=dict)
    """Labels that the table has besides."""

    @property
    def unit(self) -> str:
        """Unit of how often."""
        return f"count:{self.noun}/s"

    @property
    def legend(self) -> str:
        """Name of the line of one of them."""
        return legend(*self.names, between=self.between)

    @property
    def nothing(self) -> str:
        """What stands where there are none."""
        return f"No {self.noun}"

    def counts(self, *matchers: str) -> str:
        """Select how many there were."""
        return series(f"{self.metric}_count", *self.matchers, *matchers)

    def buckets(self) -> str:
        """Select the buckets of their durations."""
        return series(f"{self.metric}_bucket", *self.matchers)

    def ratio(self, *by: str, window: str = queries.STEP) -> str:
        """Share of them that failed; 0 where none did."""
        return queries.ratio(self.counts(self.failed), self.counts(), *by, window=window)

    def quantile(self, share: float, *by: str, window: str = queries.STEP) -> str:
        """Duration that this share of them do not exceed; nothing where there are none."""
        return f"{queries.quantile(share, self.buckets(), *by, window=window)} >= 0"

    def numbers(self, size: Size, *, slow: Limits | None = None) -> list[Panel]:
        """Make the three numbers that stand above all else."""
        return [
            number(
                self.noun.capitalize(),
                f"How many {self.noun} end in a second. Look for a fall to zero, and for a level "
                "that is not the one of this hour on other days.",
                Query(total(queries.rate(self.counts()))),
                unit=self.unit,
                size=size,
            ),
            number(
                "Error ratio",
                f"Share of the {self.noun} that failed. Orange from 1 %, red from 5 %: then see "
                "below which, and why.",
                Query(self.ratio()),
                unit=RATIO,
                size=size,
                limits=ERRORS,
                decimals=2,
                nothing="none",
            ),
            number(
                "Duration, p95",
                f"95 of 100 {self.noun} took no longer than this. It is only as fine as the "
                "buckets of the histogram. Look for steps: they come with releases.",
                Query(self.quantile(0.95)),
                unit=SECONDS,
                size=size,
                limits=slow,
                nothing="none",
            ),
        ]

    def rates(self, size: Size) -> Panel:
        """Make the graph of how often, by name."""
        return graph(
            f"{self.noun.capitalize()} by name",
            f"The ten {self.noun} that are most frequent. Look for a line that leaves its usual "
            "band, or trades places with another.",
            Query(queries.busiest_rate(self.counts(), *self.names), self.legend),
            unit=self.unit,
            size=size,
            nothing=self.nothing,
        )

    def errors(self, size: Size) -> Panel:
        """Make the graph of error ratios, of those that fail most."""
        by = tuple(self.names)
        failing = queries.busiest(self.ratio(*by), self.counts(self.failed), *by)
        return graph(
            "Error ratio by name",
            f"Share of failures of all {self.noun}, and of the ten that fail most. The dashed "
            "lines are 1 % and 5 %. What rises together has a common cause.",
            Query(failing, self.legend),
            Query(self.ratio(), "all", "B"),
            unit=RATIO,
            size=size,
            limits=ERRORS,
            at_least=0.1,
            nothing=self.nothing,
        )

    def by_reason(self, title: str, description: str, label: str, size: Size) -> Panel:
        """Make the graph of failures, by the label that has their reason."""
        failures = queries.busiest_rate(self.counts(self.failed, f'{label}!=""'), label)
        return graph(
            title,
            description,
            Query(failures, legend(label)),
            unit="count:failures/s",
            size=size,
            at_least=0.1,
            nothing="No failures",
        )

    def quantiles(self, size: Size) -> Panel:
        """Make the graph of how long most, nearly all, and all but the slowest take."""
        return graph(
            "Duration",
            f"Half of the {self.noun} take up to p50, 99 of 100 up to p99. Look for p99 leaving "
            "p95 (few got slow) and for all moving together (something below got slow).",
            *(
                Query(self.quantile(share), name, ref)
                for ref, (name, share) in zip("ABC", SHARES.items(), strict=True)
            ),
            unit=SECONDS,
            size=size,
            logarithmic=True,
        )

    def slowest(self, size: Size) -> Panel:
        """Make the graph of p95, by name."""
        by = tuple(self.names)
        return graph(
            "Duration by name, p95",
            f"Of the ten {self.noun} that are most frequent. Look for the one that moves when the "
            "whole does.",
            Query(queries.busiest(self.quantile(0.95, *by), self.counts(), *by), self.legend),
            unit=SECONDS,
            size=size,
            logarithmic=True,
        )

    def heat(self, size: Size) -> Panel:
        """Make the heat map of durations."""
        return heat(
            "Durations",
            f"How many {self.noun} took how long; the darker, the more. Two bands are two ways "
            "through the code, such as a cache that hits and one that misses.",
            total(queries.increase(self.buckets(), queries.STEP), "le"),
            size=size,
        )

    def table(self, size: Size) -> Panel:
        """Make the table of all of them, by name."""
        names, window = {**self.names, **self.more}, queries.RANGE
        by = tuple(names)
        often = queries.top(total(queries.rate(self.counts(), window), *by), _ROWS)
        on = f"and on ({', '.join(by)}) {often}"
        return rows(
            f"All {self.noun}",
            f"The {_ROWS} {self.noun} that were most frequent in this time range. Slow and "
            "frequent is worth your afternoon.",
            names,
            Column("A second", often, "short", gauge=True),
            Column("Error ratio", f"{self.ratio(*by, window=window)} {on}", RATIO),
            *(
                Column(name, f"{self.quantile(share, *by, window=window)} {on}", SECONDS)
                for name, share in SHARES.items()
            ),
            size=size,
            nothing=self.nothing,
        )


def by_result(title: str, description: str, query: Query, *, unit: str, size: Size) -> Panel:
    """Make the graph of how work ends, on top of each other: good below, bad above."""
    panel = graph(title, description, query, unit=unit, size=size, stacked=True, nothing="None")
    return colored(panel, {"ok": GOOD, "error": BAD, "cancelled": "orange"})
