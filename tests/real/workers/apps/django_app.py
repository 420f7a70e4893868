"""Django application, its settings included, with a view of the metrics at /metrics."""

from __future__ import annotations

import importlib
import os
from typing import Any

from counted import exporter, work
from django.http import HttpResponse
from django.urls import path

DEBUG = True
SECRET_KEY = "of a test"
ALLOWED_HOSTS = ["127.0.0.1"]
ROOT_URLCONF = "django_app"

importlib.import_module("watched")  # the reloader watches modules


def _answer(text: str) -> HttpResponse:
    return HttpResponse(text, headers={"X-Worker": str(os.getpid())}, content_type="text/plain")


def ready(request: Any) -> HttpResponse:
    """Do nothing."""
    return _answer("ready")


def do_work(request: Any) -> HttpResponse:
    """Do some work."""
    work.do()
    return _answer("done")


def metrics(request: Any) -> HttpResponse:
    """Show the metrics."""
    return _answer(exporter.metrics())


urlpatterns = [path("ready", ready), path("work", do_work), path("metrics", metrics)]
