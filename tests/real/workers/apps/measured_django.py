"""Django site, its settings included, whose requests are measured, and counted by itself."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from django.core.asgi import get_asgi_application
from django.core.wsgi import get_wsgi_application
from django.http import (
    FileResponse,
    HttpResponse,
    HttpResponseNotFound,
    StreamingHttpResponse,
)
from django.urls import path
from measured import OwnError, count, endless, exporter

SECRET_KEY = "of a test"
ALLOWED_HOSTS = ["127.0.0.1"]
ROOT_URLCONF = "measured_django"


def ready(request: Any) -> HttpResponse:
    """Answer when the site is up."""
    count(request.method, "/ready", 200, "")
    return HttpResponse("ready")


def item(request: Any, id: int) -> HttpResponse:
    """Answer."""
    count(request.method, "/items/<int:id>", 200, "")
    return HttpResponse(str(id))


def boom(request: Any) -> HttpResponse:
    """Raise."""
    count(request.method, "/boom", 500, "OwnError")
    raise OwnError


def file(request: Any) -> FileResponse:
    """Answer with a file that the server sends."""
    count("GET", "/file", 200, "")
    return FileResponse(Path(__file__).open("rb"))


def big(request: Any) -> StreamingHttpResponse:
    """Answer with more than a client reads."""
    return StreamingHttpResponse(endless("GET", "/big", 200))


def missing(request: Any, exception: Exception) -> HttpResponse:
    """Answer what no pattern fits."""
    count(request.method, "<unmatched>", 404, "")
    return HttpResponseNotFound("no")


def metrics(request: Any) -> HttpResponse:
    """Show the metrics."""
    return HttpResponse(exporter.metrics(), content_type="text/plain")


handler404 = missing
urlpatterns = [
    path("ready", ready),
    path("items/<int:id>", item),
    path("boom", boom),
    path("file", file),
    path("big", big),
    path("metrics", metrics),
]
os.environ["DJANGO_SETTINGS_MODULE"] = "measured_django"
application = get_wsgi_application()
asgi_application = get_asgi_application()
