"""YAML files: what is read, with the line of each mistake, and what is written."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from hypertrace.statsd_mapping.yaml_files import read, stats_rules, written

if TYPE_CHECKING:
    from pathlib import Path

MAPPING = """\
# of the shop
defaults:
  observer_type: histogram
mappings:
- match: "shop.*.paid"
  name: "orders_paid"
  labels:
    country: "$1"

- match: shop.queue
  name: queue
"""


def test_a_file_is_read(tmp_path: Path) -> None:
    """From a path, as text or `Path`, also with the mark that Windows begins texts with."""
    file = tmp_path / "mapping.yml"
    file.write_text(MAPPING, encoding="utf-8-sig")
    for path in (file, str(file)):
        found = stats_rules(path).match("shop.de.paid", "counter")
        assert found is not None
        assert (found.name, found.labels) == ("orders_paid", {"country": "de"})


def test_what_a_program_gives_needs_no_file() -> None:
    """As a mapping, or as the list of rules."""
    config = yaml.safe_load(MAPPING)
    for given_rules in (config, config["mappings"], tuple(config["mappings"])):
        assert stats_rules(given_rules).match("shop.queue", "gauge") is not None


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            MAPPING.replace("name: queue", "name: 5"),
            r"^m\.yml, line 10, match 'shop.queue': name m",
        ),
        (MAPPING + "  name: other\n", r"^m\.yml, line 12: 'name' is there twice"),
        (MAPPING + "  labels: {a: b, a: c}\n", r"^m\.yml, line 12: 'a' is there twice"),
        (MAPPING + "x: [", r"^m\.yml, line \d+: this is no YAML"),
        (MAPPING + "  labels: {a: !!python/name:os.system x}\n", "this is no YAML"),
        ("- match: a\n- match: b\n", r"^m\.yml, line 1, match 'a': name is missing"),
        ("\x00", r"^m\.yml.*: this is no YAML"),
        ("[" * 5_000, r"^m\.yml: this is no YAML: maximum recursion depth"),
        ("since: 2026-99-99", r"^m\.yml: this is no YAML: month must be"),
    ],
)
def test_mistakes_have_a_line(text: str, message: str) -> None:
    """Those of YAML, keys that are there twice, and wrong rules."""
    with pytest.raises(ValueError, match=message):
        read(text, "m.yml")


@pytest.mark.parametrize("text", ["5", "shop"])
def test_other_yaml_is_an_error(text: str) -> None:
    """It shows what a mapping is."""
    with pytest.raises(TypeError, match="has the key 'mappings'"):
        read(text, "m.yml")


@pytest.mark.parametrize("text", ["", "# nothing\n", "mappings:\n", "mappings: []"])
def test_a_file_may_be_empty(text: str) -> None:
    """Then there are no rules."""
    assert [*read(text, "m.yml")] == []


def test_aliases_are_read_once() -> None:
    """Also those that have themselves in them, which are wrong."""
    text = "mappings:\n- &one\n  match: a\n  name: b\n  labels: &x {c: d}\n- <<: *one\n  match: e\n"
    assert [rule.match for rule in read(text, "m.yml")] == ["a", "e"]
    with pytest.raises(ValueError, match="rule"):
        read("mappings: &x [*x]", "m.yml")


def test_a_missing_file_is_an_error(tmp_path: Path) -> None:
    """It is that of the system."""
    with pytest.raises(FileNotFoundError):
        stats_rules(tmp_path / "none.yml")


def test_a_file_in_another_encoding_is_an_error(tmp_path: Path) -> None:
    """It names the line."""
    file = tmp_path / "mapping.yml"
    file.write_bytes(b"mappings:\n# \xff\n")
    with pytest.raises(ValueError, match=r"mapping\.yml, line 2: this is no text in UTF-8"):
        stats_rules(file)


def test_without_pyyaml_the_extra_is_named(tmp_path: Path) -> None:
    """What a program gives is read without it."""
    program = """
import sys
sys.modules["yaml"] = None
from hypertrace.stats import Stats
Stats("shop", mapping=[{"match": "a", "name": "b"}])
try:
    Stats("shop", mapping=sys.argv[1])
except ModuleNotFoundError as error:
    print(error)
"""
    file = tmp_path / "mapping.yml"
    file.write_text(MAPPING)
    run = subprocess.run(
        [sys.executable, "-c", program, file], capture_output=True, text=True, check=True
    )
    assert run.stdout == "a mapping in a file needs PyYAML: pip install 'hypertrace[yaml]'\n"


TEXTS = st.text(st.characters(exclude_categories=["Cs"]))


@given(
    st.lists(
        st.fixed_dictionaries(
            {"match": TEXTS, "labels": st.dictionaries(st.sampled_from("abc"), TEXTS, min_size=1)}
        )
    )
)
def test_what_is_written_is_read_again(rules: list[dict[str, Any]]) -> None:
    """Any texts."""
    assert yaml.safe_load(written(rules, "a comment\nof two lines")) == {"mappings": rules}


def test_it_is_written_for_people() -> None:
    """As the manual of statsd_exporter has it."""
    rule = {"match": "a.*", "labels": {"b": "$1"}, "histogram_options": {"buckets": [0.5, 1.0]}}
    assert written([rule, {"match": "c"}], "About\n\nit") == (
        '# About\n#\n# it\nmappings:\n- match: "a.*"\n  labels:\n    b: "$1"\n'
        '  histogram_options:\n    buckets: [0.5, 1.0]\n- match: "c"\n'
    )
    assert written([]) == "mappings: []\n"
