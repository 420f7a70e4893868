"""Statements: the operation and the table of a text of SQL, and never its values.

The text is read in one pass of tokens that cannot backtrack, up to `LONGEST` characters and no
further than the table. It need not be correct: of what cannot be read, the operation is `_OTHER`
or empty and the table is empty.

- The operation is the first keyword, in capitals; of `WITH … SELECT` it is `SELECT`. It is one of
  `OPERATIONS`.
- The table is the one that is written to, or the first that is read, as it is written and without
  quotes, with its schema. Names that the statement defines itself (`WITH x AS`), functions and
  parameters are no tables. Of `CALL` and `EXEC` it is the procedure.
- Of several statements in one text the first counts.
"""

from __future__ import annotations

import re
from typing import NamedTuple

LONGEST = 10_000
"""Characters of a statement that are read."""
LONGEST_NAME = 128
"""Characters of the name of a table that are kept."""
OTHER = "_OTHER"
"""Stands for all operations that are not known, and for tables beyond a bound."""

_MOST_KNOWN = 1_000
_MOST_KNOWN_CHARACTERS = 1_000_000


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


_READING = _words("FROM JOIN")
_DEFINING = _words("TABLE VIEW ON")
_TABLE_AFTER = {
    "SELECT": _READING,
    "DELETE": _READING,
    "EXPLAIN": _READING | {"INTO", "UPDATE"},
    "LOAD": frozenset(("INTO",)),
    "CREATE": _DEFINING,
    "ALTER": _DEFINING,
    "DROP": _DEFINING,
    "COMMENT": frozenset(("TABLE",)),
}
"""Words that a table follows, by operation."""
_TABLE_NEXT = _words(
    "CALL COPY EXEC EXECUTE INSERT LOCK MERGE REPLACE TABLE TRUNCATE UPDATE UPSERT"
)
"""Operations that a table, or a procedure, follows itself."""
_NOISE = _words(
    "ABORT ALL DELAYED EXISTS FAIL HIGH_PRIORITY IF IGNORE INTO LATERAL LOW_PRIORITY NOT ONLY OR"
    " OVERWRITE QUICK REPLACE ROLLBACK TABLE TOP"
)
"""Words between those and the table."""
OPERATIONS = _words(
    "ABORT ANALYSE ANALYZE ATTACH BEGIN CHECKPOINT CLOSE CLUSTER COMMIT DEALLOCATE DECLARE DESC"
    " DESCRIBE DETACH DISCARD DO END FETCH GRANT IMPORT KILL LISTEN MOVE NOTIFY OPEN OPTIMIZE"
    " PRAGMA PREPARE REASSIGN REFRESH REINDEX RELEASE RENAME RESET REVOKE ROLLBACK SAVEPOINT SET"
    " SHOW START UNLISTEN UNLOCK USE VACUUM VALUES WITH"
) | {*_TABLE_AFTER, *_TABLE_NEXT}
_MAIN = _words("DELETE INSERT MERGE REPLACE SELECT TABLE UPDATE VALUES")
"""Operations that may follow `WITH x AS (…)`."""
_ROLLBACK_TO = "ROLLBACK TO SAVEPOINT"
"""The operation of what undoes a part of a transaction; `ROLLBACK` undoes all of it."""

_ESCAPING = _words("bigquery clickhouse databricks hive mariadb mysql sparksql starrocks tidb")
"""Systems in whose texts a backslash escapes, `"…"` is a text and `#` begins a comment."""


def _tokens(skipped: str, name: str) -> re.Pattern[str]:
    # Each alternative takes what it can and gives nothing back; one that is not closed takes all.
    return re.compile(
        rf"""
        (?: [^\w'"`\[().;$:@\#%?/-]++ | {skipped}
          | /\*(?:[^*]++|\*(?!/))*+(?:\*/|\Z)
          | \$(?P<tag>[^\W\d]\w*+|)\$(?:(?!\$(?P=tag)\$).)*+(?:\$(?P=tag)\$|\Z)
          | \d[\w.]*+ | \.\s*+\* | [/-] )
        | (?P<name> {name} | `(?:[^`]++|``)*+(?:`|\Z) | \[[^\[\]'"`\n]{{1,{LONGEST_NAME}}}+\] )
        | (?P<word> [^\W\d][\w$]*+ )
        | (?P<mark> [().;] )
        | (?P<rest> [:@\#%$?]++\w*+ | . )
        """,
        re.VERBOSE | re.DOTALL,
    )


_READ = frozenset(("name", "word", "mark", "rest"))
"""Kinds of tokens that are read; the others are skipped."""

_STANDARD = _tokens(
    r"--[^\n]*+ | [eE]'(?:[^'\\]++|''|\\.)*+(?:'|\Z) | '(?:[^']++|'')*+(?:'|\Z)"
    # Oracle's texts, which end where their first character comes again, or its closing bracket.
    r"| [nN]?[qQ]'(?:\[(?:(?!\]').)*+|\{(?:(?!\}').)*+|\((?:(?!\)').)*+|<(?:(?!>').)*+"
    r"|(?P<delimiter>[^\s\w'])(?:(?!(?P=delimiter)').)*+)(?:.'|\Z)",
    r'"(?:[^"]++|"")*+(?:"|\Z)',
)
_BACKSLASH = _tokens(
    r"--(?=\s|\Z)[^\n]*+ | \#[^\n]*+"
    r"| '(?:[^'\\]++|''|\\.)*+(?:['\\]|\Z) | \"(?:[^\"\\]++|\"\"|\\.)*+(?:[\"\\]|\Z)",
    r"(?!)",
)


class Statement(NamedTuple):
    """What is known of a statement; both are empty where it cannot be known."""

    operation: str
    table: str


def parse(text: str, system: str = "") -> Statement:
    """Read the operation and the table of a statement.

    Args:
        text: of the statement; what is past `LONGEST` is not read.
        system: the database, as OpenTelemetry names it: some read texts in another way.

    Returns:
        What could be read. Never raises.
    """
    reader = _Reader()
    tokens = _BACKSLASH if system in _ESCAPING else _STANDARD
    for token in tokens.finditer(text, 0, LONGEST):
        kind = token.lastgroup
        if kind in _READ and reader.read(kind, token.group()):
            break
    return reader.finish()


class Statements:
    """The statements that one kind of database got lately, so that each is read once.

    Any thread may use it. It holds at most 1 000 texts, and a million characters.
    """

    def __init__(self, system: str = "") -> None:
        """Know none.

        Args:
            system: as of `parse`.
        """
        self._system = system
        self._known: dict[str, Statement] = {}
        self._characters = 0

    def read(self, statement: object, connection: object = None) -> Statement:
        """Return what is known of a statement; never raises.

        Args:
            statement: a text, bytes, or an object of a driver that stands for a text.
            connection: of the driver, which such an object may need.
        """
        if type(statement) is not str or len(statement) > LONGEST:
            statement = _text_of(statement, connection)
        found = self._known.get(statement)
        if found is None:
            found = parse(statement, self._system)
            self._characters += len(statement)
            if len(self._known) >= _MOST_KNOWN or self._characters > _MOST_KNOWN_CHARACTERS:
                self._known = {}
                self._characters = len(statement)
            self._known[statement] = found
        return found


def _text_of(statement: object, connection: object) -> str:
    """Return the beginning of a statement as text; empty if it is none."""
    try:
        if isinstance(statement, str):
            return str.__str__(str.__getitem__(statement, slice(LONGEST)))
        if isinstance(statement, bytes | bytearray):
            return statement[:LONGEST].decode("utf-8", "replace")
        as_string = getattr(statement, "as_string", None)  # a statement that psycopg composes
        text = as_string(connection) if callable(as_string) else ""
        return text[:LONGEST] if type(text) is str else ""
    except Exception:  # noqa: BLE001 -- the driver reports what is wrong with it
        return ""


class _Level:
    """What is open: the statement itself, or what stands in parentheses."""

    __slots__ = ("is_fresh", "is_with", "table_after")

    def __init__(self) -> None:
        self.is_fresh = True
        self.is_with = False
        self.table_after: frozenset[str] = frozenset()


class _Reader:
    """Reads the tokens of a statement, until its table is known."""

    def __init__(self) -> None:
        self._operation = ""
        self._table = ""
        self._inner = ""  # the first table inside parentheses
        self._levels = [_Level()]
        self._base = 0  # the level of the statement itself
        self._defined: set[str] = set()  # lower-case names that WITH defines
        self._expects = False  # a table comes now
        self._parts: list[str] = []  # of the name that is being read
        self._is_after_dot = False
        self._before = ""

    def read(self, kind: str, text: str) -> bool:
        """Take the next token; return whether the rest need not be read."""
        if kind == "mark":
            return self._read_mark(text)
        if kind == "word":
            return self._read_word(text)
        if kind == "name":
            name = _unquoted(text)
            if self._takes(name):
                return False
            self._is_after_dot = False
            done = self._end_of_name("")
            self._define(name)
            return done
        self._expects = False
        return self._end_of_name("")

    def finish(self) -> Statement:
        """Return what was read."""
        self._end_of_name("")
        return Statement(self._operation, (self._table or self._inner)[:LONGEST_NAME])

    def _takes(self, name: str) -> bool:
        """Whether a name is one of the table that is expected, or its next part."""
        if self._expects:
            self._expects = False
            self._parts = [name]
        elif self._parts and self._is_after_dot:
            self._parts.append(name)
        else:
            return False
        self._is_after_dot = False
        return True

    def _read_word(self, word: str) -> bool:
        if self._is_after_dot:
            is_name = self._takes(word)
            self._is_after_dot = False
            return not is_name and self._end_of_name("")
        if self._end_of_name(""):
            return True
        upper = word.upper()
        before, self._before = self._before, upper
        level = self._levels[-1]
        if level.is_fresh or (level.is_with and upper in _MAIN):
            level.is_fresh = False
            if upper in OPERATIONS or not self._operation:
                self._begin(level, upper)
                return False
        if self._expects:
            if upper not in _NOISE:
                self._takes(word)
        elif upper in level.table_after and not (upper == "FROM" and before == "DISTINCT"):
            self._expects = True
        elif upper == "TO" and self._operation == "ROLLBACK":
            self._operation = _ROLLBACK_TO
            return True
        else:
            self._define(word)
        return False

    def _begin(self, level: _Level, word: str) -> None:
        """Begin a statement, or one inside of it, with its first word."""
        level.is_with = word == "WITH"
        level.table_after = _TABLE_AFTER.get(word, frozenset())
        self._expects = word in _TABLE_NEXT
        if len(self._levels) - 1 <= self._base and (
            not self._operation or self._operation == "WITH"
        ):
            self._operation = word if word in OPERATIONS else OTHER

    def _read_mark(self, mark: str) -> bool:
        if mark == ".":
            self._is_after_dot = True
            return False
        self._is_after_dot = False
        if self._end_of_name(mark):
            return True
        if mark == "(":
            if not self._operation:
                self._base = len(self._levels)
            self._expects &= self._levels[-1].table_after is not _DEFINING
            self._levels.append(_Level())
        elif mark == ")":
            self._expects = False
            if len(self._levels) > 1:
                self._levels.pop()
        elif self._operation:
            return True
        return False

    def _define(self, name: str) -> None:
        if self._levels[-1].is_with:
            self._defined.add(name.lower())

    def _end_of_name(self, mark: str) -> bool:
        """End the name of a table; return whether it is that of the statement."""
        if not self._parts:
            return False
        name = ".".join(self._parts)
        is_qualified = len(self._parts) > 1
        self._parts = []
        self._is_after_dot = False
        level = self._levels[-1]
        if mark == "(" and level.table_after & _READING:
            return False  # a function
        if not is_qualified and name.lower() in self._defined:
            return False
        if len(self._levels) - 1 <= self._base:
            self._table = name
            return True
        self._inner = self._inner or name
        return False


def _unquoted(name: str) -> str:
    quote = name[0]
    if quote == "[":
        return name[1:-1]
    return name.removeprefix(quote).removesuffix(quote).replace(quote * 2, quote)
