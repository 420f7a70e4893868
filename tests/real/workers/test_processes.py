"""Child processes of plain Python programs: one sum, in each of them and on the page served."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import pytest

from .programs import APPS, Counts, check_page, get, page_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from .conftest import Start

KINDS = [
    "fork",
    "multiprocessing-fork",
    "multiprocessing-spawn",
    "multiprocessing-forkserver",
    "pool-fork",
    "pool-spawn",
    "pool-forkserver",
    "executor-fork",
    "executor-spawn",
    "executor-forkserver",
]


@pytest.mark.parametrize("kind", KINDS)
def test_every_process_shows_the_sum(start: Start, kind: str) -> None:
    """Each process shows what all have counted, the killed included, and where it is served."""
    program = start(sys.executable, APPS / "processes.py", kind, EXPORTER_PORT="0")
    program.wait(lambda: program.tally.calls() == 65)
    pages = program.answers(3)
    assert {page: Counts.of(text) for page, text in pages.items()} == dict.fromkeys(
        pages, Counts.exactly(65)
    )
    (url,) = {text.partition("\n")[0].removeprefix("# ") for text in pages.values()}
    assert Counts.of(get(url).text) == Counts.exactly(65)
    (program.folder / "end").touch()
    assert program.process.wait(20) == 0, program.log


@pytest.mark.parametrize("when", ["before", "after"])
def test_a_program_that_daemonises_itself(
    start: Start, free_port: Callable[[], int], when: str
) -> None:
    """A daemon and its children share, whether it left its parent before or after its exporter."""
    port = free_port()
    program = start(sys.executable, APPS / "daemon.py", when, EXPORTER_PORT=str(port))
    program.wait(lambda: program.tally.calls() == 65)
    assert program.process.wait(10) == 0
    pages = program.answers(3)
    assert {Counts.of(text) for text in pages.values()} == {Counts.exactly(65)}
    check_page(program, port)
    assert page_of(port)
