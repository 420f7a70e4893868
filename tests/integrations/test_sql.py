"""Measures of all databases, and changes of models by transaction."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hypertrace import fan_out, set_trace_function
from hypertrace.integrations import model_changes, sql
from hypertrace.integrations.model_changes import Changes, count, declare_models
from hypertrace.integrations.sql import (
    BoundedNames,
    Database,
    add,
    database_of,
    declare_operations,
)
from hypertrace.integrations.statements import Statement
from hypertrace.metrics import Metrics

if TYPE_CHECKING:
    from collections.abc import Callable

    Points = Callable[[str], dict[tuple[str, ...], float]]

OPERATIONS = "db_client_operation_duration_seconds"
AFFECTED = "db_client_affected_rows_total"
SELECT = Statement("SELECT", "users")
INSERT = Statement("INSERT", "users")


class Cursor:
    """A cursor that says how many rows it has written."""

    def __init__(self, rowcount: object) -> None:
        self._rowcount = rowcount

    @property
    def rowcount(self) -> object:
        if isinstance(self._rowcount, Exception):
            raise self._rowcount
        return self._rowcount


def test_an_operation_is_a_duration(metrics: Metrics, points: Points) -> None:
    """An operation is recorded by its labels, and a failed one passes its exception."""
    declare_operations()
    database = Database("sqlite")
    assert database.measured(SELECT, lambda one, two: one + two, 1, two=2) == 3
    with pytest.raises(ZeroDivisionError):
        database.measured(SELECT, lambda: 1 / 0)
    assert points(OPERATIONS) == {
        ("sqlite", "SELECT", "users", ""): 1,
        ("sqlite", "SELECT", "users", "ZeroDivisionError"): 1,
    }


@pytest.mark.parametrize("rowcount", [-1, 0, None, "3", 3.0, True, RuntimeError()], ids=repr)
def test_rows_that_are_not_known_count_nothing(
    metrics: Metrics, points: Points, rowcount: object
) -> None:
    """Whatever a driver says that is no number of rows is none."""
    Database("sqlite").affected(INSERT, Cursor(rowcount))
    assert points(AFFECTED) == {}


def test_rows_of_statements_that_read_are_not_written(metrics: Metrics, points: Points) -> None:
    """Drivers give a `rowcount` to SELECT, too."""
    database = Database("postgresql")
    database.affected(SELECT, Cursor(4))
    database.affected(INSERT, Cursor(3))
    assert points(AFFECTED) == {("postgresql", "INSERT", "users"): 3}


def test_all_metrics_that_are_in_use_count_rows() -> None:
    """Several metrics get the same rows, and those that come later get theirs."""
    several = [Metrics(workers=False), Metrics(workers=False)]
    set_trace_function(fan_out(*several))
    adders = Database("sqlite").returned(SELECT)
    add(adders, 2)
    for metrics in several:
        assert metrics.read().family("db_client_returned_rows_total").values == [2]


def test_failures_while_rows_are_added_are_swallowed(caplog: pytest.LogCaptureFixture) -> None:
    """An adder that raises is logged."""

    def fail(_: int) -> None:
        raise RuntimeError("broken")

    add([fail], 1)
    assert "broken" in caplog.text


def test_a_statement_that_cannot_be_read_is_other(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A fault in reading is logged, and the statement goes on."""

    def fail(*_: object) -> None:
        raise RuntimeError("broken")

    database = Database("sqlite")
    monkeypatch.setattr(database._statements, "read", fail)
    assert database.read("SELECT 1") == ("_OTHER", "")
    assert "broken" in caplog.text


def test_tables_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tables whose names the application makes up become one."""
    monkeypatch.setattr(sql, "_tables", BoundedNames(2))
    database = Database("sqlite")
    tables = [database.read(f"SELECT * FROM t{number}").table for number in range(4)]
    assert tables == ["t0", "t1", "_OTHER", "_OTHER"]
    assert database.read("SELECT * FROM t1").table == "t1"
    assert database.read("SELECT 1").table == ""


def test_systems_have_the_names_of_opentelemetry() -> None:
    """Drivers, dialects and vendors of one system are the same."""
    names = ("psycopg", "postgresql", "MySQLdb", "mysql", "oracledb", "mssql", "duckdb")
    assert [database_of(name).system for name in names] == [
        *("postgresql", "postgresql", "mysql", "mysql"),
        *("oracle.db", "microsoft.sql_server", "duckdb"),
    ]
    assert database_of("psycopg") is database_of("psycopg")


def test_models_beyond_a_bound_are_one(
    metrics: Metrics, points: Points, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Classes that are made while the program runs become one."""
    declare_models()
    monkeypatch.setattr(model_changes, "_models", BoundedNames(1))
    for model in ("User", "Order", "User", "Note"):
        count("shop", model, "create")
    assert points("model_events_total") == {
        ("shop", "User", "create"): 2,
        ("_OTHER", "_OTHER", "create"): 2,
    }


STEPS = st.lists(
    st.sampled_from(("add", "open", "release", "roll back", "commit", "forget", "unknown")),
    max_size=40,
)


@given(STEPS, st.randoms())
def test_changes_are_those_of_a_database(steps: list[str], random: object) -> None:
    """Whatever savepoints are made and ended, what counts is what a database would keep."""
    counted: list[int] = []
    kept: list[int] = []
    levels: list[tuple[int, list[int]]] = [(-1, [])]
    changes = Changes()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(model_changes, "count", lambda *change: counted.append(int(change[1])))
        for number, step in enumerate(steps):
            place = random.randrange(len(levels))  # type: ignore[attr-defined]
            if step == "add":
                changes.add("shop", str(number), "create")
                levels[-1][1].append(number)
            elif step == "open":
                changes.open(number)
                levels.append((number, []))
            elif step == "unknown":
                changes.release("unknown")
                changes.roll_back("unknown")
            elif step == "commit":
                changes.commit()
                kept += [one for _, level in levels for one in level]
                levels = [(-1, [])]
            elif step == "forget":
                changes.forget()
                levels = [(-1, [])]
            elif place and step == "release":
                changes.release(levels[place][0])
                levels[place - 1][1].extend(one for _, level in levels[place:] for one in level)
                del levels[place:]
            elif place:
                changes.roll_back(levels[place][0])
                levels[place:] = [(levels[place][0], [])]
    assert sorted(counted) == sorted(kept)
