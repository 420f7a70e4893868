"""Shop: always the same work, so the numbers are known."""

import subprocess
import sys
from collections import Counter
from pathlib import Path

from prometheus_client.parser import text_string_to_metric_families


def test_the_shop_prints_what_it_did(root: Path) -> None:
    """`python examples/shop.py --once` ends by itself, and its page has every call in it."""
    run = subprocess.run(
        [sys.executable, root / "examples" / "shop.py", "--once", "--port", "0"],
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    summary, page = run.stdout.split("\n", 1)
    assert summary.startswith("Sold for 84. The metrics are at http://127.0.0.1:")
    assert run.stderr == ""
    assert _calls(page) == {
        "Shop.serve town=Bergen": 5,
        "Cart.add channel=web": 4,
        "Cart.add channel=phone": 6,
        "Cart.total channel=web": 3,
        "Cart.total channel=phone": 2,
        "Warehouse.take town=Bergen outcome=taken": 8,
        "Warehouse.take town=Bergen outcome=sold out": 2,
    }


def _calls(page: str) -> Counter[str]:
    calls: Counter[str] = Counter()
    for family in text_string_to_metric_families(page):
        for sample in family.samples:
            if sample.name == "function_counter_total":
                assert sample.labels["caller_filename"] == "shop.py"
                calls[_title(sample.labels)] += int(sample.value)
    return calls


def _title(labels: dict[str, str]) -> str:
    props = {
        "town": labels.get("object_props_town"),
        "channel": labels.get("object_props_channel"),
        "outcome": labels.get("caller_props_outcome"),
    }
    shown = "".join(f" {name}={value}" for name, value in props.items() if value)
    return f"{labels['object_classname']}.{labels['caller_functionname']}{shown}"
