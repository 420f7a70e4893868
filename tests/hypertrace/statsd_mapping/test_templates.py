"""Templates: what references become, and which ones are mistakes."""

import pytest

from hypertrace.statsd_mapping.templates import Template

GROUPS = {"1": 1, "2": 2, "10": 3, "who": 1}
PARTS = ["", "a", "b", "j"]


@pytest.mark.parametrize(
    ("text", "filled"),
    [
        ("plain", "plain"),
        ("", ""),
        ("$1", "a"),
        ("${1}", "a"),
        ("${2}_total", "b_total"),
        ("$1-$2", "a-b"),
        ("$1$2", "ab"),
        ("$1 $1", "a a"),
        ("$10 $1", "j a"),
        ("${who}s", "as"),
        ("100%s $2", "100%s b"),
        ("$$1", "$1"),
        ("cost $ $1", "cost $ a"),
        ("$", "$"),
    ],
)
def test_references_become_parts(text: str, filled: str) -> None:
    """With or without braces, as often as they stand there; a dollar sign is written twice."""
    assert Template(text, GROUPS, "name").filled(PARTS) == filled


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("$3", r"name '\$3' refers to '\$3', which the match does not have; it has \$1, \$2"),
        ("${other}", r"refers to '\$\{other\}'"),
        ("$1_total", r"read as one word; write '\$\{1\}_total'"),
        ("$0", "the whole name"),
    ],
)
def test_a_reference_to_nothing_is_an_error(text: str, message: str) -> None:
    """It says what there is, or how it is written."""
    with pytest.raises(ValueError, match=message):
        Template(text, GROUPS, "name")


def test_without_groups_there_are_none() -> None:
    """As of a glob without `*`."""
    with pytest.raises(ValueError, match="it has none"):
        Template("$1", {}, "label 'x'")


@pytest.mark.parametrize(
    ("text", "name", "may"),
    [("a", "a", True), ("a", "b", False), ("$1_x", "b_x", True), ("${1}_x", "b_y", False)],
)
def test_it_knows_what_it_may_give(text: str, name: str, may: bool) -> None:
    """References may be anything."""
    assert Template(text.replace("$1", "${1}"), GROUPS, "name").may_give(name) is may
