"""Label texts of hypertrace's own families."""

from __future__ import annotations

import sys
from functools import partial
from typing import TYPE_CHECKING

from hypothesis import given, settings
from hypothesis import strategies as st
from prometheus_client.parser import text_string_to_metric_families as parse_text

from hypertrace.metrics import Counter, Family
from hypertrace.metrics.series import Series
from hypertrace_prometheus.exposition import label_texts as module
from hypertrace_prometheus.exposition.label_texts import TextCache, render
from hypertrace_prometheus.exposition.text import lines

from ...running import in_threads

if TYPE_CHECKING:
    import pytest
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


# --- texts that are kept ----------------------------------------------------------------

X = Counter("x_total", description="Help.")
NAMES = ("class", "n")


def series(*numbers: int) -> list[Series]:
    """Give a series for each number, each from a separate call site."""
    return [Series(((f"C{number}",), (str(number),))) for number in numbers]


def family(counted: list[Series], declaration: Counter = X) -> Family:
    return Family(declaration, NAMES, counted, [1] * len(counted))


def page(cache: TextCache, one: Family) -> list[str]:
    return lines(one, cache.of(one), openmetrics=False)


def expected(*numbers: int) -> list[str]:
    return [f'x_total{{class="C{number}",n="{number}"}} 1\n' for number in numbers]


def test_a_text_is_rendered_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Later pages, and other families with the same labels, use the text of a series again."""
    cache, counted, rendered = TextCache(), series(1, 2), []

    def count(*arguments: list[str]) -> str:
        rendered.append(arguments)
        return render(*arguments)

    monkeypatch.setattr(module, "render", count)
    other = Counter(name="y_total", description="Help.")
    for _ in range(3):
        assert page(cache, family(counted)) == expected(1, 2)
        assert page(cache, family(counted, other))[0] == 'y_total{class="C1",n="1"} 1\n'
    assert len(rendered) == 4  # two parts of two series


def test_families_of_other_labels_do_not_mix() -> None:
    """The same values under other names are other texts."""
    cache, counted = TextCache(), series(1)
    assert page(cache, family(counted)) == expected(1)
    renamed = Family(X, ("c", "m"), counted, [1])
    assert page(cache, renamed) == ['x_total{c="C1",m="1"} 1\n']


def test_a_page_follows_its_series() -> None:
    """Series that come and go between two pages come and go on them, in their order."""
    cache = TextCache()
    one, two, three = series(1, 2, 3)
    for counted, numbers in (([one, two], (1, 2)), ([two, three], (2, 3)), ([], ()), ([one], (1,))):
        assert page(cache, family(counted)) == expected(*numbers)


def test_texts_of_gone_series_are_forgotten_and_the_page_stays_whole() -> None:
    """However many series came and went, the texts that are kept are of those that are there."""
    cache, stays = TextCache(), series(-1)[0]
    for first in range(0, 500, 5):
        numbers = range(first, first + 5)
        now = family([stays, *series(*numbers)])
        assert page(cache, now) == expected(-1, *numbers)
    (texts,) = cache._texts.values()
    assert len(texts._commons) == len(texts._columns["x_total"].rests) == 6


def test_pages_at_the_same_time_render_the_same_series() -> None:
    """Threads that make their first pages at once, each of more families, all have whole pages."""
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        for _ in range(10):
            cache, counted = TextCache(), series(*range(200))

            def check(
                thread: int, cache: TextCache = cache, counted: list[Series] = counted
            ) -> None:
                for end in range(thread, 200, 20):
                    other = Counter(f"x{thread}_{end}_total", description="Help.")
                    lines = page(cache, family(counted[:end], other))
                    assert [line.replace(other.name, "x_total") for line in lines] == expected(
                        *range(end)
                    )

            in_threads(*(partial(check, thread) for thread in range(4)))
    finally:
        sys.setswitchinterval(interval)
