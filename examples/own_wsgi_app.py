"""Web application that serves its metrics itself, beside its own pages.

    python examples/own_wsgi_app.py    serves http://127.0.0.1:4345/hello?name=Ada and /metrics

Nothing here depends on `wsgiref`: any WSGI server runs `application`, any framework that can
mount a WSGI application can mount `exporter.wsgi_app`.
"""

from collections.abc import Iterable
from contextlib import suppress
from typing import TYPE_CHECKING
from urllib.parse import parse_qs
from wsgiref.simple_server import make_server

from hypertrace import Tracer, set_trace_function
from hypertrace_prometheus import PrometheusExporter

if TYPE_CHECKING:
    from wsgiref.types import StartResponse, WSGIEnvironment

# No port: the exporter starts no server.
exporter = PrometheusExporter(allowed_props=["language"])
set_trace_function(exporter)


class Greeter:
    """Says hello in one language."""

    def __init__(self, language: str, greeting: str) -> None:
        self.tracer = Tracer(self, {"language": language})
        self.greeting = greeting

    def greet(self, name: str) -> str:
        """Return a line for `name`."""
        self.tracer.trace()
        return f"{self.greeting}, {name}!\n"


greeters = {
    "en": Greeter("en", "Hello"),
    "sw": Greeter("sw", "Habari"),
}


def application(environ: "WSGIEnvironment", start_response: "StartResponse") -> Iterable[bytes]:
    """Answer `/metrics` through the exporter and everything else with a greeting."""
    if environ["PATH_INFO"] == "/metrics":
        return exporter.wsgi_app(environ, start_response)
    query = parse_qs(environ["QUERY_STRING"])
    greeter = greeters.get(query.get("language", ["en"])[0], greeters["en"])
    name = query.get("name", ["stranger"])[0]
    start_response("200 OK", [("Content-Type", "text/plain; charset=utf-8")])
    return [greeter.greet(name).encode()]


if __name__ == "__main__":
    with make_server("127.0.0.1", 4345, application) as server, suppress(KeyboardInterrupt):
        print(f"http://127.0.0.1:{server.server_port}/hello?name=Ada and /metrics", flush=True)
        server.serve_forever()
