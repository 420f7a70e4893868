"""uWSGI: one sum on the page of every worker, though it forks without Python's knowledge."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from hypertrace import COMPILED

from .programs import several

if TYPE_CHECKING:
    from .conftest import Serve

UWSGI = (
    Path(sys.executable).with_name("uwsgi"),
    f"--home={sys.prefix}",
    "--http-socket=127.0.0.1:PORT",
    "--master",
    "--die-on-term",
    "--processes=3",
    "--module=wsgi:application",
    # The pure core notices a fork by C late; until then, several processes count in one file.
    *(() if COMPILED else ("--py-call-osafterfork",)),
)


@pytest.fixture(autouse=True)
def _uwsgi(need: Any) -> None:
    need("uwsgidecorators")


@pytest.mark.parametrize(
    "options",
    [[], ["--enable-threads", "--threads=2"], ["--lazy-apps"]],
    ids=["default", "threads", "lazy-apps"],
)
def test_every_worker_shows_the_sum(serve: Serve, options: list[str]) -> None:
    """Each worker shows what all have counted, one that was killed among them."""
    by_master = "0" if "--lazy-apps" in options else "3"  # calls before the fork
    site = serve(*UWSGI, *options, WORK_AT_IMPORT=by_master)
    before = site.work(enough=several)
    site.kill(min(before))
    site.work(enough=lambda workers: workers - before)
    site.check(several)
