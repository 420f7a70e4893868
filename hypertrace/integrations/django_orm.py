"""Django's databases and models: statements, commits and rollbacks, and changes of instances.

What `sql` says of every database that Django is connected to, and what `model_changes` says of its
models. Statements are measured by an `execute_wrapper` around all those of the application, so one
that such a wrapper rejects is an error. `executemany` is one operation. Savepoints and `BEGIN` are
statements. Rows that are read are not counted, as Django hands out the driver's cursor for them.

Of models, these count, once their transaction is committed: `save()` and what calls it (`create`,
or `update` for an instance that was there), also of fixtures; `delete()` of instances and of
querysets, with all rows of each model that it deletes in a cascade; `QuerySet.update()` and
`bulk_update()` by their rows; `bulk_create()` by its instances, unless it ignores or updates
conflicts: how many were created is not known then. Raw SQL, tables that Django makes for
many-to-many relations, and rows that the database deletes in a cascade count in
`db_client_affected_rows_total` only. Where tests run in a transaction that is rolled back, as in
Django's `TestCase`, nothing counts.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

from hypertrace._failures import swallow

from .model_changes import Changes, count, declare_models
from .sql import COMMIT, ROLLBACK, database_of, declare_operations

if TYPE_CHECKING:
    from collections.abc import Callable

    from .model_changes import Action
    from .patches import Patches

_changes: WeakKeyDictionary[Any, Changes] = WeakKeyDictionary()
"""Of each connection; those that are wrapped."""


class Integration:
    """What replaces and listens in Django."""

    def __init__(self) -> None:
        """Declare the metrics."""
        declare_operations()
        declare_models()

    def patch(self, patches: Patches) -> None:
        """Wrap the statements of all connections, and follow transactions and models.

        Args:
            patches: replaces, and remembers what was there.
        """
        from django.db import connections
        from django.db.backends.base.base import BaseDatabaseWrapper
        from django.db.backends.signals import connection_created
        from django.db.models.deletion import Collector
        from django.db.models.query import QuerySet
        from django.db.models.signals import post_save

        patches.then(_unwrap_all)
        connection_created.connect(_connected)
        patches.then(lambda: connection_created.disconnect(_connected))
        for connection in connections.all(initialized_only=True):
            _wrap(connection)
        for name, make in (
            ("commit", _committing),
            ("rollback", _rolling_back),
            ("savepoint", _opening),
            ("savepoint_commit", _releasing),
            ("savepoint_rollback", _rolling_back_to),
        ):
            patches.replace(BaseDatabaseWrapper, name, make)
        post_save.connect(_saved)
        patches.then(lambda: post_save.disconnect(_saved))
        # A receiver of `post_delete` would let Django read all rows before it deletes them.
        patches.replace(Collector, "delete", _deleting)
        patches.replace(QuerySet, "update", _updating)
        patches.replace(QuerySet, "bulk_create", _creating)


# --- statements -------------------------------------------------------------------------


def _execute(
    execute: Callable[..., Any],
    sql: object,
    params: object,
    many: bool,  # noqa: FBT001 -- Django's
    context: dict[str, Any],
) -> Any:
    connection = context["connection"]
    database = database_of(connection.vendor)
    statement = database.read(sql, connection.connection)
    result = database.measured(statement, execute, sql, params, many, context)
    database.affected(statement, context["cursor"])
    return result


def _connected(connection: Any, **_: Any) -> None:
    """Wrap a connection, which has begun no transaction yet."""
    _wrap(connection)
    _of(connection).forget()


def _wrap(connection: Any) -> None:
    try:
        # The first: the application's blocks remove the last.
        if _execute not in connection.execute_wrappers:
            connection.execute_wrappers.insert(0, _execute)
        _of(connection)
    except Exception as error:  # noqa: BLE001 -- the application must see nothing
        swallow(error, _wrap)


def _unwrap_all() -> None:
    for connection in list(_changes):
        if _execute in connection.execute_wrappers:
            connection.execute_wrappers.remove(_execute)
    _changes.clear()


# --- transactions -----------------------------------------------------------------------


def _of(connection: Any) -> Changes:
    found = _changes.get(connection)
    if found is None:
        found = _changes[connection] = Changes()
    return found


def _committing(function: Callable[[Any], object]) -> Callable[[Any], object]:
    def commit(self: Any) -> object:
        result = database_of(self.vendor).measured(COMMIT, function, self)
        _of(self).commit()
        return result

    return commit


def _rolling_back(function: Callable[[Any], object]) -> Callable[[Any], object]:
    def rollback(self: Any) -> object:
        try:
            return database_of(self.vendor).measured(ROLLBACK, function, self)
        finally:
            _of(self).forget()

    return rollback


def _opening(function: Callable[[Any], str | None]) -> Callable[[Any], str | None]:
    def savepoint(self: Any) -> str | None:
        sid = function(self)
        if sid is not None:
            _of(self).open(sid)
        return sid

    return savepoint


def _releasing(function: Callable[[Any, str], object]) -> Callable[[Any, str], object]:
    def savepoint_commit(self: Any, sid: str) -> object:
        result = function(self, sid)
        _of(self).release(sid)
        return result

    return savepoint_commit


def _rolling_back_to(function: Callable[[Any, str], object]) -> Callable[[Any, str], object]:
    def savepoint_rollback(self: Any, sid: str) -> object:
        result = function(self, sid)
        _of(self).roll_back(sid)
        return result

    return savepoint_rollback


# --- models -----------------------------------------------------------------------------


def _add(using: str, model: Any, action: Action, instances: int = 1) -> None:
    """Count a change now, or when the transaction is committed that a connection is in."""
    try:
        # Tables of many-to-many relations that Django has made are no models of the application.
        if instances < 1 or model._meta.auto_created:
            return
        from django.db import connections

        app, name = model._meta.app_label, model._meta.object_name
        connection = connections[using]
        if connection.in_atomic_block or not connection.autocommit:
            _of(connection).add(app, name, action, instances)
        else:
            count(app, name, action, instances)
    except Exception as error:  # noqa: BLE001 -- the application must see nothing
        swallow(error, _add)


def _saved(sender: Any, using: str, *, created: bool, **_: Any) -> None:
    _add(using, sender, "create" if created else "update")


def _deleting(function: Callable[[Any], Any]) -> Callable[[Any], Any]:
    def delete(self: Any) -> Any:
        models = _models_of(self)
        result = function(self)
        for label, instances in result[1].items():
            if label in models:
                _add(self.using, models[label], "delete", instances)
        return result

    return delete


def _models_of(collector: Any) -> dict[str, Any]:
    """Return the models of which something is to be deleted, by their label."""
    try:
        models = [*collector.data, *(queryset.model for queryset in collector.fast_deletes)]
        return {model._meta.label: model for model in models}
    except Exception as error:  # noqa: BLE001 -- as above
        swallow(error, _models_of)
        return {}


def _updating(function: Callable[..., int]) -> Callable[..., int]:
    def update(self: Any, **kwargs: Any) -> int:
        rows = function(self, **kwargs)
        _add(self.db, self.model, "update", rows)
        return rows

    return update


def _creating(function: Callable[..., Any]) -> Callable[..., Any]:
    def bulk_create(self: Any, objs: Any, *args: Any, **kwargs: Any) -> Any:
        created = function(self, objs, *args, **kwargs)
        _bulk_created(self, created, args, kwargs)
        return created

    return bulk_create


def _bulk_created(
    queryset: Any, created: Any, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> None:
    """Count instances that were created at once, unless there was a choice for rows in conflict."""
    try:
        has_choice = any(args[1:3]) or any(
            kwargs.get(name) for name in ("ignore_conflicts", "update_conflicts")
        )
        if not has_choice:
            _add(queryset.db, queryset.model, "create", len(created))
    except Exception as error:  # noqa: BLE001 -- as above
        swallow(error, _bulk_created)
