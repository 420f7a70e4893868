"""Orders: what is ordered is known, so is all but how long it takes."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families


@pytest.fixture(scope="module")
def printed(root: Path) -> tuple[list[str], dict[str, float]]:
    """Run the example with `--once`, and give what it says and the values by series."""
    for module in ("fastapi", "uvicorn", "httpx", "sqlalchemy"):
        if not os.environ.get("HYPERTRACE_EVERY_SERVER"):
            pytest.importorskip(module)
    run = subprocess.run(
        [sys.executable, root / "examples" / "orders.py", "--once", "--port", "0"],
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    assert run.stderr == ""
    lines = run.stdout.splitlines(keepends=True)
    said = [line.strip() for line in lines if ": " in line]
    families = text_string_to_metric_families("".join(lines[len(said) :]))
    values = {
        " ".join([sample.name, *(sample.labels[name] for name in sorted(sample.labels))]): (
            sample.value
        )
        for family in families
        for sample in family.samples
    }
    return said, values


def test_the_service_takes_orders(printed: tuple[list[str], dict[str, float]]) -> None:
    """Each order and each question is answered."""
    assert printed[0] == [
        *("tea: 201", "pot: 201", "tea: 201", "crown: 409"),
        *("/v1/orders/1: 200", "/v1/orders/99: 404", "/nothing: 404"),
    ]


@pytest.mark.parametrize(
    ("series", "count"),
    [
        ("http_server_request_duration_seconds_count POST 201 /v1/orders", 3),
        ("http_server_request_duration_seconds_count POST 409 /v1/orders", 1),
        ("http_server_request_duration_seconds_count GET 200 /v1/orders/{id:int}", 1),
        ("http_server_request_duration_seconds_count GET 404 /v1/orders/{id:int}", 1),
        ("http_server_request_duration_seconds_count GET 200 /supplier/{item}", 3),
        ("http_server_request_duration_seconds_count GET 404 <unmatched>", 1),
        ("entry_duration_seconds_count http POST /v1/orders ok", 4),
        ("db_client_operation_duration_seconds_count orders INSERT sqlite", 3),
        ("model_events_total create __main__ Order", 3),
    ],
)
def test_the_page_has_what_was_done(
    printed: tuple[list[str], dict[str, float]], series: str, count: int
) -> None:
    """Requests are counted by route and status, statements by table, objects by model."""
    assert printed[1][series] == count


def test_the_calls_of_the_supplier_are_measured(
    printed: tuple[list[str], dict[str, float]],
) -> None:
    """Each order asks the supplier once, by the host; the customers of the example ask, too."""
    calls = [
        value
        for series, value in printed[1].items()
        if series.startswith("http_client_request_duration_seconds_count")
    ]
    assert sum(calls) == 4 + 7
