"""The text of hypertrace's own families."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st
from prometheus_client.parser import text_string_to_metric_families as parse_text

from hypertrace_prometheus.exposition.text import render

from ..pages import parse_openmetrics


def test_labels_are_rendered_by_name() -> None:
    """The text of labels is sorted by their names, whatever the order of the family is."""
    assert render(["b", "a"], ["2", "1"]) == 'a="1",b="2"'


def test_a_label_without_value_is_left_out() -> None:
    """An empty value is the same as no label, as Prometheus has it."""
    assert render(["a", "b"], ["", "2"]) == 'b="2"'
    assert render([], []) == ""


def test_values_are_escaped() -> None:
    """Backslashes, quotes and newlines are escaped, nothing else is."""
    assert render(["a"], ['x\\y"z\n\t\0é']) == 'a="x\\\\y\\"z\\n\t\0é"'


_names = st.from_regex(r"[a-zA-Z_][a-zA-Z0-9_]{0,8}", fullmatch=True).filter(
    lambda name: not name.startswith("__")
)
_awkward = st.sampled_from(["\\", '"', "\n", "\\n", '\\"', "\\\\", "{", "}", ",", "=", " ", "#"])
_values = st.lists(_awkward | st.text(max_size=8), max_size=8).map("".join)
_labels = st.dictionaries(_names, _values, max_size=5)


@settings(deadline=None)
@given(_labels)
def test_prometheus_reads_the_labels_back(labels: dict[str, str]) -> None:
    """The parsers of `prometheus_client` read the labels as they were, in both formats."""
    expected = {name: value for name, value in labels.items() if value}
    line = f"x{{{render(list(labels), list(labels.values()))}}} 1\n"
    (text,) = parse_text(line)
    (openmetrics,) = parse_openmetrics(f"# TYPE x unknown\n{line}# EOF\n")
    assert text.samples[0].labels == openmetrics.samples[0].labels == expected
