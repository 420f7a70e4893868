"""Entries of an application: blocks and functions in which work begins, in one metric."""

from __future__ import annotations

import asyncio
import inspect
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import pytest

import hypertrace
from hypertrace import Tracer, current_entry
from hypertrace._operations import Operations
from hypertrace.integrations.entries import NAME, entry
from hypertrace.integrations.http_server import HttpServer
from hypertrace.metrics import DEFAULT_BUCKETS, HistogramReading, Metrics

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    Points = Callable[[str], dict[tuple[str, ...], float]]

ENTRIES = "entry_duration_seconds"

pytestmark = pytest.mark.usefixtures("metrics")


@pytest.mark.parametrize("kind", ["http", "job", "websocket", "command", "other"])
def test_a_block_is_an_entry(kind: Any, points: Points) -> None:
    """It is timed by kind, name and result, and the name is that of its time."""
    assert current_entry() == ""
    with entry(kind, "nightly") as one:
        assert (one.name, current_entry()) == ("nightly", "nightly")
    assert current_entry() == ""
    assert points(ENTRIES) == {(kind, "nightly", "ok"): 1}


def test_a_name_that_is_known_later(points: Points) -> None:
    """It may be set in the block, and counts from then on."""
    with entry("websocket") as one:
        assert current_entry() == ""
        one.name = "chat"
        assert current_entry() == "chat"
    one.name = "too late"
    assert points(ENTRIES) == {("websocket", "chat", "ok"): 1}


@pytest.mark.parametrize(
    ("options", "error", "result"),
    [
        ({}, KeyError(), "error"),
        ({}, asyncio.CancelledError(), "cancelled"),
        ({}, SystemExit(0), "ok"),
        ({}, SystemExit(2), "error"),
        ({}, KeyboardInterrupt(), "error"),
        ({"expected": KeyError}, KeyError(), "ok"),
        ({"ok_if": lambda error: error.args}, KeyError("x"), "ok"),
        ({"ok_if": lambda error: error.args}, KeyError(), "error"),
    ],
)
def test_how_a_block_ends(
    options: dict[str, Any], error: BaseException, result: str, points: Points
) -> None:
    """An exception passes, and the result is that of a span, or of a rule."""
    with pytest.raises(type(error)) as caught, entry("job", "send", **options):
        raise error
    assert caught.value is error
    assert points(ENTRIES) == {("job", "send", result): 1}
    assert current_entry() == ""


@pytest.mark.parametrize("rule", ["error_if", "ok_if"])
def test_a_rule_that_raises_is_swallowed(rule: str, points: Points) -> None:
    """The function has its result, or its exception, and the entry ends as without the rule."""

    def work() -> int:
        if rule == "ok_if":
            raise KeyError
        return 3

    def broken(_: object) -> bool:
        raise ZeroDivisionError

    options: dict[str, Any] = {rule: broken}
    run = entry("job", "send", **options)(work)
    if rule == "ok_if":
        with pytest.raises(KeyError):
            run()
    else:
        assert run() == 3
    assert points(ENTRIES) == {("job", "send", "error" if rule == "ok_if" else "ok"): 1}
    assert hypertrace.swallowed_errors() == 1


def test_a_block_that_handles_its_failure(points: Points) -> None:
    """`fail()` makes an error of it."""
    with entry("job", "send") as one:
        one.fail()
    assert points(ENTRIES) == {("job", "send", "error"): 1}


def test_functions_and_coroutine_functions(points: Points) -> None:
    """Each call is an entry, also those at the same time; the function is what it was."""

    @entry("job", "send", error_if=lambda result: result is None)
    def send(address: str, *, copies: int = 1) -> str | None:
        """Send."""
        assert current_entry() == "send"
        return address * copies or None

    @entry("job")
    async def later(delay: float) -> float:
        await asyncio.sleep(delay)
        assert current_entry().endswith("later")
        return delay

    async def run() -> list[float]:
        return await asyncio.gather(*(later(number / 1000) for number in (3, 1, 2)))

    assert (send("a", copies=2), send("")) == ("aa", None)
    assert asyncio.run(run()) == [0.003, 0.001, 0.002]
    assert inspect.iscoroutinefunction(later)
    assert (send.__name__, send.__doc__, str(inspect.signature(send))) == (
        "send",
        "Send.",
        "(address: 'str', *, copies: 'int' = 1) -> 'str | None'",
    )
    name = later.__qualname__
    assert points(ENTRIES) == {
        ("job", "send", "ok"): 1,
        ("job", "send", "error"): 1,
        ("job", name, "ok"): 3,
    }


def _generator() -> Iterator[int]:
    yield 1


@pytest.mark.parametrize("function", [_generator, type("Class", (), {}), 3])
def test_what_is_no_entry_is_refused(function: Any) -> None:
    """A generator function returns at once, so its time would be wrong."""
    with pytest.raises(TypeError, match="use `with entry"):
        entry("job", "x")(function)


@pytest.mark.parametrize(
    ("arguments", "kind", "message"),
    [
        (("cron", "x"), ValueError, "kind must be one of 'http', 'job', .* not 'cron'"),
        (("job", 3), TypeError, "name must be a text, as 'import', not 3"),
    ],
)
def test_wrong_arguments_are_refused(
    arguments: tuple[Any, ...], kind: type[Exception], message: str
) -> None:
    """The call says what is possible."""
    with pytest.raises(kind, match=message):
        entry(*arguments)
    with pytest.raises(TypeError, match="expected must be classes"):
        entry("job", "x", expected=3)  # type: ignore[arg-type]


def test_an_entry_inside_another_is_a_part_of_it(points: Points) -> None:
    """A job that a request runs is counted as a job, and its time is that of the request."""
    jobs = Operations("Jobs", "job", entry="job")
    request = HttpServer().start("POST", "/orders")
    assert request is not None
    request.route = "/orders"
    with suppress(KeyError), entry("job", "send"):
        assert current_entry() == "POST /orders"
        raise KeyError
    jobs.record(1.0, {NAME: "known"})
    request.status = 201
    request.finish()
    assert points(ENTRIES) == {("http", "POST /orders", "ok"): 1}
    ids = {labels[-1] for labels in points("function_counter_total")}
    assert ids == {"entry.http", "nested.job"}


def test_work_that_goes_on_after_its_entry(points: Points) -> None:
    """What a task does when the entry that started it has ended is an entry again."""

    async def background(ended: asyncio.Event) -> None:
        with entry("job", "inside"):
            assert current_entry() == "request"
            await ended.wait()
        assert current_entry() == ""
        with entry("job", "after"):
            assert current_entry() == "after"

    async def run() -> None:
        ended = asyncio.Event()
        with entry("http", "request"):
            task = asyncio.create_task(background(ended))
            await asyncio.sleep(0)
        ended.set()
        await task

    asyncio.run(run())
    assert points(ENTRIES) == {("http", "request", "ok"): 1, ("job", "after", "ok"): 1}


def test_an_entry_that_never_ends_is_not_waited_for(points: Points) -> None:
    """A framework may drop a request; the next one in the thread is an entry all the same."""
    requests = Operations("Http", "request", entry="http")
    dropped = requests.start()
    dropped.entry_name = "dropped"
    del dropped
    with entry("job", "next"):
        assert current_entry() == "next"
    assert points(ENTRIES) == {("job", "next", "ok"): 1}


def test_threads_and_tasks_have_their_own(points: Points) -> None:
    """A thread starts without an entry, and tasks have that of the code that made them."""

    def work(name: str) -> tuple[str, str]:
        before = current_entry()
        with entry("job", name):
            return before, current_entry()

    async def task(name: str) -> str:
        with entry("job", name):
            await asyncio.sleep(0)
            return current_entry()

    async def run() -> list[str]:
        return await asyncio.gather(*(task(name) for name in "abc"))

    with ThreadPoolExecutor(1) as pool, entry("command", "main"):
        assert pool.submit(work, "thread").result() == ("", "thread")
    assert asyncio.run(run()) == ["a", "b", "c"]
    assert points(ENTRIES) == {
        ("command", "main", "ok"): 1,
        ("job", "thread", "ok"): 1,
        **{("job", name, "ok"): 1 for name in "abc"},
    }


def test_an_exception_passes_an_entry(points: Points) -> None:
    """It is counted once as raised, by the span in the entry."""
    tracer = Tracer("Shop")
    for kind in (KeyError, type("OwnError", (Exception,), {})):
        with suppress(kind), entry("job", "send"), tracer.span():
            raise kind
    raised = {(labels[0], labels[-1]) for labels in points("function_exceptions_total")}
    assert raised == {("Shop", "here"), ("Entry", "inside")}


def test_the_exception_of_a_request_is_inside(points: Points) -> None:
    """An integration gives the exception itself, so that it is found again."""
    tracer = Tracer("Shop")
    request = HttpServer().start("GET", "/")
    assert request is not None
    try:
        with tracer.span():
            raise KeyError
    except KeyError as error:
        request.finish(error)
    raised = {(labels[0], labels[-1]) for labels in points("function_exceptions_total")}
    assert raised == {("Shop", "here"), ("HttpServer", "inside")}


@pytest.mark.parametrize("kind", ["plain", "with entries", "two metrics", "with an event"])
def test_the_props_of_a_known_request_reach_an_event(kind: str) -> None:
    """Where the end takes an event, it has the props also of a request like an earlier one."""
    metrics = Metrics(workers=False, entry_label=kind == "with entries")
    others: dict[str, list[Any]] = {
        "two metrics": [Metrics(workers=False)],
        "with an event": [lambda _: None],
    }
    hypertrace.set_trace_function(hypertrace.fan_out(metrics, *others.get(kind, [])))
    server = HttpServer()
    for error in (None, None, SystemExit(0), None):
        request = server.start("GET", "/")
        assert request is not None
        request.route = "/"
        request.status = 200
        request.finish(error)
    entries = {
        point.labels: point.value.count
        for point in metrics.read().family(ENTRIES).points
        if isinstance(point.value, HistogramReading)
    }
    assert entries == {("http", "GET /", "ok"): 4}


def test_while_tracing_is_off_an_entry_does_nothing(points: Points) -> None:
    """Neither a block nor a function is timed, and both do their work."""
    hypertrace.clear_trace_function()
    with entry("job", "send"):
        assert current_entry() == ""
    assert entry("job", "send")(lambda: 3)() == 3
    assert points(ENTRIES) == {}


@pytest.mark.parametrize("how", ["file", "module"])
def test_a_command_is_named_by_its_program(how: str, tmp_path: Path) -> None:
    """Without a name, a command has that of the file or the package that is run."""
    program = tmp_path / "tidy" / "__main__.py"
    program.parent.mkdir()
    program.write_text(
        "from hypertrace.integrations.entries import entry\n"
        "@entry('command')\n"
        "def main():\n"
        "    from hypertrace import current_entry\n"
        "    print(current_entry())\n"
        "from hypertrace import set_trace_function\n"
        "from hypertrace.metrics import Metrics\n"
        "set_trace_function(Metrics(workers=False))\n"
        "main()\n"
    )
    if how == "file":
        program = program.rename(tmp_path / "tidy.py")
    arguments = [str(program)] if how == "file" else ["-m", "tidy"]
    done = subprocess.run(
        [sys.executable, *arguments], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == ["tidy"]


def test_what_is_under_way_is_counted(points: Points) -> None:
    """By kind and the name at the start, also if it changes, and whatever ends it."""
    active = "entries_in_progress"
    with suppress(KeyError), entry("job", "report") as one, entry("other", "part"):
        one.name = "renamed"
        assert points(active) == {("job", "report"): 1, ("other", "part"): 1}
        raise KeyError
    assert points(active) == {("job", "report"): 0, ("other", "part"): 0}


def test_entries_have_buckets_for_long_work(metrics: Metrics) -> None:
    """Those of the metrics, and more up to an hour."""
    with entry("job", "report"):
        pass
    value = metrics.read().family(ENTRIES).values[0]
    assert isinstance(value, HistogramReading)
    assert value.bounds == (*DEFAULT_BUCKETS, 30, 60, 300, 900, 3600)


DROPPED = """
import gc
from contextvars import ContextVar
from hypertrace import set_trace_function, swallowed_errors
from hypertrace.integrations.asgi import trace_asgi
from hypertrace.integrations.entries import entry
from hypertrace.integrations.jobs import job
from hypertrace.metrics import Metrics

class Wait:
    def __await__(self):
        yield

async def application(scope, receive, send):
    await Wait()

async def run_job():
    with job("resize"):
        await Wait()

async def run_entry():
    with entry("other", "reading"):
        await Wait()

def answer():
    return trace_asgi(application)({"type": "http", "path": "/", "method": "GET"}, None, None)

def drop(make):
    coroutine = make()
    coroutine.send(None)
    cycle = [coroutine]
    cycle.append(cycle)

metrics = Metrics(workers=False, upstream=True)
set_trace_function(metrics)
variables = [ContextVar(str(number)) for number in range(30)]
gc.set_threshold(3, 2, 2)
for make in (run_job, run_entry, answer):
    for number in range(300):
        drop(make)
        for variable in variables:
            variable.set([number])
gc.collect()
entries = metrics.read().family("entry_duration_seconds")
for point, value in zip(entries.points, entries.values):
    print(*point.labels, value.count)
assert swallowed_errors() == 0
"""


def test_coroutines_that_the_collector_ends_are_counted() -> None:
    """They change no context then, which crashes CPython before 3.12."""
    done = subprocess.run(
        [sys.executable, "-c", DROPPED], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert sorted(done.stdout.splitlines()) == [
        "http GET cancelled 300",
        "job resize ok 300",
        "other reading ok 300",
    ]
