"""Dashboards for TypeScript: they are what Grafana's own types say."""

import json
import os
import re
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from hypertrace_prometheus.dashboards.templates import Dashboard, dashboards

PANELS = {
    "bargauge": "BarGaugePanelCfg",
    "heatmap": "HeatmapPanelCfg",
    "nodeGraph": "NodeGraphPanelCfg",
    "stat": "StatPanelCfg",
    "state-timeline": "StateTimelinePanelCfg",
    "table": "TablePanelCfg",
    "timeseries": "TimeSeriesPanelCfg",
}
WITHOUT_SETTINGS = {"bargauge", "nodeGraph", "stat"}
"""Kinds of panels that have no field settings."""

# JSON has texts where TypeScript has enumerations.
HEAD = """\
import type { Dashboard } from '@grafana/schema';
type Plain<T> = unknown extends T ? T
  : T extends string ? `${T}`
  : T extends number | boolean | null | undefined ? T
  : { [K in keyof T]: Plain<T[K]> };
"""
FILE = "@grafana/schema/dist/esm/raw/composable/{folder}/panelcfg/x/{name}_types.gen.d.ts"

Check = Callable[[str], str]


@pytest.fixture(scope="module")
def check(root: Path, tmp_path_factory: pytest.TempPathFactory) -> Check:
    """Give a function that returns what TypeScript says of a program."""
    modules = Path(os.environ.get("HYPERTRACE_NODE", root / ".ci" / ".node")) / "node_modules"
    compiler = modules / ".bin" / "tsc"
    if not compiler.exists():
        message = "Grafana's types are missing: bash .ci/setup"
        pytest.fail(message) if os.environ.get("CI") == "true" else pytest.skip(message)
    folder = tmp_path_factory.mktemp("types")
    (folder / "node_modules").symlink_to(modules)

    def run(program: str) -> str:
        (folder / "check.ts").write_text(HEAD + program)
        options = ["--strict", "--noEmit", "--skipLibCheck", "--target", "es2022"]
        options += ["--module", "preserve", "--moduleResolution", "bundler"]
        command = [str(compiler), *options, "check.ts"]
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
        return done.stdout

    return run


def _typed(number: int, kind: str, value: Any) -> str:
    return f"export const x{number}: Plain<{kind}> = {json.dumps(value)};\n"


def _without_settings_of_prometheus(dashboard: Dashboard) -> Dashboard:
    """Return a dashboard whose events have what Grafana knows, not what its data source does."""
    others = {"expr", "titleFormat", "textFormat", "useValueForTime", "target"}
    events = [
        {key: value for key, value in event.items() if key not in others}
        for event in dashboard["annotations"]["list"]
    ]
    return dashboard | {"annotations": {"list": events}}


def _program() -> str:
    """Return a program that gives every dashboard, and the settings of every panel, its type."""
    imports, values = "", []
    for kind, name in PANELS.items():
        file = FILE.format(folder=kind.lower().replace("-", ""), name=name)
        imports += f"import type * as {name} from '{file}';\n"
    for dashboard in dashboards(props=["topic"]).values():
        values.append(("Dashboard", _without_settings_of_prometheus(dashboard)))
        for panel in dashboard["panels"]:
            if name := PANELS.get(panel["type"], ""):
                values.append((f"{name}.Options", panel["options"]))
                if panel["type"] not in WITHOUT_SETTINGS:
                    custom = panel["fieldConfig"]["defaults"].get("custom", {})
                    values.append((f"Partial<{name}.FieldConfig>", custom))
    lines = [_typed(number, kind, value) for number, (kind, value) in enumerate(values)]
    return imports + "".join(lines)


def test_every_dashboard_has_grafanas_types(check: Check) -> None:
    """All fields of dashboards, and of the options of panels, are known and of their type."""
    assert check(_program()) == ""


def test_every_kind_of_panel_is_checked() -> None:
    """No panel is of a kind that the check above passes by."""
    kinds = {panel["type"] for board in dashboards().values() for panel in board["panels"]}
    assert kinds == {*PANELS, "row"}


def test_the_check_can_fail(check: Check) -> None:
    """A field that is not known, of another type, or no member of an enumeration is found."""
    faults: list[dict[str, object]] = [{}, {"titel": "A"}, {"title": 1}, {"graphTooltip": "shared"}]
    boards = [{"schemaVersion": 41, **fault} for fault in faults]
    said = check("".join(_typed(n, "Dashboard", board) for n, board in enumerate(boards)))
    first = HEAD.count("\n") + 1
    assert re.findall(r"check.ts.(\d+),", said) == [str(first + n) for n in (1, 2, 3)]
