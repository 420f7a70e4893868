"""Lines of events: tags, fields with their types, and times that are never taken twice."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from line_protocol_parser import parse_line

from hypertrace.exporters.influx import event_lines
from hypertrace.exporters.influx.event_lines import SECOND, EventLines, Times
from hypertrace.metrics import EventPoint

from .test_lines import HOSTILE, documented

LARGEST = 2**63 - 1
RESERVED = {"time", "time_", "_field", "_field_", "_measurement", "_measurement_"}


def line_of(
    name: str = "orders_total",
    tags: dict[str, Any] | None = None,
    *,
    value: float = 1,
    time: int = 17,
    prefix: str = "",
    labels: dict[str, str] | None = None,
    unit: int = SECOND,
) -> str:
    """Give the line of one event."""
    lines = EventLines(prefix, labels or {}, unit)
    (line,) = lines.encode([EventPoint(name, time, value, tags or {}, 1)])
    return line


def test_numbers_are_fields_and_texts_are_tags() -> None:
    """Whole numbers are floats, too, as a later one may have a fraction."""
    tags = {"host": "api", "status": 200, "connect": 0.5, "cached": True}
    assert line_of("response", tags, value=1.5, prefix="shop.") == (
        "shop.response,host=api val=1.5,status=200.0,connect=0.5,cached=true 17\n"
    )
    assert line_of() == "orders_total val=1i 17\n"


def test_labels_of_the_process_are_tags() -> None:
    """One of the event wins over one of them, also as a field."""
    labels = {"service": "shop", "host": "web-1", "empty": ""}
    assert line_of(tags={"host": "api"}, labels=labels) == (
        "orders_total,service=shop,host=api val=1i 17\n"
    )


def test_names_that_are_taken_are_others() -> None:
    """InfluxDB reserves some, and `val` is the value."""
    tags = {"time": 1, "val": 2, "_field": "x"}
    assert line_of(tags=tags) == "orders_total,_field_=x val=1i,time_=1.0,val_=2.0 17\n"


@pytest.mark.parametrize(
    ("unit", "shown"), [(SECOND, 1_500_000_001), (1_000_000, 1_500_000), (1_000, 1_500), (1, 1)]
)
def test_a_time_has_the_precision(unit: int, shown: int) -> None:
    """Without the rest."""
    assert line_of(time=1_500_000_001, unit=unit).endswith(f" {shown}\n")


def test_no_line_is_a_comment() -> None:
    """A class may be called like one."""
    assert line_of("#Cart.pay") == "_Cart.pay val=1i 17\n"


@given(
    HOSTILE.filter(bool),
    st.dictionaries(
        HOSTILE.filter(bool),
        st.one_of(
            HOSTILE.filter(bool),
            st.booleans(),
            st.integers(-LARGEST, LARGEST),
            st.floats(allow_nan=False, allow_infinity=False, allow_subnormal=False),
        ),
        max_size=4,
    ),
    st.integers(-LARGEST + 1, LARGEST - 1),
)
@example("#", {"a": "\\"}, 0)
@example("\\", {"\n": 1}, -1)
def test_any_event_comes_back(name: str, tags: dict[str, Any], time: int) -> None:
    """An independent parser finds one point, with each tag and field."""
    line = line_of(name, tags, time=time)
    assert line.count("\n") == 1
    found = parse_line(line)
    expected = documented(f"_{name[1:]}" if name.startswith("#") else name)
    assert (found["measurement"], found["time"]) == (expected, time)
    keys = Counter(map(documented, tags))
    for key, value in tags.items():
        shown = documented(key)
        if keys[shown] == 1 and shown not in {"val", "val_", *RESERVED}:
            part = found["tags"] if isinstance(value, str) else found["fields"]
            assert part[shown] == (documented(value) if isinstance(value, str) else float(value))
    assert found["fields"]["val"] == 1


@given(st.lists(st.tuples(st.sampled_from("ab"), st.integers(0, 5))))
def test_no_point_replaces_another(points: list[tuple[str, int]]) -> None:
    """Each has its time, or the next that is free in its series."""
    times = Times()
    free = [(series, times.free(series, time)) for series, time in points]
    assert len(set(free)) == len(points)
    for at, (series, time) in enumerate(points):
        taken = {found for other, found in free[:at] if other == series}
        expected = next(time + later for later in range(len(points)) if time + later not in taken)
        assert free[at] == (series, expected)


def test_many_points_of_one_time_are_no_long_search(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nor do they take memory for ever."""
    monkeypatch.setattr(event_lines, "_MOST_TIMES", 1_000)
    times = Times()
    found = [times.free("a", 0) for _ in range(20_000)]
    assert found == list(range(20_000))
    assert len(times._next) <= 1_000
