"""Events on the time axis of every graph: deploys, restarts, alerts."""

from grafana_foundation_sdk.models import dashboard as models

from .parts import SOURCE
from .queries import BUILD, INSTANCE, firing, series

STARTED = "process_start_time_seconds"
APPLICATION = "hypertrace_application_info"
VERSIONS = ("version", "service_version")
"""Labels of the process that have the application's version, as in `Metrics(labels=…)`."""


class Events(models.AnnotationQuery):
    """Events out of series, as Grafana's data source for Prometheus has them."""

    def __init__(  # noqa: PLR0913 -- a setting each
        self,
        name: str,
        color: str,
        expression: str,
        *,
        title: str,
        text: str = "",
        at_value: bool = False,
    ) -> None:
        """Describe the events.

        Args:
            name: of the switch above the dashboard.
            color: of the lines.
            expression: each series is an event, as long as it is above 0.
            title: of an event, with labels.
            text: below it.
            at_value: an event is at the time that its value is, in milliseconds.
        """
        super().__init__(name, SOURCE, icon_color=color, expr=expression)
        self._title, self._text, self._at_value = title, text, at_value

    def to_json(self) -> dict[str, object]:
        """Return it as Grafana has it."""
        return {
            **super().to_json(),
            "titleFormat": self._title,
            "textFormat": self._text,
            "useValueForTime": self._at_value,
        }


def events() -> models.AnnotationContainer:
    """Make the events of a dashboard."""
    return models.AnnotationContainer([_deploys(), _marked(), _restarts(), _alerts()])


def _deploys() -> models.AnnotationQuery:
    by = f"group by (job, {', '.join(VERSIONS)})"
    info = series(APPLICATION)
    new = f"{by} ({info}) unless {by} ({info} offset 5m)"
    # Not where there was no application before, so that nothing is replaced.
    return Events(
        "Deploys",
        "blue",
        f"{new} and on (job) {by} ({info} offset 5m)",
        title="Deploy of {{job}}",
        text=" ".join(f"{{{{{label}}}}}" for label in VERSIONS),
    )


def _marked() -> models.AnnotationQuery:
    return models.AnnotationQuery(
        name="Marked deploys",
        datasource=models.DataSourceRef(type_val="grafana", uid="-- Grafana --"),
        icon_color="blue",
        target=models.AnnotationTarget(limit=100, match_any=True, tags=["deploy"], type_val="tags"),
    )


def _restarts() -> models.AnnotationQuery:
    # Of the oldest process of a target: workers that are replaced are no restart.
    started = f"min by (job, {INSTANCE}) ({series(STARTED)})"
    return Events(
        "Restarts",
        "purple",
        f"1000 * {started} and on (job, {INSTANCE}) {series(BUILD)}",
        title=f"Restart of {{{{{INSTANCE}}}}}",
        at_value=True,
    )


def _alerts() -> models.AnnotationQuery:
    return Events(
        "Alerts",
        "red",
        f"group by (alertname, {INSTANCE}) ({firing()})",
        title="{{alertname}}",
        text=f"{{{{{INSTANCE}}}}}",
    )
