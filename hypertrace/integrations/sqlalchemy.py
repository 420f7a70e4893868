"""SQLAlchemy: statements, commits and rollbacks, rows, and the pool, of sync and async engines.

What `sql` says of every database, and of each pool, by its name:

- `db_client_connection_wait_time_seconds` by pool and type of error: from when a connection is
  asked for until it is there, new connections and pings included. An exhausted pool is the error
  `TimeoutError`. `db_client_connection_pending_requests`: how many wait now.
- `db_client_connections` by pool and state, `used` or `idle`: connections that are open.

The name of a pool is `pool_logging_name=`, or the host, port and database of the URL.

A statement is measured from the first listener of `before_cursor_execute` to the last of
`after_cursor_execute`, so an exception in a listener is one of the statement. Statements without
a return, as those of a cancelled task, end with their exception. Batches of one `insertmanyvalues`
are an operation each; `executemany` is one. Rows count when they are read from the result, streamed
ones as they come; a failure meanwhile is the operation `FETCH`. Savepoints are statements. What
SQLAlchemy asks the database when it first connects counts, and pings and the rollback of a pool
that gets a connection back do not.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple
from weakref import WeakKeyDictionary

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
    Database,
    add,
    clock,
    database_of,
)
from .statements import Statement

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from .patches import Patches
    from .sql import Adders

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

_MARK = "_hypertrace"
"""Attribute of SQLAlchemy's objects of one execution, and of one connection in a pool."""
_MOST_UNCOUNTED = 1_000
"""Rows of an iteration that are not counted yet, at most."""


class Integration:
    """What replaces and listens in SQLAlchemy."""

    def __init__(self) -> None:
        """Declare the metrics."""
        declare(WAITS)

    def patch(self, patches: Patches) -> None:
        """Listen to all engines and pools, and count the rows of all results.

        Args:
            patches: replaces, and remembers what was there.
        """
        from sqlalchemy.engine import Connection, CursorResult, Engine
        from sqlalchemy.pool import Pool

        # The first of the listeners: one that raises keeps the next ones from being called.
        listen(patches, Engine, "before_cursor_execute", _before_execute)
        listen(patches, Engine, "after_cursor_execute", _after_execute)
        listen(patches, Engine, "handle_error", _handle_error)
        listen(patches, Pool, "checkout", _checkout)
        listen(patches, Pool, "checkin", _checkin)
        listen(patches, Pool, "close", _end)
        listen(patches, Pool, "detach", _end)
        patches.replace(Engine, "raw_connection", _timed_connection)
        # No event says when these end. They are no public names: without one of them, the others
        # are still measured.
        for owner, name, make in (
            (Connection, "_commit_impl", partial(_timed, COMMIT)),
            (Connection, "_rollback_impl", partial(_timed, ROLLBACK)),
            (CursorResult, "_fetchone_impl", _counting(lambda row: row is not None)),
            (CursorResult, "_fetchmany_impl", _counting(len)),
            (CursorResult, "_fetchall_impl", _counting(len)),
            (CursorResult, "_fetchiter_impl", _counting_iteration),
        ):
            if hasattr(owner, name):
                patches.replace(owner, name, make)


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
    from sqlalchemy import event

    event.listen(target, name, function, insert=True, **options)
    patches.then(lambda: event.remove(target, name, function))


# --- statements -------------------------------------------------------------------------


class _Result(NamedTuple):
    """What is known of a statement whose rows may be read."""

    database: Database
    statement: Statement
    adders: Adders


def _before_execute(
    _connection: Any,
    _cursor: Any,
    _statement: str,
    _parameters: object,
    context: Any,
    _executemany: bool,  # noqa: FBT001 -- SQLAlchemy's
) -> None:
    try:
        if context is not None:
            setattr(context, _MARK, clock())
    except Exception as error:  # noqa: BLE001 -- the application must see nothing
        swallow(error, _before_execute)


def _after_execute(
    connection: Any,
    cursor: Any,
    statement: str,
    _parameters: object,
    context: Any,
    _executemany: bool,  # noqa: FBT001 -- SQLAlchemy's
) -> None:
    try:
        began = getattr(context, _MARK, None)
        if type(began) is not float:
            return
        seconds = clock() - began
        database = database_of(connection.dialect.name)
        known = database.read(statement)
        setattr(context, _MARK, _Result(database, known, database.returned(known)))
        database.record(seconds, known)
        database.affected(known, cursor)
    except Exception as error:  # noqa: BLE001 -- as above
        swallow(error, _after_execute)


def _handle_error(exception_context: Any) -> None:
    try:
        context = exception_context.execution_context
        began = getattr(context, _MARK, None)
        if type(began) is not float:
            return
        seconds = clock() - began
        setattr(context, _MARK, None)
        database = database_of(exception_context.dialect.name)
        known = database.read(exception_context.statement or context.statement)
        database.record(seconds, known, exception_context.original_exception)
    except Exception as error:  # noqa: BLE001 -- as above
        swallow(error, _handle_error)


def _timed(statement: Statement, function: Callable[[Any], object]) -> Callable[[Any], object]:
    """Make what replaces the commit or rollback of a connection."""

    def timed(connection: Any) -> object:
        # After a disconnect there is nothing to roll back.
        if not getattr(connection, "_still_open_and_dbapi_connection_is_valid", True):
            return function(connection)
        began = clock()
        try:
            result = function(connection)
        except BaseException as error:
            _record(connection, clock() - began, statement, error)
            raise
        _record(connection, clock() - began, statement, None)
        return result

    return timed


def _record(
    connection: Any, seconds: float, statement: Statement, error: BaseException | None
) -> None:
    try:
        original = getattr(error, "orig", None) or error
        database_of(connection.dialect.name).record(seconds, statement, original)
    except Exception as failure:  # noqa: BLE001 -- as above
        swallow(failure, _record)


# --- rows -------------------------------------------------------------------------------


def _counting(
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
            mark = getattr(result.context, _MARK, None)
            if type(mark) is _Result:
                add(mark.adders, count(rows))
            return rows

        return fetch

    return make


def _counting_iteration(function: Callable[[Any], Iterator[Any]]) -> Callable[[Any], Iterator[Any]]:
    """Make what replaces the method of results that returns an iterator."""

    def iterate(result: Any) -> Iterator[Any]:
        mark = getattr(result.context, _MARK, None)
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

    mark = getattr(result.context, _MARK, None)
    # A result that is closed or has no rows is asked for them: the database takes no part in that.
    if type(mark) is _Result and not isinstance(error, InvalidRequestError):
        _record(result.connection, seconds, Statement(FETCH, mark.statement.table), error)


# --- pools ------------------------------------------------------------------------------

_pool_names: WeakKeyDictionary[Any, str] = WeakKeyDictionary()
_admitted = BoundedNames(MOST_POOLS)


def _timed_connection(function: Callable[[Any], Any]) -> Callable[[Any], Any]:
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
    kind = None if error is None else type(error)
    _WAITS.record(
        seconds, {POOL: name, ERROR: "" if kind is None else type_name(kind)}, exception=kind
    )


def _name_of(engine: Any) -> str:
    """Return the name of the pool of an engine."""
    try:
        pool = engine.pool
        name = _pool_names.get(pool)
        if name is None:
            name = _pool_names[pool] = _admitted.admit(pool.logging_name or _address(engine.url))
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
        connection = getattr(entry, _MARK, None)
        if connection is None:
            pool = getattr(proxied, "_pool", None)
            connection = _Connection(_pool_names.get(pool, "") if pool is not None else "")
            setattr(entry, _MARK, connection)
        connection.enter("used")
    except Exception as error:  # noqa: BLE001 -- as above
        swallow(error, _checkout)


def _checkin(dbapi_connection: Any, entry: Any) -> None:
    _move(entry, "idle" if dbapi_connection is not None else "")


def _end(_dbapi_connection: Any, entry: Any) -> None:
    _move(entry, "")


def _move(entry: Any, state: str) -> None:
    try:
        connection = getattr(entry, _MARK, None)
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
