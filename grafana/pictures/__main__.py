"""Program that draws the pictures of the dashboards in docs/images: `python grafana/pictures`.

It runs the demo under a Prometheus for some minutes, asks what the dashboards ask, lets Grafana's
own components draw the answers in Chromium, and takes pictures. It needs hypertrace installed with
its exporter, Pillow, Prometheus, npm and Chromium; the components (600 MB) go beside this file.
"""

import argparse
import json
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import urllib.parse
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from PIL import Image

from hypertrace_prometheus.dashboards.templates import Dashboard, dashboards

_HERE = Path(__file__).parent
_IMAGES = _HERE.parent.parent / "docs" / "images"
_CLASS = "SearchEngine"
_WIDTH = 1400
_CELL, _HEAD = 38, 56
"""Height of a row of the grid, and of what stands above it, as page.tsx has them."""
_COLORS = 256
_PAUSE = 10.0
"""Seconds after which a page is certainly drawn."""

_CONFIGURATION = """\
global: {{scrape_interval: 2s}}
scrape_configs:
  - job_name: hypertrace
    static_configs: [{{targets: ["127.0.0.1:{port}"]}}]
"""
_PAGE = """\
<!doctype html><meta charset="utf-8"><link rel="stylesheet" href="{style}">
<style>* {{ box-sizing: border-box }} body {{ margin: 0 }}</style><div id="page"></div>
<script>window.input = {input};</script><script src="{script}"></script>
"""


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(prog="python grafana/pictures", description=__doc__)
    parser.add_argument("--minutes", type=float, default=10.0, help="how long the demo works")
    arguments = parser.parse_args()
    chromium = _found("chromium", "apt-get install chromium")
    prometheus = _found("prometheus", "apt-get install prometheus")
    npm = _found("npm", "apt-get install npm")
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        script = _bundled(npm, folder)
        seconds = 60 * arguments.minutes
        with _demo(folder) as port, _prometheus(prometheus, folder, port) as url:
            time.sleep(seconds)
            made = {name: _filled(board, url, seconds) for name, board in dashboards().items()}
        for name, picture in made.items():
            page = folder / f"{name}.html"
            page.write_text(_html(picture, script))
            _shoot(chromium, page, picture["dashboard"], _IMAGES / f"dashboard-{name}.png")


def _html(picture: dict[str, Any], script: Path) -> str:
    style = script.with_suffix(".css").as_uri()
    return _PAGE.format(input=json.dumps(picture), script=script.as_uri(), style=style)


def _found(program: str, install: str) -> str:
    path = shutil.which(program)
    if path is None:
        sys.exit(f"{program} is missing: {install}")
    return path


def _bundled(npm: str, folder: Path) -> Path:
    subprocess.run([npm, "install", "--silent", "--no-audit", "--no-fund"], cwd=_HERE, check=True)
    script = folder / "page.js"
    esbuild = str(_HERE / "node_modules" / ".bin" / "esbuild")
    options = ["--bundle", "--log-level=error", "--define:process.env.NODE_ENV='production'"]
    loaders = ["--loader:.svg=dataurl", "--loader:.ttf=dataurl", "--define:global=window"]
    command = [esbuild, "page.tsx", *options, *loaders, f"--outfile={script}"]
    subprocess.run(command, cwd=_HERE, check=True)
    return script


@contextmanager
def _running(*command: str) -> Iterator[None]:
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        try:
            yield
        finally:
            process.terminate()


@contextmanager
def _demo(folder: Path) -> Iterator[int]:
    port = _free_port()
    with _running(sys.executable, "-m", "hypertrace_prometheus", "demo", "--port", str(port)):
        (folder / "prometheus.yml").write_text(_CONFIGURATION.format(port=port))
        yield port


@contextmanager
def _prometheus(program: str, folder: Path, port: int) -> Iterator[str]:
    port = _free_port()
    options = {
        "config.file": folder / "prometheus.yml",
        "storage.tsdb.path": folder / "data",
        "web.listen-address": f"127.0.0.1:{port}",
    }
    with _running(program, *(f"--{name}={value}" for name, value in options.items())):
        yield f"http://127.0.0.1:{port}"


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port: int = server.getsockname()[1]
        return port


def _filled(board: Dashboard, url: str, seconds: float) -> dict[str, Any]:
    """Fill the variables in, repeat what is repeated, and ask all queries."""
    end = time.time()
    start = end - seconds
    step = max(round(seconds / 200), 1)
    values = {
        "__rate_interval": f"{max(4 * step, 15)}s",
        "__range": f"{round(seconds)}s",
        "job": "hypertrace",
        "instance": ".*",
        "class": _CLASS,
        "function": ".*",
        "to": ".*",
    }

    def ask(endpoint: str, **parameters: str) -> Any:
        query = urllib.parse.urlencode(parameters)
        with urllib.request.urlopen(f"{url}/api/v1/{endpoint}?{query}") as answer:
            return json.load(answer)["data"]

    def fill(text: str) -> str:
        return re.sub(r"\$(\w+)", lambda match: values.get(match[1], match[0]), text)

    board["panels"] = list(_repeated(board, ask, fill))
    answers: dict[int, dict[str, Any]] = {}
    for panel in board["panels"]:
        answers[panel["id"]] = {}
        for target in panel.get("targets", ()):
            query = fill(target["expr"])
            if target.get("instant"):
                found = ask("query", query=query, time=str(end))
            else:
                span = {"start": str(start), "end": str(end), "step": str(step)}
                found = ask("query_range", query=query, **span)
            answers[panel["id"]][target["refId"]] = found["result"]
    return {
        "dashboard": board,
        "answers": answers,
        "start": start,
        "end": end,
        "width": _WIDTH,
    }


def _repeated(board: Dashboard, ask: Any, fill: Any) -> Iterator[Dashboard]:
    for panel in board["panels"]:
        if panel.get("repeat") is None:
            yield panel
            continue
        (variable,) = (v for v in board["templating"]["list"] if v["name"] == panel["repeat"])
        selector = fill(variable["query"]["query"]).removeprefix("label_names(").removesuffix(")")
        pattern = variable["regex"].strip("/")
        names = [n for n in ask("labels", **{"match[]": selector}) if re.fullmatch(pattern, n)]
        for number, name in enumerate(names):
            place = panel["gridPos"] | {"x": number * panel["gridPos"]["w"]}
            text = json.dumps(panel).replace(f"${panel['repeat']}", name)
            yield json.loads(text) | {"id": 1000 + number, "gridPos": place}


def _shoot(chromium: str, page: Path, board: Dashboard, image: Path) -> None:
    rows = max(panel["gridPos"]["y"] + panel["gridPos"]["h"] for panel in board["panels"])
    image.parent.mkdir(parents=True, exist_ok=True)
    command = [
        chromium,
        "--headless=new",
        "--no-sandbox",
        "--disable-gpu",
        "--hide-scrollbars",
        "--allow-file-access-from-files",
        f"--virtual-time-budget={round(1000 * _PAUSE)}",
        f"--window-size={_WIDTH},{rows * _CELL + _HEAD}",
        f"--screenshot={image}",
        page.as_uri(),
    ]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    with Image.open(image) as picture:
        # Less than half the size, and the difference is not visible.
        small = picture.convert("RGB").quantize(_COLORS, kmeans=2, dither=Image.Dither.NONE)
    small.save(image, optimize=True)


if __name__ == "__main__":
    main()
