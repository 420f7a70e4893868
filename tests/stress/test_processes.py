"""Processes: forks, endings, and servers that start and stop, again and again."""

from collections.abc import Callable
from typing import Any

import pytest

Run = Callable[..., dict[str, Any]]
Scale = Callable[[Any, Any], Any]
Note = Callable[..., None]


@pytest.mark.parametrize("server", [False, True], ids=["alone", "with a server"])
def test_forks_while_threads_make_series(
    run: Run, scale: Scale, figure: Note, *, server: bool
) -> None:
    """Children count for themselves and end, whatever the threads of their parent were doing."""
    found = run("processes.forks", 300, times=scale(8, 40), server=server)
    figure("forked children that hung", found["hung"], "", "= 0")
    figure("calls of their parent that are missing", found["missing"], "", "= 0")
    assert found == {"hung": 0, "wrong": 0, "missing": 0}


def test_a_forked_child_does_not_keep_the_port(run: Run, scale: Scale, figure: Note) -> None:
    """A server starts again on its port while children live that were forked before."""
    found = run("processes.forked_server", times=scale(2, 10))
    figure("restart on the same port after a fork, with a scrape", found["seconds"], "s", "≤ 1 s")
    assert found["seconds"] < scale(3, 1)


def test_stop_hangs_up_on_clients(run: Run, scale: Scale, figure: Note) -> None:
    """Stopping does not wait for clients, and leaves neither threads nor sockets."""
    found = run("processes.stop_with_clients", clients=20)
    figure("stopping with 20 half-open clients", found["seconds"], "s", "≤ 1 s")
    assert (found["threads"], found["sockets"]) == (0, 0)
    assert found["seconds"] < scale(2, 1)


def test_programs_end_at_once(run: Run, scale: Scale, figure: Note) -> None:
    """A program ends at once, although clients are half-open and a scrape takes long."""
    found = run("processes.endings", 300, clients=20, at_once=scale(5, 1))
    slowest = max(seconds for seconds, _, _ in found.values())
    figure("end of a program with such clients, and a scrape", slowest, "s", "≤ 1 s")
    assert {way: ending[1:] for way, ending in found.items() if ending[1:] != [0, ""]} == {}
    assert {way: seconds for way, (seconds, _, _) in found.items() if seconds > scale(3, 1)} == {}


def test_starting_and_stopping_leaves_nothing(run: Run, scale: Scale, figure: Note) -> None:
    """Exporters that come and go leave no thread, descriptor or metric, nor do failed starts."""
    found = run("processes.restarts", 120, times=scale(10, 100))
    figure("threads and descriptors left by exporters", sum(found["left"]), "", "= 0")
    assert found == {"answers": [[200, True]], "left": [0, 0, 0], "families": []}
