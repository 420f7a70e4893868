"""SQLAlchemy's engines, results and pools."""

from __future__ import annotations

import asyncio
import gc
import os
import threading
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import pytest

from hypertrace import clear_trace_function
from hypertrace.integrations import install, uninstall
from hypertrace.integrations.sql import BoundedNames
from hypertrace.integrations.sqlalchemy import _CONNECTIONS

from ..running import LONG, in_threads

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from hypertrace.metrics import Metrics

    Points = Callable[[str], dict[tuple[str, ...], float]]

OPERATIONS = "db_client_operation_duration_seconds"
AFFECTED = "db_client_affected_rows_total"
RETURNED = "db_client_returned_rows_total"
WAITS = "db_client_connection_wait_time_seconds"
CONNECTIONS = "db_client_connections"
PENDING = "db_client_connection_pending_requests"


@pytest.fixture
def sa(library: Callable[[str], Any], metrics: Metrics) -> Any:
    """Give SQLAlchemy, with the integration."""
    found = library("sqlalchemy")
    install("sqlalchemy")
    return found


@pytest.fixture
def sqlite(sa: Any, tmp_path: Path) -> Iterator[Any]:
    """Give an engine of a SQLite file."""
    engine = sa.create_engine(f"sqlite:///{tmp_path / 'shop.db'}")
    yield engine
    engine.dispose()


@pytest.fixture
def postgres(sa: Any, library: Callable[[str], Any], postgresql: str) -> Iterator[Any]:
    """Give an engine of PostgreSQL, whose database is empty and which has connected before."""
    library("psycopg")
    engine = sa.create_engine(f"postgresql+psycopg{postgresql}", pool_size=2, max_overflow=0)
    with engine.begin() as connection:
        connection.exec_driver_sql("DROP SCHEMA public CASCADE; CREATE SCHEMA public")
    yield engine
    engine.dispose()


@pytest.fixture(params=["sqlite", "postgres"])
def engine(request: pytest.FixtureRequest) -> Any:
    """Give an engine of each database."""
    return request.getfixturevalue(request.param)


@pytest.fixture
def users(sa: Any, engine: Any) -> Any:
    """Give a table that the database has."""
    return made(sa, engine)


def made(sa: Any, engine: Any) -> Any:
    """Make a table."""
    table = sa.Table(
        "users",
        sa.MetaData(),
        sa.Column("id", sa.Integer, primary_key=True),
        sa.Column("name", sa.String(20), unique=True),
    )
    table.create(engine)
    return table


@pytest.fixture
def since(points: Points) -> Callable[[], Callable[..., dict[tuple[str, ...], float]]]:
    """Give a function that returns one that gives the increase of a metric since then."""

    def begin() -> Callable[..., dict[tuple[str, ...], float]]:
        before = {name: points(name) for name in (OPERATIONS, AFFECTED, RETURNED, WAITS)}

        def increase(name: str) -> dict[tuple[str, ...], float]:
            now = {
                labels: number - before[name].get(labels, 0)
                for labels, number in points(name).items()
            }
            drop = 0 if name == WAITS else 1  # the system
            return {labels[drop:]: number for labels, number in now.items() if number}

        return increase

    return begin


def test_figures_equal_the_tally(sa: Any, engine: Any, users: Any, since: Any) -> None:
    """Statements, commits, rollbacks and rows are as many as the application had."""
    increase = since()
    with engine.connect() as connection:
        for number in range(5):
            connection.execute(sa.insert(users).values(id=number, name=f"n{number}"))
        connection.commit()
        connection.execute(sa.update(users).where(users.c.id < 3).values(name=None))
        connection.rollback()
        assert len(connection.execute(sa.select(users)).all()) == 5
        connection.execute(sa.delete(users).where(users.c.id == 4))
        connection.commit()
    assert increase(OPERATIONS) == {
        ("INSERT", "users", ""): 5,
        ("COMMIT", "", ""): 2,
        ("UPDATE", "users", ""): 1,
        ("ROLLBACK", "", ""): 1,
        ("SELECT", "users", ""): 1,
        ("DELETE", "users", ""): 1,
    }
    assert increase(AFFECTED) == {
        ("INSERT", "users"): 5,
        ("UPDATE", "users"): 3,
        ("DELETE", "users"): 1,
    }
    assert increase(RETURNED) == {("SELECT", "users"): 5}


def test_figures_of_threads_equal_the_tally(sa: Any, postgres: Any, since: Any) -> None:
    """No statement and no row of several threads is lost."""
    users = made(sa, postgres)
    with postgres.begin() as connection:
        connection.execute(sa.insert(users), [{"id": n, "name": f"n{n}"} for n in range(10)])
    increase = since()

    def work() -> None:
        for _ in range(50):
            with postgres.connect() as connection:
                assert len(connection.execute(sa.select(users)).all()) == 10

    in_threads(work, work, work, work)
    assert increase(OPERATIONS) == {("SELECT", "users", ""): 200, ("ROLLBACK", "", ""): 200}
    assert increase(RETURNED) == {("SELECT", "users"): 2_000}
    assert increase(WAITS) == {(name_of(postgres), ""): 200}


def name_of(engine: Any) -> str:
    """Return the name that a pool has without one."""
    return f"127.0.0.1:{engine.url.port}/postgres"


def test_many_rows_are_one_operation(sa: Any, engine: Any, users: Any, since: Any) -> None:
    """`executemany` is one operation, and its rows are counted."""
    increase = since()
    with engine.begin() as connection:
        connection.execute(sa.insert(users), [{"id": n, "name": f"n{n}"} for n in range(7)])
        changed = (
            sa.update(users).where(users.c.id == sa.bindparam("i")).values(name=sa.bindparam("n"))
        )
        connection.execute(changed, [{"i": n, "n": f"m{n}"} for n in range(3)])
    assert increase(OPERATIONS) == {
        ("INSERT", "users", ""): 1,
        ("UPDATE", "users", ""): 1,
        ("COMMIT", "", ""): 1,
    }
    assert increase(AFFECTED) == {("INSERT", "users"): 7, ("UPDATE", "users"): 3}


def test_batches_are_one_operation(sa: Any, postgres: Any, since: Any) -> None:
    """What SQLAlchemy sends in batches is one operation, with the rows of all batches."""
    users = made(sa, postgres)
    increase = since()
    rows = [{"name": f"n{n}"} for n in range(25)]
    with postgres.begin() as connection:
        connection.execution_options(insertmanyvalues_page_size=10)
        result = connection.execute(sa.insert(users).returning(users.c.id), rows)
        assert len(result.all()) == 25
    assert increase(OPERATIONS)["INSERT", "users", ""] == 1
    assert increase(AFFECTED) == {("INSERT", "users"): 25}
    assert increase(RETURNED) == {("INSERT", "users"): 25}


def test_a_sequence_is_a_statement(sa: Any, postgres: Any, since: Any) -> None:
    """What SQLAlchemy asks a sequence is a statement, and so is what fails there."""
    number = sa.Sequence("numbers")
    with postgres.begin() as connection:
        number.create(connection)
    increase = since()
    with postgres.connect() as connection:
        assert connection.scalar(number) == 1
        with pytest.raises(sa.exc.ProgrammingError):
            connection.scalar(sa.Sequence("missing"))
    assert increase(OPERATIONS) == {
        ("SELECT", "", ""): 1,
        ("SELECT", "", "UndefinedTable"): 1,
    }


def test_a_result_that_writes_has_no_rows_to_read(
    sa: Any, engine: Any, users: Any, since: Any
) -> None:
    """Keys that the database gives to new rows are read by SQLAlchemy, not by the application."""
    increase = since()
    with engine.begin() as connection:
        result = connection.execute(sa.insert(users).values(name="a"))
        assert result.inserted_primary_key == (1,)
    assert increase(RETURNED) == {}
    assert increase(OPERATIONS)["INSERT", "users", ""] == 1


def test_errors_have_the_type_of_the_driver(sa: Any, engine: Any, users: Any, since: Any) -> None:
    """A statement that fails is one operation with the name of the driver's exception."""
    increase = since()
    with engine.connect() as connection:
        connection.execute(sa.insert(users).values(id=1))
        with pytest.raises(sa.exc.IntegrityError):
            connection.execute(sa.insert(users).values(id=1))
        connection.rollback()
        with pytest.raises(sa.exc.DBAPIError):
            connection.execute(sa.text("SELECT * FROM missing"))
        connection.rollback()
    duplicate = {"sqlite": "IntegrityError", "postgresql": "UniqueViolation"}
    missing = {"sqlite": "OperationalError", "postgresql": "UndefinedTable"}
    assert increase(OPERATIONS) == {
        ("INSERT", "users", ""): 1,
        ("INSERT", "users", duplicate[engine.dialect.name]): 1,
        ("SELECT", "missing", missing[engine.dialect.name]): 1,
        ("ROLLBACK", "", ""): 2,
    }


def test_a_commit_may_fail(sa: Any, postgres: Any, since: Any) -> None:
    """A constraint that is checked at the end is an error of the commit."""
    with postgres.begin() as connection:
        connection.exec_driver_sql("CREATE TABLE a (id int UNIQUE DEFERRABLE INITIALLY DEFERRED)")
    increase = since()
    with postgres.connect() as connection:
        connection.exec_driver_sql("INSERT INTO a VALUES (1), (1)")
        with pytest.raises(sa.exc.IntegrityError):
            connection.commit()
    assert increase(OPERATIONS) == {("INSERT", "a", ""): 1, ("COMMIT", "", "UniqueViolation"): 1}


def test_savepoints_are_statements(sa: Any, engine: Any, users: Any, since: Any) -> None:
    """A nested transaction makes a savepoint, and its end is neither a commit nor a rollback."""
    increase = since()
    with engine.begin() as connection:
        with connection.begin_nested():
            connection.execute(sa.insert(users).values(id=1))
        nested = connection.begin_nested()
        inner = connection.begin_nested()
        inner.rollback()
        nested.rollback()
    assert increase(OPERATIONS) == {
        ("SAVEPOINT", "", ""): 3,
        ("INSERT", "users", ""): 1,
        ("RELEASE", "", ""): 1,
        ("ROLLBACK TO SAVEPOINT", "", ""): 2,
        ("COMMIT", "", ""): 1,
    }


def suppressed(function: Callable[[], object]) -> None:
    """Call a function that raises."""
    with pytest.raises(Exception, match="Multiple rows"):
        function()


READS: dict[str, tuple[Callable[[Any], object], int]] = {
    "all": (lambda result: result.all(), 10),
    "iteration": (lambda result: [*result], 10),
    "first": (lambda result: result.first(), 1),
    "one of many": (lambda result: suppressed(result.one), 2),
    "scalars": (lambda result: result.scalars().all(), 10),
    "mappings": (lambda result: [*result.mappings()], 10),
    "fetchmany": (lambda result: [result.fetchmany(4), result.fetchmany(4)], 8),
    "fetchone": (lambda result: [result.fetchone() for _ in range(3)], 3),
    "partitions": (lambda result: [*result.partitions(3)], 10),
    "left early": (lambda result: next(iter(result)), 1),
    "closed": (lambda result: result.close(), 0),
    "unique": (lambda result: result.unique().all(), 10),
}
"""Ways to read ten rows, and how many are read."""


@pytest.mark.parametrize("way", READS)
@pytest.mark.parametrize("options", [{}, {"stream_results": True}, {"yield_per": 4}], ids=str)
def test_rows_count_when_they_are_read(
    sa: Any, engine: Any, users: Any, since: Any, way: str, options: dict[str, object]
) -> None:
    """Rows that were read are counted, however they are read, and no others."""
    with engine.begin() as connection:
        connection.execute(sa.insert(users), [{"id": n, "name": f"n{n}"} for n in range(10)])
    read, expected = READS[way]
    increase = since()
    with engine.connect() as connection:
        assert increase(RETURNED) == {}
        result = connection.execution_options(**options).execute(sa.select(users))
        read(result)
        result.close()
    assert increase(RETURNED) == ({("SELECT", "users"): expected} if expected else {})
    assert increase(OPERATIONS)["SELECT", "users", ""] == 1


def test_streamed_rows_count_while_they_come(sa: Any, sqlite: Any, since: Any) -> None:
    """A long iteration is counted before its end, and is as lazy as it was."""
    with sqlite.connect() as connection:
        increase = since()
        numbers = "WITH RECURSIVE a(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM a) SELECT n FROM a"
        for row in connection.execute(sa.text(numbers)):
            if row.n == 2_500:
                break
        assert sum(increase(RETURNED).values()) >= 2_000


def test_an_error_while_rows_are_read_is_one_of_fetching(sa: Any, sqlite: Any, since: Any) -> None:
    """A statement that fails when its rows are computed is the operation FETCH, once."""
    users = made(sa, sqlite)
    with sqlite.begin() as connection:
        connection.execute(sa.insert(users), [{"id": n, "name": f"n{n}"} for n in range(3)])
    increase = since()
    failing = sa.text("SELECT CASE id WHEN 2 THEN abs(-9223372036854775808) ELSE id END FROM users")
    with sqlite.connect() as connection:
        with pytest.raises(sa.exc.DBAPIError):
            connection.execute(failing).all()
        with pytest.raises(sa.exc.DBAPIError):
            [*connection.execute(failing)]
        result = connection.execute(sa.text("SELECT 1"))
        result.close()
        with pytest.raises(sa.exc.ResourceClosedError):
            result.all()
    operations = increase(OPERATIONS)
    assert operations["SELECT", "users", ""] == 2
    assert {key for key in operations if key[0] == "FETCH"} == {
        ("FETCH", "users", "OperationalError")
    }
    assert operations["FETCH", "users", "OperationalError"] == 2


def test_autocommit_has_the_commits_that_the_application_asks_for(
    sa: Any, engine: Any, users: Any, since: Any
) -> None:
    """With autocommit a statement is no commit."""
    increase = since()
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.execute(sa.insert(users).values(id=1))
        connection.commit()
    assert increase(OPERATIONS) == {("INSERT", "users", ""): 1, ("COMMIT", "", ""): 1}


@pytest.mark.parametrize("name", ["before_cursor_execute", "after_cursor_execute", "handle_error"])
def test_an_exception_in_a_listener_loses_no_statement(
    sa: Any, sqlite: Any, since: Any, name: str
) -> None:
    """A statement is recorded once, also if a listener of the application raises."""
    users = made(sa, sqlite)

    def listener(*args: object) -> None:
        raise RuntimeError

    sa.event.listen(sqlite, name, listener)
    increase = since()
    with sqlite.connect() as connection, pytest.raises(RuntimeError):
        connection.execute(
            sa.text("SELECT * FROM missing" if name == "handle_error" else "SELECT * FROM users")
        )
    expected = {
        "before_cursor_execute": ("SELECT", "users", "RuntimeError"),
        "after_cursor_execute": ("SELECT", "users", "RuntimeError"),
        "handle_error": ("SELECT", "missing", "OperationalError"),
    }
    assert increase(OPERATIONS) == {expected[name]: 1, ("ROLLBACK", "", ""): 1}
    assert users is not None


def test_a_listener_may_replace_the_statement(sa: Any, sqlite: Any, since: Any) -> None:
    """The statement that is sent is the one that counts."""
    made(sa, sqlite)

    def comment(_c: Any, _cursor: Any, statement: str, parameters: Any, *_: Any) -> tuple[str, Any]:
        return f"/* shop */ {statement}", parameters

    sa.event.listen(sqlite, "before_cursor_execute", comment, retval=True)
    increase = since()
    with sqlite.connect() as connection:
        connection.execute(sa.text("SELECT * FROM users"))
    assert increase(OPERATIONS) == {("SELECT", "users", ""): 1, ("ROLLBACK", "", ""): 1}


def test_a_wait_is_measured_by_pool(sa: Any, postgres: Any, points: Points, since: Any) -> None:
    """Connections are waited for, used and idle, by pool, and an exhausted pool is an error."""
    postgres.pool._timeout = 0.05
    name = name_of(postgres)
    increase = since()
    first, second = postgres.connect(), postgres.connect()
    assert points(CONNECTIONS) == {(name, "used"): 2, (name, "idle"): 0}
    with pytest.raises(sa.exc.TimeoutError):
        postgres.connect()
    assert increase(WAITS) == {(name, ""): 2, (name, "TimeoutError"): 1}
    assert points(PENDING) == {(name,): 0}
    first.close()
    assert points(CONNECTIONS) == {(name, "used"): 1, (name, "idle"): 1}
    second.close()
    postgres.dispose()
    assert points(CONNECTIONS) == {(name, "used"): 0, (name, "idle"): 0}


def test_requests_that_wait_are_pending(sa: Any, postgres: Any, points: Points) -> None:
    """While a pool is exhausted, those that wait for it are shown."""
    name = name_of(postgres)
    connections = [postgres.connect(), postgres.connect()]
    got = threading.Event()

    def wait() -> None:
        postgres.connect().close()
        got.set()

    thread = threading.Thread(target=wait)
    thread.start()
    while points(PENDING) != {(name,): 1}:
        assert thread.is_alive()
    assert not got.is_set()
    connections[0].close()
    assert got.wait(LONG)
    thread.join(LONG)
    assert points(PENDING) == {(name,): 0}
    connections[1].close()


def test_a_database_that_is_away_is_an_error(
    sa: Any, library: Callable[[str], Any], free_port: Callable[[], int], points: Points
) -> None:
    """A connection that cannot be made is a wait that failed."""
    library("psycopg")
    port = free_port()
    engine = sa.create_engine(
        f"postgresql+psycopg://127.0.0.1:{port}/shop", pool_logging_name="orders"
    )
    with pytest.raises(sa.exc.OperationalError):
        engine.connect()
    assert points(WAITS) == {("orders", "OperationalError"): 1}


def test_a_disconnect_leaves_no_connection(
    sa: Any, postgres: Any, points: Points, since: Any
) -> None:
    """A connection that the server has ended is an error, and no rollback follows."""
    name = name_of(postgres)
    increase = since()
    with postgres.connect() as connection, postgres.connect() as other:
        pid = connection.scalar(sa.text("SELECT pg_backend_pid()"))
        other.execute(sa.text("SELECT pg_terminate_backend(:pid, 5000)"), {"pid": pid})
        with pytest.raises(sa.exc.OperationalError):
            connection.execute(sa.text("SELECT 1"))
        assert points(CONNECTIONS) == {(name, "used"): 1, (name, "idle"): 0}
    assert increase(OPERATIONS) == {
        ("SELECT", "", ""): 2,
        ("SELECT", "", "AdminShutdown"): 1,
        ("ROLLBACK", "", ""): 1,
    }
    assert points(CONNECTIONS) == {(name, "used"): 0, (name, "idle"): 1}


def test_a_connection_that_is_replaced_at_checkout_is_counted_once(
    sa: Any, postgres: Any, points: Points
) -> None:
    """A listener that rejects a connection makes the pool open another."""
    name = name_of(postgres)
    rejected: list[bool] = []

    def reject(*_: object) -> None:
        if not rejected:
            rejected.append(True)
            raise sa.exc.DisconnectionError

    sa.event.listen(postgres, "checkout", reject)
    with postgres.connect():
        assert points(CONNECTIONS) == {(name, "used"): 1, (name, "idle"): 0}
    assert points(CONNECTIONS) == {(name, "used"): 0, (name, "idle"): 1}


def test_a_listener_that_raises_at_checkout_leaves_no_connection(
    sa: Any, postgres: Any, points: Points
) -> None:
    """A connection that the application did not get is not in use."""
    name = name_of(postgres)

    def fail(*_: object) -> None:
        raise RuntimeError

    sa.event.listen(postgres, "checkout", fail)
    with pytest.raises(RuntimeError):
        postgres.connect()
    assert points(CONNECTIONS) == {(name, "used"): 0, (name, "idle"): 0}
    assert points(WAITS)[name, "RuntimeError"] == 1


@pytest.mark.parametrize("pool", ["NullPool", "StaticPool", "SingletonThreadPool", "QueuePool"])
def test_every_pool_has_the_connections_that_are_open(
    sa: Any, tmp_path: Path, points: Points, pool: str
) -> None:
    """Used and idle connections are those of the pool, also when it is dropped."""
    engine = sa.create_engine(f"sqlite:///{tmp_path / 'shop.db'}", poolclass=getattr(sa.pool, pool))
    for _ in range(3):
        with engine.connect():
            assert points(CONNECTIONS)["shop.db", "used"] == 1
        assert points(CONNECTIONS)["shop.db", "used"] == 0
        assert points(CONNECTIONS).get(("shop.db", "idle"), 0) == (pool != "NullPool")
    with engine.connect() as connection:
        connection.detach()
        assert points(CONNECTIONS)["shop.db", "used"] == 0
    with engine.connect():
        pass
    del engine, connection
    gc.collect()
    assert points(CONNECTIONS) == {("shop.db", "used"): 0, ("shop.db", "idle"): 0}


def test_a_forked_child_counts_its_own_connections(
    sa: Any, sqlite: Any, points: Points, metrics: Metrics
) -> None:
    """A child that drops the connections of its parent takes none away from what it has counted."""
    with sqlite.connect():
        pass
    child = os.fork()
    if child == 0:
        code = 1
        with suppress(BaseException):
            sqlite.dispose(close=False)
            gc.collect()
            with sqlite.connect():
                used = points(CONNECTIONS)
            idle = points(CONNECTIONS)
            expected = {("shop.db", "used"): 0, ("shop.db", "idle"): 1}
            code = 0 if used == {("shop.db", "used"): 1} and idle == expected else 2
        os._exit(code)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert points(CONNECTIONS) == {("shop.db", "used"): 0, ("shop.db", "idle"): 1}


def test_pools_are_bounded(
    sa: Any, points: Points, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Engines that are made for each tenant do not fill the metrics."""
    monkeypatch.setattr("hypertrace.integrations.sqlalchemy._admitted", BoundedNames(2))
    for number in range(4):
        engine = sa.create_engine(f"sqlite:///{tmp_path / f'tenant{number}.db'}")
        engine.connect().close()
        engine.dispose()
    names = {labels[0] for labels in points(WAITS)}
    assert names == {"tenant0.db", "tenant1.db", "_OTHER"}


def test_an_engine_that_was_there_is_measured(
    library: Callable[[str], Any], metrics: Metrics, points: Points
) -> None:
    """Engines and connections that were made before are measured."""
    sa = library("sqlalchemy")
    engine = sa.create_engine("sqlite://")
    with engine.connect() as connection:
        connection.execute(sa.text("SELECT 1"))
        install("sqlalchemy")
        connection.execute(sa.text("SELECT 1"))
    assert points(OPERATIONS) == {
        ("sqlite", "SELECT", "", ""): 1,
        ("sqlite", "ROLLBACK", "", ""): 1,
    }
    with engine.connect():
        pass
    assert points(CONNECTIONS) == {("sqlite", "used"): 0, ("sqlite", "idle"): 1}


def test_uninstalling_leaves_sqlalchemy_as_it_was(
    library: Callable[[str], Any], metrics: Metrics, points: Points
) -> None:
    """After it, no class has another function, no event has a listener, and nothing is recorded."""
    sa = library("sqlalchemy")
    context = library("sqlalchemy.engine.default").DefaultExecutionContext
    owners = (sa.engine.Engine, sa.engine.Connection, sa.engine.CursorResult, context)
    before = [dict(vars(owner)) for owner in owners]
    for _ in range(2):
        install("sqlalchemy")
        uninstall("sqlalchemy")
    assert [dict(vars(owner)) for owner in owners] == before
    engine = sa.create_engine("sqlite://")
    assert not engine.pool.dispatch.checkout
    with engine.connect() as connection:
        connection.execute(sa.text("SELECT 1")).all()
        connection.commit()
    assert points(OPERATIONS) == {}


def test_statements_are_spans_inside_an_entry(sa: Any, sqlite: Any, metrics: Metrics) -> None:
    """A statement is called by the request around it, and is no entry."""
    from hypertrace.integrations.http_server import HttpServer

    request = HttpServer().start("GET", "/")
    assert request is not None
    with sqlite.connect() as connection:
        connection.execute(sa.text("SELECT 1"))
    request.finish()
    entries = metrics.read().family("entry_duration_seconds").points
    assert [point.labels[0] for point in entries] == ["http"]


def test_nothing_is_recorded_while_tracing_is_off(sa: Any, sqlite: Any, points: Points) -> None:
    """Without a trace function SQLAlchemy works as before."""
    clear_trace_function()
    with sqlite.connect() as connection:
        assert connection.execute(sa.text("SELECT 1")).scalar() == 1
    assert points(OPERATIONS) == {}
    assert points(CONNECTIONS) == {}


def test_failures_of_the_integration_stay_in_it(
    sa: Any, sqlite: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """What goes wrong while a statement is measured is logged, and the statement works."""

    def fail(*_: object) -> None:
        raise RuntimeError("broken")

    monkeypatch.setattr("hypertrace.integrations.sqlalchemy.database_of", fail)
    monkeypatch.setattr(_CONNECTIONS, "enter", fail)
    with sqlite.connect() as connection:
        assert connection.execute(sa.text("SELECT 1")).all() == [(1,)]
        with pytest.raises(sa.exc.OperationalError):
            connection.execute(sa.text("SELECT * FROM missing"))
        connection.commit()
    assert "broken" in caplog.text


# --- asynchronous engines ---------------------------------------------------------------


@pytest.fixture(params=["aiosqlite", "psycopg"])
def async_url(request: pytest.FixtureRequest, library: Callable[[str], Any], tmp_path: Path) -> str:
    """Give the URL of each asynchronous database."""
    library(request.param)
    if request.param == "aiosqlite":
        return f"sqlite+aiosqlite:///{tmp_path / 'shop.db'}"
    address = request.getfixturevalue("postgresql")
    request.getfixturevalue("postgres")  # empties it
    return f"postgresql+psycopg{address}"


def test_asynchronous_engines_are_measured(sa: Any, async_url: str, since: Any) -> None:
    """Statements, streams, commits and rows of an asynchronous engine are counted alike."""
    from sqlalchemy.ext.asyncio import create_async_engine

    async def work() -> None:
        engine = create_async_engine(async_url)
        async with engine.begin() as connection:
            users = await connection.run_sync(lambda sync: made(sa, sync))
            await connection.execute(
                sa.insert(users), [{"id": n, "name": f"n{n}"} for n in range(9)]
            )
        async with engine.connect() as connection:
            assert len((await connection.execute(sa.select(users))).all()) == 9
            result = await connection.stream(sa.select(users))
            assert len([row async for row in result]) == 9
            await connection.rollback()
        await engine.dispose()

    increase = since()
    asyncio.run(work())
    operations = increase(OPERATIONS)
    assert operations["INSERT", "users", ""] == 1
    assert operations["SELECT", "users", ""] == 2
    assert operations["COMMIT", "", ""] == 1
    assert operations["ROLLBACK", "", ""] >= 1
    assert increase(RETURNED)["SELECT", "users"] == 18


def test_two_phases_are_operations(postgres: Any, since: Any) -> None:
    """A transaction that is prepared counts so, and with its commit or rollback."""
    increase = since()
    with postgres.connect() as connection:
        for end in ("commit", "rollback"):
            transaction = connection.begin_twophase()
            connection.exec_driver_sql("SELECT 1")
            transaction.prepare()
            getattr(transaction, end)()
        connection.begin_twophase().rollback()
    counts = {"SELECT": 2, "PREPARE": 2, "COMMIT": 1, "ROLLBACK": 2}
    assert increase(OPERATIONS) == {(name, "", ""): count for name, count in counts.items()}


def test_a_cancelled_statement_is_recorded_as_cancelled(
    sa: Any, postgres: Any, postgresql: str, points: Points
) -> None:
    """A task that is cancelled while the database works leaves an operation and no connection."""
    from sqlalchemy.ext.asyncio import create_async_engine

    async def work() -> None:
        engine = create_async_engine(f"postgresql+psycopg{postgresql}", pool_logging_name="async")
        async with engine.connect() as connection:
            await connection.execute(sa.text("SELECT 1"))

        async def sleep() -> None:
            async with engine.connect() as connection:
                await connection.execute(sa.text("SELECT pg_sleep(60)"))

        task = asyncio.create_task(sleep())
        with postgres.connect() as watching:
            waiting = "SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'PgSleep'"
            while not watching.execute(sa.text(waiting)).scalar():
                watching.rollback()
                await asyncio.sleep(0.01)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert points(CONNECTIONS)["async", "used"] == 0
        await engine.dispose()

    asyncio.run(work())
    assert points(OPERATIONS)["postgresql", "SELECT", "", "CancelledError"] == 1
    results = points("function_duration_seconds")
    assert sum(number for labels, number in results.items() if "cancelled" in labels) == 1
