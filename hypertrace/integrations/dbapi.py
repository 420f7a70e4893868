"""DB-API connections: statements, commits and rollbacks, and rows, of any driver.

`trace_connection(connection)` returns the connection, as a proxy that measures what `sql` says of
every database. All else is the driver's: attributes, row factories, `isinstance()`, exceptions.

Measured are `execute`, `executemany`, `executescript` and `callproc` of cursors, the first three of
connections that have them, `commit` and `rollback`; also those of `with connection:`, where the
driver shows whether a transaction is open (sqlite3, psycopg), and of psycopg's `transaction()`.
`executemany` is one operation. Rows count when they are fetched. What else a driver offers, as
`copy` and `stream` of psycopg or `fetchval` of pyodbc, works and is not measured.

The driver's own connection is `connection.__wrapped__`, for functions that take no other, as
`backup()` of sqlite3. Asynchronous drivers are no DB-API; SQLAlchemy's engines measure them.
"""

from __future__ import annotations

import inspect
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar, cast

from wrapt import BaseObjectProxy

from hypertrace._failures import swallow
from hypertrace.inspection import type_name

from .sql import COMMIT, ROLLBACK, SYSTEMS, Database, add, database_of, declare_operations

if TYPE_CHECKING:
    from collections.abc import Iterator

    from .sql import Adders

_C = TypeVar("_C")

_MEASURED = frozenset(("callproc", "execute", "executemany", "executescript"))
_IDLE = 0
"""Status of a transaction, of psycopg: none is open."""


def trace_connection(connection: _C, *, system: str = "") -> _C:
    """Measure what a DB-API connection does, from now on.

    Args:
        connection: of a driver. One that is traced already is returned as it is.
        system: the database, as OpenTelemetry names it; empty for the one that the driver's module
            is known for, else the name of that module.

    Returns:
        A proxy of it: use it in its place.

    Raises:
        TypeError: it has no `cursor()` and `commit()`, or an asynchronous one.
    """
    if type(connection) is _Connection:
        return connection
    name = type_name(connection)
    commit = getattr(connection, "commit", None)
    if not callable(commit) or not callable(getattr(connection, "cursor", None)):
        raise TypeError(f"trace_connection() needs a DB-API connection, not {name}")
    if inspect.iscoroutinefunction(commit):
        raise TypeError(
            f"{name} is asynchronous, and no DB-API connection; SQLAlchemy's asynchronous engines "
            'are measured: hypertrace.integrations.install("sqlalchemy")'
        )
    declare_operations()
    return cast("_C", _Connection(connection, database_of(system or _driver_of(connection))))


def _driver_of(connection: object) -> str:
    """Return the module of the driver, also of a class that the application derived."""
    modules = [cls.__module__.partition(".")[0] for cls in type(connection).__mro__]
    return next((module for module in modules if module in SYSTEMS), modules[0])


class _Proxy(BaseObjectProxy[Any]):
    """A connection or cursor of a driver."""

    _self_database: Database

    def __enter__(self) -> Any:
        return self._own(self.__wrapped__.__enter__())

    def _own(self, result: object) -> object:
        """Return what stands for a result of the driver."""
        return self if result is self.__wrapped__ else result


class _Connection(_Proxy):
    def __init__(self, connection: Any, database: Database) -> None:
        super().__init__(connection)
        self._self_database = database

    def cursor(self, *args: Any, **kwargs: Any) -> _Cursor:
        return _Cursor(self.__wrapped__.cursor(*args, **kwargs), self)

    def commit(self) -> Any:
        return self._self_database.measured(COMMIT, self.__wrapped__.commit)

    def rollback(self) -> Any:
        return self._self_database.measured(ROLLBACK, self.__wrapped__.rollback)

    def __exit__(self, *end: object) -> Any:
        leave = self.__wrapped__.__exit__
        if not _is_in_transaction(self.__wrapped__):
            return leave(*end)
        statement = COMMIT if end[0] is None else ROLLBACK
        return self._self_database.measured(statement, leave, *end)

    def __getattr__(self, name: str) -> Any:
        found = getattr(self.__wrapped__, name)
        if name in _MEASURED and callable(found):
            return partial(self._execute, found)
        if name == "transaction" and callable(found):
            return partial(self._transaction, found)
        return found

    def _execute(self, execute: Any, *args: Any, **kwargs: Any) -> _Cursor:
        """Run a statement as drivers do that make a cursor for it."""
        database = self._self_database
        statement = database.read(_text(args, kwargs), self.__wrapped__)
        result = database.measured(statement, execute, *args, **kwargs)
        database.affected(statement, result)
        cursor = _Cursor(result, self)
        cursor._self_adders = database.returned(statement)
        return cursor

    def _transaction(self, transaction: Any, *args: Any, **kwargs: Any) -> _Block:
        return _Block(transaction(*args, **kwargs), self)


class _Cursor(_Proxy):
    def __init__(self, cursor: Any, connection: _Connection) -> None:
        super().__init__(cursor)
        self._self_connection = connection
        self._self_database = connection._self_database
        self._self_adders: Adders = ()

    @property
    def connection(self) -> Any:
        raw = self.__wrapped__.connection
        connection = self._self_connection
        return connection if raw is connection.__wrapped__ else raw

    def execute(self, *args: Any, **kwargs: Any) -> Any:
        return self._run(self.__wrapped__.execute, args, kwargs)

    def executemany(self, *args: Any, **kwargs: Any) -> Any:
        return self._run(self.__wrapped__.executemany, args, kwargs)

    def fetchone(self, *args: Any, **kwargs: Any) -> Any:
        row = self.__wrapped__.fetchone(*args, **kwargs)
        if row is not None:
            add(self._self_adders, 1)
        return row

    def fetchmany(self, *args: Any, **kwargs: Any) -> Any:
        return self._counted(self.__wrapped__.fetchmany(*args, **kwargs))

    def fetchall(self, *args: Any, **kwargs: Any) -> Any:
        return self._counted(self.__wrapped__.fetchall(*args, **kwargs))

    def __iter__(self) -> Iterator[Any]:
        rows = iter(self.__wrapped__)
        return self if rows is self.__wrapped__ else self._counted_one_by_one(rows)

    def __next__(self) -> Any:
        row = next(self.__wrapped__)
        add(self._self_adders, 1)
        return row

    def __exit__(self, *end: object) -> Any:
        return self.__wrapped__.__exit__(*end)

    def __getattr__(self, name: str) -> Any:
        found = getattr(self.__wrapped__, name)
        if name == "callproc" and callable(found):
            return partial(self._call, found)
        if name in _MEASURED and callable(found):
            return lambda *args, **kwargs: self._run(found, args, kwargs)
        return found

    def _run(self, execute: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        wrapped, database = self.__wrapped__, self._self_database  # each look-up has its price
        statement = database.read(_text(args, kwargs), wrapped)
        result = database.measured(statement, execute, *args, **kwargs)
        database.affected(statement, wrapped)
        self._self_adders = database.returned(statement)
        return self if result is wrapped else result

    def _call(self, callproc: Any, *args: Any, **kwargs: Any) -> Any:
        name = args[0] if args else ""
        statement = self._self_database.read(f"CALL {name}")
        result = self._self_database.measured(statement, callproc, *args, **kwargs)
        self._self_adders = self._self_database.returned(statement)
        return result

    def _counted(self, rows: Any) -> Any:
        try:
            add(self._self_adders, len(rows))
        except Exception as error:  # noqa: BLE001 -- the application must see nothing
            swallow(error, self.__wrapped__)
        return rows

    def _counted_one_by_one(self, rows: Iterator[Any]) -> Iterator[Any]:
        for row in rows:
            add(self._self_adders, 1)
            yield row


class _Block(_Proxy):
    """A block of psycopg that is a transaction, or a savepoint in one."""

    def __init__(self, block: Any, connection: _Connection) -> None:
        super().__init__(block)
        self._self_connection = connection
        self._self_database = connection._self_database
        self._self_is_outer = self._self_is_dropped = False

    def __enter__(self) -> Any:
        self._self_is_outer = not _is_in_transaction(self._self_connection.__wrapped__)
        transaction = self.__wrapped__.__enter__()
        self._self_is_dropped = getattr(transaction, "force_rollback", False)
        return transaction

    def __exit__(self, *end: object) -> Any:
        leave = self.__wrapped__.__exit__
        if not self._self_is_outer:
            return leave(*end)
        statement = ROLLBACK if self._self_is_dropped or end[0] is not None else COMMIT
        return self._self_database.measured(statement, leave, *end)


def _is_in_transaction(connection: Any) -> bool:
    """Whether a transaction is open, as far as the driver shows it."""
    try:
        shown = getattr(connection, "in_transaction", None)
        if shown is None:
            shown = connection.info.transaction_status != _IDLE
    except Exception:  # noqa: BLE001 -- another driver
        return False
    return shown is True


def _text(args: tuple[Any, ...], kwargs: dict[str, Any]) -> object:
    """Return the statement, which is the first argument of drivers, whatever they call it."""
    return args[0] if args else next(iter(kwargs.values()), "")
