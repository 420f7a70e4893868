"""Console: lines that people read, on a terminal and elsewhere."""

from __future__ import annotations

import io
import re
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hypertrace import Tracer, set_trace_function
from hypertrace.exporters.console import ConsoleExporter, Look
from hypertrace.metrics import Counter, Distribution, EventPoint, LastValue

from .recording import NEVER, exporter_threads, until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

PLAIN = Look(has_colours=False, encoding="utf-8")


class Terminal(io.StringIO):
    """A file that says that it is a terminal."""

    def isatty(self) -> bool:
        return True


@pytest.fixture
def export(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., ConsoleExporter]]:
    """Give a function that makes an exporter and sets it as trace function."""
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv("TERM", "xterm")
    made: list[ConsoleExporter] = []

    def make(*arguments: object, **settings: Any) -> ConsoleExporter:
        made.append(ConsoleExporter(*arguments, **{"interval": NEVER, **settings}))
        set_trace_function(made[-1])
        return made[-1]

    yield make
    for exporter in made:
        exporter.stop()
    until(lambda: not exporter_threads())


class Shop:
    """Something that is traced."""

    def __init__(self) -> None:
        self.tracer = Tracer(self, {"channel": "web"})

    def order(self, id: str | None = None, **props: Any) -> None:
        self.tracer.trace(id, **props)

    def pay(self, *, fails: bool = False) -> None:
        try:
            with self.tracer.span():
                if fails:
                    raise OSError
        except OSError:
            pass


def without_times(lines: list[str]) -> list[str]:
    """Give lines without the time at their begin, which each must have."""
    matches = [re.fullmatch(r"\d\d:\d\d:\d\d\.\d{3} (.*)", line) for line in lines]
    return [match[1] for match in matches if match]


def test_an_event_is_a_line(export: Callable[..., ConsoleExporter]) -> None:
    """With its function, id, props and, of a span, how long it took and how it ended."""
    lines: list[str] = []
    exporter = export(lines.append, events=["Shop.*"], allowed_props=["channel", "amount"])
    shop = Shop()
    shop.order("card", amount=12.5)
    shop.pay(fails=True)
    assert exporter.flush()
    first, second = without_times(lines)
    assert first == "Shop.order card channel=web amount=12.5"
    took, rest = second.removeprefix("Shop.pay ").split(" channel")
    assert re.fullmatch(r"[\d.]+ (µs|ms|s)", took)
    assert rest == "=web result=error exception=OSError raised=here"


def test_an_event_of_a_declared_metric_has_its_value(
    export: Callable[..., ConsoleExporter],
) -> None:
    """And its tags."""
    lines: list[str] = []
    exporter = export(lines.append, events=[Counter("orders_total", tags=["channel", "paid"])])
    Shop().order(paid=False)
    assert exporter.flush()
    assert without_times(lines) == ["orders_total 1 channel=web paid=false"]


def test_without_events_changes_are_shown(export: Callable[..., ConsoleExporter]) -> None:
    """What was added to a counter, and what a gauge is now; nothing for what did not change."""
    lines: list[str] = []
    exporter = export(
        lines.append,
        allowed_props=["channel"],
        declared=[
            LastValue("depth", of="Shop.order", value="depth"),
            Distribution("sizes", of="Shop.order", value="depth", buckets=[1]),
        ],
    )
    shop = Shop()
    shop.order("card", depth=3)
    shop.order("card", depth=4)
    assert exporter.flush()
    assert without_times(lines) == [
        "function_counter_total Shop.order card +2 channel=web",
        "depth 4",
        "sizes +2 mean 3.5",
    ]
    assert exporter.flush()
    assert len(lines) == 3
    shop.order(depth=5)
    assert exporter.flush()
    assert "depth 5" in without_times(lines)[3:]


@pytest.mark.parametrize(
    ("to", "environment", "has_colours"),
    [
        (Terminal, {}, True),
        (Terminal, {"NO_COLOR": "1"}, False),
        (Terminal, {"TERM": "dumb"}, False),
        (io.StringIO, {}, False),
    ],
)
def test_only_a_terminal_gets_colours(
    export: Callable[..., ConsoleExporter],
    monkeypatch: pytest.MonkeyPatch,
    to: type[io.StringIO],
    environment: dict[str, str],
    has_colours: bool,
) -> None:
    """Unless the environment says not to."""
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    file = to()
    exporter = export(file, events=["*"])
    Shop().pay(fails=True)
    assert exporter.flush()
    text = file.getvalue()
    assert ("\x1b[31mresult=error\x1b[0m" in text) is has_colours
    assert ("\x1b" in text) is has_colours


def test_it_writes_to_stderr_by_default(
    export: Callable[..., ConsoleExporter], capsys: pytest.CaptureFixture[str]
) -> None:
    """As a log does."""
    exporter = export(events=["Shop.*"])
    Shop().order()
    assert exporter.flush()
    assert "Shop.order" in capsys.readouterr().err


@given(st.text(min_size=1), st.dictionaries(st.text(min_size=1), st.text(), max_size=3))
def test_no_value_acts_on_a_terminal(name: str, tags: dict[str, str]) -> None:
    """An event is one line of printable characters, whatever is in it."""
    line = PLAIN.event(EventPoint(name, 0, 1, tags, 1))
    assert line.isprintable()


@pytest.mark.parametrize("encoding", ["ascii", "cp437", "latin-1"])
def test_a_line_can_be_written_in_the_encoding_of_its_file(encoding: str) -> None:
    """What it does not have is an escape."""
    line = Look(has_colours=False, encoding=encoding).event(
        EventPoint("größer.日本", 0, 1, {"a": "\ud800"}, 1)
    )
    line.encode(encoding)


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        ("a b", '"a b"'),
        ("a=b", '"a=b"'),
        ('"', '"\\""'),
        ("\x1b[31m", '"\\u001b[31m"'),
        ("日本", "日本"),
        (True, "true"),
        (3, "3"),
        (0.5, "0.5"),
    ],
)
def test_a_value_is_shown_so_that_it_ends_where_it_ends(value: Any, shown: str) -> None:
    """In quotes where it has spaces or the like."""
    assert PLAIN.event(EventPoint("x", 0, 1, {"a": value}, 1)).endswith(f" x 1 a={shown}")


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [(0.0, "0 s"), (2.5e-7, "0.25 µs"), (0.0042, "4.2 ms"), (61.0, "61 s"), (1.5, "1.5 s")],
)
def test_a_duration_has_a_unit_that_fits(seconds: float, shown: str) -> None:
    """With three digits."""
    point = EventPoint("Shop.pay", 0, 1, {"duration": seconds}, 1)
    assert PLAIN.event(point).endswith(f" Shop.pay {shown}")


def test_it_counts_what_it_shows(export: Callable[..., ConsoleExporter]) -> None:
    """Its health says how many bytes it wrote, with line breaks."""
    written: list[str] = []
    exporter = export(written.append)
    Shop().order()
    assert exporter.flush()
    exporter.stop()
    (sent,) = exporter.forwards_to.read().family("hypertrace_export_bytes_total").values
    assert sent == sum(len(line.encode()) + 1 for line in written) > 0
