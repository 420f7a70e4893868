"""Old format: Lego's mapping becomes today's, and mistakes have a line."""

from __future__ import annotations

import pytest
import yaml

from hypertrace.statsd_mapping.old_format import rules_in
from hypertrace.statsd_mapping.yaml_files import written

from . import statsd_exporter
from .lego import CONF, TABLE, Stat


@pytest.fixture(scope="module")
def lego() -> dict[str, list[dict[str, object]]]:
    """Give Lego's mapping in today's format."""
    mapping: dict[str, list[dict[str, object]]]
    mapping = yaml.safe_load(written(rules_in(CONF.read_text(), "lego.conf")))
    return mapping


def test_each_block_is_a_rule(lego: dict[str, list[dict[str, object]]]) -> None:
    """In the same order, with the same texts; a pattern may be indented."""
    assert len(lego["mappings"]) == 27
    assert lego["mappings"][6] == {
        "match": "*.*.*.deletes",
        "name": "feed_deletes",
        "labels": {"system": "$1", "environment": "$2", "feed": "$3"},
    }


@pytest.mark.parametrize("stat", TABLE, ids=lambda stat: stat.stat)
@pytest.mark.parametrize("environment", ["production", "staging"])
def test_the_names_of_lego_get_their_labels(
    lego: dict[str, list[dict[str, object]]], stat: Stat, environment: str
) -> None:
    """Each line of the table, by a model of statsd_exporter."""
    name = f"lego.{environment}.{stat.stat}"
    metric_type = "observer" if stat.is_timing else "counter"
    expected = stat.metric, stat.labels_in(environment)
    assert statsd_exporter.series_of(lego, name, metric_type) == expected


def test_spaces_comments_and_ends_of_lines_do_not_matter() -> None:
    """Nor does the end of the file."""
    text = (
        '# shop\r\n\r\n  a.*\r\n# more\r\n\tname = "x"\r\nb="$1 \\"q\\""\r\n\r\n\r\n\r\nc\nname="y"'
    )
    assert rules_in(text, "a.conf") == [
        {"match": "a.*", "name": "x", "labels": {"b": '$1 \\"q\\"'}},
        {"match": "c", "name": "y"},
    ]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "^a.conf: there is no mapping; it has blocks of a pattern"),
        ('a\nname="x"\n\nname="y"', r"^a.conf, line 4: 'name=\"y\"' is no pattern; a block begins"),
        ("mappings:\n- match: a\n", "line 1: .*YAML is today's format already"),
        ("a\nb", "line 2: 'b' is no label; in a block there are lines as name="),
        ("a\nname=x", r"line 2: 'name=x' is no label; write name=\"x\""),
        ("a\nname: 'x'", r"line 2: .* write name=\"x\""),
        ('a\nname="x"\nb="1"\nb="2"', "line 4: 'b' is there twice in one block"),
        ('\na.*\nb="$1"', r"line 2: the block of 'a\.\*' has no name; add a line as name="),
        ('\na.b*\nname="x"', r"^a.conf, line 2, match 'a.b\*': match 'a.b\*' is no glob"),
        ('a.*\nname="x"\nb="$2"', r"^a.conf, line 1, .*label 'b' '\$2' refers to '\$2'"),
        ('a\nname="x y"', "'x y' is no name of a metric"),
    ],
)
def test_mistakes_have_a_line(text: str, message: str) -> None:
    """They say what to do."""
    with pytest.raises(ValueError, match=message):
        rules_in(text, "a.conf")


def test_labels_of_prometheus_are_for_statsd_exporter() -> None:
    """Which has them, other than hypertrace."""
    assert rules_in('a\nname="x"\njob="y"', "a.conf")[0]["labels"] == {"job": "y"}
