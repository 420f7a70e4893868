"""Labels of a whole process, from the program and from its environment."""

import logging
import re
from collections.abc import Mapping
from typing import Any

import pytest

from hypertrace import Tracer, set_trace_function
from hypertrace.metrics import Metrics, process_labels

ATTRIBUTES = "OTEL_RESOURCE_ATTRIBUTES"


@pytest.fixture(autouse=True)
def _fresh(monkeypatch: pytest.MonkeyPatch, caplog: Any) -> None:
    for variable in ("HYPERTRACE_SERVICE", "OTEL_SERVICE_NAME", ATTRIBUTES):
        monkeypatch.delenv(variable, raising=False)
    process_labels._report.cache_clear()
    caplog.set_level(logging.WARNING, "hypertrace.metrics")


def labels_of(monkeypatch: pytest.MonkeyPatch, **environment: str) -> Mapping[str, str]:
    for variable, value in environment.items():
        monkeypatch.setenv(variable, value)
    return Metrics().labels


def test_there_are_none_by_default() -> None:
    """Nothing given and nothing in the environment is no label."""
    metrics = Metrics()
    assert metrics.labels == metrics.read().labels == {}


def test_they_are_in_each_reading() -> None:
    """Also in one of what came in since another; the series themselves do not have them."""
    metrics = Metrics(labels={"service": "shop", "version": "1.4"})
    set_trace_function(metrics)
    Tracer("Cart").trace()
    reading = metrics.read()
    for one in (metrics, reading, metrics.read(since=reading), metrics.read(worker="self")):
        assert one.labels == {"service": "shop", "version": "1.4"}
    assert not {"service", "version"} & {*reading.families[0].label_names}


def test_the_environment_gives_labels(monkeypatch: pytest.MonkeyPatch) -> None:
    """The service, and OpenTelemetry's attributes with their own names."""
    labels = labels_of(
        monkeypatch, HYPERTRACE_SERVICE="shop", **{ATTRIBUTES: "k8s.pod.name=a-1,host.name=h"}
    )
    assert labels == {"k8s.pod.name": "a-1", "host.name": "h", "service": "shop"}


@pytest.mark.parametrize(
    ("variables", "expected"),
    [
        ({ATTRIBUTES: "service.name=d"}, {"service.name": "d"}),
        ({"OTEL_SERVICE_NAME": "c", ATTRIBUTES: "service.name=d"}, {"service.name": "c"}),
        ({"OTEL_SERVICE_NAME": "", ATTRIBUTES: "service.name=d"}, {"service.name": "d"}),
        ({"HYPERTRACE_SERVICE": "b", "OTEL_SERVICE_NAME": "c"}, {"service": "b"}),
        ({"HYPERTRACE_SERVICE": "", "OTEL_SERVICE_NAME": "c"}, {"service.name": "c"}),
    ],
    ids=str,
)
def test_one_variable_wins_over_another(
    variables: dict[str, str], expected: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """There is one service; an empty variable is as good as none."""
    assert labels_of(monkeypatch, **variables) == expected


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({"service": "a"}, {"service": "a", "service.version": "2"}),
        ({"service.name": "a"}, {"service.name": "a", "service.version": "2"}),
        ({"service_name": "a"}, {"service_name": "a", "service.version": "2"}),
        ({"version": "1"}, {"service": "b", "version": "1"}),
        ({"service": ""}, {"service.version": "2"}),
        ({"region": "eu"}, {"service": "b", "service.version": "2", "region": "eu"}),
    ],
    ids=str,
)
def test_the_program_wins_over_the_environment(
    given: dict[str, str], expected: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """By what a label means; an empty text takes a label of the environment away."""
    monkeypatch.setenv("HYPERTRACE_SERVICE", "b")
    monkeypatch.setenv(ATTRIBUTES, "service.name=d,service.version=2")
    assert Metrics(labels=given).labels == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", {}),
        ("a=1", {"a": "1"}),
        (" a = 1 , b = 2 ,, ", {"a": "1", "b": "2"}),
        ("a=b=c", {"a": "b=c"}),
        ("a=1,a=2", {"a": "2"}),
        ("a=", {}),
        ("a=%2C%3D%25%20x", {"a": ",=% x"}),
        ("a=gr%C3%BC%c3%9fe", {"a": "grüße"}),
        ("a%2Eb=1", {"a.b": "1"}),
        ("a=1+2", {"a": "1+2"}),
    ],
    ids=str,
)
def test_attributes_are_in_the_format_of_baggage(
    text: str, expected: dict[str, str], monkeypatch: pytest.MonkeyPatch, caplog: Any
) -> None:
    """Pairs, with spaces around them and percent-encoded where that is needed."""
    assert labels_of(monkeypatch, **{ATTRIBUTES: text}) == expected
    assert caplog.records == []


@pytest.mark.parametrize(
    ("part", "reason"),
    [
        ("nothing", "part 'nothing' is no name=value"),
        ("=1", "part '' is no name=value"),
        ("x=100%", "part 'x' has a % without two hexadecimal digits; .* written %25"),
        ("x=%zz", "part 'x' has a % without"),
        ("x=%ff", "part 'x' is no UTF-8"),
    ],
)
def test_attributes_that_are_wrong_are_ignored_together(
    part: str, reason: str, monkeypatch: pytest.MonkeyPatch, caplog: Any
) -> None:
    """As OpenTelemetry says; a warning has the reason once, and no value."""
    for _ in range(3):
        assert labels_of(monkeypatch, **{ATTRIBUTES: f"a=1,{part},b=2"}) == {}
    (record,) = caplog.records
    assert record.levelname == "WARNING"
    assert re.match(f"In {ATTRIBUTES}, all of it is ignored: its {reason}", record.getMessage())
    assert "100" not in record.getMessage()


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("db.password", "looks like a secret"),
        ("job", "a label that belongs to Prometheus"),
        ("__x", "a label that Prometheus keeps for itself"),
        ("9x", "begins with a letter or '_'"),
    ],
)
def test_attributes_with_names_that_are_refused_are_left_out(
    name: str, reason: str, monkeypatch: pytest.MonkeyPatch, caplog: Any
) -> None:
    """Only these, and the log has the names without their values."""
    assert labels_of(monkeypatch, **{ATTRIBUTES: f"a=1,{name}=hidden"}) == {"a": "1"}
    (record,) = caplog.records
    assert f"attribute {name!r} is ignored" in record.getMessage()
    assert reason in record.getMessage()
    assert "hidden" not in record.getMessage()


@pytest.mark.parametrize(
    ("labels", "error", "message"),
    [
        (["service"], TypeError, r"labels must map names .*\"shop\"}, not \['service'\]"),
        ({7: "x"}, TypeError, r"labels must have names \(str\), not 7"),
        ({"version": 1.4}, TypeError, r"labels\['version'\] must be a str, not 1.4; use str\(\)"),
        ({"version": None}, TypeError, r"labels\['version'\] must be a str, not None"),
        ({"": "x"}, ValueError, "labels '' is no name of a label"),
        ({"4x": "x"}, ValueError, "labels '4x' is no name of a label: it begins with a letter"),
        ({"api_key": "x"}, ValueError, "labels 'api_key' looks like a secret.*choose another name"),
        ({"instance": "x"}, ValueError, "'instance', a label that belongs to Prometheus"),
        ({"le": "x"}, ValueError, "'le', a label that belongs to Prometheus"),
        ({"a.b": "x", "a_b": "y"}, ValueError, "labels 'a.b' and 'a_b' are the same label"),
        ({"service": "x", "service.name": "x"}, ValueError, "are the same label; give one"),
    ],
    ids=str,
)
def test_labels_that_cannot_be_are_refused(
    labels: Any, error: type[Exception], message: str
) -> None:
    """The error names the value, and says what to do."""
    with pytest.raises(error, match=message):
        Metrics(labels=labels)


def test_values_are_texts_that_every_exporter_can_send() -> None:
    """Cut like other label values; what is no valid text is shown as an escape."""
    labels = {"a": "x" * 99, "b": "\udcff", "c": ""}
    assert Metrics(labels=labels, max_label_length=16).labels == {
        "a": "x" * 15 + "…",
        "b": "\\udcff",
    }
