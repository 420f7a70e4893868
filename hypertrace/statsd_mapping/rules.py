"""Rules: which one a dotted name matches, and the metric and labels that it makes of it."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal, NamedTuple, TypeAlias, get_args

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from hypertrace.metrics import Distribution, Summary

    from .templates import Template

MetricType: TypeAlias = Literal["counter", "gauge", "observer"]
METRIC_TYPES: tuple[MetricType, ...] = get_args(MetricType)

ANY = "*"
"""Part of a glob that any part of a name matches."""

_NO_NAME = re.compile(r"-+|[^a-zA-Z0-9_]")


@dataclass(frozen=True, eq=False)
class Rule:
    """One rule. Immutable.

    Attributes:
        match: the pattern on names.
        regex: the same as a regular expression; None for a glob.
        metric_type: what is matched; None for all types.
        name: of the metric; None drops what matches.
        labels: of the metric, with what makes their values.
        honor_labels: whether tags of a call win over labels of the same name.
        observer: how timers are counted.
        help: one sentence about the metric; empty for none.
        scale: what values are multiplied by.
        where: the rule stands, for messages.
    """

    match: str
    regex: re.Pattern[str] | None
    metric_type: MetricType | None
    name: Template | None
    labels: tuple[tuple[str, Template], ...]
    honor_labels: bool
    observer: Distribution | Summary
    help: str
    scale: float
    where: str

    def takes(self, metric_type: MetricType) -> bool:
        """Return whether the rule is for metrics of a type."""
        return self.metric_type in (None, metric_type)

    def matched(self, captures: Sequence[str]) -> Match:
        """Return what the rule makes of a name with these parts, by the index of references."""
        if self.name is None:
            return Match(self, "", {})
        labels = {label: template.filled(captures) for label, template in self.labels}
        return Match(self, metric_name(self.name.filled(captures)), labels)


class Match(NamedTuple):
    """What a rule makes of a name."""

    rule: Rule
    name: str
    """Of the metric; empty if there is none."""
    labels: dict[str, str]


class Rules:
    """All rules of a mapping. Immutable; any thread may use it.

    Globs are tried before regular expressions, and of these the first one that matches is taken. Of
    globs it is the first one, too, or, where their order does not count, the one that has a text
    instead of `*` in the first part in which two differ.
    """

    def __init__(self, rules: Iterable[Rule], *, ordered: bool = True) -> None:
        """Know the rules.

        Args:
            rules: in their order.
            ordered: whether the order of globs counts.
        """
        self._rules = tuple(rules)
        self._ordered = ordered
        self._globs = {one: _Node() for one in METRIC_TYPES}
        for place, rule in enumerate(self._rules):
            for metric_type in METRIC_TYPES:
                if rule.regex is None and rule.takes(metric_type):
                    self._globs[metric_type].add(rule.match.split("."), place)

    def __iter__(self) -> Iterator[Rule]:
        return iter(self._rules)

    def match(self, name: str, metric_type: MetricType) -> Match | None:
        """Return what the rules make of a name; None if none matches.

        Args:
            name: with dots.
            metric_type: of what is counted.
        """
        parts = name.split(".")
        places = self._globs[metric_type].find(parts)
        place = min(places, default=None) if self._ordered else next(places, None)
        if place is not None:
            rule = self._rules[place]
            pairs = zip(rule.match.split("."), parts, strict=True)
            return rule.matched(["", *(part for glob, part in pairs if glob == ANY)])
        for rule in self._rules:
            found = rule.regex and rule.takes(metric_type) and rule.regex.search(name)
            if found:
                return rule.matched([found[0], *found.groups(default="")])
        return None

    def of_name(self, name: str, metric_type: MetricType) -> list[Rule]:
        """Return the rules that can give a metric of a type this name, in their order."""
        return [
            rule
            for rule in self._rules
            if rule.name is not None and rule.takes(metric_type) and rule.name.may_give(name)
        ]

    def labels_of(self, name: str, metric_type: MetricType) -> list[str]:
        """Return all labels that a metric can get by the rules."""
        rules = self.of_name(name, metric_type)
        return [*dict.fromkeys(label for rule in rules for label, _ in rule.labels)]

    def help_of(self, name: str, metric_type: MetricType) -> str:
        """Return what the first rule that says something about a metric says."""
        return next((rule.help for rule in self.of_name(name, metric_type) if rule.help), "")


@dataclass(slots=True)
class _Node:
    """What globs have in common in the parts up to one."""

    place: int | None = None
    next: dict[str, _Node] = field(default_factory=dict)

    def add(self, parts: Sequence[str], place: int) -> None:
        node = self
        for part in parts:
            node = node.next.setdefault(part, _Node())
        if node.place is None:
            node.place = place

    def find(self, parts: Sequence[str], start: int = 0) -> Iterator[int]:
        """Give the places of the rules that match; texts before `*`."""
        if start == len(parts):
            if self.place is not None:
                yield self.place
            return
        for part in dict.fromkeys((parts[start], ANY)):
            if part in self.next:
                yield from self.next[part].find(parts, start + 1)


def metric_name(text: str) -> str:
    """Return a text as the name of a metric, as statsd_exporter has it."""
    name = _NO_NAME.sub("_", text)
    return f"_{name}" if name[:1].isdigit() else name
