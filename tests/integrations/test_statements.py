"""Statements: their operations and tables."""

from __future__ import annotations

import re
from time import perf_counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hypertrace.integrations.statements import (
    LONGEST,
    LONGEST_NAME,
    OPERATIONS,
    OTHER,
    Statements,
    parse,
)

STATEMENTS = {
    # plain
    "SELECT * FROM users": "SELECT users",
    "select id\nfrom\tusers where name = 'x'": "SELECT users",
    "INSERT INTO users (a) VALUES (1)": "INSERT users",
    "UPDATE users SET a = 1": "UPDATE users",
    "DELETE FROM users WHERE a = 1": "DELETE users",
    "MERGE INTO users USING new ON a = b": "MERGE users",
    "REPLACE INTO users VALUES (1)": "REPLACE users",
    "TRUNCATE TABLE ONLY users": "TRUNCATE users",
    "COPY users (a, b) FROM STDIN": "COPY users",
    "LOCK TABLE users IN SHARE MODE": "LOCK users",
    "VALUES (1), (2)": "VALUES",
    "TABLE users": "TABLE users",
    "SELECT 1": "SELECT",
    # names
    'SELECT * FROM "Users"': "SELECT Users",
    'SELECT * FROM public . "My ""own"" users"': 'SELECT public.My "own" users',
    "SELECT * FROM [dbo].[users]": "SELECT dbo.users",
    "SELECT * FROM `shop`.`users`": "SELECT shop.users",
    'SELECT "users"."id", "users"."name" AS "x" FROM "users"': "SELECT users",
    "SELECT u.id, u.* FROM users u": "SELECT users",
    "SELECT * FROM a.b.c.d": "SELECT a.b.c.d",
    "SELECT * FROM größe": "SELECT größe",
    "SELECT u.from, u.into FROM users u": "SELECT users",
    'SELECT "from" FROM users': "SELECT users",
    "SELECT * FROM comment": "SELECT comment",
    f"SELECT * FROM {'x' * 300}": f"SELECT {'x' * LONGEST_NAME}",
    # comments
    "-- FROM a\nSELECT 1 /* FROM b */ FROM users": "SELECT users",
    "/* one */ /* two\n */ UPDATE users SET a = 1": "UPDATE users",
    "SELECT a--b\nFROM users": "SELECT users",
    "SELECT 1 /* FROM users": "SELECT",
    # values
    "SELECT 'a FROM b' FROM users": "SELECT users",
    "SELECT 'it''s FROM b' FROM users": "SELECT users",
    r"SELECT E'it\' FROM b' FROM users": "SELECT users",
    r"SELECT 'C:\' FROM users": "SELECT users",
    "SELECT $$ FROM a $$, $x$ $$ FROM b $$ $x$ FROM users": "SELECT users",
    "SELECT q'[it's FROM b]', q'!it's FROM b!' FROM users": "SELECT users",
    "SELECT * FROM 'users'": "SELECT",
    "SELECT $1, %s, %(from)s, :from, @from, ? FROM users": "SELECT users",
    "SELECT x::date FROM users": "SELECT users",
    "SELECT ARRAY['a]', 'FROM b'][1] FROM users": "SELECT users",
    "INSERT INTO @users VALUES (1)": "INSERT",
    # more than one table
    "INSERT INTO users SELECT * FROM old": "INSERT users",
    "SELECT * FROM users, roles": "SELECT users",
    "SELECT * FROM users JOIN roles ON a = b": "SELECT users",
    "SELECT (SELECT max(x) FROM roles) FROM users": "SELECT users",
    "SELECT * FROM (SELECT * FROM users) AS u": "SELECT users",
    "SELECT * FROM (users JOIN roles ON a = b)": "SELECT users",
    "SELECT * FROM users UNION SELECT * FROM old": "SELECT users",
    "(SELECT * FROM users) UNION (SELECT * FROM old)": "SELECT users",
    "((SELECT * FROM users))": "SELECT users",
    "SELECT 1 WHERE EXISTS (SELECT * FROM users)": "SELECT users",
    "DELETE u FROM users u": "DELETE users",
    "CREATE TABLE users AS SELECT * FROM old": "CREATE users",
    # FROM that is none
    "SELECT EXTRACT(YEAR FROM born) FROM users": "SELECT users",
    "SELECT EXTRACT(YEAR FROM born)": "SELECT",
    "SELECT a IS DISTINCT FROM b FROM users": "SELECT users",
    "SELECT * FROM generate_series(1, 10)": "SELECT",
    "SELECT * FROM generate_series(1, 10) JOIN users ON true": "SELECT users",
    "SELECT * FROM LATERAL (SELECT * FROM users) AS u": "SELECT users",
    "SELECT * FROM users FOR UPDATE": "SELECT users",
    "SHOW TABLES FROM shop": "SHOW",
    # WITH
    "WITH new AS (SELECT * FROM old) SELECT * FROM new": "SELECT old",
    "WITH new AS (SELECT 1) SELECT * FROM new JOIN users ON true": "SELECT users",
    "WITH new (a, b) AS NOT MATERIALIZED (SELECT 1) INSERT INTO users SELECT * FROM new": (
        "INSERT users"
    ),
    'WITH RECURSIVE "New" AS (SELECT 1 UNION SELECT a FROM "New") SELECT * FROM new': "SELECT",
    "WITH gone AS (DELETE FROM old RETURNING *) SELECT * FROM gone": "SELECT old",
    "WITH new AS (SELECT 1) SELECT * FROM public.new": "SELECT public.new",
    # words between
    "INSERT OR REPLACE INTO users VALUES (1)": "INSERT users",
    "UPDATE OR IGNORE users SET a = 1": "UPDATE users",
    "UPDATE ONLY users SET a = 1": "UPDATE users",
    "UPDATE TOP (10) users SET a = 1": "UPDATE",
    "INSERT IGNORE users VALUES (1)": "INSERT users",
    "INSERT INTO users VALUES (1) ON CONFLICT DO UPDATE SET a = 1": "INSERT users",
    "EXPLAIN (ANALYZE, BUFFERS) SELECT * FROM users": "EXPLAIN users",
    "EXPLAIN UPDATE users SET a = 1": "EXPLAIN users",
    "COPY (SELECT * FROM users) TO STDOUT": "COPY users",
    "LOAD DATA INFILE 'x' INTO TABLE users": "LOAD users",
    # definitions
    "CREATE TEMP TABLE IF NOT EXISTS users (a int)": "CREATE users",
    "CREATE UNIQUE INDEX CONCURRENTLY i ON users (a)": "CREATE users",
    "CREATE OR REPLACE VIEW adults AS SELECT * FROM users": "CREATE adults",
    "CREATE FUNCTION f() RETURNS TABLE (a int) AS $$ SELECT * FROM b $$": "CREATE",
    "ALTER TABLE ONLY public.users ADD COLUMN a int": "ALTER public.users",
    "DROP TABLE IF EXISTS users, roles": "DROP users",
    "COMMENT ON TABLE users IS 'FROM b'": "COMMENT users",
    "PRAGMA table_info(users)": "PRAGMA",
    # transactions
    "BEGIN IMMEDIATE": "BEGIN",
    "COMMIT": "COMMIT",
    "rollback work": "ROLLBACK",
    "ROLLBACK TO SAVEPOINT a": "ROLLBACK TO SAVEPOINT",
    "ROLLBACK WORK TO a": "ROLLBACK TO SAVEPOINT",
    "SAVEPOINT users": "SAVEPOINT",
    "RELEASE SAVEPOINT users": "RELEASE",
    # procedures
    "CALL shop.pay(1, 'FROM b')": "CALL shop.pay",
    "EXEC dbo.pay @a = 1": "EXEC dbo.pay",
    "{call pay(?)}": "CALL pay",
    "{? = call pay(?)}": "CALL pay",
    "DO $$ BEGIN DELETE FROM users; END $$": "DO",
    # several, and none
    "SELECT * FROM users; DROP TABLE roles": "SELECT users",
    " ; ;SELECT * FROM users": "SELECT users",
    "BEGIN; INSERT INTO users VALUES (1); COMMIT": "BEGIN",
    "": "",
    " \n": "",
    "-- nothing": "",
    ";": "",
    "'x'": "",
    "FROBNICATE users": "_OTHER",
    "\x00": "",
    "🦉": "",
    "SELECT * FROM": "SELECT",
    "SELECT * FROM (": "SELECT",
    "SELECT * FROM users.": "SELECT users",
    "SELECT * FROM .users": "SELECT users",
    "SELECT * FROM users)": "SELECT users",
    ")))SELECT * FROM users": "SELECT users",
}
"""Texts, and their operation and table."""

WITH_BACKSLASHES = {
    r"SELECT 'it\' FROM b' FROM users": "SELECT users",
    r'SELECT "it\" FROM b" FROM users': "SELECT users",
    'SELECT "FROM b", "a""FROM c" FROM `users`': "SELECT users",
    "SELECT 1 # FROM b\nFROM users": "SELECT users",
    "SELECT 5--3\nFROM users": "SELECT users",
    "SELECT 5 -- FROM b\nFROM users": "SELECT users",
    "SELECT 'it\\": "SELECT",
}


@pytest.mark.parametrize("text", STATEMENTS)
def test_a_statement_has_an_operation_and_a_table(text: str) -> None:
    """The operation and the table are those of the statement, however it is written."""
    assert " ".join(parse(text)).strip() == STATEMENTS[text]


@pytest.mark.parametrize("text", WITH_BACKSLASHES)
def test_texts_of_mysql_have_backslashes_and_double_quotes(text: str) -> None:
    """In MySQL a backslash escapes, double quotes are of texts, and `#` begins a comment."""
    assert " ".join(parse(text, "mysql")).strip() == WITH_BACKSLASHES[text]


PIECES = st.sampled_from(
    (
        *"()[]{}'\"`$;.,:@#%?-/*\\\n ",
        *("--", "/*", "*/", "$$", "$x$", "E'", "q'[", "]'", "''", '""'),
        *("SELECT", "FROM", "INTO", "WITH", "AS", "JOIN", "UPDATE", "a", "tab_le", "1", "é", "🦉"),
    )
)


@given(st.lists(PIECES, max_size=60).map("".join) | st.text(), st.sampled_from(["", "mysql"]))
def test_any_text_can_be_read(text: str, system: str) -> None:
    """Whatever the text, the operation is a known one, and the table stands in the text."""
    operation, table = parse(text, system)
    assert operation in {"", OTHER, "ROLLBACK TO SAVEPOINT", *OPERATIONS}
    assert len(table) <= LONGEST_NAME
    for part in table.split("."):
        assert part in text or part.replace('"', '""') in text or part.replace("`", "``") in text


VALUES = st.text(st.sampled_from("sS'\"\\`$[](); -/*#\nFROMINTOx"), max_size=30)


@given(VALUES, VALUES)
def test_a_value_is_never_a_table(first: str, second: str) -> None:
    """Texts that are quoted as the standard says are never read as names."""
    quoted = [value.replace("'", "''") for value in (first, second)]
    text = f"SELECT '{quoted[0]}', ('{quoted[1]}') FROM users WHERE a = '{quoted[0]}'"
    assert parse(text) == ("SELECT", "users")
    escaped = [re.sub(r"(['\\])", r"\\\1", value) for value in (first, second)]
    text = f"INSERT INTO users VALUES ('{escaped[0]}', \"{second.translate({34: '', 92: ''})}\")"
    assert parse(f"SELECT '{escaped[0]}' FROM users", "mysql") == ("SELECT", "users")
    assert parse(text, "mysql") == ("INSERT", "users")


HOSTILE = (
    *("(", "'", '"', "`", "[", "/*", "$a", "$a$ ", "$a$b", "a.", "E'\\", "q'[", "q'!", "--", ";"),
    *("WITH a ", "(SELECT ", "FROM (", "''", '""', "x,", "\\", "::", "\x00", "SELECT FROM a("),
)


@pytest.mark.parametrize("piece", HOSTILE)
@pytest.mark.parametrize("begin", ["", "SELECT "])
@pytest.mark.parametrize("system", ["", "mysql"])
def test_a_megabyte_takes_milliseconds(piece: str, begin: str, system: str) -> None:
    """Reading takes a bounded time: no text is read again and again, nor past its beginning."""
    text = begin + piece * (1_000_000 // len(piece))
    seconds = []
    for _ in range(3):
        before = perf_counter()
        parse(text, system)
        seconds.append(perf_counter() - before)
    assert min(seconds) < 0.1


def test_the_table_of_a_long_statement_is_found() -> None:
    """Of a statement of a megabyte the beginning is read."""
    rows = ",".join(["(1, 'x')"] * 100_000)
    assert parse(f"INSERT INTO users VALUES {rows}") == ("INSERT", "users")
    assert parse(f"SELECT {'x, ' * LONGEST} y FROM users") == ("SELECT", "")


class Text(str):
    """A text of another class."""

    __slots__ = ()


class Composed:
    """A statement as psycopg composes it."""

    def __init__(self, text: object) -> None:
        self.text = text

    def as_string(self, context: object) -> object:
        if isinstance(self.text, Exception):
            raise self.text
        return self.text


@pytest.mark.parametrize(
    ("statement", "expected"),
    [
        (b"SELECT * FROM users", "SELECT users"),
        (bytearray(b"SELECT * FROM users"), "SELECT users"),
        (b"SELECT '\xff' FROM users", "SELECT users"),
        (Text("SELECT * FROM users"), "SELECT users"),
        (Composed("SELECT * FROM users"), "SELECT users"),
        (Composed(ValueError()), ""),
        (Composed(1), ""),
        (None, ""),
        (1, ""),
        ([], ""),
        ("SELECT '" + "x" * LONGEST, "SELECT"),
    ],
)
def test_statements_are_texts_and_what_stands_for_them(statement: object, expected: str) -> None:
    """Bytes and composed statements are read, and what is no statement has no operation."""
    known = Statements()
    for _ in range(2):
        assert " ".join(known.read(statement)).strip() == expected


def test_known_statements_are_bounded() -> None:
    """Statements with their values in them do not fill the memory."""
    known = Statements()
    for number in range(3_000):
        assert known.read(f"SELECT {number} FROM users") == ("SELECT", "users")
    assert len(known._known) <= 1_000
    for number in range(300):
        known.read(f"SELECT {number:09000} FROM users")
    assert sum(map(len, known._known)) <= 1_000_000
