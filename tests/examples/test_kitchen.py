"""Kitchen in asyncio: always the same work, so all but the durations is known."""

import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.samples import Sample


@pytest.fixture(scope="module")
def samples(root: Path) -> list[Sample]:
    """Run the example with `--once`, and give the samples on the page it printed."""
    run = subprocess.run(
        [sys.executable, root / "examples" / "kitchen.py", "--once", "--port", "0"],
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    summary, address, page = run.stdout.split("\n", 2)
    assert summary == "Served: soup, pasta, pasta, soup, pasta."
    assert address.startswith("The metrics are at http://127.0.0.1:")
    assert run.stderr == ""
    return [s for family in text_string_to_metric_families(page) for s in family.samples]


def _sums(samples: list[Sample], name: str, *labels: str) -> Counter[tuple[str, ...]]:
    sums: Counter[tuple[str, ...]] = Counter()
    for sample in samples:
        if sample.name == name:
            sums[tuple(sample.labels.get(label, "") for label in labels)] += int(sample.value)
    return sums


def test_each_dish_ends_as_it_must(samples: list[Sample]) -> None:
    """Coroutines that return, raise and are cancelled are distinguished."""
    name = "function_duration_seconds_count"
    labels = ("caller_functionname", "caller_props_dish", "result")
    assert _sums(samples, name, *labels) == {
        ("cook", "soup", "ok"): 2,
        ("cook", "pasta", "ok"): 3,
        ("cook", "souffle", "error"): 1,
        ("cook", "roast", "cancelled"): 1,
        ("_bring", "", "ok"): 5,
        ("_bring", "", "error"): 2,
        ("serve", "", "ok"): 3,
        ("served", "", "ok"): 1,
    }


def test_failures_are_known_by_their_class(samples: list[Sample]) -> None:
    """What was raised, and what was handled, is counted by its class."""
    labels = ("caller_functionname", "exception")
    assert _sums(samples, "function_exceptions_total", *labels) == {
        ("cook", "CollapsedError"): 1,
        ("cook", "CancelledError"): 1,
        ("_bring", "CollapsedError"): 1,
        ("_bring", "TimeoutError"): 1,
    }


def test_tasks_know_who_started_them(samples: list[Sample]) -> None:
    """Seven dishes in three interleaved tasks are all inside the spans they belong to."""
    labels = ("from_functionname", "to_functionname")
    assert _sums(samples, "function_edges_total", *labels) == {
        ("served", "serve"): 3,
        ("serve", "_bring"): 7,
        ("_bring", "cook"): 7,
    }


def test_the_props_are_those_of_object_call_and_result(samples: list[Sample]) -> None:
    """Props of the object's tracer, of the arguments and those that were set are labels."""
    name = "function_counter_total"
    labels = ("caller_functionname", "object_props_place", "caller_props_table")
    assert _sums(samples, name, *labels, "caller_props_outcome") == {
        ("cook", "cellar", "", ""): 7,
        ("_bring", "", "", ""): 7,
        ("serve", "", "window", "all"): 1,
        ("serve", "", "corner", "some"): 1,
        ("serve", "", "garden", "some"): 1,
        ("served", "", "", ""): 1,
    }


def test_waiting_is_measured(samples: list[Sample]) -> None:
    """A coroutine that sleeps is timed with its sleep: the roast was waited for in vain."""
    ((seconds,),) = [
        (s.value,)
        for s in samples
        if s.name == "function_duration_seconds_sum"
        and s.labels.get("caller_props_dish") == "roast"
    ]
    assert 0.59 < seconds < 5.0


def test_nothing_is_left_open(samples: list[Sample]) -> None:
    """When the evening is over no span is in progress."""
    assert set(_sums(samples, "function_in_progress", "caller_functionname").values()) == {0}
