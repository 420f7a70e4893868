"""Connections of DB-API drivers: what is measured, and that they are what they were."""

from __future__ import annotations

import contextlib
import gc
import sqlite3
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hypertrace import clear_trace_function, set_trace_function
from hypertrace.integrations.dbapi import trace_connection
from hypertrace.metrics import Metrics
from hypertrace.testing import reset

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    Points = Callable[[str], dict[tuple[str, ...], float]]

OPERATIONS = "db_client_operation_duration_seconds"
AFFECTED = "db_client_affected_rows_total"
RETURNED = "db_client_returned_rows_total"


@pytest.fixture
def sqlite(metrics: Metrics) -> Iterator[sqlite3.Connection]:
    """Give a traced connection whose database has a table of three users."""
    raw = sqlite3.connect(":memory:")
    raw.execute("CREATE TABLE users (id INTEGER PRIMARY KEY, name TEXT UNIQUE)")
    raw.executemany("INSERT INTO users VALUES (?, ?)", [(n, f"n{n}") for n in range(3)])
    raw.commit()
    yield trace_connection(raw)
    raw.close()


@pytest.fixture
def psycopg(metrics: Metrics, library: Callable[[str], Any], postgresql: str) -> Iterator[Any]:
    """Give a traced connection of PostgreSQL, with such a table."""
    with library("psycopg").connect(f"postgresql{postgresql}") as raw:
        raw.execute("DROP SCHEMA public CASCADE; CREATE SCHEMA public")
        raw.execute("CREATE TABLE users (id INTEGER PRIMARY KEY, name TEXT UNIQUE)")
        raw.execute("INSERT INTO users SELECT n, 'n' || n FROM generate_series(0, 2) AS n")
        raw.commit()
        yield trace_connection(raw)


@pytest.fixture(params=["sqlite", "psycopg"])
def connection(request: pytest.FixtureRequest) -> Any:
    """Give a traced connection of each driver."""
    return request.getfixturevalue(request.param)


@pytest.fixture
def counts(points: Points) -> Callable[[str], dict[tuple[str, ...], float]]:
    """Give a function that returns a metric by its labels but the system."""
    return lambda name: {labels[1:]: number for labels, number in points(name).items()}


def test_figures_equal_the_tally(connection: Any, counts: Any) -> None:
    """Statements, commits, rollbacks and rows are as many as the application had."""
    mark = "?" if isinstance(connection, sqlite3.Connection) else "%s"
    cursor = connection.cursor()
    cursor.executemany(f"INSERT INTO users VALUES ({mark}, {mark})", [(8, "a"), (9, "b")])
    connection.commit()
    cursor.execute(f"UPDATE users SET name = NULL WHERE id < {mark}", (2,))
    connection.rollback()
    cursor.execute("SELECT * FROM users ORDER BY id")
    assert cursor.fetchone() == (0, "n0")
    assert cursor.fetchmany(2) == [(1, "n1"), (2, "n2")]
    assert cursor.fetchall() == [(8, "a"), (9, "b")]
    assert cursor.fetchone() is None
    cursor.execute("DELETE FROM users")
    assert cursor.rowcount == 5
    cursor.close()
    assert counts(OPERATIONS) == {
        ("INSERT", "users", ""): 1,
        ("COMMIT", "", ""): 1,
        ("UPDATE", "users", ""): 1,
        ("ROLLBACK", "", ""): 1,
        ("SELECT", "users", ""): 1,
        ("DELETE", "users", ""): 1,
    }
    assert counts(AFFECTED) == {
        ("INSERT", "users"): 2,
        ("UPDATE", "users"): 2,
        ("DELETE", "users"): 5,
    }
    assert counts(RETURNED) == {("SELECT", "users"): 5}


def test_the_system_is_that_of_the_driver(connection: Any, points: Points) -> None:
    """The system has the name that OpenTelemetry has for it."""
    connection.execute("SELECT 1")
    expected = "sqlite" if isinstance(connection, sqlite3.Connection) else "postgresql"
    assert points(OPERATIONS) == {(expected, "SELECT", "", ""): 1}


def test_the_system_may_be_given(metrics: Metrics, points: Points) -> None:
    """A driver that speaks to another system than it is known for can be named."""

    class Own(sqlite3.Connection):
        """A connection of the application."""

    for system in ("", "duckdb"):
        raw = sqlite3.connect(":memory:", factory=Own)
        trace_connection(raw, system=system).execute("SELECT 1")
        raw.close()
    assert points(OPERATIONS) == {
        ("sqlite", "SELECT", "", ""): 1,
        ("duckdb", "SELECT", "", ""): 1,
    }


def test_iteration_counts_the_rows_that_were_read(connection: Any, counts: Any) -> None:
    """A cursor is its own iterator, and rows that were left are not counted."""
    cursor = connection.cursor()
    cursor.execute("SELECT * FROM users ORDER BY id")
    assert iter(cursor) is cursor
    assert next(cursor) == (0, "n0")
    assert [row[0] for row in cursor] == [1, 2]
    assert [row[0] for row in connection.execute("SELECT id FROM users")] == [0, 1, 2]
    for _ in connection.execute("SELECT * FROM users"):
        break
    assert counts(RETURNED) == {("SELECT", "users"): 7}


def test_results_of_the_driver_are_the_proxies(connection: Any) -> None:
    """What a driver returns for chaining stays the traced object."""
    cursor = connection.cursor()
    assert cursor.execute("SELECT 1") is cursor
    assert cursor.connection is connection
    with connection as same:
        assert same is connection
    assert trace_connection(connection) is connection


def test_an_error_is_the_drivers(connection: Any, counts: Any) -> None:
    """Exceptions pass as they are, and are counted with their name."""
    with pytest.raises(
        connection.IntegrityError if hasattr(connection, "IntegrityError") else Exception
    ) as raised:
        connection.execute("INSERT INTO users VALUES (1, 'x')")
    connection.rollback()
    with pytest.raises(Exception, match="missing"):
        connection.cursor().execute("SELECT * FROM missing")
    names = {labels[2] for labels in counts(OPERATIONS)}
    assert raised.type.__name__ in names
    assert names <= {"", "IntegrityError", "OperationalError", "UniqueViolation", "UndefinedTable"}
    assert counts(OPERATIONS)["ROLLBACK", "", ""] == 1


@pytest.mark.parametrize("fails", [False, True])
def test_a_block_of_a_connection_is_a_commit_or_a_rollback(
    connection: Any, counts: Any, fails: bool
) -> None:
    """`with connection:` commits, or rolls back, as the driver does, and is counted as that."""
    with contextlib.suppress(RuntimeError), connection:
        connection.execute("DELETE FROM users")
        if fails:
            raise RuntimeError
    operation = "ROLLBACK" if fails else "COMMIT"
    assert counts(OPERATIONS) == {("DELETE", "users", ""): 1, (operation, "", ""): 1}


def test_a_block_without_a_transaction_is_no_commit(
    sqlite: sqlite3.Connection, counts: Any
) -> None:
    """A driver that has nothing to commit does not."""
    with sqlite:
        assert sqlite.execute("SELECT 1").fetchone() == (1,)
    assert ("COMMIT", "", "") not in counts(OPERATIONS)


def test_autocommit_has_no_commits(sqlite: sqlite3.Connection, counts: Any) -> None:
    """With autocommit a statement is no commit, nor is a block."""
    sqlite.isolation_level = None
    with sqlite:
        sqlite.execute("DELETE FROM users")
    assert counts(OPERATIONS) == {("DELETE", "users", ""): 1}


def test_attributes_are_the_drivers(sqlite: sqlite3.Connection) -> None:
    """Attributes are read and set, row factories work, and functions of the driver are there."""
    raw = sqlite.__wrapped__  # type: ignore[attr-defined]
    assert isinstance(sqlite, sqlite3.Connection)
    assert type(raw) is sqlite3.Connection
    sqlite.row_factory = sqlite3.Row
    assert raw.row_factory is sqlite3.Row
    assert sqlite.execute("SELECT id FROM users").fetchone()["id"] == 0
    sqlite.create_function("double", 1, lambda number: number * 2)
    assert sqlite.execute("SELECT double(4)").fetchone()[0] == 8
    assert sqlite.total_changes == 3
    cursor = sqlite.cursor()
    cursor.arraysize = 2
    cursor.execute("SELECT id FROM users")
    assert [len(cursor.fetchmany()) for _ in range(2)] == [2, 1]
    assert cursor.description[0][0] == "id"
    assert hash(sqlite) == hash(raw)
    assert sqlite == raw
    with pytest.raises(AttributeError, match="frobnicate"):
        sqlite.frobnicate()  # type: ignore[attr-defined]
    assert not hasattr(sqlite, "callproc")


def test_scripts_are_counted_by_their_first_statement(
    sqlite: sqlite3.Connection, counts: Any
) -> None:
    """A script is one operation."""
    script = "DELETE FROM users; DROP TABLE users;"
    assert sqlite.cursor().executescript(script).fetchall() == []
    sqlite.executescript("CREATE TABLE users (id int); SELECT 1")
    assert counts(OPERATIONS) == {("DELETE", "users", ""): 1, ("CREATE", "users", ""): 1}


def test_factories_of_cursors_work(sqlite: sqlite3.Connection, counts: Any) -> None:
    """A cursor of the application's class is traced."""

    class Cursor(sqlite3.Cursor):
        """A cursor of the application."""

        def names(self) -> list[str]:
            return [row[1] for row in self.execute("SELECT * FROM users")]

    cursor = sqlite.cursor(Cursor)
    assert isinstance(cursor, Cursor)
    assert cursor.names() == ["n0", "n1", "n2"]
    assert counts(OPERATIONS) == {}


def test_returned_rows_of_statements_that_write_count(psycopg: Any, counts: Any) -> None:
    """Rows of `RETURNING` were written and are read."""
    cursor = psycopg.execute("DELETE FROM users RETURNING id")
    assert len(cursor.fetchall()) == 3
    assert counts(AFFECTED) == {("DELETE", "users"): 3}
    assert counts(RETURNED) == {("DELETE", "users"): 3}


def test_blocks_of_psycopg_are_transactions(psycopg: Any, counts: Any, library: Any) -> None:
    """The outermost `transaction()` commits or rolls back; those inside are savepoints."""
    library("psycopg")
    with psycopg.transaction():
        psycopg.execute("DELETE FROM users WHERE id = 1")
        with psycopg.transaction() as inner:
            assert inner.connection is psycopg.__wrapped__
    with psycopg.transaction(force_rollback=True):
        psycopg.execute("DELETE FROM users WHERE id = 2")
    with pytest.raises(RuntimeError), psycopg.transaction():
        raise RuntimeError
    assert counts(OPERATIONS) == {
        ("DELETE", "users", ""): 2,
        ("COMMIT", "", ""): 1,
        ("ROLLBACK", "", ""): 2,
    }


def test_cursors_of_the_server_stream(psycopg: Any, counts: Any) -> None:
    """A named cursor is as lazy as it was, and its rows are counted as they come."""
    with psycopg.cursor(name="big") as cursor:
        cursor.execute("SELECT * FROM generate_series(1, 1000000)")
        cursor.itersize = 10
        for row in cursor:
            if row == (25,):
                break
    assert counts(RETURNED) == {("SELECT", ""): 25}


def test_composed_statements_are_read(psycopg: Any, counts: Any, library: Any) -> None:
    """Statements that psycopg composes, and bytes, have their table."""
    sql = library("psycopg.sql")
    psycopg.execute(
        sql.SQL("SELECT {} FROM {}").format(sql.Literal("FROM b"), sql.Identifier("users"))
    )
    psycopg.execute(b"SELECT * FROM users")
    psycopg.cursor().execute(query="SELECT * FROM users")
    assert counts(OPERATIONS) == {("SELECT", "users", ""): 3}


def test_a_disconnect_is_an_error(psycopg: Any, counts: Any, library: Any, postgresql: str) -> None:
    """A server that ends the connection is an error of the statement."""
    pid = psycopg.info.backend_pid
    with library("psycopg").connect(f"postgresql{postgresql}", autocommit=True) as other:
        other.execute("SELECT pg_terminate_backend(%s, 5000)", (pid,))
    with pytest.raises(library("psycopg").OperationalError):
        psycopg.execute("SELECT 1")
    assert counts(OPERATIONS) == {("SELECT", "", "AdminShutdown"): 1}


class Driver:
    """A driver that has no more than the standard says, and an iterator that is no cursor."""

    rowcount: Any = -1

    def __init__(self) -> None:
        self.rows: list[Any] = []

    def cursor(self) -> Driver:
        return self

    def commit(self) -> None:
        pass

    def rollback(self) -> None:
        pass

    def execute(self, _: str) -> None:
        self.rows = [(1,), (2,)]

    def executemany(self, _: str, __: object) -> None:
        self.rows = []

    def callproc(self, name: str, parameters: tuple[object, ...] = ()) -> tuple[object, ...]:
        self.rows = [(name,)]
        return parameters

    def fetchone(self) -> Any:
        return self.rows.pop(0) if self.rows else None

    def fetchmany(self, size: int = 1) -> Any:
        return None

    def fetchall(self) -> Any:
        return iter(())

    def __iter__(self) -> Iterator[Any]:
        return iter(self.fetchone, None)


def test_any_driver_works(metrics: Metrics, points: Points) -> None:
    """A plain driver is counted under the name of its module, and its answers pass as they are."""
    driver: Any = Driver()
    connection = trace_connection(driver)
    cursor = connection.cursor()
    assert cursor.execute("SELECT * FROM users") is None
    assert list(cursor) == [(1,), (2,)]
    assert cursor.fetchmany() is None
    assert list(cursor.fetchall()) == []
    driver.rowcount = "many"
    cursor.executemany("DELETE FROM users", [])
    assert cursor.callproc("pay", (1,)) == (1,)
    assert cursor.fetchone() == ("pay",)
    connection.commit()
    connection.rollback()
    module = __name__.partition(".")[0]
    assert points(OPERATIONS) == {
        (module, "SELECT", "users", ""): 1,
        (module, "DELETE", "users", ""): 1,
        (module, "CALL", "pay", ""): 1,
        (module, "COMMIT", "", ""): 1,
        (module, "ROLLBACK", "", ""): 1,
    }
    assert points(RETURNED) == {(module, "SELECT", "users"): 2, (module, "CALL", "pay"): 1}
    assert points(AFFECTED) == {}


def test_what_is_no_connection_is_rejected(library: Callable[[str], Any]) -> None:
    """An object without cursors, and an asynchronous connection, cannot be traced."""
    with pytest.raises(TypeError, match="needs a DB-API connection"):
        trace_connection(1)
    with pytest.raises(TypeError, match="asynchronous"):
        trace_connection(object.__new__(library("psycopg").AsyncConnection))


def test_a_connection_ends_with_its_proxy(metrics: Metrics) -> None:
    """A proxy and its cursors keep nothing alive longer."""
    raw = sqlite3.connect(":memory:")
    cursor = trace_connection(raw).cursor()
    cursor.execute("SELECT 1")
    before = len(gc.get_referrers(raw))
    del cursor
    assert len(gc.get_referrers(raw)) < before
    raw.close()


def test_nothing_is_recorded_while_tracing_is_off(
    sqlite: sqlite3.Connection, points: Points
) -> None:
    """Without a trace function a traced connection works as before."""
    clear_trace_function()
    assert sqlite.execute("SELECT count(*) FROM users").fetchall() == [(3,)]
    assert points(OPERATIONS) == {}


STATEMENTS = (
    *("SELECT * FROM t", "INSERT INTO t VALUES (1)", "DELETE FROM t"),
    *("SELECT * FROM missing", "", "nonsense"),
)
OTHERS = (
    *("fetchone", "fetchmany", "fetchall", "commit", "rollback", "next"),
    *("description", "rowcount", "in_transaction", "block", "failing block"),
)
STEPS = st.lists(
    st.tuples(st.just("execute"), st.sampled_from(STATEMENTS))
    | st.tuples(st.sampled_from(OTHERS), st.just("")),
    max_size=20,
)


@settings(max_examples=200, deadline=None)
@given(STEPS)
def test_a_traced_connection_behaves_as_one_that_is_not(steps: list[tuple[str, str]]) -> None:
    """The same steps have the same results and errors, and leave the same rows."""
    set_trace_function(Metrics(workers=False))
    plain, traced = sqlite3.connect(":memory:"), sqlite3.connect(":memory:")
    try:
        assert run(plain, steps) == run(trace_connection(traced), steps)
        assert (
            plain.execute("SELECT * FROM t").fetchall()
            == traced.execute("SELECT * FROM t").fetchall()
        )
    finally:
        plain.close()
        traced.close()
        reset()


def run(connection: sqlite3.Connection, steps: list[tuple[str, str]]) -> list[object]:
    """Take the steps, and return what each returned or raised."""
    connection.execute("CREATE TABLE t (a int)")
    cursor = connection.cursor()
    results: list[object] = []
    for name, text in steps:
        try:
            results.append(step(connection, cursor, name, text))
        except Exception as error:  # noqa: BLE001 -- it is compared
            results.append((type(error), str(error)))
    return results


def step(connection: sqlite3.Connection, cursor: sqlite3.Cursor, name: str, text: str) -> object:
    """Take one step."""
    if name == "execute":
        return cursor.execute(text) is cursor
    if name == "next":
        return next(cursor)
    if name == "block":
        with connection:
            connection.execute("INSERT INTO t VALUES (2)")
        return None
    if name == "failing block":
        with connection:
            connection.execute("INSERT INTO t VALUES (3)")
            raise RuntimeError
    owner: Any = connection if name in {"commit", "rollback", "in_transaction"} else cursor
    found = getattr(owner, name)
    return found() if callable(found) else found
