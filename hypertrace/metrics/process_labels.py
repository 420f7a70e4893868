"""Process labels: what a whole process is, from the program and from its environment.

The names are those of OpenTelemetry's resource attributes, or any other ones. Its variables are
read as its specification says: https://opentelemetry.io/docs/specs/otel/resource/sdk/
"""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping
from contextlib import suppress
from functools import lru_cache
from typing import TYPE_CHECKING

from hypertrace import suppress_tracing

from .allowlist import reason_against
from .labels import clean

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

SERVICE_VARIABLE = "HYPERTRACE_SERVICE"
OPENTELEMETRY_SERVICE = "OTEL_SERVICE_NAME"
OPENTELEMETRY_ATTRIBUTES = "OTEL_RESOURCE_ATTRIBUTES"

_SHORT = {"service": "service_name", "version": "service_version"}
"""Names that mean the same as one of OpenTelemetry."""

_SHOWN = 100
"""Characters of a faulty part of a variable that go into the log."""

_NO_ESCAPE = re.compile("%(?![0-9A-Fa-f]{2})")

_logger = logging.getLogger("hypertrace.metrics")


def process_labels(
    given: Mapping[str, str] | None,
    environment: Mapping[str, str],
    text: Callable[[object], str],
) -> dict[str, str]:
    """Return the labels of the process; those given win over those of the environment.

    Of the variables, HYPERTRACE_SERVICE wins over OTEL_SERVICE_NAME, and this over
    OTEL_RESOURCE_ATTRIBUTES. A label without a value is left out. What is wrong in the environment
    is logged and ignored: it is often not the one of the program's author.

    Args:
        given: by the program; None is none.
        environment: of the process.
        text: returns a value as the text of a label.

    Raises:
        TypeError: they are no mapping of texts.
        ValueError: a name is refused. The message says which, and what to do.
    """
    checked = _checked({} if given is None else given)
    found = {_meaning(name): (name, value) for name, value in _of_environment(environment) if value}
    found |= {_meaning(name): (name, value) for name, value in checked.items()}
    return {name: text(value) for name, value in found.values() if value}


def _checked(given: object) -> Mapping[str, str]:
    if not isinstance(given, Mapping):
        raise TypeError(f'labels must map names to texts, as {{"service": "shop"}}, not {given!r}')
    names: dict[str, str] = {}
    for name, value in given.items():
        if not isinstance(name, str):
            raise TypeError(f"labels must have names (str), not {name!r}")
        if reason := _reason_against(name):
            raise ValueError(f"labels {name!r} {reason}; choose another name")
        if not isinstance(value, str):
            raise TypeError(f"labels[{name!r}] must be a str, not {value!r}; use str() on it")
        other = names.setdefault(_meaning(name), name)
        if other != name:
            raise ValueError(f"labels {other!r} and {name!r} are the same label; give one of them")
    return given


def _reason_against(name: str) -> str | None:
    if not name or clean(name)[0].isdigit():
        return "is no name of a label: it begins with a letter or '_'"
    return reason_against(name)


def _meaning(name: str) -> str:
    """Return the same text for names that mean the same label."""
    cleaned = clean(name)
    return _SHORT.get(cleaned, cleaned)


def _of_environment(environment: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    """Yield names and values, those that win over others after them."""
    for name, value in _attributes(environment.get(OPENTELEMETRY_ATTRIBUTES, "")):
        if reason := _reason_against(name):
            _report(f"attribute {name[:_SHOWN]!r}", f"it {reason}")
        else:
            yield name, value
    yield "service.name", environment.get(OPENTELEMETRY_SERVICE, "")
    yield "service", environment.get(SERVICE_VARIABLE, "")


def _attributes(text: str) -> list[tuple[str, str]]:
    """Return what a variable in the format of W3C's baggage says; nothing if a part is wrong."""
    found = []
    for part in filter(None, map(str.strip, text.split(","))):
        name, sign, value = part.partition("=")
        try:
            if not sign or not name.strip():
                raise ValueError("is no name=value")  # noqa: TRY301
            found.append((_decoded(name.strip()), _decoded(value.strip())))
        except ValueError as error:
            # Without the value, which may be meant to be a secret.
            _report("all of it", f"its part {name[:_SHOWN]!r} {error}")
            return []
    return found


def _decoded(text: str) -> str:
    if "%" not in text:
        return text
    if _NO_ESCAPE.search(text):
        raise ValueError("has a % without two hexadecimal digits; a % itself is written %25")
    from urllib.parse import unquote_to_bytes

    try:
        return unquote_to_bytes(text).decode()
    except UnicodeDecodeError:
        raise ValueError("is no UTF-8 after percent-decoding") from None


@lru_cache(maxsize=64)
def _report(ignored: str, reason: str) -> None:
    """Log once for each reason why something of the environment is ignored."""
    with suppress(Exception):  # a broken log handler must not end the application
        suppress_tracing(
            _logger.warning, "In %s, %s is ignored: %s", OPENTELEMETRY_ATTRIBUTES, ignored, reason
        )
