"""Checkout with declared metrics: always the same work, so all but the durations is known."""

import subprocess
import sys
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families


@pytest.fixture(scope="module")
def values(root: Path) -> dict[str, float]:
    """Run the example with `--once`, and give the values on its page by series."""
    run = subprocess.run(
        [sys.executable, root / "examples" / "checkout.py", "--once", "--port", "0"],
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    refused, address, page = run.stdout.split("\n", 2)
    assert refused == "Refused: {'method': 'coins', 'items': 1, 'price': 9}"
    assert address.startswith("The metrics are at http://127.0.0.1:")
    assert run.stderr == ""
    return {
        " ".join((sample.name, *(f"{k}={v}" for k, v in sorted(sample.labels.items())))): (
            sample.value
        )
        for family in text_string_to_metric_families(page)
        for sample in family.samples
    }


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        (
            "checkouts_total",
            {
                "method=card result=ok tier=gold": 1,
                "method=card result=ok tier=basic": 1,
                "method=invoice result=ok tier=gold": 1,
                "method=coins result=error tier=basic": 1,
            },
        ),
        ("revenue_total", {"tier=gold": 46, "tier=basic": 25}),
        ("last_price", {"": 9}),
        ("cart_items_bucket", {"le=1.0": 2, "le=2.0": 3, "le=4.0": 4, "le=8.0": 4, "le=+Inf": 4}),
        ("cart_items_sum", {"": 7}),
        ("checkout_seconds_count", {"": 4}),
        ("confirmations_total", {"channel=mail": 1}),
        ("confirmations_waiting", {"": 2}),
    ],
)
def test_the_page_has_each_metric(
    values: dict[str, float], name: str, expected: dict[str, float]
) -> None:
    """Declared metrics, those that code counts, and the one that is read are on the page."""
    found = {
        labels: value
        for (start, _, labels), value in (
            (series.partition(" "), v) for series, v in values.items()
        )
        if start == name
    }
    assert found == expected


def test_the_quantiles_are_durations(values: dict[str, float]) -> None:
    """The median of the checkouts is some time, and not above the 99th percentile."""
    median, high = (values[f"checkout_seconds quantile={q}"] for q in ("0.5", "0.99"))
    assert 0 < median <= high < 5


def test_nothing_went_wrong(values: dict[str, float]) -> None:
    """No error was swallowed, and the handler lost no event."""
    assert values["hypertrace_swallowed_errors_total"] == 0
    assert values["hypertrace_dropped_handler_events_total"] == 0
