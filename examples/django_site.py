"""Django site in one file; it needs Django (`pip install django`).

python examples/django_site.py
    serves http://127.0.0.1:8000/books/ and http://127.0.0.1:4343/metrics
"""

# mypy: disable-error-code="misc"
# Django has no types.

from __future__ import annotations

import os
from contextlib import suppress
from typing import Any
from wsgiref.simple_server import make_server

import django
from django.conf import settings

from hypertrace import set_trace_function
from hypertrace.integrations import install
from hypertrace_prometheus import PrometheusExporter

install("django", "django_orm")
set_trace_function(PrometheusExporter(port=int(os.environ.get("METRICS_PORT", "4343"))))

settings.configure(
    ALLOWED_HOSTS=["127.0.0.1"],
    DATABASES={"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": ":memory:"}},
    DEFAULT_AUTO_FIELD="django.db.models.AutoField",
    ROOT_URLCONF=__name__,
)
django.setup()

# Models and URLs need the settings.
from django.core.wsgi import get_wsgi_application  # noqa: E402
from django.db import connection, models  # noqa: E402
from django.http import HttpRequest, JsonResponse  # noqa: E402
from django.urls import include, path  # noqa: E402


class Book(models.Model):
    """A book that can be lent."""

    title = models.CharField(max_length=100)

    class Meta:
        """Says to which application it belongs, as there is no package."""

        app_label = "library"

    def __str__(self) -> str:
        return str(self.title)


def shelf(request: HttpRequest) -> JsonResponse:
    """List the books, or add one."""
    if request.method == "POST":
        Book.objects.create(title=request.GET["title"])
    return JsonResponse({"titles": [book.title for book in Book.objects.order_by("title")]})


async def greet(_: HttpRequest, name: str) -> JsonResponse:
    """Answer without a query."""
    return JsonResponse({"hello": name})


books: list[Any] = [path("", shelf), path("hello/<str:name>", greet)]
urlpatterns = [path("books/", include(books))]


def main() -> None:
    """Make the table, and serve the site."""
    with connection.schema_editor() as editor:
        editor.create_model(Book)
    port = int(os.environ.get("PORT", "8000"))
    with make_server("127.0.0.1", port, get_wsgi_application()) as server:
        print(f"http://127.0.0.1:{server.server_port}/books/", flush=True)
        with suppress(KeyboardInterrupt):
            server.serve_forever()


if __name__ == "__main__":
    main()
