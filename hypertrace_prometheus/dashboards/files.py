"""Files of dashboards and rules: what `hypertrace dashboards` writes."""

import json
from collections.abc import Sequence
from pathlib import Path

from hypertrace.metrics.names import Names

from . import objectives, rules
from .templates import dashboards


def files(
    shown: Names | None = None,
    props: Sequence[str] = (),
    declared: Path | None = None,
    unsafe_props: Sequence[str] = (),
) -> dict[str, str]:
    """Return the text of each file, by its path.

    Args:
        shown: what the exporter calls the metrics; None as by default.
        props: allowed props of the exporter.
        declared: a file with objectives.
        unsafe_props: those of the props that are in `unsafe_props` of the exporter, too.

    Raises:
        OSError: the objectives cannot be read.
        ValueError: they make no sense, or the exporter would refuse the props.
    """
    shown = Names() if shown is None else shown
    made = {
        f"dashboards/{name}.json": json.dumps(dashboard, indent=2, ensure_ascii=False) + "\n"
        for name, dashboard in dashboards(shown, props, unsafe_props).items()
    }
    made["rules/hypertrace.yml"] = rules.text(rules.groups(shown))
    if declared is not None:
        groups = objectives.groups(objectives.read(declared), shown)
        made["rules/hypertrace-objectives.yml"] = rules.text(groups)
    return made


def write(made: dict[str, str], folder: Path) -> None:
    """Write files into a folder, over those of an earlier time.

    Raises:
        OSError: that is not possible.
    """
    for name, text in made.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
