"""Databases: the time that measuring adds to a query, beside third-party libraries.

All contestants run in one process, on SQLite in memory: each has classes or connections that keep
the library's own functions, but for ours. OpenTelemetry's measure by spans, which go nowhere.
"""

from __future__ import annotations

import inspect
import sqlite3
from typing import TYPE_CHECKING, Any

from hypertrace.integrations import install
from hypertrace.integrations.dbapi import trace_connection

from .measure import OURS

if TYPE_CHECKING:
    from .measure import Operation

BARE = "bare"
DJANGO_PROMETHEUS = "django-prometheus"
OTEL = "OpenTelemetry"
PEERS = {
    "a query of sqlite3": OTEL,
    "a query of SQLAlchemy": OTEL,
    "a query of Django": DJANGO_PROMETHEUS,
}
"""The peer that each is promised to be a third of."""

_TABLE = "CREATE TABLE users (id INTEGER PRIMARY KEY, name TEXT)"
_ROWS = "INSERT INTO users VALUES (1, 'a'), (2, 'b'), (3, 'c')"


def operations() -> dict[str, dict[str, Operation]]:
    """Return a query, which returns a row, of each library, by contestant."""
    made = _sqlite3(), _sqlalchemy(), _django()
    return dict(zip(PEERS, made, strict=True))


def _provider() -> Any:
    from opentelemetry.sdk.trace import TracerProvider  # noqa: PLC0415 -- as below

    return TracerProvider()


def _sqlite3() -> dict[str, Operation]:
    from opentelemetry.instrumentation.sqlite3 import (  # noqa: PLC0415 -- measured here alone
        SQLite3Instrumentor,
    )

    def asking(connection: Any) -> Operation:
        cursor = connection.cursor()

        def ask() -> None:
            cursor.execute("SELECT id, name FROM users WHERE id = ?", (3,))
            cursor.fetchall()

        return ask

    def made() -> sqlite3.Connection:
        connection = sqlite3.connect(":memory:")
        connection.execute(_TABLE)
        connection.execute(_ROWS)
        connection.commit()
        return connection

    instrumentor = SQLite3Instrumentor()
    peer = instrumentor.instrument_connection(made(), tracer_provider=_provider())
    return {BARE: asking(made()), OURS: asking(trace_connection(made())), OTEL: asking(peer)}


def _sqlalchemy() -> dict[str, Operation]:
    import sqlalchemy  # noqa: PLC0415 -- as above
    from opentelemetry.instrumentation.sqlalchemy import SQLAlchemyInstrumentor  # noqa: PLC0415

    query = sqlalchemy.text("SELECT id, name FROM users WHERE id = :id")

    def made() -> Any:
        engine = sqlalchemy.create_engine("sqlite://", poolclass=sqlalchemy.pool.StaticPool)
        with engine.begin() as connection:
            connection.exec_driver_sql(_TABLE)
            connection.exec_driver_sql(_ROWS)
        return engine

    def asking(engine: Any) -> Operation:
        connection = engine.connect()

        def ask() -> None:
            connection.execute(query, {"id": 3}).all()

        return ask

    bare, ours, peer = made(), made(), made()  # those that are made later are OpenTelemetry's, too
    for engine in (bare, peer):
        engine.dialect.execution_ctx_cls = _unpatched(engine.dialect.execution_ctx_cls)
    SQLAlchemyInstrumentor().instrument(
        engine=peer, tracer_provider=_provider(), skip_dep_check=True
    )
    install("sqlalchemy")
    return {BARE: asking(bare), OURS: asking(ours), OTEL: asking(peer)}


def _unpatched(kind: type[Any]) -> type[Any]:
    """Return a class of executions that keeps its functions.

    Those of results are replaced for all; they take 0.2 µs where nothing is measured.
    """
    names = ("_init_compiled", "_init_ddl", "_init_statement", "_setup_result_proxy")
    kept = {name: inspect.getattr_static(kind, name) for name in names}
    return type("Unpatched", (kind,), kept)


def _django() -> dict[str, Operation]:
    import django  # noqa: PLC0415 -- as above
    from django.conf import settings  # noqa: PLC0415

    if not settings.configured:
        settings.configure()
    django.setup()
    from django.db import connections  # noqa: PLC0415

    backends = {
        BARE: "django.db.backends.sqlite3",
        OURS: "django.db.backends.sqlite3",
        DJANGO_PROMETHEUS: "django_prometheus.db.backends.sqlite3",
    }
    databases = {
        name: {"ENGINE": backend, "NAME": ":memory:"} for name, backend in backends.items()
    }
    connections.settings = connections.configure_settings({"default": {}} | databases)
    install("django_orm")
    return {name: _asking_django(connections[name], is_ours=name == OURS) for name in backends}


def _asking_django(connection: Any, *, is_ours: bool) -> Operation:
    with connection.cursor() as cursor:
        cursor.execute(_TABLE)
        cursor.execute(_ROWS)
    if not is_ours:
        connection.execute_wrappers.clear()

    def ask() -> None:
        with connection.cursor() as cursor:
            cursor.execute("SELECT id, name FROM users WHERE id = %s", (3,))
            cursor.fetchall()

    return ask
