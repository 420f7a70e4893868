"""Exporter: what all exporters share, whether they are read from or push."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hypertrace.metrics import CountingOptions, Metrics

if TYPE_CHECKING:
    from types import TracebackType
    from typing import Self

    from hypertrace import TraceEvent


class Exporter:
    """Brings the readings of a `Metrics` somewhere; to be subclassed.

    Given to `hypertrace.set_trace_function`, it stands for its metrics: events go straight to
    them, so an exporter costs nothing on the way of an event. Any thread may use it.
    """

    def __init__(
        self, metrics: Metrics | None, counting: CountingOptions, *, name: str = ""
    ) -> None:
        """Read the given metrics, or make and read its own.

        Args:
            metrics: what to read; None makes one.
            counting: arguments of `Metrics` for the one that is made.
            name: distinguishes it from others in its process, see `Metrics`.

        Raises:
            TypeError: `metrics` is no `Metrics`, or `counting` has an argument that `Metrics` does
                not have.
            ValueError: both are given, or as `Metrics` raises it.
        """
        unknown = sorted(counting.keys() - CountingOptions.__annotations__.keys())
        if unknown:
            raise TypeError(
                f"{type(self).__name__}() got an unexpected keyword argument {unknown[0]!r}"
            )
        self._owns_metrics = metrics is None
        if metrics is None:
            metrics = Metrics(**counting, name=name)
        elif not isinstance(metrics, Metrics):
            raise TypeError(
                "metrics must be an instance of hypertrace.metrics.Metrics, or the forwards_to of "
                f"an exporter, not {metrics!r}"
            )
        elif counting:
            names = " and ".join(counting)
            raise ValueError(
                f"metrics together with {names}: what is counted is settled where the Metrics is "
                f"made; pass {names} to Metrics()"
            )
        self._metrics = metrics

    @property
    def forwards_to(self) -> Metrics:
        """The `Metrics` that it reads.

        Give it to further exporters, so that each event is counted once for all of them.
        """
        return self._metrics

    def __call__(self, event: TraceEvent) -> None:
        """Count one event."""
        self._metrics(event)

    def stop(self) -> None:
        """Export no more, and free what the exporter uses. May be called more than once.

        Metrics that it has made are closed, too; metrics that it was given go on.
        """
        if self._owns_metrics:
            self._metrics.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.stop()
