"""Messages of DogStatsD: what receivers make of events and service checks, whatever is in them."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hypertrace.exporters.statsd import messages
from hypertrace.exporters.statsd.datadog import Environment
from hypertrace.exporters.statsd.messages import Messages
from hypertrace.metrics import EventPoint

from ....hostile_values import GivesNoStr, HostileStr, Liar
from .parsers import Check, Event, parse

if TYPE_CHECKING:
    from collections.abc import Iterator

EVENT: dict[str, Any] = {
    "alert_type": "info",
    "priority": "normal",
    "tags": None,
    "aggregation_key": "",
    "source_type_name": "",
    "hostname": "",
    "date_happened": 1_700_000_000.5,
}
CHECK: dict[str, Any] = {"message": "", "tags": None, "hostname": "", "timestamp": 1_700_000_000}
NOW = "1700000000"


@pytest.fixture(autouse=True)
def _report_again() -> Iterator[None]:
    """Let each test log what others have logged already."""
    messages._report.cache_clear()
    yield
    messages._report.cache_clear()


def event(title: object, text: object = "", limit: int = 8192, **fields: Any) -> Event:
    """Give what a receiver makes of an event."""
    line = Messages({}, Environment(), limit).event(title, text, **{**EVENT, **fields})
    (found,) = parse(line)
    assert isinstance(found, Event)
    assert len(line) <= limit
    return found


def check(name: object, status: object, limit: int = 8192, **fields: Any) -> Check:
    """Give what a receiver makes of a service check."""
    line = Messages({}, Environment(), limit).service_check(name, status, **{**CHECK, **fields})
    (found,) = parse(line)
    assert isinstance(found, Check)
    assert len(line) <= limit
    return found


def test_the_line_of_an_event() -> None:
    """As the protocol has it: lengths in bytes, and the fields that have a value."""
    messages = Messages({"service": "shop"}, Environment({"env": "prod"}, "|c:in-7"), 1432)
    line = messages.event(
        "Größe",
        "one\ntwo|three",
        **{**EVENT, "tags": {"team": "a b", "none": None}, "aggregation_key": "k", "hostname": "h"},
    )
    assert line.decode() == (
        "_e{7,14}:Größe|one\\ntwo|three|d:1700000000|h:h|k:k|p:normal|t:info"
        "|#env:prod,service:shop,team:a_b|c:in-7"
    )


def test_the_line_of_a_service_check() -> None:
    """The message is last; what would end it, or be taken for another, is replaced."""
    messages = Messages({"service": "shop"}, Environment({}, "|c:in-7"), 1432)
    line = messages.service_check(
        "shop.database", "critical", **{**CHECK, "tags": ["urgent"], "message": "a\nm:b|#c:d"}
    )
    assert line.decode() == (
        "_sc|shop.database|2|d:1700000000|#service:shop,urgent|c:in-7|m:a\\nm\\:b_#c:d"
    )


@pytest.mark.parametrize(
    ("status", "found"),
    [
        ("ok", "ok"),
        ("warning", "warning"),
        *((0, "ok"), (1, "warning"), (2, "critical"), (3, "unknown")),
        *((4, "unknown"), (-1, "unknown"), (True, "unknown"), ("down", "unknown")),
        (None, "unknown"),
    ],
)
def test_a_status_is_a_name_or_its_number(status: object, found: str) -> None:
    """Any other is unknown."""
    assert check("c", status).status == found


def test_a_status_that_is_none_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    """The line says what is sent, and what there is."""
    check("c", "down")
    check("c", "down")
    (record,) = caplog.records
    assert record.getMessage() == (
        "The status 'down' of a service check is sent as 'unknown': use 'ok', 'warning', "
        "'critical', 'unknown', or 0 to 3"
    )


def test_tags_are_a_mapping_or_a_list() -> None:
    """Given ones win over those of the process."""
    messages = Messages({"service": "shop", "env": "x"}, Environment(), 1432)
    for tags in ({"team": 1, "env": "prod"}, ["team:1", "env:prod"]):
        (found,) = parse(messages.event("t", "", **{**EVENT, "tags": tags}))
        assert found.tags == ["service:shop", "env:prod", "team:1"]
    assert event("t", tags="urgent").tags == ["urgent"]
    assert event("t", tags=[":x", "a:b:c"]).tags == ["a:b_c"]


def test_what_has_no_meaning_is_left_out_and_logged_once(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """The event is sent without it."""
    with caplog.at_level(logging.WARNING):
        for _ in range(2):
            wrong = event("t", alert_type="bad", priority=3, tags=5, date_happened="soon")
            assert wrong.fields.keys() == {"d"}
            assert wrong.tags == []
    texts = [record.getMessage() for record in caplog.records]
    assert texts == [
        "A message of DogStatsD goes without its time, which is str: use seconds since the epoch",
        "A message of DogStatsD goes without its priority, which is '3': use 'normal', 'low'",
        (
            "A message of DogStatsD goes without its alert_type, which is 'bad': use 'error', "
            "'warning', 'info', 'success'"
        ),
        (
            "A message of DogStatsD goes without its tags, which is int: use a mapping, or a list "
            "as ['team:shop']"
        ),
    ]


@pytest.mark.parametrize("time", [-1, 1e300, float("nan"), 10**400, "x", object()])
def test_a_time_that_is_none_is_now(time: object) -> None:
    """An agent would refuse it."""
    assert int(event("t", date_happened=time).fields["d"]) > 1_700_000_000


def test_any_value_becomes_text() -> None:
    """No code of the application can raise, or say that it is a text."""
    for value in (GivesNoStr(), Liar(), HostileStr("x"), 7, None, b"x", "\ud800"):
        event(value, value, hostname=value, tags={"a": value}, aggregation_key=value)
        event("t", tags=[value], alert_type=value, priority=value, date_happened=value)
        check(value, value, message=value, tags=[value], timestamp=value)


def test_an_event_without_a_title_has_one() -> None:
    """An agent refuses those that have none."""
    assert event("").title == "event"


@pytest.mark.parametrize("limit", [1432, 8192])
@pytest.mark.parametrize("character", ["a", "å", "🐦", "\n"])
def test_long_texts_are_cut(character: str, limit: int) -> None:
    """Title and text end in an ellipsis, with whole characters, and as much as there is room."""
    found = event(character * 200, character * 9_000, limit)
    assert found.title == character * 100
    assert found.text.endswith("…")
    assert set(found.text[:-1]) == {character}
    sent = found.text.replace("\n", "\\n").encode()
    assert limit - 520 < len(sent) < limit
    message = check("c", 0, limit, message=character * 9_000).fields["m"]
    assert message.endswith("…")
    assert limit - 50 < len(message.encode()) < limit


def test_tags_that_do_not_fit_are_left_out() -> None:
    """Half of the packet is for them; the text has the rest."""
    tags = {f"tag{number}": "x" * 100 for number in range(100)} | {"last": "1"}
    found = event("t", "y" * 9_000, 1432, tags=tags)
    assert found.tags == [f"tag{number}:{'x' * 100}" for number in range(6)] + ["last:1"]
    assert len(found.text) > 600


HOSTILE = st.text(
    alphabet=st.one_of(
        st.characters(), st.sampled_from("\n\r\0:|@#,;={}\\nm_ .\u010a\u2028\x85🐦\ud800")
    )
)


@given(title=HOSTILE, text=HOSTILE, name=HOSTILE, value=HOSTILE, field=HOSTILE, label=HOSTILE)
def test_no_text_of_an_event_breaks_it(
    title: str, text: str, name: str, value: str, field: str, label: str
) -> None:
    """One line, whose title and text are those given, and whose fields are those that it has."""
    messages = Messages({"service": label}, Environment({"env": label}, "|c:in-7"), 8192)
    line = messages.event(
        title,
        text,
        **{
            **EVENT,
            "tags": {name: value},
            "hostname": field,
            "aggregation_key": field,
            "source_type_name": field,
        },
    )
    (found,) = parse(line)
    assert isinstance(found, Event)
    assert found.title == shown(title[:100]) or not title
    assert found.text == shown(text)
    assert found.fields.keys() <= set("dhkpstc")
    assert (found.fields["d"], found.fields["t"], found.fields["c"]) == (NOW, "info", "in-7")
    assert len(found.tags) <= 3
    assert all(tag.count(":") <= 1 for tag in found.tags)


@given(name=HOSTILE, message=HOSTILE, tag=HOSTILE, value=HOSTILE)
def test_no_text_of_a_service_check_breaks_it(
    name: str, message: str, tag: str, value: str
) -> None:
    """Neither its name nor its message can have other fields, tags or lines in it."""
    found = check(name, "warning", tags={tag: value}, message=message, hostname=value)
    assert found.status == "warning"
    assert found.fields.keys() <= set("dhm")
    said = found.fields.get("m", "")
    assert said.replace(r"m\:", "m:").replace("\\n", "\n") == shown(message.replace("|", "_"))
    assert len(found.tags) == (tag != "" and value != "")


def shown(text: str) -> str:
    """Give a text as it is shown: with line breaks that are all alike, and no half characters."""
    whole = text.encode("utf-8", "backslashreplace").decode()
    return whole.replace("\r\n", "\n").replace("\r", "\n").replace("\\n", "\n")


@pytest.mark.parametrize(
    ("result", "alert_type"), [("ok", "info"), ("error", "error"), ("cancelled", "warning")]
)
def test_a_traced_event_says_what_is_known_of_it(result: str, alert_type: str) -> None:
    """All as text; texts are tags, too."""
    tags: dict[str, str | float] = {
        "caller_functionname": "pay",
        "result": result,
        "duration": 0.25,
    }
    point = EventPoint("Checkout.pay", 1_700_000_000_999_999_999, 1, tags)
    (found,) = parse(Messages({}, Environment(), 1432).of_point(point))
    assert found == Event(
        "Checkout.pay",
        f"caller_functionname: pay\nresult: {result}\nduration: 0.25",
        ["caller_functionname:pay", f"result:{result}"],
        {"d": NOW, "k": "Checkout.pay", "p": "normal", "t": alert_type},
    )


def test_the_number_of_a_declared_metric_is_said_first() -> None:
    """That of a counter is always 1."""
    point = EventPoint("paid_total", 1_700_000_000 * 10**9, 9.5, {"shop": "a"})
    (found,) = parse(Messages({}, Environment(), 1432).of_point(point))
    assert isinstance(found, Event)
    assert found.text == "value: 9.5\nshop: a"
