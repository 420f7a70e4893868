"""Django's databases, and its models."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import urlsplit

import pytest

from hypertrace import clear_trace_function
from hypertrace.integrations import install, uninstall

from ..running import in_threads

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from hypertrace.metrics import Metrics

    Points = Callable[[str], dict[tuple[str, ...], float]]

OPERATIONS = "db_client_operation_duration_seconds"
AFFECTED = "db_client_affected_rows_total"
EVENTS = "model_events_total"


class Models(NamedTuple):
    """Models: users, orders that are deleted with them, notes that stay, and companies."""

    User: Any
    Order: Any
    Note: Any
    Company: Any


_models: list[Models] = []


def models(django: Any) -> Models:
    """Return the models, which can be made once in a process."""
    if _models:
        return _models[0]
    from django.conf import settings

    if not settings.configured:
        settings.configure()
    django.setup()
    from django.apps import AppConfig, apps
    from django.db import models

    class User(models.Model):  # type: ignore[misc]  # noqa: DJ008 -- it is never shown
        """A user."""

        name = models.CharField(max_length=20, unique=True)

        class Meta:
            """Of an application that is installed below."""

            app_label = "shop"

    class Order(models.Model):  # type: ignore[misc]  # noqa: DJ008 -- as above
        """An order, which goes with its user."""

        user = models.ForeignKey(User, models.CASCADE)

        class Meta:
            """As above."""

            app_label = "shop"

    class Note(models.Model):  # type: ignore[misc]  # noqa: DJ008 -- as above
        """A note, which stays without its user, and has readers."""

        user = models.ForeignKey(User, models.SET_NULL, null=True)
        readers = models.ManyToManyField(User, related_name="notes")

        class Meta:
            """As above."""

            app_label = "shop"

    class Company(User):  # noqa: DJ008 -- as above
        """A user of two tables."""

        tax = models.CharField(max_length=20)

        class Meta:
            """As above."""

            app_label = "shop"

    # Django finds what goes with an instance among the models of installed applications.
    module = ModuleType("shop")
    module.__path__ = [str(Path(__file__).parent)]
    apps.set_installed_apps([*apps.get_app_configs(), AppConfig("shop", module)])
    _models.append(Models(User, Order, Note, Company))
    return _models[0]


@pytest.fixture(params=["sqlite3", "postgresql"])
def using(
    request: pytest.FixtureRequest, library: Callable[[str], Any], metrics: Metrics, tmp_path: Path
) -> Iterator[str]:
    """Give the alias of each database, which has the tables, with the integration."""
    yield from database(request.param, request, library, tmp_path)


@pytest.fixture
def sqlite(
    request: pytest.FixtureRequest, library: Callable[[str], Any], metrics: Metrics, tmp_path: Path
) -> Iterator[str]:
    """Give the alias of SQLite alone."""
    yield from database("sqlite3", request, library, tmp_path)


def database(
    engine: str, request: pytest.FixtureRequest, library: Callable[[str], Any], folder: Path
) -> Iterator[str]:
    """Make a database."""
    made = models(library("django"))
    from django.db import connections

    alias = f"shop_{engine}"
    options: dict[str, Any] = {"ENGINE": f"django.db.backends.{engine}", "NAME": folder / "shop.db"}
    if engine == "postgresql":
        library("psycopg")
        address = urlsplit(f"postgresql{request.getfixturevalue('postgresql')}")
        options |= {
            "NAME": "postgres",
            "USER": "test",
            "HOST": address.hostname,
            "PORT": address.port,
        }
    databases = connections.configure_settings({"default": {}, alias: options})
    connections.settings[alias] = databases[alias]
    connection = connections[alias]
    if engine == "postgresql":
        with connection.cursor() as cursor:
            cursor.execute("DROP SCHEMA public CASCADE; CREATE SCHEMA public")
    with connection.schema_editor() as editor:
        for model in made:
            editor.create_model(model)
    install("django_orm")
    yield alias
    connection.close()
    uninstall()
    del connections[alias]
    del connections.settings[alias]


@pytest.fixture
def shop(library: Callable[[str], Any]) -> Models:
    """Give the models."""
    return models(library("django"))


@pytest.fixture
def operations(points: Points) -> Callable[[], dict[tuple[str, ...], float]]:
    """Give a function that returns the operations so far, without the system."""
    return lambda: {labels[1:]: number for labels, number in points(OPERATIONS).items()}


@pytest.fixture
def events(points: Points) -> Callable[[], dict[tuple[str, ...], float]]:
    """Give a function that returns the changes so far, by model and action."""
    return lambda: {labels[1:]: number for labels, number in points(EVENTS).items()}


def test_figures_equal_the_tally(
    using: str, shop: Models, operations: Any, points: Points, events: Any
) -> None:
    """Statements, commits, rollbacks, rows and instances are as many as the application had."""
    from django.db import transaction

    with transaction.atomic(using=using):
        for number in range(5):
            shop.User.objects.using(using).create(name=f"n{number}")
    assert len(shop.User.objects.using(using).all()) == 5
    with suppress(RuntimeError), transaction.atomic(using=using):
        shop.User.objects.using(using).filter(name="n1").update(name="m1")
        raise RuntimeError
    users = shop.User._meta.db_table
    found = operations()
    found.pop(("BEGIN", "", ""), None)  # of SQLite
    assert found == {
        ("INSERT", users, ""): 5,
        ("COMMIT", "", ""): 1,
        ("SELECT", users, ""): 1,
        ("UPDATE", users, ""): 1,
        ("ROLLBACK", "", ""): 1,
    }
    affected = {labels[1:]: number for labels, number in points(AFFECTED).items()}
    # SQLite does not know how many rows a statement with RETURNING has written.
    inserted = {"shop_sqlite3": {}, "shop_postgresql": {("INSERT", users): 5}}
    assert affected == inserted[using] | {("UPDATE", users): 1}
    assert points(EVENTS) == {("shop", "User", "create"): 5}


def test_the_system_is_that_of_the_database(using: str, shop: Models, points: Points) -> None:
    """The system has the name that OpenTelemetry has for it."""
    shop.User.objects.using(using).count()
    (labels,) = points(OPERATIONS)
    assert labels[0] == {"shop_sqlite3": "sqlite", "shop_postgresql": "postgresql"}[using]


def test_figures_of_threads_equal_the_tally(sqlite: str, shop: Models, operations: Any) -> None:
    """Each thread's connection is measured."""
    from django.db import connections

    def work() -> None:
        for _ in range(50):
            shop.User.objects.using(sqlite).count()
        connections[sqlite].close()

    in_threads(work, work, work)
    assert operations() == {("SELECT", "shop_user", ""): 150}


def test_errors_have_their_type(using: str, shop: Models, operations: Any, events: Any) -> None:
    """A statement that fails is one operation with the name of Django's exception."""
    from django.db import IntegrityError, connections
    from django.db.utils import DatabaseError

    shop.User.objects.using(using).create(name="a")
    with pytest.raises(IntegrityError):
        shop.User.objects.using(using).create(name="a")
    with pytest.raises(DatabaseError), connections[using].cursor() as cursor:
        cursor.execute("SELECT * FROM missing")
    found = operations()
    assert found["INSERT", "shop_user", "IntegrityError"] == 1
    assert {key for key in found if key[1] == "missing"} <= {
        ("SELECT", "missing", "OperationalError"),
        ("SELECT", "missing", "ProgrammingError"),
    }
    assert events() == {("User", "create"): 1}


def test_cursors_of_the_application_are_measured(using: str, operations: Any) -> None:
    """Raw statements count, and `executemany` is one."""
    from django.db import connections

    with connections[using].cursor() as cursor:
        cursor.executemany("INSERT INTO shop_user (name) VALUES (%s)", [("a",), ("b",)])
        cursor.execute("SELECT name FROM shop_user ORDER BY name")
        assert cursor.fetchall() == [("a",), ("b",)]
    assert operations() == {("INSERT", "shop_user", ""): 1, ("SELECT", "shop_user", ""): 1}


def test_wrappers_of_the_application_stay_theirs(
    sqlite: str, shop: Models, operations: Any
) -> None:
    """A wrapper that is in force when Django connects is removed at the end of its block."""
    from django.db import connections

    connection = connections[sqlite]
    connection.close()

    def block(*_: object) -> None:
        raise RuntimeError

    with connection.execute_wrapper(block), pytest.raises(RuntimeError):
        shop.User.objects.using(sqlite).count()
    assert shop.User.objects.using(sqlite).count() == 0
    assert operations() == {
        ("SELECT", "shop_user", "RuntimeError"): 1,
        ("SELECT", "shop_user", ""): 1,
    }


def test_every_change_of_an_instance_counts(using: str, shop: Models, events: Any) -> None:
    """What creates, updates and deletes instances counts, one by one or many at once."""
    users = shop.User.objects.using(using)
    first = users.create(name="a")
    second, _ = users.get_or_create(name="b")
    users.get_or_create(name="b")
    users.update_or_create(name="b", defaults={"name": "c"})
    first.name = "d"
    first.save()
    users.bulk_create([shop.User(name=f"n{number}") for number in range(4)])
    assert events() == {("User", "create"): 6, ("User", "update"): 2}
    several = [*users.filter(name__startswith="n")]
    for user in several:
        user.name += "x"
    users.bulk_update(several, ["name"])
    assert events()["User", "update"] == 6
    second.delete()
    users.all().delete()
    assert events()["User", "delete"] == 6


def test_a_cascade_counts_each_model(using: str, shop: Models, events: Any) -> None:
    """Instances that go with another are deleted, those that stay are updated, and all count."""
    user = shop.User.objects.using(using).create(name="a")
    for _ in range(3):
        shop.Order.objects.using(using).create(user=user)
    note = shop.Note.objects.using(using).create(user=user)
    note.readers.add(user)
    user.delete()
    assert {key: number for key, number in events().items() if key[1] != "create"} == {
        ("User", "delete"): 1,
        ("Order", "delete"): 3,
        ("Note", "update"): 1,
    }


def test_deleting_many_stays_one_statement(using: str, shop: Models, operations: Any) -> None:
    """Django deletes rows without reading them, as it does without the integration."""
    shop.Order.objects.using(using).all().delete()
    assert {key for key in operations() if key[0] not in {"BEGIN", "COMMIT"}} == {
        ("DELETE", "shop_order", "")
    }


def test_an_instance_of_two_tables_is_one(using: str, shop: Models, events: Any) -> None:
    """An instance whose model has a parent is created once; Django deletes a row of each table."""
    company = shop.Company.objects.using(using).create(name="a", tax="1")
    assert events() == {("Company", "create"): 1}
    company.delete()
    assert events() == {
        ("Company", "create"): 1,
        ("Company", "delete"): 1,
        ("User", "delete"): 1,
    }


def test_instances_that_may_be_in_conflict_do_not_count(
    using: str, shop: Models, events: Any
) -> None:
    """Where the database chooses between creating, updating and nothing, nothing counts."""
    users = shop.User.objects.using(using)
    users.bulk_create([shop.User(name="a")], ignore_conflicts=True)
    users.bulk_create([shop.User(name="a")], None, True)
    options: Any = {"update_conflicts": True, "unique_fields": ["name"], "update_fields": ["name"]}
    users.bulk_create([shop.User(name="a")], **options)
    users.bulk_create([])
    assert events() == {}


def test_changes_that_are_rolled_back_count_nowhere(using: str, shop: Models, events: Any) -> None:
    """Changes count when the outermost block is left, and not if it is left with an exception."""
    from django.db import transaction

    users = shop.User.objects.using(using)
    with transaction.atomic(using=using):
        users.create(name="a")
        with suppress(RuntimeError), transaction.atomic(using=using):
            users.create(name="b")
            with transaction.atomic(using=using):
                users.create(name="c")
            raise RuntimeError
        with transaction.atomic(using=using):
            users.create(name="d")
        savepoint = transaction.savepoint(using=using)
        users.create(name="e")
        transaction.savepoint_rollback(savepoint, using=using)
        users.create(name="f")
        assert events() == {}
    assert events() == {("User", "create"): 3}
    assert users.count() == 3
    with suppress(RuntimeError), transaction.atomic(using=using):
        users.create(name="g")
        raise RuntimeError
    with transaction.atomic(using=using):
        users.create(name="h")
        transaction.set_rollback(True, using=using)
    assert events() == {("User", "create"): 3}


def test_changes_without_autocommit_wait_for_the_commit(
    using: str, shop: Models, events: Any, operations: Any
) -> None:
    """An application that commits itself has its changes counted at its commits."""
    from django.db import transaction

    transaction.set_autocommit(False, using=using)
    try:
        shop.User.objects.using(using).create(name="a")
        transaction.rollback(using=using)
        shop.User.objects.using(using).create(name="b")
        assert events() == {}
        transaction.commit(using=using)
        assert events() == {("User", "create"): 1}
        assert operations()["COMMIT", "", ""] == 1
        assert operations()["ROLLBACK", "", ""] == 1
    finally:
        transaction.rollback(using=using)
        transaction.set_autocommit(True, using=using)


def test_a_connection_that_is_lost_counts_nothing(using: str, shop: Models, events: Any) -> None:
    """Changes of a transaction whose connection is closed are not those of the next."""
    from django.db import connections, transaction

    with suppress(Exception), transaction.atomic(using=using):
        shop.User.objects.using(using).create(name="a")
        connections[using].close()
    with transaction.atomic(using=using):
        shop.User.objects.using(using).create(name="b")
    assert events() == {("User", "create"): 1}


def test_callbacks_at_the_commit_are_the_applications(using: str, shop: Models) -> None:
    """No callback is added to those that Django calls at the commit."""
    from django.db import connections, transaction

    with transaction.atomic(using=using):
        shop.User.objects.using(using).create(name="a")
        assert connections[using].run_on_commit == []


def test_asynchronous_queries_are_measured(
    sqlite: str, shop: Models, operations: Any, events: Any
) -> None:
    """Asynchronous queries count alike."""

    async def work() -> None:
        users = shop.User.objects.using(sqlite)
        await users.acreate(name="a")
        assert [user.name async for user in users.all()] == ["a"]
        assert await users.aupdate(name="b") == 1

    asyncio.run(work())
    assert operations() == {
        ("INSERT", "shop_user", ""): 1,
        ("SELECT", "shop_user", ""): 1,
        ("UPDATE", "shop_user", ""): 1,
    }
    assert events() == {("User", "create"): 1, ("User", "update"): 1}


def test_uninstalling_leaves_django_as_it_was(sqlite: str, shop: Models, points: Points) -> None:
    """After it, no class, connection or signal has anything of the integration."""
    from django.db import connections
    from django.db.backends.base.base import BaseDatabaseWrapper
    from django.db.backends.signals import connection_created
    from django.db.models.deletion import Collector
    from django.db.models.query import QuerySet
    from django.db.models.signals import post_save

    uninstall("django_orm")
    owners = (BaseDatabaseWrapper, Collector, QuerySet)
    before = [dict(vars(owner)) for owner in owners]
    receivers = len(connection_created.receivers), len(post_save.receivers)
    install("django_orm")
    assert connections[sqlite].execute_wrappers
    assert [dict(vars(owner)) for owner in owners] != before
    uninstall("django_orm")
    assert [dict(vars(owner)) for owner in owners] == before
    assert connections[sqlite].execute_wrappers == []
    assert (len(connection_created.receivers), len(post_save.receivers)) == receivers
    shop.User.objects.using(sqlite).create(name="a")
    assert points(OPERATIONS) == points(EVENTS) == {}


def test_nothing_is_recorded_while_tracing_is_off(
    sqlite: str, shop: Models, points: Points
) -> None:
    """Without a trace function Django works as before."""
    clear_trace_function()
    shop.User.objects.using(sqlite).create(name="a").delete()
    assert points(OPERATIONS) == points(EVENTS) == {}


def test_failures_of_the_integration_stay_in_it(
    sqlite: str, shop: Models, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """What goes wrong while changes are counted is logged, and the application goes on."""
    from django.db import transaction

    def fail(*_: object) -> None:
        raise RuntimeError("broken")

    monkeypatch.setattr("hypertrace.integrations.django_orm.count", fail)
    monkeypatch.setattr("hypertrace.integrations.model_changes.count", fail)
    shop.User.objects.using(sqlite).create(name="a")
    with transaction.atomic(using=sqlite):
        shop.User.objects.using(sqlite).create(name="b")
    assert shop.User.objects.using(sqlite).count() == 2
    assert "broken" in caplog.text
