"""Exemplars: labels that lead from a bucket of a histogram to the trace of a span in it."""

from __future__ import annotations

import re
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import Any

    ExemplarFunction = Callable[[], Mapping[str, str] | None]

MAX_LENGTH = 128
"""Characters that the names and values of an exemplar may have together, says OpenMetrics 1.0:
https://github.com/prometheus/OpenMetrics/blob/v1.0.0/specification/OpenMetrics.md#exemplars
"""

_LABEL_NAME = re.compile(r"(?!__)[a-zA-Z_][a-zA-Z0-9_]*")


def opentelemetry_exemplar() -> Mapping[str, str] | None:
    """Return the ids of OpenTelemetry's current span if it is sampled, else None.

    Costs two look-ups as long as the application has not set a tracer provider of OpenTelemetry.
    """
    trace = _traces()
    if trace is None:
        return None
    context = trace.get_current_span().get_span_context()
    if not context.is_valid or not context.trace_flags.sampled:
        return None
    return {"trace_id": f"{context.trace_id:032x}", "span_id": f"{context.span_id:016x}"}


def is_never(function: ExemplarFunction | None) -> bool:
    """Return whether there are no exemplars, as far as is known now."""
    if function is opentelemetry_exemplar:
        return _traces() is None
    return function is None


def _traces() -> Any:
    """Return the module `opentelemetry.trace` if the application uses it, else None.

    Many libraries load it, and so does an exporter of metrics; only with a tracer provider do its
    spans have ids.
    """
    trace = sys.modules.get("opentelemetry.trace")
    # Its function for that takes a microsecond, and may load a provider.
    has_provider = getattr(trace, "_TRACER_PROVIDER", trace) is not None
    return trace if has_provider else None


def ask(function: ExemplarFunction) -> Mapping[str, str] | None:
    """Return the exemplar that a function gives to the span that ends now, as it may be shown.

    Raises:
        Exception: whatever the function raises, and what `checked()` does.
    """
    return checked(function())


def checked(exemplar: Mapping[str, str] | None) -> Mapping[str, str] | None:
    """Return an exemplar as it may be shown, None if it is none or empty.

    Raises:
        ValueError: it is longer than OpenMetrics allows, or has a name or a value that would make
            the page unreadable.
    """
    if not exemplar:
        return None
    # str.__str__: what an object gives as its text may be an instance of a subclass of str.
    texts = {str.__str__(str(name)): str.__str__(str(value)) for name, value in exemplar.items()}
    for name, value in texts.items():
        if not _LABEL_NAME.fullmatch(name):
            raise ValueError(f"the exemplar {texts!r} has {name!r}, which is no name of a label")
        value.encode()  # a lone surrogate raises
        if "\0" in value:
            raise ValueError(
                f"the exemplar {texts!r} has a NUL, for which Prometheus refuses a page"
            )
    length = sum(len(name) + len(value) for name, value in texts.items())
    if length > MAX_LENGTH:
        raise ValueError(
            f"the exemplar {texts!r} has {length} characters; OpenMetrics allows {MAX_LENGTH}"
        )
    return texts
