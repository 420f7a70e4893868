"""Index page of the metrics server: the paths that it serves, and how to scrape them.

The page loads no other file, and its policy header forbids it.
"""

from __future__ import annotations

from base64 import b64encode
from hashlib import sha256
from html import escape
from http import HTTPStatus
from string import Template

from .http.views import Response

METRICS_PATH = "/metrics"
"""Where Prometheus expects the metrics."""
HEALTH_PATH = "/-/healthy"

_STYLE = """
:root { color-scheme: light dark; --paper: #fbfaf8; --ink: #22201d; --dim: #6a655e;
  --line: #e3dfd8; --card: #fff; --accent: #b3400f; }
@media (prefers-color-scheme: dark) {
  :root { --paper: #171614; --ink: #ebe7e0; --dim: #a09a90; --line: #35322d;
    --card: #201e1b; --accent: #ff9d66; }
}
* { box-sizing: border-box; }
body { margin: 0; background: var(--paper); color: var(--ink);
  font: 16px/1.55 system-ui, sans-serif; }
main { max-width: 42rem; margin: 0 auto; padding: clamp(1.5rem, 8vh, 5rem) 1.25rem 3rem; }
h1 { margin: 0; font-size: 2rem; letter-spacing: -.02em; }
h2 { margin: 2.25rem 0 .6rem; font-size: 1.05rem; }
p { margin: .4rem 0; }
.dim { color: var(--dim); }
.problem { margin: 1.5rem 0 0; padding: .85rem 1rem; border-left: .25rem solid var(--accent);
  background: var(--card); overflow-wrap: anywhere; }
nav { display: grid; gap: .75rem; margin-top: 1.75rem;
  grid-template-columns: repeat(auto-fit, minmax(15rem, 1fr)); }
nav a, pre { background: var(--card); border: 1px solid var(--line); border-radius: .6rem; }
nav a { padding: .85rem 1rem; color: inherit; text-decoration: none; }
nav a:hover { border-color: var(--accent); }
nav a:focus-visible { outline: 2px solid var(--accent); }
nav b { display: block; color: var(--accent); }
code, pre, nav b { font-family: ui-monospace, "SFMono-Regular", Menlo, Consolas,
  "DejaVu Sans Mono", monospace; font-size: .92rem; }
pre { margin: .75rem 0; padding: 1rem; overflow-x: auto; line-height: 1.5;
  font-size: clamp(.78rem, 3.6vw, .92rem); }
pre code { font-size: inherit; }
"""

_PAGE = Template("""\
<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>hypertrace metrics</title>
<link rel="icon" href="data:,">
<style>$style</style>
</head>
<body>
<main>
<h1>hypertrace</h1>
<p class="dim">Which class, which method, from which file, how often: counted in the
program that runs here, for Prometheus to collect.</p>
$problem<nav>
<a href="$path"><b>$path</b> the counts as they are now</a>
<a href="/-/healthy"><b>/-/healthy</b> says ok while this server runs</a>
</nav>
<h2>Let Prometheus collect them</h2>
<p>Add this to <code>prometheus.yml</code> and reload Prometheus:</p>
<pre><code>scrape_configs:
  - job_name: hypertrace
    static_configs:
      - targets: ["$target"]$metrics_path
</code></pre>
<p class="dim">It works when <code>up{job="hypertrace"}</code> is 1 in Prometheus.</p>
</main>
</body>
</html>
""")

_STYLE_HASH = b64encode(sha256(_STYLE.encode()).digest()).decode()
_POLICY = (
    f"default-src 'none'; style-src 'sha256-{_STYLE_HASH}'; img-src data:; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)


def index_page(target: str, path: str = METRICS_PATH, problem: str = "") -> Response:
    """Return the page for a server that Prometheus reaches at `target` (`host:port`).

    Args:
        target: `host:port`.
        path: where the metrics are.
        problem: what operators should know; empty text for nothing.
    """
    setting = "" if path == METRICS_PATH else f"\n    metrics_path: {path}"
    page = _PAGE.substitute(
        style=_STYLE,
        target=escape(target),
        path=escape(path),
        metrics_path=escape(setting),
        problem=problem and f'<p class="problem" role="alert">{escape(problem)}.</p>\n',
    )
    return Response(
        HTTPStatus.OK,
        [("Content-Type", "text/html; charset=utf-8"), ("Content-Security-Policy", _POLICY)],
        page.encode(),
    )
