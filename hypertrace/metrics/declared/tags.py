"""Tags of declared metrics: the labels of a metric, and their texts for an event."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from difflib import get_close_matches
from typing import TYPE_CHECKING, Any, TypeAlias

from hypertrace.metrics.allowlist import RESERVED, looks_secret
from hypertrace.metrics.labels import clean

from .guard import FAILED, guarded
from .paths import SCOPES, parsed

if TYPE_CHECKING:
    from collections.abc import Hashable

    from hypertrace import TracedObject, TraceEvent
    from hypertrace.metrics.labels import Labeller, Values

    from .kinds import DeclaredMetric

    Props = Mapping[str, object]

Tags: TypeAlias = "tuple[tuple[str, str], ...]"
"""Pairs of a label and the path of its values."""
Texts: TypeAlias = "Callable[[Any], object] | frozenset[tuple[object, str]]"
"""How values become texts: a function of the value, or pairs of a value and its text."""
TagValues: TypeAlias = "tuple[tuple[str, Texts], ...]"
GivenTagValues: TypeAlias = "Mapping[str, Callable[[Any], object] | Mapping[Any, str]]"

_LABEL = re.compile(r"[a-zA-Z_][a-zA-Z0-9_]*")


def checked_tags(tags: object) -> Tags:
    """Return tags as pairs of label and path.

    Args:
        tags: names of facts and props; a mapping from labels to paths; or such pairs.

    Raises:
        TypeError: they are something else.
        ValueError: a label is no name that Prometheus takes, belongs to it, or is there twice; or
            no prop can have a name. The message says which, and what to do.
    """
    pairs: dict[str, str] = {}
    for label, path in _pairs(tags):
        _check_label(label, path)
        if label in pairs:
            raise ValueError(
                f"tags {pairs[label]!r} and {path!r} would both become the label {label!r}; give "
                f"one of them another label, as {{{label!r}: {pairs[label]!r}, "
                f"'{label}_2': {path!r}}}"
            )
        pairs[label] = path
    return tuple(pairs.items())


def checked_tag_values(tag_values: object, tags: Tags) -> TagValues:
    """Return for each label how its values become texts.

    Args:
        tag_values: mapping from labels to functions or mappings; or what this function returned.
        tags: those of the metric.

    Raises:
        TypeError: it is something else.
        ValueError: a label that is none of the metric, or a tag named like a secret without a
            function.
    """
    given = dict(_tag_value_pairs(tag_values))
    labels = [label for label, _ in tags]
    for label in given:
        if label not in labels:
            close = get_close_matches(label, labels, 1)
            hint = f"did you mean {close[0]!r}? It" if close else "it"
            raise ValueError(
                f"tag_values has {label!r}, which is no label of the metric; {hint} has "
                f"{', '.join(map(repr, labels)) or 'none'}"
            )
    for label, path in tags:
        if looks_secret(parsed(path, "tags").name) and not callable(given.get(label)):
            raise ValueError(
                f"tags has {path!r}, which looks like a secret, and its values would be on the "
                "page; leave it out, rename it where it is traced, or give a function that makes a "
                f"text of each value: tag_values={{{label!r}: …}}, with str to show it as it is"
            )
    return tuple((label, _checked_texts(label, given[label])) for label in labels if label in given)


def shown_tags(tags: Tags) -> tuple[str, ...] | dict[str, str]:
    """Return tags in the shortest form in which they can be given."""
    if all(label == clean(path) and not _names_a_place(path) for label, path in tags):
        return tuple(path for _, path in tags)
    return dict(tags)


def shown_tag_values(tag_values: TagValues) -> dict[str, object]:
    """Return what makes texts of values, as it can be given."""
    return {
        label: texts if callable(texts) else dict(sorted(texts, key=repr))
        for label, texts in tag_values
    }


class _Tag:
    """One tag of a metric: finds the text of its label."""

    __slots__ = ("_function", "_mapping", "_text", "path")

    def __init__(self, path: str, texts: Texts | None, labeller: Labeller) -> None:
        self.path = parsed(path, "tags")
        self._text = labeller.text
        self._function = texts if callable(texts) else None
        self._mapping = None if texts is None or callable(texts) else dict(texts)

    def text(self, value: object) -> str | None:
        """Return the text of a value, None if a function raised."""
        if value is None:
            return ""
        if self._function is not None:
            value = guarded(self._function, value)
        elif self._mapping is not None:
            value = guarded(self._mapped, value, self._mapped)
        if value is None:
            return ""
        return None if value is FAILED else self._text(value)

    def item(self, event: TraceEvent) -> object:
        """Return the value of an event as it is, or the text that `tag_values` makes of it.

        None without a value, `FAILED` if a function raised.
        """
        value = self.path.of_event(event)
        if value is None or (self._function is None and self._mapping is None):
            return value
        text = self.text(value)
        return FAILED if text is None else text

    def _mapped(self, value: object) -> object:
        try:
            return self._mapping.get(value, value)  # type: ignore[union-attr]  # it is there
        except TypeError:  # it cannot be hashed
            return value


class MetricTags:
    """The tags of one metric. Immutable; any thread may use it.

    Its methods never raise for what a value does, but for what a function raises while the trace
    function is strict.

    Attributes:
        label_names: of all tags, in their order.
        names_of_call_props: names of the props of a call that tags look at.
    """

    def __init__(self, metric: DeclaredMetric, labeller: Labeller) -> None:
        """Resolve the tags of a metric.

        Args:
            metric: its declaration.
            labeller: makes the texts of labels.
        """
        texts = dict(metric.tag_values)
        self.label_names: tuple[str, ...] = metric.labels
        self._tags = [_Tag(path, texts.get(label), labeller) for label, path in metric.tags]
        paths = [tag.path for tag in self._tags]
        # Each once, in their order.
        looked = dict.fromkeys(path.name for path in paths if path.looks_in_call)
        self.names_of_call_props: tuple[str, ...] = tuple(looked)

    def of_objects(self, traced: TracedObject, parent: TracedObject | None) -> Hashable:
        """Return a key that is equal for objects whose events have the same texts, for `share_key`.

        It has the texts of all props of the object and its parent that tags look at.
        """
        return tuple(tag.text(tag.path.of_objects(traced, parent)) for tag in self._tags)

    def at(self, event: TraceEvent) -> SiteTags:
        """Return the tags of the events of a call site and its tracer.

        Args:
            event: one of them; the props of its call are not looked at.
        """
        return SiteTags(self.names_of_call_props, self._tags, event)

    def values_of(self, event: TraceEvent) -> Values | None:
        """Return the texts of an event, None if a function raised: the metric leaves it out."""
        return _all_texts([tag.text(tag.path.of_event(event)) for tag in self._tags])

    def items_of(self, event: TraceEvent) -> dict[str, object] | None:
        """Return the values of an event as they are, or the texts that `tag_values` makes of them.

        Labels without a value are left out. None if a function raised, as `values_of`.
        """
        items = [tag.item(event) for tag in self._tags]
        if any(item is FAILED for item in items):
            return None
        pairs = zip(self.label_names, items, strict=True)
        return {label: item for label, item in pairs if item is not None}


class SiteTags:
    """The tags of a metric for the events of one call site and its tracer. Immutable.

    Attributes:
        names_of_call_props: names of the props of a call that tags look at; all events of
            `trace()` have the same texts if there are none.
    """

    __slots__ = ("_tags", "_texts", "names_of_call_props")

    def __init__(self, names: tuple[str, ...], tags: list[_Tag], event: TraceEvent) -> None:
        self.names_of_call_props: tuple[str, ...] = names
        self._tags = tags
        self._texts = [_site_text(tag, event) for tag in tags]

    def values(self, props: Props | None) -> Values | None:
        """Return the texts of a `trace()` with some props, or of any event but for how it ended.

        None if a function raised: the metric leaves the event out.
        """
        if not props or not self.names_of_call_props:
            return _all_texts(self._texts)
        return _all_texts(
            [
                self._of_call(tag, text, props) if tag.path.looks_in_call else text
                for tag, text in zip(self._tags, self._texts, strict=True)
            ]
        )

    def values_of(self, event: TraceEvent) -> Values | None:
        """Return the texts of an event of the call site; None as `values`."""
        props = event.caller.props
        texts: list[str | None] = []
        for tag, text in zip(self._tags, self._texts, strict=True):
            if tag.path.is_of_end:
                texts.append(tag.text(tag.path.of_event(event)))
            else:
                looks = props and tag.path.looks_in_call
                texts.append(self._of_call(tag, text, props) if looks else text)  # type: ignore[arg-type]  # there are props
        return _all_texts(texts)

    @staticmethod
    def _of_call(tag: _Tag, otherwise: str | None, props: Props) -> str | None:
        value = props.get(tag.path.name)
        return otherwise if value is None else tag.text(value)


def _site_text(tag: _Tag, event: TraceEvent) -> str | None:
    path = tag.path
    if path.scope == "fact":
        return "" if path.is_of_end else tag.text(path.of_event(event))
    return tag.text(path.of_objects(event.object, event.parent_object))


def _all_texts(texts: list[str | None]) -> Values | None:
    return None if None in texts else tuple(texts)  # type: ignore[arg-type]  # all are texts


def _pairs(tags: object) -> Iterable[tuple[str, str]]:
    if isinstance(tags, str | bytes) or not isinstance(tags, Iterable):
        raise TypeError(
            "tags must be names of props and facts, as ['result', 'country'], or a mapping from "
            f"labels to paths, as {{'tier': 'object.tier'}}, not {tags!r}"
        )
    pairs = []
    for tag in tags.items() if isinstance(tags, Mapping) else tags:
        if isinstance(tag, str):
            pairs.append((_label_of(tag), str.__str__(tag)))
        elif isinstance(tag, tuple) and len(tag) == 2 and all(isinstance(t, str) for t in tag):  # noqa: PLR2004
            pairs.append((str.__str__(tag[0]), str.__str__(tag[1])))
        else:
            raise TypeError(f"tags must be names (str), not {tag!r}")
    return pairs


def _names_a_place(path: str) -> bool:
    scope, dot, _ = path.partition(".")
    return bool(dot) and scope in SCOPES


def _label_of(path: str) -> str:
    if _names_a_place(path):
        name = path.partition(".")[2]
        raise ValueError(
            f"tags has the path {path!r}, which needs a label: "
            f"tags={{{clean(name) or 'label'!r}: {path!r}}}"
        )
    return clean(path)


def _check_label(label: str, path: str) -> None:
    parsed(path, "tags")
    if not _LABEL.fullmatch(label):
        possible = clean(label) or "label"
        possible = f"_{possible}" if possible[0].isdigit() else possible
        raise ValueError(
            f"tags has the label {label!r}, which Prometheus refuses: it takes letters, digits "
            f"and '_', and no digit first; write {{{possible!r}: {path!r}}}"
        )
    if label.startswith("__") or label in RESERVED:
        raise ValueError(
            f"tags has the label {label!r}, which belongs to Prometheus; give it another, as "
            f"{{'event_{label.strip('_')}': {path!r}}}"
        )


def _tag_value_pairs(tag_values: object) -> Iterable[tuple[str, Any]]:
    if tag_values is None:
        return ()
    if isinstance(tag_values, Mapping):
        return tag_values.items()
    if isinstance(tag_values, tuple):
        return tag_values
    raise TypeError(
        "tag_values must map labels to functions or mappings, as {'code': {200: 'ok'}}, not "
        f"{tag_values!r}"
    )


def _checked_texts(label: str, texts: object) -> Texts:
    if callable(texts):
        return texts
    pairs: Iterable[tuple[Any, Any]]
    if isinstance(texts, Mapping):
        pairs = texts.items()
    elif isinstance(texts, frozenset):
        pairs = texts
    else:
        raise TypeError(
            f"tag_values[{label!r}] must be a function of the value, or map values to texts, not "
            f"{texts!r}"
        )
    for value, text in pairs:
        if not isinstance(text, str):
            raise TypeError(
                f"tag_values[{label!r}] maps {value!r} to {text!r}, which is no text; write "
                f"{str(text)!r}"
            )
    return frozenset(pairs)
