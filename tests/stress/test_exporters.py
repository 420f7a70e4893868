"""Exporters that push: receivers that fail, refuse or hang cost the application nothing."""

from collections.abc import Callable
from typing import Any

Run = Callable[..., dict[str, Any]]
Scale = Callable[[Any, Any], Any]
Note = Callable[..., None]


def test_broken_receivers(run: Run, scale: Scale, figure: Note) -> None:
    """While three exporters push into broken receivers, the application goes on as without them."""
    found = run(
        "exporters.broken_receivers",
        240,
        rounds=scale(3, 9),
        seconds=scale(0.7, 3.0),
        interval=scale(0.3, 2.0),
        series=300,
    )
    share, pace = 100 * found["share"], 100 * found["pace"]
    figure("CPU that the application keeps with three broken receivers", share, "%", "≥ 98 %")
    figure("its pace, against that without exporters", pace, "%", "≥ 95 %")
    figure("calls that are missing meanwhile", found["missing"], "", "= 0")
    assert found["failures"] > 0
    assert found["missing"] == 0
    assert found["share"] >= scale(0.8, 0.98)
    assert found["pace"] >= scale(0.6, 0.95)
