"""Service level objectives and the alerts that are made of them."""

import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from hypertrace.integrations import entries
from hypertrace.metrics.names import Names
from hypertrace_prometheus.dashboards import integrated, objectives, rules
from hypertrace_prometheus.dashboards.objectives import Objective

SPANS = "function_duration_seconds"
GOOD = """\
[[objective]]
name = "search"
class = "Library"
function = "ask"
target = 0.999
"""


@pytest.fixture
def declare(tmp_path: Path) -> Callable[[str], list[Objective]]:
    """Give a function that reads objectives out of a text."""
    path = tmp_path / "objectives.toml"

    def read(text: str) -> list[Objective]:
        path.write_text(text)
        return objectives.read(path)

    return read


def test_a_file_declares_objectives(declare: Callable[[str], list[Objective]]) -> None:
    """What the file says is what is read; the latency may be left out."""
    other = '[[objective]]\nname = "o"\nclass = "C"\ntarget = 0.9\nlatency = 0.25\n'
    ask = {"object_classname": "Library", "caller_functionname": "ask"}
    entry = '[[objective]]\nname = "e"\nkind = "http"\nentry = "GET /"\ntarget = 0.9\n'
    assert declare(GOOD + other + entry) == [
        Objective("search", SPANS, ask, 0.999, None),
        Objective("o", SPANS, {"object_classname": "C"}, 0.9, 0.25),
        Objective("e", integrated.ENTRIES, {"kind": "http", "name": "GET /"}, 0.9, None),
    ]


def test_objectives_of_entries_ask_for_entries(declare: Callable[[str], list[Objective]]) -> None:
    """The rules of an objective of entries read the metric of entries, as the exporter calls it."""
    text = GOOD.replace('class = "Library"', 'entry = "GET /"').replace('function = "ask"', "")
    (group,) = objectives.groups(declare(text), Names(prefix="shop_"))
    (first, *_) = group["rules"]
    assert first["record"] == "objective:entry_bad:ratio_rate5m"
    selector = 'shop_entry_duration_seconds_count{name="GET /", result!="cancelled"}'
    assert f"sum by (job) (rate({selector}[5m]))" in first["expr"]
    assert "of the entries of the last 1h" in group["rules"][7]["annotations"]["summary"]


def test_own_buckets_may_be_declared(declare: Callable[[str], list[Objective]]) -> None:
    """A latency may be a bound of the exporter's own buckets, if the file gives them."""
    (objective,) = declare("buckets = [0.3, 3]\n" + GOOD + "latency = 3\n")
    text = rules.text(objectives.groups([objective]))
    assert 'le="3.0"' in text


def test_an_entry_may_be_slow(declare: Callable[[str], list[Objective]]) -> None:
    """Entries have more buckets, up to an hour, as the exporter gives them."""
    file = '[[objective]]\nname = "o"\nkind = "job"\ntarget = 0.9\nlatency = 60\n'
    (objective,) = declare("buckets = [0.3, 3]\n" + file)
    assert objective.latency == 60
    assert integrated.ENTRY_BOUNDS == entries.LONG


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "one [[objective]] or more"),
        ("not TOML", "objectives.toml"),
        (GOOD + GOOD, "needs its own name"),
        (GOOD.replace('"search"', "7"), "unlike 7"),
        (GOOD.replace("0.999", "99.9"), "0.999, not 99.9"),
        (GOOD.replace("0.999", "1"), "0.999, not 1"),
        (GOOD + "latency = 0.3\n", "latency 0.3 is no bound of a bucket (0.0005, "),
        (GOOD + "windows = 3\n", "has ['windows']"),
        (GOOD.replace("class", "#").replace("function", "#"), "needs an entry or a kind"),
        (GOOD + 'entry = "e"\n', "needs an entry or a kind, or both; or else a class or"),
        (GOOD.replace('"ask"', "3"), "['Library', 3]; give texts"),
        ("objective = 3", "[[objective]]"),
        (GOOD.replace('"search"', "'{{ x }}'"), "unlike '{{ x }}'"),
        ("objective = [3]", "[[objective]]"),
        ("buckets = 3\n" + GOOD, "buckets"),
    ],
)
def test_a_mistake_is_reported(
    declare: Callable[[str], list[Objective]], text: str, said: str
) -> None:
    """What makes no sense is a ValueError that names the file, the objective and the mistake."""
    with pytest.raises(ValueError, match=r"objectives\.toml") as caught:
        declare(text)
    assert said in str(caught.value)


def test_awkward_names_are_escaped(
    declare: Callable[[str], list[Objective]], component: Callable[[str], str], tmp_path: Path
) -> None:
    """A class with quotes, backslashes and braces in its name makes valid rules."""
    text = GOOD.replace('"Library"', r"'a\"b\\c{{'")
    path = tmp_path / "rules.yml"
    path.write_text(rules.text(objectives.groups(declare(text))))
    command = [component("promtool"), "check", "rules", str(path)]
    run = subprocess.run(command, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stdout + run.stderr


def test_windows_and_factors_are_the_workbooks() -> None:
    """Four alerts: two that wake a person, two that can wait until the morning."""
    (group,) = objectives.groups([Objective("o", SPANS, {"object_classname": "C"}, 0.99, None)])
    alerts = [
        (rule["labels"]["severity"], rule["labels"]["window"], rule["expr"])
        for rule in group["rules"]
        if "alert" in rule
    ]

    def burning(window: str, factor: str) -> str:
        return f'objective:function_bad:ratio_rate{window}{{objective="o"}} > {factor} * 0.01'

    assert alerts == [
        (severity, long, " and ".join(burning(window, factor) for window in both))
        for severity, long, both, factor in (
            ("page", "1h", ("1h", "5m"), "14.4"),
            ("page", "6h", ("6h", "30m"), "6"),
            ("ticket", "1d", ("1d", "2h"), "3"),
            ("ticket", "3d", ("3d", "6h"), "1"),
        )
    ]
