"""werkzeug's routing, traced from outside: always the same visits, so the numbers are known."""

import subprocess
import sys
from collections import Counter
from pathlib import Path

from prometheus_client.parser import text_string_to_metric_families


def test_the_visits_are_counted_and_no_others(root: Path) -> None:
    """The page has each call between `instrument()` and `undo()`, by result and by status."""
    run = subprocess.run(
        [sys.executable, root / "examples" / "other_peoples_code.py", "--once", "--port", "0"],
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    summary, address, page = run.stdout.split("\n", 2)
    names = "werkzeug.routing:MapAdapter.match, werkzeug.test:Client.open"
    assert summary == f"6 visits, traced: {names}"
    assert address.startswith("The metrics are at http://127.0.0.1:")
    assert run.stderr == ""
    assert _counts(page, "function_duration_seconds_count") == {
        ("MapAdapter.match", "werkzeug/routing/map.py", "", "ok"): 4,
        ("MapAdapter.match", "werkzeug/routing/map.py", "", "error"): 2,
        ("Client.open", "werkzeug/test.py", "200", "ok"): 4,
        ("Client.open", "werkzeug/test.py", "404", "ok"): 2,
    }
    assert _counts(page, "function_exceptions_total") == {
        ("MapAdapter.match", "werkzeug/routing/map.py", "", ""): 2
    }


def _counts(page: str, name: str) -> Counter[tuple[str, ...]]:
    counts: Counter[tuple[str, ...]] = Counter()
    for family in text_string_to_metric_families(page):
        for sample in family.samples:
            if sample.name == name:
                function = "{object_classname}.{caller_functionname}".format_map(sample.labels)
                labels = ("caller_filename", "caller_props_status", "result")
                series = (function, *(sample.labels.get(label, "") for label in labels))
                counts[series] += int(sample.value)
    return counts
