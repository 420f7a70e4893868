"""Program that draws the pictures of the dashboards in docs/images: `python grafana/pictures`.

It runs the demo and a shop under a Prometheus for some minutes, asks what the dashboards ask, lets
Grafana's own components draw the answers in Chromium, and takes pictures in both themes. It needs
hypertrace installed with its exporter, Pillow, Prometheus, npm and Chromium; the components
(600 MB) go beside this file.
"""

import argparse
import itertools
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

from hypertrace_prometheus.dashboards.files import files, write
from hypertrace_prometheus.dashboards.templates import Dashboard, dashboards

_HERE = Path(__file__).parent
_IMAGES = _HERE.parent.parent / "docs" / "images"
_CLASS = "SearchEngine"
_WIDTH, _PHONE = 1400, 390
_THEMES = ("light", "dark")
_TALLEST = 9000
_END = (255, 0, 255)
"""Colour of the line below all panels, as page.tsx has it."""
_BEFORE = 0.6
"""Share of the time before the shop is deployed again."""
_NARROWEST = 500
"""Width of Chromium's window, at the least."""
_COLORS = 128
_PAUSE = 10.0
"""Seconds after which a page is certainly drawn."""

_CONFIGURATION = """\
global: {{scrape_interval: 2s, evaluation_interval: 5s}}
rule_files: ["{rules}"]
scrape_configs:
  - job_name: library
    static_configs: [{{targets: ["127.0.0.1:{library}"]}}]
  - job_name: shop
    static_configs: [{{targets: ["127.0.0.1:{shop}"]}}]
"""
_JOBS = {"class-explorer": "library", "call-graph": "library"}
"""The job that a dashboard shows; others show both."""
_PAGE = """\
<!doctype html><meta charset="utf-8"><link rel="stylesheet" href="{style}">
<style>* {{ box-sizing: border-box }} body {{ margin: 0; width: {width}px }}</style>
<div id="page"></div>
<script>window.input = {input};</script><script src="{script}"></script>
"""


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(prog="python grafana/pictures", description=__doc__)
    parser.add_argument("--minutes", type=float, default=20.0, help="how long both work")
    parser.add_argument("--phone", action="store_true", help="as wide as a phone, to look at")
    parser.add_argument("--to", type=Path, default=_IMAGES, help="folder (default: docs/images)")
    arguments = parser.parse_args()
    width = _PHONE if arguments.phone else _WIDTH
    chromium = _found("chromium", "apt-get install chromium")
    prometheus = _found("prometheus", "apt-get install prometheus")
    npm = _found("npm", "apt-get install npm")
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        script = _bundled(npm, folder)
        seconds = 60 * arguments.minutes
        made = _asked(prometheus, folder, seconds)
        arguments.to.mkdir(parents=True, exist_ok=True)
        for (name, picture), theme in itertools.product(made.items(), _THEMES):
            page = folder / f"{name}.html"
            page.write_text(_html(picture | {"theme": theme, "width": width}, script))
            ending = "" if theme == _THEMES[0] else f"-{theme}"
            _shoot(chromium, page, width, arguments.to / f"dashboard-{name}{ending}.webp")


def _asked(prometheus: str, folder: Path, seconds: float) -> dict[str, dict[str, Any]]:
    """Let both applications work, and ask what the dashboards ask at the end."""
    library, shop = _free_port(), _free_port()
    _configure(folder, library, shop)
    demo = "-m", "hypertrace_prometheus", "demo", "--port", str(library)
    sells = str(_HERE / "shop.py"), "--port", str(shop)
    with _running(sys.executable, *demo), _prometheus(prometheus, folder) as url:
        with _running(sys.executable, *sells, "--version", "1.4"):
            time.sleep(seconds * _BEFORE)
        # A deploy.
        with _running(sys.executable, *sells, "--version", "1.5"):
            time.sleep(seconds * (1 - _BEFORE))
            return {
                name: _filled(name, board, url, seconds) for name, board in dashboards().items()
            }


def _html(picture: dict[str, Any], script: Path) -> str:
    style = script.with_suffix(".css").as_uri()
    width = picture["width"]
    text = json.dumps(picture).replace("</", "<\\/")
    return _PAGE.format(input=text, script=script.as_uri(), style=style, width=width)


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
            process.wait()


def _configure(folder: Path, library: int, shop: int) -> None:
    made = {name: text for name, text in files().items() if name.endswith(".yml")}
    write(made, folder)
    rules = folder / "rules" / "*.yml"
    text = _CONFIGURATION.format(rules=rules, library=library, shop=shop)
    (folder / "prometheus.yml").write_text(text)


@contextmanager
def _prometheus(program: str, folder: Path) -> Iterator[str]:
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


def _filled(name: str, board: Dashboard, url: str, seconds: float) -> dict[str, Any]:
    """Fill the variables in, repeat what is repeated, and ask all queries."""
    end = time.time()
    start = end - seconds
    step = max(round(seconds / 200), 1)
    values = {
        "__rate_interval": f"{max(4 * step, 15)}s",
        "__range": f"{round(seconds)}s",
        "class": _CLASS,
        "job": _JOBS.get(name, "library|shop"),
    }

    def ask(endpoint: str, **parameters: str) -> Any:
        query = urllib.parse.urlencode(parameters)
        with urllib.request.urlopen(f"{url}/api/v1/{endpoint}?{query}") as answer:
            return json.load(answer)["data"]

    def fill(text: str) -> str:
        # A name of more than one variable stays, until its panel is repeated.
        kept = {"prop": "$prop"}
        return re.sub(
            r"\$([a-zA-Z_]\w*)",
            lambda match: values.get(match[1]) or kept.get(match[1]) or ".*",
            text,
        )

    def over_time(query: str) -> Any:
        span = {"start": str(start), "end": str(end), "step": str(step)}
        return ask("query_range", query=fill(query), **span)["result"]

    board["panels"] = list(_repeated(board, ask, fill))
    answers: dict[int, dict[str, Any]] = {}
    for panel in board["panels"]:
        answers[panel["id"]] = {}
        for target in panel.get("targets", ()):
            if target.get("instant"):
                query = fill(target["expr"])
                found = ask("query", query=query, time=str(end))["result"]
            else:
                found = over_time(target["expr"])
            answers[panel["id"]][target["refId"]] = found
    events = [
        each | {"series": over_time(each["expr"])}
        for each in board["annotations"]["list"]
        if "expr" in each
    ]
    return {
        "dashboard": board,
        "answers": answers,
        "events": events,
        "start": start,
        "end": end,
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


def _shoot(chromium: str, page: Path, width: int, image: Path) -> None:
    drawn = page.with_suffix(".png")
    command = [
        chromium,
        "--headless=new",
        "--no-sandbox",
        "--disable-gpu",
        "--hide-scrollbars",
        "--allow-file-access-from-files",
        f"--virtual-time-budget={round(1000 * _PAUSE)}",
        f"--window-size={max(width, _NARROWEST)},{_TALLEST}",
        f"--screenshot={drawn}",
        page.as_uri(),
    ]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    with Image.open(drawn) as picture:
        colors = picture.convert("RGB")
        # The page ends with a line of one colour that is nowhere else.
        lines = colors.resize((1, colors.height), Image.Resampling.NEAREST)
        end = next(y for y in range(colors.height) if lines.getpixel((0, y)) == _END)
        colors = colors.crop((0, 0, width, end))
        # Less than half the size, and the difference is not visible.
        small = colors.quantize(_COLORS, kmeans=2, dither=Image.Dither.NONE)
    small.convert("RGB").save(image, lossless=True, method=6)


if __name__ == "__main__":
    main()
