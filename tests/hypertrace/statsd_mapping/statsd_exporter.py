"""Model of statsd_exporter: what it makes of lines by a mapping, written as its manual says.

It is slow and simple, and shares nothing with what is tested.
"""

from __future__ import annotations

import re
from collections import defaultdict
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

TYPES = {"c": "counter", "g": "gauge", "ms": "observer", "h": "observer", "d": "observer"}


class Sample(NamedTuple):
    """A metric with labels, as Prometheus would show it."""

    name: str
    labels: frozenset[tuple[str, str]]


def matching(
    mapping: Mapping[str, Any], name: str, metric_type: str
) -> tuple[Mapping[str, Any], Sequence[str]] | None:
    """Return the rule that a name matches, with the parts that `$0`, `$1` and so on mean."""
    defaults = mapping.get("defaults") or {}
    kind = defaults.get("match_type", "glob")
    found = []
    for rule in mapping["mappings"]:
        if rule.get("match_metric_type", metric_type) != metric_type:
            continue
        if rule.get("match_type", kind) != "glob":
            continue
        pattern = re.escape(rule["match"]).replace(r"\*", "([^.]*)")
        if match := re.fullmatch(pattern, name):
            found.append((rule, [name, *match.groups()]))
    if found and defaults.get("glob_disable_ordering"):
        # The most specific one at each level, from the left.
        return min(found, key=lambda one: [part == "*" for part in one[0]["match"].split(".")])
    if found:
        return found[0]
    for rule in mapping["mappings"]:
        if rule.get("match_metric_type", metric_type) != metric_type:
            continue
        if rule.get("match_type", kind) != "regex":
            continue
        if match := re.search(rule["match"], name, re.ASCII):
            return rule, [match[0], *match.groups(default="")]
    return None


def filled(template: str, parts: Sequence[str]) -> str:
    return re.sub(r"\$(?:(\d+)|\{(\d+)\})", lambda m: parts[int(m[1] or m[2])], template)


def series_of(
    mapping: Mapping[str, Any], name: str, metric_type: str
) -> tuple[str, dict[str, str]] | None:
    """Return the metric and the labels of a name; None if no rule matches."""
    found = matching(mapping, name, metric_type)
    if found is None:
        return None
    rule, parts = found
    labels = {label: filled(text, parts) for label, text in (rule.get("labels") or {}).items()}
    return filled(rule["name"], parts), labels


def received(mapping: Mapping[str, Any], lines: Iterable[str]) -> dict[Sample, list[float]]:
    """Return what comes of lines: of each series the values of a timer, one sum, or one value."""
    found: dict[Sample, list[float]] = defaultdict(list)
    for line in lines:
        name, _, rest = line.partition(":")
        numbers, kind, *more = rest.split("|")
        series = series_of(mapping, name, TYPES[kind])
        assert series is not None, f"no rule for {name}"
        tags = [pair.partition(":") for one in more if one[0] == "#" for pair in one[1:].split(",")]
        labels = {**{key: value for key, _, value in tags}, **series[1]}
        values = found[Sample(series[0], frozenset(labels.items()))]
        rate = next((float(one[1:]) for one in more if one.startswith("@")), 1.0)
        for number in numbers.split(":"):
            value = float(number)
            if kind == "c":
                values[:] = [sum(values) + value / rate]
            elif kind == "g":
                values[:] = [sum(values) + value if number[0] in "+-" else value]
            else:
                values += [value / 1000 if kind == "ms" else value] * int(1 / rate)
    return found
