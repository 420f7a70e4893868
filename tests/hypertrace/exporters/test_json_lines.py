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
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

import hypertrace
from hypertrace import Caller, TracedObject, TraceEvent, Tracer, set_trace_function
from hypertrace.exporters.json_lines import JsonLinesExporter, encode
from hypertrace.metrics import ExponentialReading, Metrics, Reading, SummaryReading
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
