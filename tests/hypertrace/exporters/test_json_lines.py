"""JSON lines: what a line says, where it goes, and that it is a whole one."""

from __future__ import annotations

import io
import json
import logging
import math
import os
import subprocess
import sys
import threading
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import structlog
from hypothesis import given
from hypothesis import strategies as st
from pythonjsonlogger.json import JsonFormatter

import hypertrace
from hypertrace import Caller, TracedObject, TraceEvent, Tracer, set_trace_function
from hypertrace.exporters.json_lines import _KEYS, JsonLinesExporter, encode, encode_event
from hypertrace.metrics import (
    Counter,
    EventPoint,
    ExponentialReading,
    Metrics,
    Reading,
    SummaryReading,
)
from hypertrace.metrics.declarations import Declaration
from hypertrace.metrics.reading import Family
from hypertrace.metrics.series import Series

from .recording import NEVER, SOON, exporter_threads, until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from hypertrace.metrics.declarations import Kind

CALLER = Caller("connect", "app.py", "app", 1, 1)
EVENT = TraceEvent("dial", TracedObject("Swarm", 1), None, CALLER)


@pytest.fixture
def export() -> Iterator[Callable[..., JsonLinesExporter]]:
    """Give a function that makes an exporter, which the end of the test stops."""
    made: list[JsonLinesExporter] = []

    def make(to: object, **settings: Any) -> JsonLinesExporter:
        made.append(JsonLinesExporter(to, **{"interval": NEVER, **settings}))
        return made[-1]

    yield make
    for exporter in made:
        exporter.stop()
    until(lambda: not exporter_threads())


def lines_of(path: Path) -> list[dict[str, Any]]:
    """Read the lines of a file."""
    return [json.loads(line) for line in path.read_text().splitlines()]


def points(line: str | dict[str, Any], name: str) -> list[dict[str, Any]]:
    """Give the points of a metric in a line, without what all of them have."""
    line = json.loads(line) if isinstance(line, str) else line
    return [
        {key: value for key, value in point.items() if key != "name"}
        for point in line["metrics"]
        if point["name"] == name
    ]


def calls(line: str | dict[str, Any]) -> int:
    """Give the calls in a line."""
    return sum(point["value"] for point in points(line, "function_counter_total"))


def test_a_line_says_what_came_in(export: Callable[..., JsonLinesExporter]) -> None:
    """Calls, durations and gauges have their kind, their labels that have a value, and numbers."""
    lines: list[str] = []
    exporter = export(lines.append, allowed_props=["topic"], buckets=[10, 20])
    set_trace_function(exporter)
    tracer = Tracer("object", {"topic": "birds"})
    with tracer.span("dial"):
        assert exporter.flush()
    with tracer.span("dial"):
        pass
    assert exporter.flush()
    assert exporter.flush()
    labels = {
        "object_classname": "object",
        "caller_functionname": "test_a_line_says_what_came_in",
        "id": "dial",
        "object_props_topic": "birds",
    }
    found = [points(line, "function_in_progress") for line in lines]
    labels["caller_filename"] = found[0][0]["labels"]["caller_filename"]
    assert Path(labels["caller_filename"]).name == Path(__file__).name
    expected = [[{"kind": "gauge", "labels": labels, "value": value}] for value in (1, 0, 0)]
    assert found == expected
    counts = [points(line, "function_counter_total") for line in lines]
    assert counts == [[], [{"kind": "counter", "labels": labels, "value": 2}], []]
    (duration,) = points(lines[1], "function_duration_seconds")
    assert 0 < duration.pop("sum") < SOON
    assert duration == {
        "kind": "histogram",
        "unit": "seconds",
        "labels": {**labels, "result": "ok"},
        "count": 2,
        "buckets": [[10, 2], [20, 0], [None, 0]],
    }


def test_a_line_says_whose_it_is(export: Callable[..., JsonLinesExporter]) -> None:
    """A line has its time, its process, when that started to export, and a number from 1."""
    lines: list[str] = []
    exporter = export(lines.append)
    assert exporter.flush()
    assert exporter.flush()
    first, second = map(json.loads, lines)
    assert first["pid"] == second["pid"] == os.getpid()
    assert first["started"] == second["started"] <= first["time"] <= second["time"]
    assert (first["sequence"], second["sequence"]) == (1, 2)


def test_the_health_of_the_counting_is_in_each_line(
    export: Callable[..., JsonLinesExporter],
) -> None:
    """How many series are held, and which version counts, is in each line."""
    lines: list[str] = []
    exporter = export(lines.append, max_series=7)
    assert exporter.flush()
    (limit, *_) = points(lines[0], "hypertrace_series_limit")
    assert limit["value"] == 7
    (build,) = points(lines[0], "hypertrace_build_info")
    assert build["labels"]["version"] == hypertrace.__version__


def test_the_labels_of_the_process_are_in_each_line_once(
    export: Callable[..., JsonLinesExporter],
) -> None:
    """Beside the points, and not in each of them; without labels there is no such key."""
    lines: list[str] = []
    exporter = export(lines.append, labels={"service": "shop", "version": "1.4"})
    exporter(EVENT)
    for _ in range(2):
        assert exporter.flush()
        assert json.loads(lines[-1])["labels"] == {"service": "shop", "version": "1.4"}
    assert lines[0].count('"shop"') == 1
    assert "labels" not in json.loads(encode(Reading(1.5)))


def reading_of(value: Any, label: str = "x", kind: Kind = "gauge") -> Reading:
    """Give a reading with one series."""
    declaration = Declaration(kind, "depth", description="", labels=("queue",))
    return Reading(1.5, [Family(declaration, ("queue",), [Series(((label,), ()))], [value])])


def test_a_summary_has_quantiles() -> None:
    """Each with its value, which is null where there was none."""
    reading = reading_of(SummaryReading(3, 4.5, {0.5: 1.25, 0.9: math.nan}, {}), kind="summary")
    assert points(encode(reading), "depth") == [
        {
            "kind": "summary",
            "labels": {"queue": "x"},
            "count": 3,
            "sum": 4.5,
            "quantiles": [[0.5, 1.25], [0.9, None]],
        }
    ]


def test_a_native_histogram_has_the_buckets_that_are_not_empty() -> None:
    """By their index, in order, with what its limits follow from."""
    value = ExponentialReading(3, 0.001, 2, {9: 1, -4: 5}, {0: 2}, 4.5, {})
    (point,) = points(encode(reading_of(value, kind="histogram")), "depth")
    assert point == {
        "kind": "histogram",
        "labels": {"queue": "x"},
        "count": 10,
        "sum": 4.5,
        "schema": 3,
        "zero": [0.001, 2],
        "positive": [[-4, 5], [9, 1]],
        "negative": [[0, 2]],
    }


@pytest.mark.parametrize(("value", "shown"), [(math.nan, None), (math.inf, None), (-0.5, -0.5)])
def test_numbers_that_json_has_not_are_null(value: float, shown: float | None) -> None:
    """What is no number, or infinite, is null, so that every line is JSON."""
    (point,) = points(encode(reading_of(value)), "depth")
    assert point == {"kind": "gauge", "labels": {"queue": "x"}, "value": shown}


@pytest.mark.parametrize("label", ["\ud800", "\u2028\x85\n\r", '"\\', "\0", "å🐦"])
def test_a_line_is_one_line_of_ascii(label: str) -> None:
    """Whatever text is in a label, the line is ASCII without a line break, and gives it back."""
    line = encode(reading_of(1, label))
    assert line.isascii()
    assert len(line.splitlines()) == 1
    assert points(line, "depth")[0]["labels"] == {"queue": label}


def test_a_path_is_appended_to(
    export: Callable[..., JsonLinesExporter], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Lines go to the end of a file; what stands there stays, and a rotated file is made again."""
    monkeypatch.chdir(tmp_path)
    path = Path("lines")
    path.write_text("{}\n")
    exporter = export(path)
    monkeypatch.chdir("/")
    path = tmp_path / path
    exporter(EVENT)
    assert exporter.flush()
    path.rename(tmp_path / "rotated")
    exporter(EVENT)
    assert exporter.flush()
    first, second = lines_of(tmp_path / "rotated")
    assert (first, calls(second)) == ({}, 1)
    assert [calls(line) for line in lines_of(path)] == [1]


def test_a_path_that_cannot_be_opened_is_an_error(tmp_path: Path) -> None:
    """A folder, and a file in a folder that is not there, raise in the constructor."""
    for path in (tmp_path, tmp_path / "missing" / "lines", str(tmp_path / "missing" / "lines")):
        with pytest.raises(OSError, match=tmp_path.name):
            JsonLinesExporter(path)
    assert exporter_threads() == []


def test_half_a_line_does_not_spoil_the_next(
    export: Callable[..., JsonLinesExporter], tmp_path: Path
) -> None:
    """After half a line, as of a process that was killed, the next one is on a new line."""
    path = tmp_path / "lines"
    path.write_text('{"time":1')
    exporter = export(path)
    assert exporter.flush()
    assert exporter.flush()
    half, first, second = path.read_text().splitlines()
    assert half == '{"time":1'
    assert [json.loads(line)["sequence"] for line in (first, second)] == [1, 2]


NO_ROOM = """
import logging, resource, sys
from pathlib import Path
from hypertrace import Caller, TracedObject, TraceEvent
from hypertrace.exporters.json_lines import JsonLinesExporter

logging.disable()
path = Path(sys.argv[1])
event = TraceEvent("dial", TracedObject("Swarm", 1), None, Caller("f", "app.py", "app", 1, 1))
exporter = JsonLinesExporter(path, interval=3600)
exporter(event)
exporter.flush()
size = path.stat().st_size
_, most = resource.getrlimit(resource.RLIMIT_FSIZE)
for room in (0, 1, 50):
    exporter(event)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size + room, most))
    assert not exporter.flush()
    assert path.stat().st_size == size
resource.setrlimit(resource.RLIMIT_FSIZE, (most, most))
assert exporter.flush()
assert exporter.failures == 3
"""


@pytest.mark.skipif(sys.platform == "win32", reason="Windows does not limit files")
def test_a_file_without_room_has_no_half_line(tmp_path: Path) -> None:
    """What is written of a line that has no room is taken back; it comes when there is room."""
    path = tmp_path / "lines"
    where = str(Path(hypertrace.__file__).parent.parent)
    subprocess.run(
        [sys.executable, "-c", NO_ROOM, path],
        env={**os.environ, "PYTHONPATH": where, "COVERAGE_PROCESS_START": ""},
        check=True,
        timeout=60,
    )
    lines = lines_of(path)[:2]
    assert [(line["sequence"], calls(line)) for line in lines] == [(1, 1), (2, 3)]


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no named pipes")
def test_a_named_pipe_gets_lines(export: Callable[..., JsonLinesExporter], tmp_path: Path) -> None:
    """A pipe with a reader gets whole lines, however long; one without is an error at once."""
    path = tmp_path / "pipe"
    os.mkfifo(path)
    with pytest.raises(OSError, match="pipe"):
        JsonLinesExporter(path)
    got: list[str] = []
    descriptor = os.open(path, os.O_RDWR)  # to write, too, so that it does not end in between
    exporter = export(path)
    for number in range(2_000):  # more than a pipe holds
        exporter(TraceEvent(str(number), EVENT.object, None, CALLER))
    with open(descriptor) as reader:  # noqa: PTH123 -- no path
        thread = threading.Thread(target=lambda: got.append(reader.readline()))
        thread.start()
        assert exporter.flush(SOON)
        thread.join(SOON)
        exporter.stop()
    assert calls(got[0]) == 2_000


def test_a_file_is_flushed(export: Callable[..., JsonLinesExporter], tmp_path: Path) -> None:
    """An open text file, in whatever encoding, has each line as soon as it is written."""
    path = tmp_path / "lines"
    with path.open("w", encoding="cp037") as file:
        exporter = export(file, allowed_props=["topic"])
        set_trace_function(exporter)
        Tracer("object").trace(topic="å")
        assert exporter.flush()
        assert calls(path.read_text(encoding="cp037")) == 1
        exporter.stop()


@pytest.mark.parametrize("mode", ["wb", "ab", "r+b", "rb"])
def test_a_file_of_bytes_is_refused(tmp_path: Path, mode: str) -> None:
    """A file that takes bytes is an error, that says what to do."""
    path = tmp_path / "lines"
    path.touch()
    with path.open(mode) as file, pytest.raises(TypeError, match="open it as text"):
        JsonLinesExporter(file)


def test_a_file_to_read_is_refused(tmp_path: Path) -> None:
    """A file that is open for reading is an error."""
    path = tmp_path / "lines"
    path.touch()
    with path.open() as file, pytest.raises(ValueError, match="must be open for writing"):
        JsonLinesExporter(file)


class Writer:
    """Something that has `write`, and no more."""

    def __init__(self) -> None:
        self.text = ""

    def write(self, text: str) -> None:
        self.text += text


@pytest.mark.parametrize("make", [Writer, io.StringIO])
def test_anything_with_write_gets_lines(
    export: Callable[..., JsonLinesExporter], make: type[Any]
) -> None:
    """What is no file, but can be written to, gets lines with line breaks."""
    to = make()
    exporter = export(to)
    exporter(EVENT)
    assert exporter.flush()
    assert exporter.flush()
    text = to.text if isinstance(to, Writer) else to.getvalue()
    assert [calls(line) for line in text.splitlines()] == [1, 0]
    assert text.endswith("\n")


@pytest.mark.parametrize("wrap", [lambda logger: logger, logging.LoggerAdapter])
def test_a_logger_gets_lines_at_info(
    export: Callable[..., JsonLinesExporter],
    caplog: pytest.LogCaptureFixture,
    wrap: Callable[[logging.Logger], Any],
) -> None:
    """A logger, or an adapter of one, logs each line at INFO, also one with a `%` in it."""
    caplog.set_level(logging.INFO)
    exporter = export(wrap(logging.getLogger("shop.metrics")))
    exporter(TraceEvent("100 %s", EVENT.object, None, CALLER))
    assert exporter.flush()
    (record,) = caplog.records
    assert (record.name, record.levelname) == ("shop.metrics", "INFO")
    (point,) = points(record.getMessage(), "function_counter_total")
    assert point["labels"]["id"] == "100 %s"


class LazyLogger:
    """A logger like those of structlog: what it does is settled when it is used."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.is_configured = False

    def __getattr__(self, name: str) -> Any:
        if name != "info":
            raise AttributeError(name)
        return self.lines.append if self.is_configured else lambda _: None


def test_a_logger_may_be_configured_later(export: Callable[..., JsonLinesExporter]) -> None:
    """A lazy logger gets lines as it is configured when they are written."""
    logger = LazyLogger()
    exporter = export(logger)
    logger.is_configured = True
    exporter(EVENT)
    assert exporter.flush()
    assert [calls(line) for line in logger.lines] == [1]


async def coroutine_function(line: str) -> None:
    """Write a line some time."""


class Awaited:
    """Something whose methods have to be awaited."""

    async def __call__(self, line: str) -> None:
        """Write a line some time."""

    write = info = __call__


def generator_function(line: str) -> Iterator[str]:
    """Give a line to a caller that iterates."""
    yield line


@pytest.mark.parametrize(
    "to", [None, 1, b"lines", object(), coroutine_function, Awaited(), generator_function]
)
def test_what_takes_no_lines_is_refused(to: object) -> None:
    """What is no path, file, logger or function, or is to be awaited, is an error."""
    with pytest.raises(TypeError, match="to must be a path, a text file"):
        JsonLinesExporter(to)
    assert exporter_threads() == []


@pytest.mark.parametrize("to", [list, io.StringIO])
def test_a_class_is_refused(to: type) -> None:
    """A class is no function of a line, and no file either: its objects may be."""
    with pytest.raises(TypeError, match=f"{to.__name__} is a class: make one of it"):
        JsonLinesExporter(to)
    assert exporter_threads() == []


def test_a_line_that_failed_too_late_is_known_by_its_number(
    export: Callable[..., JsonLinesExporter],
) -> None:
    """Of lines with the same process, start and sequence, the last one has all that counts."""
    lines: list[str] = []

    def write(line: str) -> None:
        lines.append(line)
        if len(lines) in {2, 3}:
            raise OSError("written, but who knows")

    exporter = export(write)
    results = []
    for _ in range(5):
        exporter(EVENT)
        results.append(exporter.flush())
    assert results == [True, False, False, True, True]
    numbered = {}
    for line in map(json.loads, lines):
        numbered[line["pid"], line["started"], line["sequence"]] = line
    assert [calls(line) for line in numbered.values()] == [1, 3, 1]


def test_it_reads_metrics_that_it_is_given(export: Callable[..., JsonLinesExporter]) -> None:
    """An exporter of given metrics writes what others count in them."""
    metrics = Metrics()
    lines: list[str] = []
    exporter = export(lines.append, metrics=metrics)
    metrics(EVENT)
    assert exporter.flush()
    assert calls(lines[0]) == 1
    with pytest.raises(ValueError, match="metrics together with max_series"):
        JsonLinesExporter(lines.append, metrics=metrics, max_series=5)


def test_it_needs_no_other_package() -> None:
    """Importing the exporter loads the standard library and `hypertrace`, and no more."""
    program = "import sys; import hypertrace.exporters.json_lines; print(*sys.modules)"
    where = str(Path(hypertrace.__file__).parent.parent)
    loaded = subprocess.run(
        [sys.executable, "-S", "-c", program],
        env={**os.environ, "PYTHONPATH": where},
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    ).stdout.split()
    packages = {name.partition(".")[0] for name in loaded}
    assert "hypertrace" in packages
    assert packages & {"hypertrace_prometheus", "prometheus_client", "werkzeug", "wrapt"} == set()


class Shop:
    """Something that is traced."""

    def __init__(self) -> None:
        self.tracer = Tracer(self)

    def order(self, times: int = 1, **props: Any) -> None:
        for _ in range(times):
            self.tracer.trace("card", **props)


def events_in(lines: list[str]) -> list[dict[str, Any]]:
    """Give the lines of events."""
    return [line for line in map(json.loads, lines) if "event" in line]


def missing(lines: list[str]) -> list[int]:
    """Give the numbers that one session has no line of, as docs/json_lines.md has it."""
    numbers = {json.loads(line)["sequence"] for line in lines}
    return sorted(set(range(1, max(numbers) + 1)) - numbers)


def test_an_event_has_a_line(export: Callable[..., JsonLinesExporter]) -> None:
    """With its time, its value and its tags, each with its type; before that of the reading."""
    lines: list[str] = []
    orders = Counter("orders_total", of="Shop.*", tags=["channel", "amount", "paid", "none"])
    exporter = export(lines.append, events=[orders], labels={"service": "shop"})
    set_trace_function(exporter)
    time = 1_764_469_463_000_000_001
    Shop().order(channel="å\n", amount=2.5, paid=True, api_key="4bf9", timestamp=time)
    assert exporter.flush()
    assert [json.loads(line)["sequence"] for line in lines] == [1, 2]
    (session,) = {json.loads(line)["session"] for line in lines}
    assert list(json.loads(lines[0]).items()) == [
        ("timestamp", "2025-11-30T02:24:23.000000001Z"),
        ("level", "info"),
        ("event", "orders_total"),
        ("value", 1),
        ("channel", "å\n"),
        ("amount", 2.5),
        ("paid", True),
        ("labels", {"service": "shop"}),
        ("pid", os.getpid()),
        ("session", session),
        ("sequence", 1),
    ]
    assert "4bf9" not in "".join(lines)
    assert calls(lines[1]) == 1


def test_only_allowed_props_are_in_lines(export: Callable[..., JsonLinesExporter]) -> None:
    """Also of events that a pattern selects."""
    lines: list[str] = []
    exporter = export(lines.append, events=["Shop.*"], allowed_props=["amount"])
    set_trace_function(exporter)
    Shop().order(channel="web", amount=2, password="4bf9")
    assert exporter.flush()
    (event,) = events_in(lines)
    assert (event["event"], event["id"], event["caller_props_amount"]) == ("Shop.order", "card", 2)
    assert "web" not in lines[0]
    assert "4bf9" not in lines[0]


def test_a_tag_is_never_another_key() -> None:
    """One that is called like a key has a `_` behind its name."""
    tags: dict[str, str | float] = {
        "event": "a",
        "event_": "b",
        "sequence": 3,
        "value__": 1,
        "value": 2,
    }
    line = json.loads(encode_event(EventPoint("Shop.order", 0, 7.5, tags, 4), {"pid": 1}))
    assert line == {
        "timestamp": "1970-01-01T00:00:00.000000000Z",
        "level": "info",
        "event": "Shop.order",
        "value": 7.5,
        "event__": "a",
        "event_": "b",
        "sequence_": 3,
        "value__": 1,
        "value_": 2,
        "pid": 1,
        "sequence": 4,
    }


@given(
    st.integers(-(2**63) + 1, 2**63 - 1),
    st.dictionaries(
        st.text(min_size=1), st.one_of(st.text(), st.booleans(), st.integers(), st.floats(0, 1))
    ),
)
def test_any_event_is_one_line_that_gives_it_back(time: int, tags: dict[str, Any]) -> None:
    """ASCII, without a line break, and with the nanoseconds of its time."""
    line = encode_event(EventPoint("Shop.order", time, 1, tags, 1), {})
    assert line.isascii()
    assert len(line.splitlines()) == 1
    found = json.loads(line)
    assert len(found) == len(tags) + 5
    assert tags.items() <= {**found, **{k: found.get(f"{k}_") for k in tags if k in _KEYS}}.items()
    seconds = datetime.fromisoformat(found["timestamp"][:19] + "+00:00") - datetime(
        1970, 1, 1, tzinfo=UTC
    )
    nanoseconds = int(found["timestamp"][20:29])
    assert seconds // timedelta(seconds=1) * 1_000_000_000 + nanoseconds == time


def test_a_line_has_the_keys_of_other_structured_logs(
    export: Callable[..., JsonLinesExporter], capsys: pytest.CaptureFixture[str]
) -> None:
    """Of structlog as it is documented, and of python-json-logger as docs/json_lines.md has it."""
    processors = structlog.processors
    structlog.wrap_logger(
        structlog.PrintLogger(sys.stdout),
        processors=[
            processors.add_log_level,
            processors.TimeStamper(fmt="iso"),
            processors.JSONRenderer(),
        ],
    ).info("login")
    record = logging.makeLogRecord({"levelname": "INFO", "msg": "login"})
    renamed = {"levelname": "level", "message": "event"}
    formatter = JsonFormatter(
        "{levelname}{message}", style="{", rename_fields=renamed, timestamp=True
    )
    sys.stdout.write(f"{formatter.format(record)}\n")
    exporter = export(sys.stdout, events=["Shop.*"])
    set_trace_function(exporter)
    Shop().order()
    assert exporter.flush()
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()[:3]]
    assert all({"timestamp", "level", "event"} <= line.keys() for line in lines)
    assert {line["level"].lower() for line in lines} == {"info"}
    times = [datetime.fromisoformat(line["timestamp"]) for line in lines]
    assert max(times) - min(times) < timedelta(seconds=SOON)


def test_each_gap_is_found(export: Callable[..., JsonLinesExporter]) -> None:
    """Events that had no room, and lines that were lost on their way, are missing numbers."""
    lines: list[str] = []
    entered, released = threading.Event(), threading.Event()

    def write(line: str) -> None:
        entered.set()
        assert released.wait(SOON)
        lines.append(line)

    exporter = export(write, events=["Shop.*"], max_events=10)
    set_trace_function(exporter)
    shop = Shop()
    shop.order(5)
    assert entered.wait(SOON)
    shop.order(9)  # four of them have no room
    released.set()
    assert exporter.flush(SOON)
    shop.order()
    assert exporter.flush()
    exporter.stop()
    assert exporter.dropped_events == 4
    assert missing(lines) == [11, 12, 13, 14]
    for lost in range(len(lines) - 1):
        number = json.loads(lines[lost])["sequence"]
        assert missing(lines[:lost] + lines[lost + 1 :]) == sorted([11, 12, 13, 14, number])


def test_a_line_that_was_written_is_not_written_again(
    export: Callable[..., JsonLinesExporter],
) -> None:
    """The next attempt begins with the line that failed."""
    lines: list[str] = []
    failing = [False, False, True]

    def write(line: str) -> None:
        if failing and failing.pop(0):
            raise OSError("no room")
        lines.append(line)

    exporter = export(write, events=["Shop.*"])
    set_trace_function(exporter)
    Shop().order(5)
    assert not exporter.flush()
    assert exporter.flush()
    assert [event["sequence"] for event in events_in(lines)] == [1, 2, 3, 4, 5]
    assert missing(lines) == []


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no such device")
def test_a_full_disk_loses_nothing(
    export: Callable[..., JsonLinesExporter], tmp_path: Path
) -> None:
    """The application goes on; when there is room, all events and counts come."""
    path = tmp_path / "lines"
    path.symlink_to("/dev/full")
    exporter = export(path, events=["Shop.*"])
    set_trace_function(exporter)
    shop = Shop()
    for number in range(1, 4):
        shop.order(10)
        assert not exporter.flush()
        assert exporter.failures == number
    path.unlink()
    assert exporter.flush()
    lines = path.read_text().splitlines()
    assert len(events_in(lines)) == 30
    assert calls(lines[-1]) == 30
    assert missing(lines) == []
