"""Read long tables in pages, each from the last row of the page before it (keyset paging).

An OFFSET would read all rows before the page. And a page of rows that no index selects would read the whole table if
few rows match. So such a page is read in slices of an index, and stops after ``MAX_ROWS_READ`` rows.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

from django.db.models import Q

#: Rows of one slice, and of all slices of one page.
ROWS_PER_SLICE, MAX_ROWS_READ = 10_000, 50_000

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class RowPosition:
    """The values of one row in the columns that order a table: an id, or a time and an id."""

    values: tuple[Any, ...]

    def __str__(self) -> str:
        """Return the position as text for a query string."""
        return ".".join(map(_format, self.values))

    @classmethod
    def parse(cls, text: str, length: int) -> RowPosition:
        """Return the position that ``str()`` made. Raises ValueError."""
        parts = text.split(".")
        if len(parts) != length:
            raise ValueError(f"A position has {length} parts, not {len(parts)}.")
        *times, id = parts
        try:
            return cls((*(_EPOCH + timedelta(microseconds=int(part)) for part in times), UUID(id)))
        except OverflowError as exc:
            raise ValueError("The time of the position is out of range.") from exc


@dataclass(frozen=True, kw_only=True, slots=True)
class Page:
    """The positions of the rows of a page, in its order.

    ``has_more``
        Whether a row that matches follows.
    ``stopped_at``
        Where the reading stopped before it found enough rows, if it did; rows after it may match.
    """

    positions: list[RowPosition]
    has_more: bool = False
    stopped_at: RowPosition | None = None

    @property
    def ids(self) -> list[Any]:
        return [position.values[-1] for position in self.positions]


@dataclass(frozen=True, kw_only=True, slots=True)
class Order:
    """Columns that order a table, an index of the table. The last one is its id."""

    fields: tuple[str, ...]
    is_ascending: bool = False

    def reversed(self) -> Order:
        return Order(fields=self.fields, is_ascending=not self.is_ascending)

    def sort(self, rows: Any) -> Any:
        return rows.order_by(*(field if self.is_ascending else f"-{field}" for field in self.fields))

    def after(self, rows: Any, position: RowPosition | None, *, inclusive: bool = False) -> Any:
        """Return the rows that follow a position, with ``inclusive`` the row at it too; all rows for None."""
        return rows if position is None else rows.filter(self._beyond(position, self.is_ascending, inclusive))

    def until(self, rows: Any, position: RowPosition | None) -> Any:
        """Return the rows before a position and the one at it; all rows for None."""
        return rows if position is None else rows.filter(self._beyond(position, not self.is_ascending, True))

    def read(self, rows: Any, limit: int) -> list[RowPosition]:
        values = self.sort(rows).values_list(*self.fields)[:limit]
        return [RowPosition(tuple(row)) for row in values]

    def _beyond(self, position: RowPosition, upwards: bool, inclusive: bool) -> Q:
        direction = "gt" if upwards else "lt"
        equal = "e" if inclusive else ""
        *firsts, last = self.fields
        *first_values, id = position.values
        condition = Q((f"{last}__{direction}{equal}", id))
        for field, value in zip(reversed(firsts), reversed(first_values), strict=True):
            # The first condition is the one for which an index is used.
            condition = Q((f"{field}__{direction}e", value)) & (
                Q((f"{field}__{direction}", value)) | condition
            )
        return condition


def read_page(
    rows: Any, order: Order, *, limit: int, after: RowPosition | None = None, slices_of: Any = None
) -> Page:
    """Return the first ``limit`` rows after a position.

    ``rows``
        A queryset of the rows that match.
    ``slices_of``
        A queryset of all rows that an index yields in this order, ``rows`` among them, if no index yields ``rows``.
    """
    if slices_of is None:
        found = order.read(order.after(rows, after), limit + 1)
        return Page(positions=found[:limit], has_more=len(found) > limit)
    found = []
    for start, end in _slices(slices_of, order, after):
        found += order.read(order.until(order.after(rows, start), end), limit + 1 - len(found))
        if len(found) > limit:
            return Page(positions=found[:limit], has_more=True)
        if end is None:
            return Page(positions=found)
        stopped_at = end
    return Page(positions=found, stopped_at=stopped_at)


def _slices(
    rows: Any, order: Order, start: RowPosition | None
) -> Iterator[tuple[RowPosition | None, RowPosition | None]]:
    """Yield start (exclusive) and end (inclusive) of slices of an index; the end is None for the last rows."""
    for _ in range(MAX_ROWS_READ // ROWS_PER_SLICE):
        remaining = order.sort(order.after(rows, start)).values_list(*order.fields)
        ends = [RowPosition(tuple(row)) for row in remaining[ROWS_PER_SLICE - 1 : ROWS_PER_SLICE]]
        end = ends[0] if ends else None
        yield start, end
        start = end


def count_rows(rows: Any, limit: int) -> int:
    """Return how many rows an index yields, at most ``limit``."""
    return rows.order_by().values("pk")[:limit].count()


def estimate_rows(model: Any, connection: Any) -> int:
    """Return about how many rows a table has: PostgreSQL's statistics, or the range of SQLite's row numbers."""
    table = connection.ops.quote_name(model._meta.db_table)
    with connection.cursor() as cursor:
        if connection.vendor == "postgresql":
            cursor.execute("SELECT reltuples::bigint FROM pg_class WHERE oid = %s::regclass", [table])
        else:
            # Two subqueries: SQLite scans the whole table for min and max in one.
            cursor.execute(f"SELECT (SELECT max(rowid) FROM {table}) - (SELECT min(rowid) FROM {table}) + 1")
        return max(cursor.fetchone()[0] or 0, 0)


def _format(value: Any) -> str:
    if isinstance(value, datetime):
        return str((value - _EPOCH) // timedelta(microseconds=1))
    return value.hex if isinstance(value, UUID) else str(value)
