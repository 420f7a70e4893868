"""Development servers that reload: they come up with a port, and counts outlive a reload."""

from __future__ import annotations

import sys
import time
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
    touched = 0.0

    def is_reloaded() -> bool:
        """Touch again now and then: a reloader that has just come up has not looked yet."""
        nonlocal touched
        if first in site.program.pids() and time.monotonic() > touched + 4:
            site.program.touch_watched()
            touched = time.monotonic()
        return first not in site.program.pids()

    site.program.wait(is_reloaded)
    (second,) = site.work_when_up()
    assert second != first
    site.check()
    if with_port:
        check_page(site.program, port)
