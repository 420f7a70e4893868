"""Configuration: what a mapping may say, and how each mistake is reported."""

from __future__ import annotations

from typing import Any

import pytest

from hypertrace.metrics import Distribution, Summary
from hypertrace.statsd_mapping.configuration import Lines, check_labels, rules_of


def only(rule: dict[str, Any], **defaults: Any) -> Any:
    (found,) = rules_of({"mappings": [{"match": "a.*", "name": "a", **rule}], "defaults": defaults})
    return found


@pytest.mark.parametrize("config", [{}, {"mappings": []}, {"mappings": None, "defaults": None}, []])
def test_there_may_be_no_rules(config: Any) -> None:
    """Then none matches."""
    assert rules_of(config).match("a.b", "counter") is None


def test_a_rule_has_what_is_said() -> None:
    """Of all keys; a number is a text where one is wanted."""
    rule = only(
        {
            "labels": {"code": 200, "shop": "$1"},
            "honor_labels": True,
            "help": "About a.",
            "scale": "1e-3",
            "match_metric_type": "gauge",
            "ttl": 0,
            "action": "map",
        }
    )
    labels = {label: template.filled(["", "x"]) for label, template in rule.labels}
    assert labels == {"code": "200", "shop": "x"}
    assert (rule.honor_labels, rule.help, rule.scale) == (True, "About a.", 0.001)
    assert rule.takes("gauge")
    assert not rule.takes("counter")


def test_timers_are_summaries_by_default() -> None:
    """As in statsd_exporter, with its quantiles."""
    assert only({}).observer == Summary("timers", quantiles=(0.5, 0.9, 0.99), max_age=600)


@pytest.mark.parametrize(
    ("rule", "defaults"),
    [
        ({"observer_type": "histogram", "histogram_options": {"buckets": [1, 2]}}, {}),
        ({"timer_type": "histogram", "buckets": [1, 2]}, {}),
        ({}, {"observer_type": "histogram", "histogram_options": {"buckets": [1, 2]}}),
        ({}, {"timer_type": "histogram", "buckets": [1, 2]}),
        (
            {"observer_type": "histogram", "histogram_options": {"buckets": [1.0, 2.0]}},
            {"summary_options": {"max_age": "5m"}, "buckets": [3]},
        ),
    ],
)
def test_timers_may_be_histograms(rule: dict[str, Any], defaults: dict[str, Any]) -> None:
    """By a rule or by default, under the names of keys of today or of former releases."""
    assert only(rule, **defaults).observer == Distribution("timers", buckets=(1, 2))


def test_a_summary_has_options() -> None:
    """Those of a rule, and by default; what only tunes the other program has no effect."""
    options = {"quantiles": [{"quantile": 0.75, "error": 0.01}], "max_age": "1m30s"}
    tuned = {"age_buckets": 3, "buf_cap": 1000, "max_age": "10s"}
    observer = only({"summary_options": options}, summary_options=tuned).observer
    assert observer == Summary("timers", quantiles=(0.75,), max_age=90)
    observer = only({"quantiles": [{"quantile": 0.75}]}, summary_options=tuned).observer
    assert observer == Summary("timers", quantiles=(0.75,), max_age=10)


@pytest.mark.parametrize(
    ("rule", "message"),
    [
        ({"match": None}, "match is missing"),
        ({"name": None}, "name is missing.*action: drop"),
        ({"match": "a.b*"}, "'a.b\\*' is no glob.*match_type: regex"),
        ({"match": "1a"}, "no digit first"),
        ({"match": "a..b"}, "is no glob"),
        ({"match": "(", "match_type": "regex"}, "is no regular expression"),
        ({"match": r"\pL", "match_type": "regex"}, "which regular expressions of Python do not"),
        ({"match": "[[:alpha:]]", "match_type": "regex"}, "has '\\[:alpha:\\]'"),
        ({"match": "(?<x>a)", "match_type": "regex"}, r"as .*\(\?P<name>"),
        ({"match": 5}, "match must be a text, not 5; write it in quotes"),
        ({"match_type": "prefix"}, "match_type must be 'glob' or 'regex', not 'prefix'"),
        ({"match_metric_type": "timer"}, "must be 'counter' or 'gauge' or 'observer'"),
        ({"action": "keep"}, "action must be 'map' or 'drop'"),
        ({"observer_type": "h"}, "observer_type must be 'histogram' or 'summary'"),
        ({"name": "a-b"}, "'a-b' is no name of a metric"),
        ({"name": "9a"}, "no digit first"),
        ({"name": "$2"}, r"name '\$2' refers to '\$2'.*it has \$1"),
        ({"labels": {"x": "$1_y"}}, r"label 'x' .* write '\$\{1\}_y'"),
        ({"labels": {"a-b": "x"}}, "'a-b' is no name of a label"),
        ({"labels": {"x": 1.5}}, "label 'x' must be a text, not 1.5; write it in quotes"),
        ({"labels": ["x"]}, "labels must have keys"),
        ({"honor_labels": "yes"}, "honor_labels must be true or false"),
        ({"scale": "much"}, "scale must be a number, not 'much'"),
        ({"scale": True}, "scale must be a number, not True"),
        ({"ttl": "1m"}, "ttl is not supported; leave it out"),
        ({"lables": {}}, "no key is called 'lables'; did you mean 'labels'"),
        ({"timer_type": "summary", "observer_type": "summary"}, "timer_type and observer_type"),
        (
            {"buckets": [1], "histogram_options": {"buckets": [2]}},
            "buckets and histogram_options.buckets are the same",
        ),
        ({"buckets": [1]}, "timers become a summary; write observer_type: histogram"),
        ({"observer_type": "histogram", "summary_options": {}}, "timers become a histogram"),
        ({"observer_type": "histogram", "buckets": [2, 1]}, "histogram_options: buckets must asc"),
        ({"observer_type": "histogram", "buckets": 5}, "buckets"),
        (
            {
                "observer_type": "histogram",
                "histogram_options": {"native_histogram_bucket_factor": 1.1},
            },
            "native_histogram_bucket_factor is not supported.*native=True",
        ),
        ({"quantiles": [0.5]}, "quantiles must be a list as"),
        ({"quantiles": [{"quantile": 5}]}, "quantiles must be from 0 to 1"),
        ({"summary_options": {"max_age": 30}}, "max_age must be a time with its unit, as 10m"),
        ({"summary_options": {"max_age": "ten"}}, "max_age must be a time"),
        ({"summary_options": {"age": 1}}, "no key is called 'age'"),
    ],
)
def test_mistakes_in_a_rule_are_errors(rule: dict[str, Any], message: str) -> None:
    """They name the place, the value and what to do."""
    with pytest.raises(ValueError, match=message) as raised:
        only(rule)
    assert str(raised.value).startswith("mapping, rule 1")


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"mapping": []}, "mapping: no key is called 'mapping'; did you mean 'mappings'"),
        ({"mappings": {"match": "a"}}, "mappings must be a list of rules"),
        ({"mappings": ["a"]}, "rule 1: a rule has keys"),
        ({"defaults": []}, "defaults must have keys"),
        ({"defaults": {"ttl": "5m"}}, "defaults: ttl is not supported"),
        ({"defaults": {"name": "x"}}, "defaults: no key is called 'name'"),
    ],
)
def test_mistakes_beside_the_rules_are_errors(config: Any, message: str) -> None:
    """As those in a rule."""
    with pytest.raises(ValueError, match=message):
        rules_of(config)


@pytest.mark.parametrize("config", ["mapping.yml", 5, b"x"])
def test_what_is_no_mapping_is_an_error(config: Any) -> None:
    """It shows one."""
    with pytest.raises(TypeError, match="has the key 'mappings' with a list of rules"):
        rules_of(config)


def test_errors_name_the_line_of_a_file() -> None:
    """Where it is known."""
    with pytest.raises(ValueError, match=r"^a\.yml, line 7, match 'b': name is missing"):
        rules_of([{"match": "a", "name": "a"}, {"match": "b"}], Lines("a.yml", [2, 7]))


def test_timers_of_one_metric_are_counted_in_one_way() -> None:
    """Rules that differ in it are an error, which shows both; of counters they may."""
    one = {"match": "a", "name": "x", "observer_type": "histogram", "buckets": [1]}
    with pytest.raises(ValueError, match=r"'x' are a summary .* a histogram with buckets \[1\.0\]"):
        rules_of([one, {"match": "b", "name": "x"}])
    rules_of([one, {"match": "b", "name": "x", "match_metric_type": "counter"}])
    rules_of([one, {"match": "b", "name": "y"}])


@pytest.mark.parametrize("label", ["job", "instance", "le", "__x", "api_key"])
def test_labels_that_hypertrace_does_not_show_are_errors(label: str) -> None:
    """Those that Prometheus sets itself, and those called like secrets."""
    rules = rules_of([{"match": "a", "name": "x", "labels": {label: "b"}}])
    with pytest.raises(ValueError, match=f"label '{label}' .*; give it another name"):
        check_labels(rules)
