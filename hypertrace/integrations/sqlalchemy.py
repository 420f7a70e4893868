"""SQLAlchemy: statements, commits and rollbacks, rows, and the pool, of sync and async engines.

What `sql` says of every database, and of each pool, by its name:

- `db_client_connection_wait_time_seconds` by pool and type of error: from when a connection is
  asked for until it is there, new connections and pings included. An exhausted pool is the error
  `TimeoutError`. `db_client_connection_pending_requests`: how many wait now.
- `db_client_connections` by pool and state, `used` or `idle`: connections that are open.

The name of a pool is `pool_logging_name=`, or the host, port and database of the URL.

A statement is measured with its listeners (`before_cursor_execute` and the like): an exception in
one of these is one of the statement. `executemany` is one operation, whatever the number of
batches. Rows count when they are read from the result, streamed ones as they come; a failure
meanwhile is the operation `FETCH`. Savepoints are statements. Of a transaction in two phases, the
operations `PREPARE`, `COMMIT` and `ROLLBACK` count. What SQLAlchemy asks the database when it first
connects counts; pings, and the rollback of a pool that gets a connection back, do not.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

from hypertrace._failures import swallow
from hypertrace._operations import Operations
from hypertrace.forks import after_fork_in_child
from hypertrace.inspection import type_name
from hypertrace.metrics import Distribution, declare

from .gauges import Gauge
from .sql import (
    COMMIT,
    ERROR,
    FETCH,
    ROLLBACK,
    BoundedNames,
    add,
    clock,
    database_of,
    declare_operations,
)
from .statements import Statement

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from .patches import Patches
    from .sql import Adders

_PREPARE = Statement("PREPARE", "")

POOL = "db_client_connection_pool_name"
STATE = "db_client_connection_state"

MOST_POOLS = 100
"""Pools that are distinguished in one process; all further ones are `_OTHER`."""

WAITS = Distribution(
    "db_client_connection_wait_time_seconds",
    of="DatabasePool.connect",
    tags=[POOL, ERROR],
    buckets=(0.0001, 0.0005, 0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1, 5, 10, 30),
    description="Time until a pool has given a connection, or has not.",
)
_WAITS = Operations("DatabasePool", "connect")
_PENDING = Gauge(
    "db_client_connection_pending_requests", (POOL,), "Requests that wait for a connection."
)
_CONNECTIONS = Gauge("db_client_connections", (POOL, STATE), "Connections that are open.")

_MOST_UNCOUNTED = 1_000
"""Rows of an iteration that are not counted yet, at most."""


class Integration:
    """What replaces and listens in SQLAlchemy."""

    def __init__(self) -> None:
        """Declare the metrics."""
        declare_operations()
        declare(WAITS)

    def patch(self, patches: Patches) -> None:
        """Listen to all engines and pools, and count the rows of all results.

        Args:
            patches: replaces, and remembers what was there.
        """
        from sqlalchemy.engine import Connection, CursorResult, Engine
        from sqlalchemy.engine.base import RootTransaction, TwoPhaseTransaction
        from sqlalchemy.engine.default import DefaultExecutionContext
        from sqlalchemy.pool import Pool

        # Listeners of statements would cost more than all else here, and those of commits have no
        # end. What calls the logger is not replaced: log records name the function that calls it.
        for name in ("_init_compiled", "_init_ddl", "_init_statement"):
            patches.replace(DefaultExecutionContext, name, _beginning)
        patches.replace(DefaultExecutionContext, "_setup_result_proxy", _succeeding)
        patches.replace(Connection, "_handle_dbapi_exception", _failing)
        patches.replace(DefaultExecutionContext, "_execute_scalar", _executing_scalar)
        for name, statement in (
            ("_connection_commit_impl", COMMIT),
            ("_connection_rollback_impl", ROLLBACK),
        ):
            patches.replace(RootTransaction, name, partial(_ending, statement))
            patches.replace(TwoPhaseTransaction, name, partial(_ending_in_two_phases, statement))
        patches.replace(TwoPhaseTransaction, "prepare", partial(_ending_in_two_phases, _PREPARE))
        patches.replace(CursorResult, "_fetchone_impl", _fetching(_one))
        patches.replace(CursorResult, "_fetchmany_impl", _fetching(len))
        patches.replace(CursorResult, "_fetchall_impl", _fetching(len))
        patches.replace(CursorResult, "_fetchiter_impl", _iterating)
        patches.replace(Engine, "raw_connection", _connecting)
        listen(patches, Pool, "checkout", _checkout)
        listen(patches, Pool, "checkin", _checkin)
        listen(patches, Pool, "close", _end)
        listen(patches, Pool, "detach", _end)


def listen(
    patches: Patches, target: Any, name: str, function: Callable[..., object], **options: Any
) -> None:
    """Listen to an event of all objects of a class, before all other listeners.

    Args:
        patches: ends it.
        target: the class.
        name: of the event.
        function: is called.
        options: of SQLAlchemy.
    """
    from sqlalchemy.event import listen as begin
    from sqlalchemy.event import remove

    begin(target, name, function, insert=True, **options)
    patches.then(lambda: remove(target, name, function))


# --- statements -------------------------------------------------------------------------


class _Result(NamedTuple):
    """What is known of a statement whose rows may be read."""

    table: str
    adders: Adders


# An execution has an attribute `_hypertrace`: the time when it began, while it runs; afterwards its
# `_Result`, or None if it failed.


def _beginning(function: Callable[..., Any]) -> Callable[..., Any]:
    """Make what replaces a function that makes an execution."""

    def make(*args: Any, **kwargs: Any) -> Any:
        context = function(*args, **kwargs)
        try:
            context._hypertrace = clock()
        except Exception as error:  # noqa: BLE001 -- the application must see nothing
            swallow(error, make)
        return context

    return make


def _succeeding(function: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """Make what replaces the method that makes the result of an execution, and may close it."""

    def make_result(context: Any) -> Any:
        known = None
        try:
            began = getattr(context, "_hypertrace", None)
            if type(began) is float:
                seconds = clock() - began
                context._hypertrace = None
                database = database_of(context.dialect.name)
                statement = database.read(context.statement)
                database.record(seconds, statement)
                database.affected(statement, context, _rows_of)
                known = _Result(statement.table, database.returned(statement))
        except Exception as error:  # noqa: BLE001 -- as above
            swallow(error, make_result)
        result = function(context)
        if known is not None:  # SQLAlchemy has read the keys of new rows for itself
            context._hypertrace = known
        return result

    return make_result


def _rows_of(context: Any) -> object:
    """Return how many rows were written, of all batches; the cursor knows those of the last."""
    if context.execute_style.name != "INSERTMANYVALUES":
        return context.cursor.rowcount
    rows = context._insertmanyvalues_rows
    return len(context.parameters if rows is None else rows)


def _failing(function: Callable[..., Any]) -> Callable[..., Any]:
    """Make what replaces the method of connections that gets all exceptions."""

    def handle(connection: Any, error: BaseException, *args: Any, **kwargs: Any) -> Any:
        # They are the statement, its parameters, the cursor and the execution.
        context = args[3] if args[3:] else None
        began = getattr(context, "_hypertrace", None)
        if context is not None and type(began) is float:
            context._hypertrace = None
            _record(context.dialect, clock() - began, context.statement, error)
        return function(connection, error, *args, **kwargs)

    return handle


def _executing_scalar(function: Callable[..., Any]) -> Callable[..., Any]:
    """Make what replaces the method that asks for a default, as of a sequence, for an execution."""

    def execute(context: Any, statement: str, *args: Any, **kwargs: Any) -> Any:
        is_within = type(getattr(context, "_hypertrace", None)) is float
        context._hypertrace = None
        began = clock()
        try:
            result = function(context, statement, *args, **kwargs)
        except BaseException as error:
            _record(context.dialect, clock() - began, statement, error)
            raise
        _record(context.dialect, clock() - began, statement, None)
        if is_within:
            context._hypertrace = clock()
        return result

    return execute


def _ending(statement: Statement, function: Callable[[Any], object]) -> Callable[[Any], object]:
    """Make what replaces the method of transactions that commits or rolls back."""

    def end(transaction: Any) -> object:
        connection = transaction.connection
        # After a disconnect there is nothing to roll back.
        if not connection._still_open_and_dbapi_connection_is_valid:
            return function(transaction)
        began = clock()
        try:
            result = function(transaction)
        except BaseException as error:
            _record(connection.dialect, clock() - began, statement, error)
            raise
        _record(connection.dialect, clock() - began, statement, None)
        return result

    return end


def _ending_in_two_phases(
    statement: Statement, function: Callable[[Any], object]
) -> Callable[[Any], object]:
    """Make the same for transactions in two phases."""
    measured = _ending(statement, function)

    def end(transaction: Any) -> object:
        connection = transaction.connection
        is_valid = connection._still_open_and_dbapi_connection_is_valid
        # Drivers without this function get statements, which are measured as such.
        is_call = is_valid and hasattr(connection.connection, "tpc_commit")
        return measured(transaction) if is_call else function(transaction)

    return end


def _record(
    dialect: Any, seconds: float, statement: Statement | str, error: BaseException | None
) -> None:
    """Record an operation, by what is known of it or by its text."""
    try:
        database = database_of(dialect.name)
        known = statement if isinstance(statement, Statement) else database.read(statement)
        database.record(seconds, known, getattr(error, "orig", None) or error)
    except Exception as failure:  # noqa: BLE001 -- as above
        swallow(failure, _record)


# --- rows -------------------------------------------------------------------------------


def _one(row: object) -> int:
    return 0 if row is None else 1


def _fetching(
    count: Callable[[Any], int],
) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Return what makes the replacement of a method of results, which returns a row or rows."""

    def make(function: Callable[..., Any]) -> Callable[..., Any]:
        def fetch(result: Any, *args: Any, **kwargs: Any) -> Any:
            began = clock()
            try:
                rows = function(result, *args, **kwargs)
            except BaseException as error:
                _fetch_failed(result, clock() - began, error)
                raise
            mark = getattr(result.context, "_hypertrace", None)
            if type(mark) is _Result:
                add(mark.adders, count(rows))
            return rows

        return fetch

    return make


def _iterating(function: Callable[[Any], Iterator[Any]]) -> Callable[[Any], Iterator[Any]]:
    """Make what replaces the method of results that returns an iterator."""

    def iterate(result: Any) -> Iterator[Any]:
        mark = getattr(result.context, "_hypertrace", None)
        rows = function(result)
        return _counted(result, rows, mark.adders) if type(mark) is _Result else rows

    return iterate


def _counted(result: Any, rows: Iterator[Any], adders: Adders) -> Iterator[Any]:
    uncounted = 0
    try:
        while True:
            began = clock()
            try:
                row = next(rows)
            except StopIteration:
                return
            except BaseException as error:
                _fetch_failed(result, clock() - began, error)
                raise
            uncounted += 1
            if uncounted == _MOST_UNCOUNTED:
                add(adders, uncounted)
                uncounted = 0
            yield row
    finally:
        add(adders, uncounted)


def _fetch_failed(result: Any, seconds: float, error: BaseException) -> None:
    from sqlalchemy.exc import InvalidRequestError

    mark = getattr(result.context, "_hypertrace", None)
    # A result that is closed or has no rows is asked for them: the database takes no part in that.
    if type(mark) is _Result and not isinstance(error, InvalidRequestError):
        _record(result.dialect, seconds, Statement(FETCH, mark.table), error)


# --- pools ------------------------------------------------------------------------------

_admitted = BoundedNames(MOST_POOLS)


def _connecting(function: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """Make what replaces `raw_connection` of engines, through which all connections come."""

    def raw_connection(engine: Any) -> Any:
        name = _name_of(engine)
        leave = _PENDING.enter(name)
        began = clock()
        try:
            connection = function(engine)
        except BaseException as error:
            leave()
            _record_wait(clock() - began, name, error)
            raise
        leave()
        _record_wait(clock() - began, name, None)
        return connection

    return raw_connection


def _record_wait(seconds: float, name: str, error: BaseException | None) -> None:
    kind = "" if error is None else type_name(type(error))
    _WAITS.record(seconds, {POOL: name, ERROR: kind}, "ok", error, (name, kind))


def _name_of(engine: Any) -> str:
    """Return the name of the pool of an engine."""
    try:
        pool = engine.pool
        name: str | None = getattr(pool, "_hypertrace", None)
        if name is None:
            name = pool._hypertrace = _admitted.admit(pool.logging_name or _address(engine.url))
    except Exception as error:  # noqa: BLE001 -- as above
        swallow(error, _name_of)
        return ""
    return name


def _address(url: Any) -> str:
    """Return host, port and database of a URL; of a file only its name."""
    host = f"{url.host}:{url.port}" if url.port else url.host or ""
    database = (url.database or "").rpartition("/")[2] or url.get_backend_name()
    return f"{host}/{database}" if host else database


class _Connection:
    """One connection in a pool, which is in use, idle or closed."""

    __slots__ = ("_generation", "_leave", "_pool", "_state")

    def __init__(self, pool: str) -> None:
        self._pool = pool
        self._state = ""
        self._leave: Callable[[], None] | None = None
        self._generation = _generation

    def enter(self, state: str) -> None:
        """Be in a state from now on; an empty one is closed."""
        if state == self._state:
            return
        leave, self._leave, self._state = self._leave, None, state
        if leave is not None and self._generation == _generation:
            leave()
        if state:
            self._generation = _generation
            self._leave = _CONNECTIONS.enter(self._pool, state)

    def __del__(self) -> None:
        # The pool was dropped with its connections, which no event reports.
        try:  # noqa: SIM105 -- `suppress` could be gone, too
            self.enter("")
        except Exception:  # noqa: BLE001, S110 -- the interpreter shuts down
            pass


def _checkout(_dbapi_connection: Any, entry: Any, proxied: Any) -> None:
    try:
        connection = getattr(entry, "_hypertrace", None)
        if connection is None:
            pool = getattr(proxied, "_pool", None)
            connection = entry._hypertrace = _Connection(getattr(pool, "_hypertrace", ""))
        connection.enter("used")
    except Exception as error:  # noqa: BLE001 -- as above
        swallow(error, _checkout)


def _checkin(dbapi_connection: Any, entry: Any) -> None:
    _move(entry, "idle" if dbapi_connection is not None else "")


def _end(_dbapi_connection: Any, entry: Any) -> None:
    _move(entry, "")


def _move(entry: Any, state: str) -> None:
    try:
        connection = getattr(entry, "_hypertrace", None)
        if connection is not None:
            connection.enter(state)
    except Exception as error:  # noqa: BLE001 -- as above
        swallow(error, _move)


_generation = 0


def _count_from_zero() -> None:
    """Leave the connections of the parent to it: a forked child counts for itself."""
    global _generation  # noqa: PLW0603 -- the state of the process
    _generation += 1


after_fork_in_child(_count_from_zero)
