"""StatsD exporter: sends what came in to a StatsD daemon, or to what reads its lines."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from .push import PushExporter
from .statsd_lines import LONGEST_LINE, Encoder, Packet, pack
from .statsd_transports import address_from_environment, transport_of

if TYPE_CHECKING:
    from typing import Unpack

    from hypertrace.metrics import CountingOptions, Metrics, Reading

    from .statsd_lines import Tags


class StatsdExporter(PushExporter):
    """Sends what was counted as lines of StatsD, in packets, every `interval` seconds.

    Counters are sent as differences (`c`), gauges as they are (`g`), and durations as timers in
    milliseconds (`ms`): values that stand for those of their bucket, and have the right count and
    the right mean. Summaries are counters of count and sum, and a gauge for each quantile; other
    histograms are counters of count and sum, or with DogStatsD histograms (`h`).

    In names and tags, each character that is no ASCII letter, digit, `_`, `-`, `.` or `/` becomes
    `_`, and without tags `.` and `/`, too.

    Whatever is not sent is part of the next attempt, without what the receiver is known to have of
    the one that failed. UDP and TCP do not say all that arrived: see docs/statsd.md.

    The thread, failures, forks and the end of the program are as in `PushExporter`. Each reading
    has its own socket, so that processes share none, and names of hosts are looked up again.

    Attributes:
        address: where it sends to.
    """

    def __init__(  # type: ignore[misc]  # its prefix is not that of Metrics
        self,
        address: str | None = None,
        *,
        metrics: Metrics | None = None,
        prefix: str = "",
        tags: Tags = "none",
        interval: float = 10.0,
        **counting: Unpack[CountingOptions],  # pyright: ignore[reportGeneralTypeIssues]
    ) -> None:
        """Start to send.

        Args:
            address: `udp://host:port`, `tcp://host:port`, `unix:///path`, or `host:port` for UDP;
                the port is 8125 if there is none. None takes it from `DD_DOGSTATSD_URL`,
                `DD_AGENT_HOST` and `DD_DOGSTATSD_PORT`, or `STATSD_HOST` and `STATSD_PORT`, in
                this order; without them it is this machine.
            metrics: what to read; None makes one.
            prefix: of all names, as `shop.production`; instead of that of `Metrics`.
            tags: where labels go: `none` makes them parts of the name, `dogstatsd` is
                `|#name:value`, `graphite` is `;name=value` behind the name.
            interval: seconds between two readings.
            counting: arguments of `Metrics` for the one that is made.

        Raises:
            TypeError: `address` or `prefix` is no `str`, or as in `PushExporter`.
            ValueError: they, or `tags`, are not as above, or as in `PushExporter`.
            RuntimeError: as in `PushExporter`.
        """
        self.address: str = address_from_environment() if address is None else address
        self._transport = transport_of(self.address)
        self._encoder = Encoder(prefix, tags)
        super().__init__(metrics, counting, interval=interval)  # type: ignore[arg-type]  # as above

    @property
    def omitted(self) -> int:
        """How many lines were left out, since they have more than 8192 bytes."""
        return self.dropped

    def begin(self) -> None:
        """Forget what the receiver has of an attempt that failed."""
        self._arrived: Counter[object] = Counter()

    def encode(self, reading: Reading) -> list[Packet]:
        """Return the packets, without what the receiver has of an attempt that failed."""
        lines = self._encoder.encode(reading, self._arrived)
        short = [line for line in lines if len(line.text) <= LONGEST_LINE]
        self.count_dropped(len(lines) - len(short))
        return list(pack(short, self._transport.limit))

    def send(self, encoded: list[Packet]) -> None:
        """Send the packets."""
        number = 0
        try:
            for number in self._transport.deliver([packet.text for packet in encoded]):  # noqa: B007
                pass
        except BaseException:
            for packet in encoded[:number]:
                for line in packet.lines:
                    for part, amount in line.amounts:
                        self._arrived[part] += amount  # type: ignore[assignment]  # a float
            raise
        self._arrived.clear()
        self.count_bytes(sum(len(packet.text) for packet in encoded))
