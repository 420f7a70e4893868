"""Command that writes the dashboards, or reports whether the committed ones are up to date.

    python -m grafana.source            write them
    python -m grafana.source --check    exit code 1 and the names of those that differ

What it makes goes into the package, small. Beside this folder goes what `hypertrace
dashboards` makes of that, for people to read and to import.
"""

import json
import sys
from pathlib import Path

from grafana_foundation_sdk.cog.encoder import JSONEncoder

import hypertrace_prometheus.dashboards as package
from hypertrace_prometheus.dashboards.files import files
from hypertrace_prometheus.dashboards.templates import FOLDER

from .call_graph import call_graph
from .class_explorer import class_explorer
from .health import health
from .http_clients import http_clients
from .http_server import http_server
from .jobs import jobs
from .overview import overview
from .process import process
from .runtime import runtime
from .sql import sql

_MAKERS = {
    "call-graph": call_graph,
    "class-explorer": class_explorer,
    "exporter-health": health,
    "http": http_server,
    "jobs": jobs,
    "outgoing-calls": http_clients,
    "overview": overview,
    "process": process,
    "runtime": runtime,
    "sql": sql,
}
_PACKAGED = Path(package.__file__).parent / FOLDER
_SHOWN = Path(__file__).parent.parent


def main(arguments: list[str]) -> int:
    """Write or check; return the exit code."""
    check = "--check" in arguments
    made = {_PACKAGED / f"{name}.json": _packed(name) for name in _MAKERS}
    differing = _bring(made, check=check)
    # After the package: this is made of what is in it.
    shown = files(declared=_SHOWN / "objectives.toml")
    differing += _bring({_SHOWN / name: text for name, text in shown.items()}, check=check)
    for path in set(_PACKAGED.glob("*")) - set(made):
        differing.append(path)
        if not check:
            path.unlink()
    for path in differing:
        print(f"{'differs' if check else 'fixed'}: {path}")  # noqa: T201 -- for who runs it
    return 1 if check and differing else 0


def _packed(name: str) -> str:
    made = _MAKERS[name]()
    text = json.dumps(made, cls=JSONEncoder, separators=(",", ":"), ensure_ascii=False)
    return text + "\n"


def _bring(wanted: dict[Path, str], *, check: bool) -> list[Path]:
    """Return the files that are not as wanted, having written them unless it is a check."""
    differing = [
        path
        for path, text in wanted.items()
        if not path.exists() or path.read_text(encoding="utf-8") != text
    ]
    for path in [] if check else differing:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(wanted[path], encoding="utf-8")
    return differing


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
