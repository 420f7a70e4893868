"""Rules: which one a name matches, beside a model of statsd_exporter."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hypertrace.statsd_mapping.configuration import rules_of
from hypertrace.statsd_mapping.rules import METRIC_TYPES, MetricType, Rules, metric_name

from . import statsd_exporter

PARTS = st.sampled_from(["a", "b", "c"])
GLOBS = st.lists(st.one_of(PARTS, st.just("*")), min_size=1, max_size=4).map(".".join)
NAMES = st.lists(st.one_of(PARTS, st.sampled_from(["", "d-e", "ü"])), min_size=1, max_size=5)
REGEXES = st.sampled_from([r".", r"a\.(.*)", r"^(\w+)\.(\w+)$", r"(a|b)+", r"(c)?\.b"])


@st.composite
def configs(draw: st.DrawFn) -> dict[str, Any]:
    """Make mappings, in which each rule has a different name of a metric."""
    rules = []
    for number in range(draw(st.integers(1, 8))):
        is_regex = draw(st.integers(0, 3)) == 0
        match = draw(REGEXES if is_regex else GLOBS)
        groups = match.count("(") if is_regex else match.count("*")
        rule: dict[str, Any] = {"match": match, "name": f"rule_{number}"}
        rule["labels"] = {f"label_{n}": f"<${{{n}}}>" for n in range(1, groups + 1)}
        if is_regex:
            rule["match_type"] = "regex"
        if draw(st.booleans()):
            rule["match_metric_type"] = draw(st.sampled_from(METRIC_TYPES))
        rules.append(rule)
    return {"defaults": {"glob_disable_ordering": draw(st.booleans())}, "mappings": rules}


def shown(rules: Rules, name: str, metric_type: MetricType) -> tuple[str, dict[str, str]] | None:
    found = rules.match(name, metric_type)
    return None if found is None else (found.name, found.labels)


@given(configs(), NAMES.map(".".join), st.sampled_from(METRIC_TYPES))
def test_names_match_as_in_statsd_exporter(
    config: dict[str, Any], name: str, metric_type: MetricType
) -> None:
    """Any rules, in order or not, for any name and type."""
    expected = statsd_exporter.series_of(config, name, metric_type)
    assert shown(rules_of(config), name, metric_type) == expected


def test_the_first_glob_wins() -> None:
    """Also if a later one has fewer wildcards."""
    rules = rules_of(
        [
            {"match": "order.*.*", "name": "first", "labels": {"label": "${1}_x"}},
            {"match": "order.*.b", "name": "second"},
        ]
    )
    assert shown(rules, "order.good.b", "counter") == ("first", {"label": "good_x"})


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("n.good.b", ("two", {"x": "good"})),
        ("n.c.b", ("three", {"x": "c"})),
        ("n.c.d", ("one", {"x": "c"})),
        ("n.c", None),
    ],
)
def test_without_order_the_most_specific_glob_wins(name: str, expected: Any) -> None:
    """At each part of a name, from the left, and back if there is none further on."""
    rules = rules_of(
        {
            "defaults": {"glob_disable_ordering": True},
            "mappings": [
                {"match": "n.*.*", "name": "one", "labels": {"x": "$1"}},
                {"match": "n.*.b", "name": "two", "labels": {"x": "$1"}},
                {"match": "n.c.b", "name": "three", "labels": {"x": "c"}},
            ],
        }
    )
    assert shown(rules, name, "gauge") == expected


def test_globs_are_before_regular_expressions() -> None:
    """Wherever they stand; these match anywhere in a name."""
    rules = rules_of(
        [
            {"match": ".", "match_type": "regex", "name": "rest", "labels": {"stat": "x$0"}},
            {"match": "a.*", "name": "glob"},
        ]
    )
    assert shown(rules, "a.b", "counter") == ("glob", {})
    assert shown(rules, "ab.c", "counter") == ("rest", {"stat": "xa"})


def test_a_shorter_glob_may_follow_a_longer_one() -> None:
    """Both match."""
    rules = rules_of([{"match": "a.b.c", "name": "long"}, {"match": "a.b", "name": "short"}])
    assert shown(rules, "a.b", "counter") == ("short", {})


def test_a_group_that_takes_no_part_is_empty() -> None:
    """As in Go."""
    rules = rules_of(
        [
            {
                "match": "a(x)?(?P<end>b)",
                "match_type": "regex",
                "name": "n",
                "labels": {"l": "$1-${end}"},
            }
        ]
    )
    assert shown(rules, "ab", "counter") == ("n", {"l": "-b"})


@pytest.mark.parametrize(
    ("text", "name"),
    [("a.b", "a_b"), ("a--b-c", "a_b_c"), ("9a", "_9a"), ("", ""), ("ü", "_"), ("a..b", "a__b")],
)
def test_names_of_metrics_are_those_of_statsd_exporter(text: str, name: str) -> None:
    """Each character that is not possible is `_`, and several `-` are one."""
    assert metric_name(text) == name


def test_labels_of_a_metric_are_those_of_all_its_rules() -> None:
    """Also of rules whose name is only known when they match; without those of other types."""
    rules = rules_of(
        [
            {"match": "a.*", "name": "x", "labels": {"one": "$1"}, "help": "About x."},
            {"match": "*.b", "name": "${1}", "labels": {"two": "b", "one": "c"}},
            {"match": "g", "name": "x", "match_metric_type": "gauge", "labels": {"three": "d"}},
            {"match": "d", "name": "y", "action": "drop", "labels": {"four": "d"}},
        ]
    )
    assert rules.labels_of("x", "counter") == ["one", "two"]
    assert rules.labels_of("x", "gauge") == ["one", "two", "three"]
    assert rules.labels_of("y", "counter") == ["two", "one"]
    assert rules.help_of("x", "counter") == "About x."
    assert rules.help_of("y", "counter") == ""
