"""Dashboards in the package, for any names of metrics and any props."""

import json
import re
from collections.abc import Iterable, Iterator, Sequence
from importlib import resources
from typing import Any

from hypertrace.metrics import labels
from hypertrace.metrics.allowlist import label_names
from hypertrace.metrics.declarations import BUILT_IN
from hypertrace.metrics.names import Names

from . import integrated

Dashboard = dict[str, Any]
"""A dashboard as Grafana's JSON has it."""

FOLDER = "data"
"""In this package: a JSON file for each dashboard."""

_PLACES = {
    labels.OBJECT_PROPS: "the object",
    labels.PARENT_PROPS: "its parent",
    labels.CALLER_PROPS: "the call",
}
"""Where a prop may come from."""

_REPEATED = "prop"
"""The variable that Grafana repeats a panel for: labels of props."""

_OF_REPEATING = {"repeat", "repeatDirection", "maxPerRow"}
_WIDTH = 24

_METRICS = re.compile(
    rf"\b({'|'.join((*(one.name for one in BUILT_IN), *integrated.METRICS))})"
    r"(?=(?:_bucket|_count|_sum)?\b)"
)


def dashboards(
    shown: Names | None = None, props: Sequence[str] = (), unsafe_props: Sequence[str] = ()
) -> dict[str, Dashboard]:
    """Return all dashboards by name.

    Args:
        shown: what the exporter calls the metrics; None as by default.
        props: allowed props of the exporter; each gets its own panels on the class explorer.
        unsafe_props: those of the props that are in `unsafe_props` of the exporter, too.

    Raises:
        ValueError: the exporter would refuse the props, with the same message.
    """
    shown = Names() if shown is None else shown
    names = label_names(props, unsafe_props).values()
    found = {}
    for file in sorted(_files(), key=lambda file: file.name):
        text = file.read_text(encoding="utf-8")
        text = _METRICS.sub(lambda found: shown.of(found[1]), text)
        found[file.name.removesuffix(".json")] = _with_props(json.loads(text), names)
    return found


def _files() -> Iterator[Any]:
    folder = resources.files(__name__.rpartition(".")[0]) / FOLDER
    return (file for file in folder.iterdir() if file.name.endswith(".json"))


def _with_props(dashboard: Dashboard, names: Iterable[str]) -> Dashboard:
    """Add a panel for each prop, after the model of the one that Grafana repeats by itself."""
    panels = dashboard["panels"]
    model = next((panel for panel in panels if panel.get("repeat") == _REPEATED), None)
    if model is None:
        return dashboard
    size = model["gridPos"]
    top, number = size["y"] + size["h"], max(panel["id"] for panel in panels)
    for place, name in enumerate(names):
        line, column = divmod(place, _WIDTH // size["w"])
        panels.append(
            _for_prop(model, name)
            | {
                "id": number + 1 + place,
                "gridPos": size | {"x": column * size["w"], "y": top + line * size["h"]},
            }
        )
    return dashboard


def _for_prop(model: Dashboard, name: str) -> Dashboard:
    panel = {key: model[key] for key in model if key not in _OF_REPEATING}
    (target,) = model["targets"]
    panel["title"] = model["title"].replace(f"${_REPEATED}", name)
    panel["targets"] = [
        target
        | {
            "refId": reference,
            "expr": target["expr"].replace(f"${_REPEATED}", prefix + name),
            "legendFormat": f"{{{{{prefix}{name}}}}} ({place})",
        }
        for reference, (prefix, place) in zip("ABC", _PLACES.items(), strict=True)
    ]
    return panel
