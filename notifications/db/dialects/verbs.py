"""What the app needs of a database in the SQL, or in the way, of that database."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import Any

#: SQL with its parameters.
Statement = tuple[str, Sequence[Any]]


class Dialect(ABC):
    """The verbs of a database, with what a database does that does it in no other way.

    ``db`` is a connection of Django's to it, expressions are SQL.

    ``takes_times``
        Whether the driver takes times as they are.
    ``runs_in_process``
        Whether it runs in the processes that use it, which are not to be forked while a thread uses it.
    ``has_one_writer``
        Whether one transaction writes at a time, for which all others wait, in place of locks of rows.
    ``stores_rings``
        Whether other processes read rings from a table, as the database does not notify them.
    """

    name: str
    takes_times: bool
    runs_in_process: bool
    has_one_writer: bool
    stores_rings: bool

    # Expressions

    @abstractmethod
    def greatest(self, *expressions: str) -> str:
        """Return the greatest of several values."""

    @abstractmethod
    def is_same(self, left: str, right: str) -> str:
        """Return the condition that two values are equal, or both NULL."""

    @abstractmethod
    def contains(self, column: str) -> str:
        """Return the condition that a text contains the pattern of a parameter, in upper or lower case.

        The pattern is that of ``prep_for_like_query()``. SQLite knows the cases of ASCII only.
        """

    def in_subquery(self, column: str, subquery: str) -> str:
        """Return the condition that a column is among the values of a subquery, which is executed once."""
        return f"{column} IN ({subquery})"

    @abstractmethod
    def last_characters(self, text: str, count: int) -> str:
        """Return the end of a text."""

    @abstractmethod
    def minute_of(self, moment: str) -> str:
        """Return the minute in which a moment is, as the driver returns it: a time, or the first part of its text."""

    @abstractmethod
    def join_texts(self, text: str) -> str:
        """Return the texts of all rows of a group, with commas between them."""

    @abstractmethod
    def json_array(self, value: str) -> str:
        """Return the values of all rows of a group as the text of a JSON array."""

    def any_id(self, column: str) -> str:
        """Return one of the ids of a group, to be used with ``id_from()``."""
        return f"min({column})"

    def id_from(self, text: str) -> str:
        """Return the id that ``any_id()`` has returned."""
        return text

    def timeline(self) -> str:
        """Return what changes when a standby takes the place of the server; NULL if no standby can."""
        return "NULL"

    # Tables and joins

    def by_index(self, name: str) -> str:
        """Return what follows the name of a table so that it is read by this index.

        SQLite has no statistics in most projects, and would read another one. PostgreSQL chooses it by itself.
        """
        return ""

    @abstractmethod
    def join_by_index(self, table: str, condition: str, *, is_outer: bool = False) -> str:
        """Return SQL that joins a table, with its alias, to the rows before it, which finds its rows by an index.

        That is one look-up for each of the rows before it.
        """

    @abstractmethod
    def join_each(self, columns: str, rows: str, alias: str) -> str:
        """Return SQL that joins, to each row before it, the jobs of a subquery that refers to that row.

        ``columns``
            Those of the jobs that are read.
        ``rows``
            The subquery from its FROM on, perhaps with an order and a limit.
        """

    @abstractmethod
    def rows_like(self, table: str, index: str, column: str, pattern: str) -> str:
        """Return FROM and WHERE of the rows whose column is like a pattern, as a partial index spells it."""

    @abstractmethod
    def following_queue(self, jobs: str) -> str:
        """Return the query for the backend and queue that follow those of each row of ``pairs``, in ascending order.

        ``jobs``
            FROM and WHERE of jobs, in the order of an index that begins with their backend and queue.
        """

    @abstractmethod
    def texts_table(self, texts: Sequence[str]) -> tuple[str, Any]:
        """Return a table with one column ``value`` of these texts, and its parameter."""

    def without_compilation(self) -> list[Statement]:
        """Return what is sent before a query that would be compiled for longer than it takes."""
        return []

    # Transactions and locks

    @abstractmethod
    def begin(self, db: Any, statements: Sequence[str]) -> Callable[..., Any] | None:
        """Begin a transaction of the app's own: with its lock, or with these statements before its first one.

        Returns the wrapper of statements that sends them, and removes itself then.
        """

    def begin_statements(self, sql: str) -> list[Statement]:
        """Return what is sent before a statement that is a transaction: this, where a transaction has settings."""
        return []

    def take_lock(self, db: Any) -> None:
        """Take the lock of all writers at the begin of a transaction, if it has not been taken."""
        return

    def lock_statements(self, query: str, params: Sequence[Any]) -> list[Statement]:
        """Return what locks the rows of a query, for which it waits, in the round trip of the statement after it."""
        return []

    def locking_write(self, sql: str, params: Sequence[Any]) -> list[Statement]:
        """Return a statement that locks rows by writing them; nothing where the transaction has the lock of all."""
        return [(sql, params)]

    def begins_with_lock(self, db: Any) -> bool:
        """Return whether a transaction waits for locks whatever it does first."""
        return True

    def accepts_multiple_statements(self, db: Any) -> bool:
        """Return whether several statements can be sent at once, in one round trip."""
        return False

    def rows_per_transaction(self, most: int, *, one_writer: int) -> int:
        """Return how many rows a transaction changes at most: ``one_writer`` where all other writers wait for it."""
        return one_writer if self.has_one_writer else most

    def limit_lock_wait(self, db: Any, seconds: int) -> None:
        """Let the transaction wait at most this long for a row that another one holds."""
        return

    def lock_rows(self, cursor: Any, query: str, params: Sequence[Any], rows: list[Any]) -> list[Any]:
        """Lock the rows that a query has read, which names their ids first. Return those that no other one holds."""
        return rows

    def lock_number(self, db: Any, number: int) -> None:
        """Lock a number until the end of the transaction, after any other one that has locked it."""
        return

    def try_lock_numbers(self, db: Any, numbers: Sequence[int]) -> Sequence[bool]:
        """Lock numbers until the end of the transaction; return of each whether no other one holds it."""
        return [True] * len(numbers)

    def read_version(self, db: Any) -> int | None:
        """Return what changes with each commit of another connection, None if writers do not wait for one another."""
        return None

    def make_commits_durable(self) -> list[Statement]:
        """Return what makes the commits before it durable which have not waited for the disk."""
        return []

    def has_fixed_snapshot(self, db: Any) -> bool:
        """Return whether a transaction is open that may not see what others have committed since it began."""
        return False

    @abstractmethod
    def has_open_transaction(self, db: Any) -> bool:
        """Return whether the driver has a transaction open."""

    @abstractmethod
    def is_open(self, raw: Any) -> bool:
        """Return whether a connection of the driver is open."""

    def close_raw(self, db: Any) -> None:
        """Close the connection of the driver where a pool of Django's would give it to others."""
        return

    # What a database knows

    def clock_query(self) -> str:
        """Return the query for the time of the server, "" if that is this machine."""
        return ""

    @abstractmethod
    def count_approximately(self, table: str) -> Statement:
        """Return the query for about how many rows a table has."""

    @abstractmethod
    def index_names(self) -> str:
        """Return the query for the names of the indexes that can be used."""

    @abstractmethod
    def columns_of(self, number: int) -> str:
        """Return the query for table, column, and whether an INSERT must give a value, of this many tables."""

    def read_options(self, db: Any) -> dict[str, Any]:
        """Return the options of the database file that matter to the app, by name."""
        return {}

    def try_write(self, write: Callable[[], object]) -> None:
        """Call a function that writes nothing, to see whether the database takes writes, if that needs no wait."""
        write()

    # Rings

    def watched_file(self, db: Any) -> str:
        """Return the path of the file whose changes can be watched, "" if there is none."""
        return ""


#: By the vendor of a connection. The package ``dialects`` fills it.
DIALECTS: dict[str, Dialect] = {}


def find_dialect(db: Any) -> Dialect | None:
    """Return the dialect of a connection, None if its database is neither of the two."""
    return DIALECTS.get(db.vendor)


def dialect_of(db: Any) -> Dialect:
    """Return the dialect of a connection. For a database that a check refuses, it is that of SQLite."""
    return DIALECTS.get(db.vendor) or DIALECTS["sqlite"]
