"""Development servers that reload: they come up with a port, and counts outlive a reload."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import pytest

from .programs import check_page

if TYPE_CHECKING:
    from collections.abc import Callable

    from .conftest import Serve

FLASK = (
    *(sys.executable, "-m", "flask", "--app=flask_app", "run", "--debug"),
    *("--port=PORT", "--extra-files=watched.py"),
)
DJANGO = (sys.executable, "-m", "django", "runserver", "127.0.0.1:PORT")
SETTINGS = {"DJANGO_SETTINGS_MODULE": "django_app"}


@pytest.mark.parametrize("with_port", [False, True], ids=["mounted", "port"])
@pytest.mark.parametrize("framework", ["flask", "django"])
def test_a_reload(
    serve: Serve, need: Any, free_port: Callable[[], int], framework: str, with_port: bool
) -> None:
    """The process after a reload shows what was counted before, mounted and on its own port."""
    need(framework)
    port = free_port()
    environment = {"EXPORTER_PORT": str(port)} if with_port else {}
    command = FLASK if framework == "flask" else DJANGO
    site = serve(*command, **environment, **SETTINGS)
    (first,) = site.work()
    site.program.touch_watched()
    site.program.wait(lambda: first not in site.program.pids())
    (second,) = site.work_when_up()
    assert second != first
    site.check()
    if with_port:
        check_page(site.program, port)
