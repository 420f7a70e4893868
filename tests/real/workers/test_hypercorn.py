"""hypercorn: one sum on the page of every worker."""

from __future__ import annotations

import os
import signal
import sys
from typing import TYPE_CHECKING, Any

import pytest

from .programs import several

if TYPE_CHECKING:
    from .conftest import Serve

HYPERCORN = (sys.executable, "-m", "hypercorn", "--bind=127.0.0.1:PORT", "asgi:application")


@pytest.fixture(autouse=True)
def _hypercorn(need: Any) -> None:
    need("hypercorn")


def test_every_worker_shows_the_sum(serve: Serve) -> None:
    """Each worker shows what all have counted, those before a reload by HUP among them.

    None is killed: then hypercorn ends.
    """
    site = serve(*HYPERCORN, "--workers=3")
    before = site.work(enough=several)
    site.check(several)
    os.kill(site.program.process.pid, signal.SIGHUP)
    site.program.wait(lambda: not before & site.program.pids())
    assert not site.work(enough=several) & before
    site.check(several)
