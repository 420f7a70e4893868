"""SQL: what all libraries and drivers measure of the operations of a database.

`db_client_operation_duration_seconds` by system, operation, table and type of error: one statement,
commit or rollback, from the call of the driver to its return; rows that are read later take no part
in it. `db_client_affected_rows_total` and `db_client_returned_rows_total` by the same, without the
error: rows that were written, as the driver counts them, and rows that were read from a result.
They are spans inside a request or job, and no entries. The names are those of OpenTelemetry:
https://opentelemetry.io/docs/specs/semconv/database/database-metrics/
"""

from __future__ import annotations

from operator import attrgetter
from time import perf_counter
from typing import TYPE_CHECKING, Any

from hypertrace._failures import swallow
from hypertrace._operations import Operations
from hypertrace.inspection import type_name
from hypertrace.metrics import Distribution, declare

from .gauges import Total
from .statements import OTHER, Statement, Statements

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from typing import TypeVar

    Adders = Sequence[Callable[..., object]]
    T = TypeVar("T")

SYSTEM = "db_system_name"
OPERATION = "db_operation_name"
TABLE = "db_collection_name"
ERROR = "error_type"

SECONDS = (0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1, 5, 10)
"""Bounds of buckets, as OpenTelemetry recommends them for operations of a database."""

MOST_TABLES = 200
"""Tables that are distinguished in one process; all further ones are `_OTHER`."""

DURATIONS = Distribution(
    "db_client_operation_duration_seconds",
    of="Database.operation",
    tags=[SYSTEM, OPERATION, TABLE, ERROR],
    buckets=SECONDS,
    description="Operations of databases, from the call of the driver to its return.",
)
_OPERATIONS = Operations("Database", "operation")
_AFFECTED = Total(
    "db_client_affected_rows_total",
    (SYSTEM, OPERATION, TABLE),
    "Rows that statements have inserted, updated or deleted, as the driver counts them.",
)
_RETURNED = Total(
    "db_client_returned_rows_total",
    (SYSTEM, OPERATION, TABLE),
    "Rows that were read from the results of statements.",
)
_WRITING = frozenset(("DELETE", "INSERT", "MERGE", "REPLACE", "UPDATE", "UPSERT"))

COMMIT = Statement("COMMIT", "")
ROLLBACK = Statement("ROLLBACK", "")
FETCH = "FETCH"
"""The operation of reading rows, which is recorded when it fails."""

SYSTEMS: Mapping[str, str] = {
    "MySQLdb": "mysql",
    "_mysql_connector": "mysql",
    "apsw": "sqlite",
    "cx_Oracle": "oracle.db",
    "ibm_db_dbi": "ibm.db2",
    "microsoft": "microsoft.sql_server",
    "mariadb": "mariadb",
    "mssql": "microsoft.sql_server",
    "mysql": "mysql",
    "oracle": "oracle.db",
    "oracledb": "oracle.db",
    "pg8000": "postgresql",
    "psycopg": "postgresql",
    "psycopg2": "postgresql",
    "pymssql": "microsoft.sql_server",
    "pymysql": "mysql",
    "sqlite3": "sqlite",
}
"""Systems, as OpenTelemetry names them, by the name of a driver's module, a dialect or a vendor."""

clock = perf_counter


class BoundedNames:
    """Names that become values of a label, of which there may be any number.

    Any thread may use it; several at once may admit a few more than are allowed.
    """

    def __init__(self, most: int) -> None:
        """Admit none yet.

        Args:
            most: how many are admitted.
        """
        self._most = most
        self._names: set[str] = set()

    def admit(self, name: str) -> str:
        """Return the name, or `_OTHER` if there are too many already."""
        if name in self._names or not name:
            return name
        if len(self._names) >= self._most:
            return OTHER
        self._names.add(name)
        return name


_tables = BoundedNames(MOST_TABLES)


def declare_operations() -> None:
    """Declare the metrics for every `Metrics`; again does nothing."""
    declare(DURATIONS)


class Database:
    """What is measured of one database system. Any thread may use it, and nothing is raised.

    Attributes:
        system: its name, as `postgresql`.
    """

    def __init__(self, system: str) -> None:
        """Know no statement yet.

        Args:
            system: its name, as OpenTelemetry has it.
        """
        self.system: str = system
        self._statements = Statements(system)

    def read(self, statement: object, connection: object = None) -> Statement:
        """Return the operation and the table of a statement, both with a bounded number of values.

        Args:
            statement: a text, bytes, or an object of the driver.
            connection: of the driver, which such an object may need.
        """
        try:
            found = self._statements.read(statement, connection)
            table = _tables.admit(found.table)
        except Exception as error:  # noqa: BLE001 -- the application must see nothing
            swallow(error, self)
            return Statement(OTHER, "")
        return found if table is found.table else Statement(found.operation, table)

    def measured(
        self, statement: Statement, function: Callable[..., T], /, *args: Any, **kwargs: Any
    ) -> T:
        """Call a function of a driver, and record it as one operation.

        Args:
            statement: what it does.
            function: is called.
            args: its arguments.
            kwargs: its arguments.

        Returns:
            Its result. Its exceptions pass, and are recorded.
        """
        began = clock()
        try:
            result = function(*args, **kwargs)
        except BaseException as error:
            self.record(clock() - began, statement, error)
            raise
        self.record(clock() - began, statement)
        return result

    def record(
        self, seconds: float, statement: Statement, error: BaseException | None = None
    ) -> None:
        """Record an operation that ends now.

        Args:
            seconds: how long it took.
            statement: what it did.
            error: the driver's exception that ended it.
        """
        kind = None if error is None else type(error)
        _OPERATIONS.record(
            seconds,
            {
                SYSTEM: self.system,
                OPERATION: statement.operation,
                TABLE: statement.table,
                ERROR: "" if kind is None else type_name(kind),
            },
            exception=error,
        )

    def affected(
        self,
        statement: Statement,
        cursor: Any,
        rows_of: Callable[[Any], object] = attrgetter("rowcount"),
    ) -> None:
        """Count the rows that a statement has written, where the driver knows how many.

        Args:
            statement: what it did; one that does not write counts none.
            cursor: that it ran on.
            rows_of: returns how many rows there were, and gets the cursor.
        """
        if statement.operation not in _WRITING:
            return
        try:
            rows = rows_of(cursor)
        except Exception:  # noqa: BLE001 -- the driver does not know
            return
        if type(rows) is int and rows > 0:
            add(_AFFECTED.adders(self.system, *statement), rows)

    def returned(self, statement: Statement) -> Adders:
        """Return what adds rows that are read from the result of a statement; see `add`."""
        return _RETURNED.adders(self.system, *statement)


def add(adders: Adders, rows: int) -> None:
    """Add rows. Nothing is raised.

    Args:
        adders: one for each of the metrics.
        rows: how many.
    """
    try:
        for each in adders:
            each(rows)
    except Exception as error:  # noqa: BLE001 -- the application must see nothing
        swallow(error, add)


_databases: dict[str, Database] = {}


def database_of(name: str) -> Database:
    """Return the database system of a driver's module, dialect or vendor."""
    found = _databases.get(name)
    if found is None:
        found = _databases.setdefault(name, Database(SYSTEMS.get(name, name)))
    return found
