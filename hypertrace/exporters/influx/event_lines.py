"""Lines of events: a point of line protocol for each event, none of which replaces another."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .lines import field, measurement, tag_key, tag_value

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from hypertrace.metrics import EventPoint

SECOND = 1_000_000_000
_MOST_TIMES = 65_536
"""Points whose times are remembered."""


class Times:
    """Gives each point of a series a time that no other one of the latest points has.

    InfluxDB keeps one point of each series and time. A time that is taken becomes the next one that
    is free.
    """

    def __init__(self) -> None:
        """Start without points."""
        # By hash, which takes less memory: two that are equal by chance cost a nanosecond.
        self._next: dict[int, int] = {}

    def free(self, series: str, time: int) -> int:
        """Return the time of a point: the given one, or the next one that is free."""
        found = time
        while (later := self._next.get(hash((series, found)))) is not None:
            found = later
        for one in {time, found}:  # so that many points of one time are no long search
            key = hash((series, one))
            self._next.pop(key, None)  # what was used last is forgotten last
            self._next[key] = found + 1
        while len(self._next) > _MOST_TIMES:
            del self._next[next(iter(self._next))]
        return found


class EventLines:
    """Makes lines of events. To be used by one thread."""

    def __init__(self, prefix: str, labels: Mapping[str, str], unit: int) -> None:
        """Make lines that have something in common.

        Args:
            prefix: of the names of measurements.
            labels: of the process.
            unit: of times: how many of it are in a second.
        """
        self._prefix = prefix
        self._labels = {tag_key(label): value for label, value in labels.items() if value}
        self._unit = unit
        self._times = Times()

    def encode(self, points: Iterable[EventPoint]) -> Iterator[str]:
        """Yield a line for each event, with its line break."""
        for point in points:
            yield self._line(point)

    def _line(self, point: EventPoint) -> str:
        tags: dict[str, str] = {}
        fields = {"val": field(point.value)}
        for label, value in point.tags.items():
            if isinstance(value, str):
                tags[tag_key(label)] = value
            else:
                # A field keeps the type of its first value, and a prop may be 1 and then 0.5.
                number = value if isinstance(value, bool) else float(value)
                fields["val_" if label == "val" else tag_key(label)] = field(number)
        common = {key: value for key, value in self._labels.items() if key not in tags}
        pairs = [f",{key}={tag_value(value)}" for key, value in {**common, **tags}.items()]
        series = measurement(self._prefix + point.name) + "".join(pairs)
        values = ",".join(f"{key}={value}" for key, value in fields.items())
        time = self._times.free(series, point.time * self._unit // SECOND)
        return f"{series} {values} {time}\n"
