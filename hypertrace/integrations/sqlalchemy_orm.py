"""SQLAlchemy's ORM: instances of models that sessions created, updated and deleted.

`model_events_total`, as `model_changes` says. The application is the first part of the name of the
module that has the model.

What counts is what a flush writes, instance by instance, once its session commits. An instance that
is flushed without a change of its columns is not updated. Statements on many rows
(`session.execute(update(Model))`, `bulk_insert_mappings()`, rows that the database deletes in a
cascade) have no instances and count in `db_client_affected_rows_total` only. A session that joins
a transaction from outside commits as the session sees it. The session's statements are those of the
integration `sqlalchemy`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

from hypertrace._failures import swallow

from .model_changes import Changes, declare_models
from .sqlalchemy import listen

if TYPE_CHECKING:
    from .model_changes import Action
    from .patches import Patches

_changes: WeakKeyDictionary[Any, Changes] = WeakKeyDictionary()
"""Of each session."""


class Integration:
    """What listens in SQLAlchemy's ORM."""

    def __init__(self) -> None:
        """Declare the metric."""
        declare_models()

    def patch(self, patches: Patches) -> None:
        """Listen to all mappers and sessions.

        Args:
            patches: ends it.
        """
        from sqlalchemy.orm import Mapper, Session

        listen(patches, Mapper, "after_insert", _after_insert, raw=True)
        listen(patches, Mapper, "after_update", _after_update, raw=True)
        listen(patches, Mapper, "after_delete", _after_delete, raw=True)
        listen(patches, Session, "after_transaction_create", _after_begin)
        listen(patches, Session, "after_commit", _after_commit)
        listen(patches, Session, "after_rollback", _after_rollback)
        listen(patches, Session, "after_transaction_end", _after_end)


def _after_insert(_mapper: Any, _connection: Any, state: Any) -> None:
    _add(state, "create")


def _after_update(_mapper: Any, _connection: Any, state: Any) -> None:
    try:
        # Instances whose collections have changed come here, too.
        if state.session.is_modified(state.obj(), include_collections=False):
            _add(state, "update")
    except Exception as error:  # noqa: BLE001 -- the application must see nothing
        swallow(error, _after_update)


def _after_delete(_mapper: Any, _connection: Any, state: Any) -> None:
    _add(state, "delete")


def _add(state: Any, action: Action) -> None:
    try:
        model = state.class_
        _of(state.session).add(model.__module__.partition(".")[0], model.__name__, action)
    except Exception as error:  # noqa: BLE001 -- as above
        swallow(error, _add)


def _of(session: Any) -> Changes:
    found = _changes.get(session)
    if found is None:
        found = _changes[session] = Changes()
    return found


def _after_begin(session: Any, transaction: Any) -> None:
    try:
        if transaction.nested:
            _of(session).open(transaction)
        elif transaction.parent is None:
            _changes.pop(session, None)
    except Exception as error:  # noqa: BLE001 -- as above
        swallow(error, _after_begin)


def _after_commit(session: Any) -> None:
    try:
        nested = session.get_nested_transaction()
        if nested is not None:
            _of(session).release(nested)
        elif session in _changes:
            _changes.pop(session).commit()
    except Exception as error:  # noqa: BLE001 -- as above
        swallow(error, _after_commit)


def _after_rollback(session: Any) -> None:
    try:
        nested = session.get_nested_transaction()
        if nested is not None:
            _of(session).roll_back(nested)
        else:
            _changes.pop(session, None)
    except Exception as error:  # noqa: BLE001 -- as above
        swallow(error, _after_rollback)


def _after_end(session: Any, transaction: Any) -> None:
    """Forget what was neither committed nor rolled back: closing a session rolls it back."""
    try:
        if transaction.nested:
            changes = _of(session)
            changes.roll_back(transaction)
            changes.release(transaction)
        elif transaction.parent is None:
            _changes.pop(session, None)
    except Exception as error:  # noqa: BLE001 -- as above
        swallow(error, _after_end)
