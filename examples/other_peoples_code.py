"""Timing a library that knows nothing of hypertrace: werkzeug's URL routing.

    pip install werkzeug                            gets the library
    python examples/other_peoples_code.py           serves http://127.0.0.1:4347/metrics
    python examples/other_peoples_code.py --once    prints the metrics and ends

The application has no tracer in it, and werkzeug was not changed: `instrument()` names the methods
to trace, and `undo()` puts them back.
"""

import argparse
from collections.abc import Iterable
from contextlib import suppress
from threading import Event
from typing import TYPE_CHECKING

from werkzeug.exceptions import HTTPException
from werkzeug.routing import Map, Rule
from werkzeug.test import Client
from werkzeug.wrappers import Response

from hypertrace import instrument, set_trace_function
from hypertrace_prometheus import PrometheusExporter

if TYPE_CHECKING:
    from wsgiref.types import StartResponse, WSGIEnvironment

URLS = Map([Rule("/", endpoint="home"), Rule("/books/<int:number>", endpoint="book")])
VISITS = ["/", "/books/1", "/books/2", "/books/none", "/", "/jobs"]


def application(environ: "WSGIEnvironment", start_response: "StartResponse") -> Iterable[bytes]:
    """Answer with the page's name, or with what werkzeug makes of a wrong address."""
    try:
        endpoint, values = URLS.bind_to_environ(environ).match()
        response: Response = Response(f"{endpoint} {values}\n")
    except HTTPException as error:
        response = error.get_response(environ)
    return response(environ, start_response)


def main() -> None:
    """Visit some pages with tracing on."""
    parser = argparse.ArgumentParser(description="werkzeug's routing, traced from outside.")
    parser.add_argument("--once", action="store_true", help="print the metrics and end")
    parser.add_argument("--port", type=int, default=4347, help="where to serve the metrics")
    arguments = parser.parse_args()

    exporter = PrometheusExporter(arguments.port, allowed_props=["status"])
    set_trace_function(exporter)
    routing = instrument("werkzeug.routing:MapAdapter.match")
    requests = instrument("werkzeug.test:Client.open", prop_from={"status": "result.status_code"})

    client = Client(application)
    for path in VISITS:
        client.get(path)
    print(f"{len(VISITS)} visits, traced: {', '.join(routing.names + requests.names)}")

    routing.undo()
    requests.undo()
    client.get("/")  # this one is not traced

    print(f"The metrics are at {exporter.url}", flush=True)
    if arguments.once:
        print(exporter.metrics())
    else:
        with suppress(KeyboardInterrupt):
            Event().wait()
    exporter.stop()


if __name__ == "__main__":
    main()
