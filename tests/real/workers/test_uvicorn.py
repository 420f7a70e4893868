"""uvicorn: one sum on the page of every worker, and over reloads."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING, Any

import pytest

from .programs import several

if TYPE_CHECKING:
    from .conftest import Serve

UVICORN = (sys.executable, "-m", "uvicorn", "--host=127.0.0.1", "--port=PORT", "asgi:application")


@pytest.fixture(autouse=True)
def _uvicorn(need: Any) -> None:
    need("uvicorn")


def test_every_worker_shows_the_sum(serve: Serve) -> None:
    """Each worker shows what all have counted, one that was killed among them."""
    site = serve(*UVICORN, "--workers=3")
    before = site.work(enough=several)
    site.kill(min(before))
    site.work(enough=lambda workers: workers - before)
    site.check(several)


def test_reloads(serve: Serve) -> None:
    """The process after a reload shows what the one before it counted, also if that was killed."""
    site = serve(*UVICORN, "--reload", "--reload-dir=.")
    (first,) = site.work()
    site.program.touch_watched()
    site.program.wait(lambda: first not in site.program.pids())
    (second,) = site.work_when_up()
    assert second != first
    site.check()
    os.kill(second, 9)
    site.program.touch_watched()
    (third,) = site.work_when_up()
    assert third != second
    site.check()
