"""StatsD exporter: sends what came in to a StatsD daemon, or to what reads its lines."""

from __future__ import annotations

import os
from collections import Counter
from math import ceil
from typing import TYPE_CHECKING

from hypertrace.exporters.events import MAX_EVENTS, Message
from hypertrace.exporters.push import PushExporter

from .datadog import environment
from .lines import Encoder
from .messages import Messages, report_unsupported
from .packets import LONGEST_LINE, Packet, pack
from .transports import address_from_environment, transport_of
from .writer import no_sample

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from typing import Unpack

    from hypertrace.metrics import CountingOptions, EventPoint, Metrics, Reading
    from hypertrace.metrics.declared.selections import Selected
    from hypertrace.metrics.samples import Samples

    from .lines import Tags
    from .messages import AlertType, MessageTags, Priority, Status

_MOST_SAMPLES = 1_000
_MOST_KEPT = 100_000
"""Durations of a series that are kept in an interval at the most: 0.8 MB."""


class StatsdExporter(PushExporter):
    """Sends what was counted as lines of StatsD, in packets, every `interval` seconds.

    Counters are sent as differences (`c`), gauges as they are (`g`), and durations as timers in
    milliseconds (`ms`), or with DogStatsD as distributions (`d`): single durations of this process
    up to `max_samples`, and values that stand for all others, so that their number is right.
    Summaries are counters of count and sum, and a gauge for each quantile; other histograms are
    counters of count and sum, or with DogStatsD distributions, too.

    Values of the sets of `hypertrace.stats` are sent, too (`s`). With DogStatsD, code sends events
    (`_e`) and service checks (`_sc`) by `event()` and `service_check()`, and `events` sends those
    that are traced.

    In names and tags, each character that is no ASCII letter, digit, `_`, `-`, `.` or `/` becomes
    `_`, and without tags `.` and `/`, too.

    Whatever is not sent is part of the next attempt, without what the receiver is known to have of
    the one that failed. UDP and TCP do not say all that arrived: see docs/statsd.md.

    The thread, failures, forks and the end of the program are as in `PushExporter`. Each reading
    has its own socket, so that processes share none, and names of hosts are looked up again.

    Attributes:
        address: where it sends to.
    """

    # Its prefix is not that of Metrics.
    def __init__(  # type: ignore[misc]  # noqa: PLR0913 -- a setting each
        self,
        address: str | None = None,
        *,
        metrics: Metrics | None = None,
        prefix: str = "",
        tags: Tags = "none",
        interval: float = 10.0,
        max_samples: float = 10,
        events: Iterable[Selected] = (),
        max_events: int = MAX_EVENTS,
        **counting: Unpack[CountingOptions],  # pyright: ignore[reportGeneralTypeIssues]
    ) -> None:
        """Start to send.

        Args:
            address: `udp://host:port`, `tcp://host:port`, `unix:///path`, or `host:port` for UDP;
                the port is 8125 if there is none. `unixstream:///path` is a stream to a Datadog
                agent. None takes it from `DD_DOGSTATSD_URL`, `DD_AGENT_HOST` and
                `DD_DOGSTATSD_PORT`, or `STATSD_HOST` and `STATSD_PORT`, in this order; without them
                it is this machine.
            metrics: what to read; None makes one.
            prefix: of all names, as `shop.production` for `shop.production.function_counter_total`,
                or `shop_` for `shop_function_counter_total`; instead of that of `Metrics`.
            tags: where labels go: `none` makes them parts of the name, `dogstatsd` is
                `|#name:value`, `graphite` is `;name=value` behind the name. With `dogstatsd`, tags
                and origin of Datadog's variables are honoured: `DD_ENV`, `DD_SERVICE`,
                `DD_VERSION`, `DD_TAGS` and others, see docs/statsd.md.
            interval: seconds between two readings.
            max_samples: durations of each series that are sent as they are, on average each second;
                of more, as many at random, with a sample rate. Up to 1000; each takes 8 bytes until
                it is sent, at most 100 000 of a series are kept. 0 keeps none: then values are
                estimates, see docs/statsd.md.
            events: patterns on `Class.function`, or declared metrics, whose events are sent one by
                one, as events of DogStatsD.
            max_events: how many events and service checks may wait to be sent; more are dropped.
            counting: arguments of `Metrics` for the one that is made.

        Raises:
            TypeError: `address` or `prefix` is no `str`, `max_samples` is no number, or as in
                `PushExporter`.
            ValueError: they, or `tags`, are not as above; `max_samples` is not from 0 to 1000;
                `events` without `tags="dogstatsd"`; or
                as in `PushExporter`.
            RuntimeError: as in `PushExporter`.
        """
        self.address: str = address_from_environment() if address is None else address
        self._transport = transport_of(self.address)
        self._environment = environment(os.environ, takes_address=address is None)
        self._encoder = Encoder(prefix, tags, self._environment)
        self._max_samples = _checked_samples(max_samples)
        self._samples: Samples | None = None
        self._has_messages = tags == "dogstatsd"
        if events and not self._has_messages:
            raise ValueError(
                f"events together with tags={tags!r}: only DogStatsD has events; give "
                'tags="dogstatsd", or send them with another exporter'
            )
        super().__init__(
            metrics,
            counting,  # type: ignore[arg-type]  # as above
            interval=interval,
            events=events,
            max_events=max_events,
        )

    def event(  # noqa: PLR0913 -- a field each
        self,
        title: str,
        text: str = "",
        *,
        alert_type: AlertType = "info",
        priority: Priority = "normal",
        tags: MessageTags = None,
        aggregation_key: str = "",
        source_type_name: str = "",
        hostname: str = "",
        date_happened: float | None = None,
    ) -> None:
        """Send an event of DogStatsD, with the next reading; `flush()` sends it now.

        It does not wait, and raises nothing: a value that has no meaning is left out, and logged
        once. An event that finds `max_events` waiting is dropped, and counted in `dropped_events`.
        So is one after `stop()`. Without `tags="dogstatsd"` none is sent, which is logged once.

        An event is never longer than a packet (1432 bytes over UDP, 8192 else). Title and text are
        cut, with an ellipsis at their end, and tags left out that do not fit.

        Args:
            title: up to 100 characters.
            text: may have several lines.
            alert_type: `error`, `warning`, `info` or `success`.
            priority: `normal` or `low`.
            tags: values by name, or a list as `["team:shop", "urgent"]`; besides those of the
                process.
            aggregation_key: the same for events that belong together.
            source_type_name: what the event is from, as `nagios`.
            hostname: what it is about; the agent's if empty.
            date_happened: seconds since the epoch; None for now.
        """
        if self._sends_messages():
            line = self._messages.event(
                title,
                text,
                alert_type=alert_type,
                priority=priority,
                tags=tags,
                aggregation_key=aggregation_key,
                source_type_name=source_type_name,
                hostname=hostname,
                date_happened=date_happened,
            )
            self._events.add(Message(line))

    def service_check(  # noqa: PLR0913 -- a field each
        self,
        name: str,
        status: Status | int,
        *,
        message: str = "",
        tags: MessageTags = None,
        hostname: str = "",
        timestamp: float | None = None,
    ) -> None:
        """Send the status of a service, as `event` sends an event.

        Args:
            name: of the check, as `shop.database`.
            status: `ok`, `warning`, `critical` or `unknown`, or their numbers 0 to 3.
            message: why it has this status. `|` becomes `_`, since it would end the message.
            tags: as of `event`.
            hostname: as of `event`.
            timestamp: seconds since the epoch; None for now.
        """
        if self._sends_messages():
            line = self._messages.service_check(
                name, status, message=message, tags=tags, hostname=hostname, timestamp=timestamp
            )
            self._events.add(Message(line))

    def begin(self) -> None:
        """Forget what the receiver has of an attempt that failed, and which values of sets."""
        self._arrived: Counter[object] = Counter()
        self._sent_sets: dict[object, Mapping[str, float]] = {}
        limit = min(self._transport.limit, LONGEST_LINE)
        self._messages = Messages(self.forwards_to.labels, self._environment, limit)
        if self._max_samples and self._samples is None:
            room = min(_MOST_KEPT, ceil(self._max_samples * self.interval))
            self._samples = self.forwards_to.sample(room)

    def encode(self, reading: Reading) -> list[Packet]:
        """Return the packets, without what the receiver has of an attempt that failed."""
        take = no_sample if self._samples is None else self._samples.begin()
        self._lines = self._encoder.encode(reading, self._arrived, take)
        return self._packets(self._lines.texts)

    def send(self, encoded: list[Packet]) -> None:
        """Send the packets."""
        left = encoded.copy()
        try:
            self._deliver(left)
        except BaseException:
            arrived = encoded[: len(encoded) - len(left)]
            if arrived:
                for part, amount in self._lines.amounts(arrived[-1].end):
                    self._arrived[part] += amount  # type: ignore[assignment]  # a float
                self._forget_samples()  # the receiver has some of them: the rest are estimates
            raise
        self._arrived.clear()
        self._forget_samples()

    def stop(self) -> None:
        """Send what came in, and keep no durations any more; see `PushExporter`."""
        super().stop()
        if self._samples is not None:
            self._samples.close()

    def encode_events(self, points: Sequence[EventPoint | Message]) -> list[Packet]:
        """Return the packets of events and service checks."""
        return self._packets(
            [
                one.encoded if isinstance(one, Message) else self._messages.of_point(one)
                for one in points
            ]
        )

    def send_events(self, encoded: list[Packet]) -> None:
        """Send such packets, and remove those that the receiver has."""
        self._deliver(encoded)

    def send_own(self) -> None:
        """Send the values that sets got since the last time; those of the last minute at most."""
        sets = self.forwards_to.sets()
        lines = self._encoder.set_lines(sets, self._sent_sets, self.forwards_to.labels)
        if lines:
            self._deliver(self._packets(lines))
        self._sent_sets = {(metric.name, labels): values for metric, labels, values in sets}

    def _forget_samples(self) -> None:
        if self._samples is not None:
            self._samples.sent()

    def _sends_messages(self) -> bool:
        if not self._has_messages:
            report_unsupported()
        return self._has_messages

    def _packets(self, lines: Sequence[bytes]) -> list[Packet]:
        self.count_dropped(sum(map(LONGEST_LINE.__lt__, map(len, lines))))
        return pack(lines, self._transport.limit)

    def _deliver(self, packets: list[Packet]) -> None:
        """Send packets, and remove those that the receiver has, also if others fail."""
        number = 0
        try:
            for number in self._transport.deliver([packet.text for packet in packets]):  # noqa: B007
                pass
        finally:
            self.count_bytes(sum([len(packet.text) for packet in packets[:number]]))
            del packets[:number]


def _checked_samples(max_samples: float) -> float:
    if isinstance(max_samples, bool) or not isinstance(max_samples, int | float):
        raise TypeError(f"max_samples must be a number, not {max_samples!r}")
    if not 0 <= max_samples <= _MOST_SAMPLES:
        raise ValueError(
            f"max_samples must be from 0 to {_MOST_SAMPLES} a second, not {max_samples!r}; of more "
            "durations, that many are sent, with a sample rate"
        )
    return max_samples
