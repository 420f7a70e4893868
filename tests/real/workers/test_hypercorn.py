"""hypercorn: one sum on the page of every worker."""

from __future__ import annotations

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
    """Each worker shows what all have counted, one that was killed among them."""
    site = serve(*HYPERCORN, "--workers=3")
    before = site.work(enough=several)
    site.kill(min(before))
    site.work(enough=several)
    site.check(several)
