"""Configuration: rules from today's format of statsd_exporter, with every mistake reported."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from typing import TYPE_CHECKING, Any, NamedTuple

from hypertrace.metrics import Distribution, Summary
from hypertrace.metrics.allowlist import reason_against

from .rules import ANY, METRIC_TYPES, Rule, Rules
from .templates import Template

if TYPE_CHECKING:
    Config = Mapping[str, Any]

_TOP = ("defaults", "mappings")
_BOTH = ("match_type", "observer_type", "ttl", "histogram_options", "summary_options")
_OF_DEFAULTS = ("glob_disable_ordering", *_BOTH)
_OF_RULE = (
    *("match", "name", "labels", "honor_labels", "help", "action", "match_metric_type", "scale"),
    *_BOTH,
)
_OPTIONS = {
    "histogram_options": ("buckets",),
    "summary_options": ("quantiles", "max_age", "age_buckets", "buf_cap"),
}
_OLD = {
    "timer_type": ("observer_type",),
    "buckets": ("histogram_options", "buckets"),
    "quantiles": ("summary_options", "quantiles"),
}
"""Keys of former releases, and where the value stands today."""
_UNSUPPORTED = {
    "ttl": "series stay as long as the process does",
    "native_histogram_bucket_factor": "metrics.distribution(name, labels, native=True) before the "
    "first call makes the metric a native histogram",
    "native_histogram_max_buckets": "native histograms have a limit already",
}
"""What is not there, and what to know about it."""

_GLOB = re.compile(r"(?:\*|[a-zA-Z_][a-zA-Z0-9_-]*)(?:\.(?:\*|[a-zA-Z0-9_][a-zA-Z0-9_-]*))*")
_NAME = re.compile(r"[a-zA-Z0-9_]*")
_LABEL = re.compile(r"[a-zA-Z_][a-zA-Z0-9_]*")
_DURATION = re.compile(r"(\d+(?:\.\d*)?|\.\d+)(ns|us|µs|ms|s|m|h)")
_SECONDS = {"ns": 1e-9, "us": 1e-6, "µs": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0}
_OF_GO = re.compile(r"\\[pPQEzC]|\(\?<[A-Za-z_]|\[:\^?[a-z]+:\]")
"""What regular expressions of Go have, and those of Python do not, or read as something else."""


class Lines(NamedTuple):
    """Where the rules of a file stand."""

    file: str
    numbers: Sequence[int]
    """Of each rule, from 1."""


def rules_of(config: Config | Sequence[Config], lines: Lines | None = None) -> Rules:
    """Return the rules of a configuration.

    Args:
        config: with `mappings` and perhaps `defaults`; or the list that `mappings` is.
        lines: where its rules stand; None if it is of no file.

    Raises:
        TypeError: it is no mapping and no list.
        ValueError: something in it is wrong, or not there in hypertrace. The message names the
            place, the value and what to do.
    """
    if isinstance(config, Sequence) and not isinstance(config, str | bytes):
        config = {"mappings": config}
    if not isinstance(config, Mapping):
        raise TypeError(
            "a mapping has the key 'mappings' with a list of rules, as "
            f'{{"mappings": [{{"match": "a.*", "name": "a"}}]}}, not {config!r}'
        )
    file = "mapping" if lines is None else lines.file
    top = _Section(file, config, _TOP)
    defaults = _Section(f"{file}, defaults", _modern(file, top.table("defaults")), _OF_DEFAULTS)
    rules = [
        _rule(_Section(where, _modern(where, given), _OF_RULE), defaults)
        for where, given in _places(top, lines)
    ]
    _check_observers(rules)
    return Rules(rules, ordered=not defaults.flag("glob_disable_ordering"))


def check_labels(rules: Rules) -> None:
    """Check that hypertrace can show the labels of rules.

    Raises:
        ValueError: it cannot. The message says why, and what to do.
    """
    for rule in rules:
        for label, _ in rule.labels:
            reason = reason_against(label)
            if reason is not None:
                raise _error(rule.where, f"label {label!r} {reason}; give it another name")


class _Section:
    """A part of a configuration that has keys."""

    def __init__(self, where: str, given: Config, known: Sequence[str]) -> None:
        self.where = where
        self.given = {key: value for key, value in given.items() if value is not None}
        for key in self.given:
            if key in known:
                continue
            if key in _UNSUPPORTED:
                raise self.error(f"{key} is not supported; leave it out: {_UNSUPPORTED[key]}")
            close = get_close_matches(str(key), known, 1)
            hint = f"did you mean {close[0]!r}? There" if close else "there"
            raise self.error(f"no key is called {key!r}; {hint} are {', '.join(known)}")
        if self.given.get("ttl") not in (None, 0, "0", "0s"):
            raise self.error(f"ttl is not supported; leave it out: {_UNSUPPORTED['ttl']}")

    def error(self, message: str) -> ValueError:
        return _error(self.where, message)

    def text(self, key: str) -> str:
        value = self.given.get(key, "")
        if not isinstance(value, str):
            raise self.error(f"{key} must be a text, not {value!r}; write it in quotes")
        return value

    def flag(self, key: str) -> bool:
        value = self.given.get(key, False)
        if not isinstance(value, bool):
            raise self.error(f"{key} must be true or false, not {value!r}")
        return value

    def number(self, key: str, default: float) -> float:
        value = self.given.get(key, default)
        try:
            # YAML of Go reads 1e-6 as a number, that of Python as a text.
            return float(value) if type(value) in (int, float, str) else float(None)  # type: ignore[arg-type]
        except (TypeError, ValueError):
            raise self.error(f"{key} must be a number, not {value!r}") from None

    def choice(self, key: str, *accepted: str) -> str:
        """Return one of some words, empty if it is not given."""
        word = self.text(key)
        if word and word not in accepted:
            choice = " or ".join(map(repr, accepted))
            raise self.error(f"{key} must be {choice}, not {word!r}")
        return word

    def table(self, key: str) -> Config:
        value = self.given.get(key, {})
        if not isinstance(value, Mapping):
            raise self.error(f"{key} must have keys with values, not {value!r}")
        return value

    def options(self, key: str) -> _Section:
        return _Section(f"{self.where}, {key}", self.table(key), _OPTIONS[key])


def _error(where: str, message: str) -> ValueError:
    return ValueError(f"{where}: {message}")


def _places(top: _Section, lines: Lines | None) -> list[tuple[str, Config]]:
    """Return the rules, with where they stand."""
    rules = top.given.get("mappings", ())
    if not isinstance(rules, Sequence) or isinstance(rules, str):
        raise top.error(f"mappings must be a list of rules, not {rules!r}")
    found = []
    for index, rule in enumerate(rules):
        where = top.where
        where += f", rule {index + 1}" if lines is None else f", line {lines.numbers[index]}"
        if not isinstance(rule, Mapping):
            raise _error(where, f"a rule has keys, as match and name; this is {rule!r}")
        if isinstance(rule.get("match"), str):
            where += f", match {rule['match']!r}"
        found.append((where, rule))
    return found


def _modern(where: str, given: Config) -> Config:
    """Return a section with the keys of former releases where they are today."""
    found = dict(given)
    for old, (key, *inner) in _OLD.items():
        value = found.pop(old, None)
        if value is None:
            continue
        before = found.get(key)
        options = before if isinstance(before, Mapping) else {}
        if inner[0] in options if inner else before is not None:
            today = ".".join((key, *inner))
            raise _error(where, f"{old} and {today} are the same; give {today} alone")
        found[key] = {**options, inner[0]: value} if inner else value
    return found


def _rule(section: _Section, defaults: _Section) -> Rule:
    match = section.text("match")
    if not match:
        raise section.error('match is missing: the pattern on names, as match: "shop.*.paid"')
    kinds = "glob", "regex"
    is_glob = (section.choice("match_type", *kinds) or defaults.choice("match_type", *kinds)) in (
        "",
        "glob",
    )
    regex = None if is_glob else _regex(section, match)
    groups = _groups_of_glob(section, match) if regex is None else _groups_of(regex)
    is_dropped = section.choice("action", "map", "drop") == "drop"
    metric_type: Any = section.choice("match_metric_type", *METRIC_TYPES)
    return Rule(
        match=match,
        regex=regex,
        metric_type=metric_type or None,
        name=None if is_dropped else _name(section, groups),
        labels=tuple(_labels(section, groups)),
        honor_labels=section.flag("honor_labels"),
        observer=_observer(section, defaults),
        help=section.text("help"),
        scale=section.number("scale", 1.0),
        where=section.where,
    )


def _groups_of_glob(section: _Section, match: str) -> dict[str, int]:
    if not _GLOB.fullmatch(match):
        raise section.error(
            f"match {match!r} is no glob: between dots it has '*' alone, or letters, digits, '_' "
            "and '-', and no digit first in the first part; for all else write match_type: regex"
        )
    return {str(n + 1): n + 1 for n in range(match.split(".").count(ANY))}


def _regex(section: _Section, match: str) -> re.Pattern[str]:
    found = _OF_GO.search(match)
    if found is not None:
        raise section.error(
            f"match {match!r} has {found.group()!r}, which regular expressions of Python do not "
            r"have; write it as they do, as [a-zA-Z], (?P<name>…) or \Z"
        )
    try:
        return re.compile(match, re.ASCII)
    except re.error as error:
        raise section.error(f"match {match!r} is no regular expression: {error}") from error


def _groups_of(regex: re.Pattern[str]) -> dict[str, int]:
    return {**{str(n): n for n in range(regex.groups + 1)}, **regex.groupindex}


def _name(section: _Section, groups: Mapping[str, int]) -> Template:
    text = section.text("name")
    if not text:
        raise section.error(
            'name is missing: that of the metric, as name: "orders_total"; or write action: drop '
            "to count nothing"
        )
    name = _template(section, text, groups, "name")
    if not _NAME.fullmatch(name.literal) or text[0].isdigit():
        raise section.error(
            f"name {text!r} is no name of a metric: it takes letters, digits, '_' and references "
            "as ${1}, and no digit first"
        )
    return name


def _labels(section: _Section, groups: Mapping[str, int]) -> list[tuple[str, Template]]:
    found = []
    for label, value in section.table("labels").items():
        if not isinstance(label, str) or not _LABEL.fullmatch(label):
            raise section.error(
                f"{label!r} is no name of a label: it takes letters, digits and '_', and no digit "
                "first"
            )
        text = str(value) if type(value) is int else value
        if not isinstance(text, str):
            raise section.error(
                f"label {label!r} must be a text, not {value!r}; write it in quotes"
            )
        found.append((label, _template(section, text, groups, f"label {label!r}")))
    return found


def _template(section: _Section, text: str, groups: Mapping[str, int], what: str) -> Template:
    try:
        return Template(text, groups, what)
    except ValueError as error:
        raise section.error(str(error)) from None


def _observer(section: _Section, defaults: _Section) -> Distribution | Summary:
    """Return how timers are counted, as the declaration of a metric."""
    kinds = "histogram", "summary"
    kind = section.choice("observer_type", *kinds) or defaults.choice("observer_type", *kinds)
    is_histogram = kind == "histogram"
    used, unused = [f"{one}_options" for one in (kinds if is_histogram else reversed(kinds))]
    if unused in section.given:
        raise section.error(
            f"{unused} is given, and timers become a {kind or 'summary'}; write observer_type: "
            f"{unused.removesuffix('_options')}, or leave it out"
        )
    by_default, own = defaults.options(used), section.options(used)
    defaults.options(unused)  # is checked, too
    both = _Section(own.where, {**by_default.given, **own.given}, _OPTIONS[used])
    try:
        if is_histogram:
            return Distribution("timers", buckets=both.given.get("buckets") or None)
        return Summary("timers", **_summary_options(both))
    except (TypeError, ValueError) as error:
        raise both.error(str(error).partition("'timers': ")[2] or str(error)) from None


def _summary_options(section: _Section) -> dict[str, Any]:
    options: dict[str, Any] = {}
    if quantiles := section.given.get("quantiles"):
        try:
            options["quantiles"] = [one["quantile"] for one in quantiles]
        except (TypeError, KeyError):
            raise section.error(
                f"quantiles must be a list as [{{quantile: 0.99, error: 0.001}}], not {quantiles!r}"
            ) from None
    if max_age := section.given.get("max_age"):
        options["max_age"] = _seconds(section, max_age)
    return options


def _seconds(section: _Section, duration: object) -> float:
    text = duration if isinstance(duration, str) else ""
    if not text or _DURATION.sub("", text):
        raise section.error(
            f"max_age must be a time with its unit, as 10m or 1h30m, not {duration!r}"
        )
    return sum(float(number) * _SECONDS[unit] for number, unit in _DURATION.findall(text))


def _check_observers(rules: Sequence[Rule]) -> None:
    """Check that rules for timers of one metric count them in one way.

    Raises:
        ValueError: two do not.
    """
    first: dict[str, Rule] = {}
    for rule in rules:
        if rule.name is None or not rule.takes("observer"):
            continue
        other = first.setdefault(rule.name.text, rule)
        if other.observer != rule.observer:
            raise _error(
                rule.where,
                f"timers of {rule.name.text!r} are {_shown(rule)}, and those of match "
                f"{other.match!r} {_shown(other)}; give both the same, or other names",
            )


def _shown(rule: Rule) -> str:
    observer = rule.observer
    if isinstance(observer, Distribution):
        return f"a histogram with buckets {[*observer.buckets] if observer.buckets else 'as usual'}"
    return f"a summary with quantiles {[*observer.quantiles]} of {observer.max_age:g} seconds"
