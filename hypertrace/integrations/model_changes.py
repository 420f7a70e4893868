"""Model changes: instances of an application's models that were created, updated and deleted.

`model_events_total` by the application that the model belongs to, the model, and the action, which
is `create`, `update` or `delete`. Changes count when their transaction is committed. Those of a
transaction, or a part of one behind a savepoint, that is rolled back count nowhere.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Literal

from hypertrace._failures import swallow
from hypertrace._operations import Operations
from hypertrace.metrics import Sum, declare

from .sql import BoundedNames

if TYPE_CHECKING:
    from collections.abc import Hashable

    Action = Literal["create", "update", "delete"]

MOST_MODELS = 500
"""Models that are distinguished in one process; all further ones are `_OTHER`."""

EVENTS = Sum(
    "model_events_total",
    of="Model.change",
    value="instances",
    tags=["app", "model", "action"],
    description="Instances of models that were created, updated and deleted, and committed.",
)
_CHANGES = Operations("Model", "change")
_models = BoundedNames(MOST_MODELS)


def declare_models() -> None:
    """Declare the metric for every `Metrics`; again does nothing."""
    declare(EVENTS)


def count(app: str, model: str, action: Action, instances: int = 1) -> None:
    """Count changes that are committed. Nothing is raised.

    Args:
        app: the application that the model belongs to.
        model: its name.
        action: what happened.
        instances: how many instances there were.
    """
    admitted = _models.admit(f"{app}.{model}")
    if admitted != f"{app}.{model}":
        app = model = admitted
    _CHANGES.count({"app": app, "model": model, "action": action, "instances": instances})


class Changes:
    """Changes of models in one transaction, which count when it is committed.

    Changes behind a savepoint are held apart until it is released or rolled back. For one thread at
    a time, as a connection is. Nothing is raised.
    """

    def __init__(self) -> None:
        """Start without changes."""
        self._levels: list[tuple[Hashable, Counter[tuple[str, str, Action]]]] = [(None, Counter())]

    def add(self, app: str, model: str, action: Action, instances: int = 1) -> None:
        """Hold changes until the transaction is committed; arguments as of `count`."""
        self._levels[-1][1][app, model, action] += instances

    def open(self, savepoint: Hashable) -> None:
        """Hold the changes that come now apart.

        Args:
            savepoint: what stands for it in the other calls.
        """
        self._levels.append((savepoint, Counter()))

    def release(self, savepoint: Hashable) -> None:
        """Let the changes since a savepoint be those of what is around it."""
        index = self._index(savepoint)
        if index:
            for _, changes in self._levels[index:]:
                self._levels[index - 1][1].update(changes)
            del self._levels[index:]

    def roll_back(self, savepoint: Hashable) -> None:
        """Forget the changes since a savepoint, which is still there."""
        index = self._index(savepoint)
        if index:
            del self._levels[index:]
            self.open(savepoint)

    def commit(self) -> None:
        """Count all changes."""
        levels, self._levels = self._levels, [(None, Counter())]
        try:
            for _, changes in levels:
                for (app, model, action), instances in changes.items():
                    count(app, model, action, instances)
        except Exception as error:  # noqa: BLE001 -- the application must see nothing
            swallow(error, self)

    def forget(self) -> None:
        """Forget all changes: the transaction is rolled back."""
        self._levels = [(None, Counter())]

    def _index(self, savepoint: Hashable) -> int:
        """Return where a savepoint is; 0 if it is unknown."""
        names = [name for name, _ in self._levels]
        return names.index(savepoint, 1) if savepoint in names[1:] else 0
