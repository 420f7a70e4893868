"""Fixtures for the tests of the counts."""

from collections.abc import Callable
from typing import Any, TypeAlias

import pytest

from hypertrace import set_trace_function
from hypertrace.metrics import Metrics

Count: TypeAlias = Callable[..., Metrics]


@pytest.fixture
def count() -> Count:
    """Give a function that makes metrics, and sets them."""

    def make(**settings: Any) -> Metrics:
        metrics = Metrics(**settings)
        set_trace_function(metrics)
        return metrics

    return make
