"""Instances of models that sessions of SQLAlchemy created, updated and deleted."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest

from hypertrace.integrations import install, uninstall

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from hypertrace.metrics import Metrics

    Points = Callable[[str], dict[tuple[str, ...], float]]

EVENTS = "model_events_total"


class Shop(NamedTuple):
    """The ORM, an engine, and two models, of which a user has many orders."""

    orm: Any
    engine: Any
    User: Any
    Order: Any


@pytest.fixture
def sa(library: Callable[[str], Any], metrics: Metrics) -> Any:
    """Give SQLAlchemy, with the integration."""
    library("sqlalchemy.orm")
    install("sqlalchemy_orm")
    return library("sqlalchemy")


@pytest.fixture
def shop(sa: Any, tmp_path: Path) -> Iterator[Shop]:
    """Give models that a SQLite file has."""
    yield from made(sa, sa.create_engine(f"sqlite:///{tmp_path / 'shop.db'}"))


def made(sa: Any, engine: Any) -> Iterator[Shop]:
    """Make models."""
    from sqlalchemy import orm

    base = orm.declarative_base()

    class User(base):  # type: ignore[misc, valid-type]
        """A user."""

        __tablename__ = "users"
        __module__ = "accounts.models"
        id = sa.Column(sa.Integer, primary_key=True)
        name = sa.Column(sa.String(20), unique=True)
        orders = orm.relationship("Order", cascade="all, delete-orphan")

    class Order(base):  # type: ignore[misc, valid-type]
        """An order."""

        __tablename__ = "orders"
        __module__ = "shop.models"
        id = sa.Column(sa.Integer, primary_key=True)
        user_id = sa.Column(sa.ForeignKey("users.id"))

    base.metadata.create_all(engine)
    yield Shop(orm, engine, User, Order)
    engine.dispose()


@pytest.fixture
def events(points: Points) -> Callable[[], dict[tuple[str, str], float]]:
    """Give a function that returns the events so far, by model and action."""
    return lambda: {labels[1:]: n for labels, n in points(EVENTS).items()}  # type: ignore[misc]


def test_committed_changes_are_counted(shop: Shop, points: Points) -> None:
    """Instances that a session created, updated and deleted count when it commits."""
    with shop.orm.Session(shop.engine) as session:
        users = [shop.User(name=f"n{number}") for number in range(4)]
        users[0].orders = [shop.Order(), shop.Order()]
        session.add_all(users)
        session.flush()
        assert points(EVENTS) == {}
        session.commit()
        users[1].name = "other"
        session.delete(users[2])
        session.delete(users[0])
        session.commit()
    assert points(EVENTS) == {
        ("accounts", "User", "create"): 4,
        ("shop", "Order", "create"): 2,
        ("accounts", "User", "update"): 1,
        ("accounts", "User", "delete"): 2,
        ("shop", "Order", "delete"): 2,
    }


def test_changes_that_are_rolled_back_count_nowhere(shop: Shop, events: Any) -> None:
    """Neither a rollback, nor a close, nor a failed flush leaves a change."""
    with shop.orm.Session(shop.engine) as session:
        session.add(shop.User(name="a"))
        session.flush()
        session.rollback()
        session.add(shop.User(name="b"))
        session.flush()
        session.close()
        session.add_all([shop.User(name="c"), shop.User(name="c")])
        with pytest.raises(Exception, match="UNIQUE"):
            session.flush()
        session.rollback()
        session.add(shop.User(name="d"))
        session.commit()
    assert events() == {("User", "create"): 1}


def test_a_commit_that_fails_counts_nothing(sa: Any, shop: Shop, events: Any) -> None:
    """Changes count once the database has committed them."""

    def fail(*_: object) -> None:
        raise RuntimeError

    sa.event.listen(shop.engine, "commit", fail)
    with shop.orm.Session(shop.engine) as session:
        session.add(shop.User(name="a"))
        with pytest.raises(RuntimeError):
            session.commit()
    assert events() == {}


def test_savepoints_are_followed(shop: Shop, events: Any) -> None:
    """What is behind a savepoint counts if it is released, and all around it is committed."""
    with shop.orm.Session(shop.engine) as session:
        session.add(shop.User(name="outer"))
        with session.begin_nested():
            session.add(shop.User(name="kept"))
            with session.begin_nested() as inner:
                session.add(shop.User(name="dropped"))
                session.flush()
                inner.rollback()
        with session.begin_nested() as nested:
            with session.begin_nested():
                session.add(shop.Order())
            nested.rollback()
        with session.begin_nested() as nested:
            session.add(shop.Order())
            session.flush()
            nested.close()
        assert events() == {}
        session.commit()
    assert events() == {("User", "create"): 2}


def test_an_error_behind_a_savepoint_drops_what_is_behind_it(
    sa: Any, shop: Shop, events: Any
) -> None:
    """A flush that fails behind a savepoint leaves the changes before it."""
    with shop.orm.Session(shop.engine) as session:
        session.add(shop.User(name="a"))
        with suppress(sa.exc.IntegrityError), session.begin_nested():
            session.add(shop.Order())
            session.flush()
            session.add(shop.User(name="a"))
            session.flush()
        session.add(shop.Order())
        session.commit()
    assert events() == {("User", "create"): 1, ("Order", "create"): 1}


def test_a_commit_ends_open_savepoints(shop: Shop, events: Any) -> None:
    """A session that commits releases the savepoints that are open."""
    with shop.orm.Session(shop.engine) as session:
        session.begin_nested()
        session.add(shop.User(name="a"))
        session.begin_nested()
        session.add(shop.User(name="b"))
        session.commit()
    assert events() == {("User", "create"): 2}


def test_an_instance_without_a_change_is_not_updated(shop: Shop, events: Any) -> None:
    """A flush that writes no column of an instance is no update of it."""
    with shop.orm.Session(shop.engine) as session:
        user = shop.User(name="a")
        session.add(user)
        session.commit()
        user.orders.append(shop.Order())
        session.commit()
        user.name = user.name
        session.commit()
        user.name = "b"
        session.flush()
        user.name = "c"
        session.commit()
    assert events() == {
        ("User", "create"): 1,
        ("Order", "create"): 1,
        ("User", "update"): 2,
    }


def test_statements_on_many_rows_have_no_instances(sa: Any, shop: Shop, events: Any) -> None:
    """Bulk statements are no events of models; they count as rows of statements."""
    with shop.orm.Session(shop.engine) as session:
        session.execute(sa.insert(shop.User), [{"name": "a"}, {"name": "b"}])
        session.execute(sa.update(shop.User).values(name=None))
        session.bulk_insert_mappings(shop.User, [{"name": "c"}])
        session.execute(sa.delete(shop.User))
        session.commit()
    assert events() == {}


def test_a_session_in_another_transaction_counts_as_it_sees_it(shop: Shop, events: Any) -> None:
    """A session that a test binds to its own transaction commits as usual."""
    with shop.engine.connect() as connection:
        connection.begin()
        with shop.orm.Session(connection, join_transaction_mode="create_savepoint") as session:
            session.add(shop.User(name="a"))
            session.commit()
        connection.rollback()
    assert events() == {("User", "create"): 1}


def test_two_phases_are_one_commit(
    sa: Any, library: Callable[[str], Any], postgresql: str, events: Any
) -> None:
    """A transaction of two phases counts when it is committed."""
    library("psycopg")
    engine = sa.create_engine(f"postgresql+psycopg{postgresql}")
    with engine.begin() as connection:
        connection.exec_driver_sql("DROP SCHEMA public CASCADE; CREATE SCHEMA public")
    for shop in made(sa, engine):
        with shop.orm.Session(engine, twophase=True) as session:
            session.add(shop.User(name="a"))
            session.commit()
    assert events() == {("User", "create"): 1}


def test_asynchronous_sessions_are_counted(
    sa: Any, library: Callable[[str], Any], shop: Shop, tmp_path: Path, events: Any
) -> None:
    """Asynchronous sessions count alike."""
    library("aiosqlite")
    from sqlalchemy.ext.asyncio import AsyncSession, create_async_engine

    async def work() -> None:
        engine = create_async_engine(f"sqlite+aiosqlite:///{tmp_path / 'shop.db'}")
        async with AsyncSession(engine) as session:
            session.add(shop.User(name="a"))
            await session.commit()
            session.add(shop.User(name="b"))
            await session.flush()
        await engine.dispose()

    asyncio.run(work())
    assert events() == {("User", "create"): 1}


def test_models_are_bounded(
    sa: Any, shop: Shop, events: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Classes that are made while the program runs do not fill the metrics."""
    from hypertrace.integrations import model_changes, sql

    monkeypatch.setattr(model_changes, "_models", sql.BoundedNames(1))
    with shop.orm.Session(shop.engine) as session:
        session.add(shop.User(name="a", orders=[shop.Order()]))
        session.commit()
    assert events() == {("User", "create"): 1, ("_OTHER", "create"): 1}


def test_uninstalling_ends_it(
    library: Callable[[str], Any], metrics: Metrics, points: Points
) -> None:
    """After it, no mapper and no session has a listener."""
    orm = library("sqlalchemy.orm")
    sa = library("sqlalchemy")
    install("sqlalchemy_orm")
    uninstall("sqlalchemy_orm")
    for shop in made(sa, sa.create_engine("sqlite://")):
        assert not sa.inspect(shop.User).dispatch.after_insert
        assert not orm.Session().dispatch.after_commit
        with shop.orm.Session(shop.engine) as session:
            session.add(shop.User(name="a"))
            session.commit()
    assert points(EVENTS) == {}
