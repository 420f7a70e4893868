"""Live page: the clicks are known, so is all but how long they take exactly."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families


@pytest.fixture(scope="module")
def printed(root: Path) -> tuple[list[str], dict[str, float]]:
    """Run the example with `--once`, and give what it says and the values by series."""
    for module in ("starlette", "uvicorn", "websockets"):
        if not os.environ.get("HYPERTRACE_EVERY_SERVER"):
            pytest.importorskip(module)
    run = subprocess.run(
        [sys.executable, root / "examples" / "live_buttons.py", "--once", "--port", "0"],
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    assert run.stderr == ""
    lines = run.stdout.splitlines(keepends=True)
    said = [line.strip() for line in lines if line.startswith("It is")]
    families = text_string_to_metric_families("".join(lines[len(said) :]))
    values = {
        " ".join([sample.name, *sample.labels.values()]): sample.value
        for family in families
        for sample in family.samples
    }
    return said, values


def test_each_click_changes_the_colour(printed: tuple[list[str], dict[str, float]]) -> None:
    """The page gets the colour of each button that is clicked."""
    assert printed[0] == ["It is red.", "It is yellow.", "It is green.", "It is red."]


def test_each_click_is_measured_by_button(printed: tuple[list[str], dict[str, float]]) -> None:
    """Each button has its clicks and the time that they took, and the connection is open or not."""
    values = printed[1]
    duration = "websocket_server_message_duration_seconds"
    for colour, count, least in (("red", 2, 0.02), ("yellow", 1, 0.05), ("green", 1, 0.2)):
        assert values[f"{duration}_count /live {colour}"] == count
        assert values[f"entry_duration_seconds_count websocket /live {colour} ok"] == count
        # The event loop may wake some microseconds early.
        assert 0.9 * least <= values[f"{duration}_sum /live {colour}"]
    assert values["websocket_server_messages_total /live receive"] == 4
    assert values["websocket_server_messages_total /live transmit"] == 4
    assert values["http_server_request_duration_seconds_count GET 101 /live"] == 1
