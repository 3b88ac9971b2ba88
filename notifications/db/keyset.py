"""Read long tables in pages, each from the last row of the page before it (keyset paging).

An OFFSET would read all rows before the page. And a page of rows that no index selects would read the whole table if
few rows match. So such a page is read in slices of an index, and stops after ``MAX_ROWS_READ`` rows. A slice is a
subquery with a LIMIT in the place of the table: whatever index the database prefers for the other conditions, such as
one of all rows of a user, it reads the rows of the slice only.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from django.conf import settings
from django.core.exceptions import EmptyResultSet, ValidationError
from django.db.models import DateTimeField, Q
from django.db.models.sql.datastructures import BaseTable
from django.utils import timezone

from notifications import times
from notifications.db.dialects import dialect_of
from notifications.db.transactions import connection

#: Rows of one slice, and of all slices of one page.
ROWS_PER_SLICE, MAX_ROWS_READ = 2_500, 7_500
#: Rows of all slices of one page where ``keep`` decides, which takes longer than a query.
MAX_ROWS_CHECKED = 2_000
#: Rows of a slice that ``keep`` is given at once.
ROWS_PER_CHECK = 900
#: Rows that may enter a slice while it is read without the last rows of it being passed over.
ROWS_ENTERING = 250
#: The ids that are read to look few rows up by them, where the index that finds them has another order.
MAX_IDS_READ = 1_000
#: Ids that ``read_ids()`` reads at once.
MAX_IDS_PER_PAGE = 1_000


@dataclass(frozen=True, slots=True)
class RowPosition:
    """The values of one row in the columns that order a table, such as a time and an id."""

    values: tuple[Any, ...]

    def __str__(self) -> str:
        """Return the position as text for a query string: see ``Order.parse()``."""
        return ".".join(map(_format, self.values))


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

    def find_neighbors(
        self, start: RowPosition | None, *, is_upwards: bool
    ) -> tuple[RowPosition | None, RowPosition | None]:
        """Return the positions before and after which the neighbors of this page are, None if there is none.

        ``start``
            Where the reading of this page began, with ``is_upwards`` in the reversed order of the list.
        """
        ahead = self.stopped_at or (self.positions[-1] if self.has_more else None)
        behind = start and (self.positions[0] if self.positions else start)
        return (ahead, behind) if is_upwards else (behind, ahead)


@dataclass(frozen=True, kw_only=True, slots=True)
class Order:
    """Columns that order a table, an index of the table. The last one is its id."""

    fields: tuple[str, ...]
    is_ascending: bool = False

    def reversed(self) -> Order:
        return Order(fields=self.fields, is_ascending=not self.is_ascending)

    def parse(self, model: Any, text: str) -> RowPosition:
        """Return the position of a row of a model that ``str()`` has made. Raises ValueError."""
        parts = text.split(".")
        if len(parts) != len(self.fields):
            raise ValueError(f"A position has {len(self.fields)} parts, not {len(parts)}.")
        fields = map(model._meta.get_field, self.fields)
        return RowPosition(tuple(_parse(field, part) for field, part in zip(fields, parts, strict=True)))

    def position_of(self, row: Any) -> RowPosition:
        return RowPosition(tuple(getattr(row, field) for field in self.fields))

    def sort(self, rows: Any) -> Any:
        return rows.order_by(*(field if self.is_ascending else f"-{field}" for field in self.fields))

    def after(self, rows: Any, position: RowPosition | None, *, inclusive: bool = False) -> Any:
        """Return the rows that follow a position, with ``inclusive`` the row at it too; all rows for None."""
        return (
            rows
            if position is None
            else rows.filter(self._after_position(position, self.is_ascending, inclusive))
        )

    def read(self, rows: Any, limit: int, *, among: Any = None) -> list[RowPosition]:
        """Return the positions of the first rows, with ``among`` of those that are in this queryset too."""
        values = self.sort(rows).values_list(*self.fields)[:limit]
        if among is not None and not _read_among(values, among):
            return []
        return [RowPosition(tuple(row)) for row in values]

    def position_at(self, rows: Any, number: int) -> RowPosition | None:
        """Return the position of the row with this number, from 1 on, None if there are fewer rows."""
        values = self.sort(rows).values_list(*self.fields)[number - 1 : number]
        return next((RowPosition(tuple(row)) for row in values), None)

    def _after_position(self, position: RowPosition, upwards: bool, inclusive: bool) -> Q:
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


#: Newest first, by an index of the table.
NEWEST_FIRST = Order(fields=("created_at", "id"))


def read_page(
    rows: Any,
    order: Order,
    *,
    limit: int,
    after: RowPosition | None = None,
    slices_of: Any = None,
    is_complete: bool = False,
    keep: Callable[[list[Any]], Collection[Any]] | None = None,
) -> Page:
    """Return the first ``limit`` rows after a position.

    ``rows``
        A queryset of the rows that match.
    ``slices_of``
        A queryset of all rows that an index yields in this order, ``rows`` among them, if no index yields ``rows``. At
        most ``MAX_ROWS_READ`` of them are read, with ``keep`` at most ``MAX_ROWS_CHECKED``.
    ``is_complete``
        Whether to read a slice again which more than ``ROWS_ENTERING`` rows entered while it was read, such as those of
        a large transaction. Without it, the last rows of that slice are passed over.
    ``keep``
        Returns which of these ids belong to the page, for what no query can decide. Only with ``slices_of``.
    """
    if slices_of is None:
        found = order.read(order.after(rows, after), limit + 1)
        return Page(positions=found[:limit], has_more=len(found) > limit)
    found = []
    most = MAX_ROWS_READ if keep is None else MAX_ROWS_CHECKED
    size = min(ROWS_PER_SLICE, most)
    for _ in range(most // size):
        remaining = order.after(slices_of, after)
        needed = limit + 1 - len(found)
        if keep is None:
            read, end = _read_slice(rows, order, remaining, size, needed)
        else:
            read, end = _read_slice(rows, order, remaining, size, size + ROWS_ENTERING)
            read = _first_kept(read, keep, needed)
        while is_complete and len(found) + len(read) <= limit and _has_grown(order, remaining, size, end):
            read, end = _read_slice(rows, order, remaining, size, needed)
        found += read
        if len(found) > limit:
            return Page(positions=found[:limit], has_more=True)
        if end is None:
            return Page(positions=found)
        after = end
    return Page(positions=found, stopped_at=after)


def _read_slice(
    rows: Any, order: Order, remaining: Any, size: int, limit: int
) -> tuple[list[RowPosition], RowPosition | None]:
    """Return the first rows of a slice of the remaining ones, and where it ends, None if no row follows it."""
    # Where the slice ends is read before its rows: of rows that leave or enter the slice in between, none moves the
    # end, so that no other row is passed over or found twice.
    end = order.position_at(remaining, size)
    # Only the limit ends what is read in the order of the index. With the end as a condition of the slice, PostgreSQL
    # read all failed jobs in another order (65 ms of 40,000), and SQLite, which takes the first of two lower bounds,
    # all notifications of the week that was asked for (16 ms of 230,000).
    in_slice = order.reversed().after(rows, end, inclusive=True)
    slice_of_index = order.sort(remaining)[: size + ROWS_ENTERING]
    return order.read(in_slice, limit, among=slice_of_index), end


def _first_kept(
    positions: list[RowPosition], keep: Callable[[list[Any]], Collection[Any]], needed: int
) -> list[RowPosition]:
    kept: list[RowPosition] = []
    for start in range(0, len(positions), ROWS_PER_CHECK):
        part = positions[start : start + ROWS_PER_CHECK]
        ids = keep([position.values[-1] for position in part])
        kept += [position for position in part if position.values[-1] in ids]
        if len(kept) >= needed:
            break
    return kept[:needed]


def _has_grown(order: Order, remaining: Any, size: int, end: RowPosition | None) -> bool:
    """Return whether so many rows have entered the slice with this end that its last ones were not read."""
    unread = order.position_at(remaining, size + ROWS_ENTERING + 1)
    if unread is None or end is None:
        return unread is not None
    return unread.values <= end.values if order.is_ascending else unread.values >= end.values


class _Rows(BaseTable):
    """The rows of a queryset with a limit, in the place of its table in another query."""

    def __init__(self, table_name: str, alias: str, rows: Any) -> None:
        super().__init__(table_name, alias)
        self.rows = rows

    def as_sql(self, compiler: Any, connection: Any) -> tuple[str, Any]:
        sql, params = self.rows.query.get_compiler(connection=connection).as_sql()
        return f"({sql}) {connection.ops.quote_name(self.table_alias)}", params


def count_rows(rows: Any, limit: int, *, among: Any = None) -> int:
    """Return how many rows an index yields, at most ``limit``.

    ``among``
        A queryset of the rows that are read, with a limit of its own: for conditions that no index answers.
    """
    rows = rows.order_by().values("pk")
    if among is not None and not _read_among(rows, among):
        return 0
    return rows[:limit].count()


def _read_among(rows: Any, among: Any) -> bool:
    """Have a query read the rows of another one in place of its table. Returns False if none can be in both."""
    table = rows.query.get_initial_alias()
    try:
        sql, _ = rows.query.get_compiler(rows.db).as_sql()
    except EmptyResultSet:
        return False
    # SQLite would copy all columns of each row, large texts too.
    fields = rows.model._meta.concrete_fields
    among = among.only(*(field.attname for field in fields if f'"{table}"."{field.column}"' in sql))
    rows.query.alias_map[table] = _Rows(rows.model._meta.db_table, table, among)
    return True


def estimate_rows(model: Any, connection: Any) -> int:
    """Return about how many rows a table has: PostgreSQL's statistics, or the range of SQLite's row numbers."""
    table = connection.ops.quote_name(model._meta.db_table)
    with connection.cursor() as cursor:
        cursor.execute(*dialect_of(connection).count_approximately(table))
        return max(cursor.fetchone()[0] or 0, 0)


def _format(value: Any) -> str:
    if isinstance(value, datetime):
        return str(times.to_microseconds(times.as_utc(value)))
    return value.hex if isinstance(value, UUID) else str(value)


def _parse(field: Any, text: str) -> Any:
    try:
        if not isinstance(field, DateTimeField):
            return field.clean(text, None)
        moment = times.from_microseconds(int(text))
        is_aware = settings.USE_TZ or isinstance(field, times.MomentField)
        return moment if is_aware else timezone.make_naive(moment, timezone.get_default_timezone())
    except (OverflowError, ValidationError) as exc:
        raise ValueError(f"{text[:50]!r} is no value of {field}.") from exc


def read_ids(model: Any, where: str, params: Sequence[Any], column: str) -> Iterator[Any]:
    """Yield the ids of rows for which SQL is true, page by page, in the order of an indexed column and of the ids.

    Each page is read when it is needed. Rows that come meanwhile may be among them.
    """
    key, order = model._meta.pk, f"{column}, id" if column != "id" else "id"
    position: tuple[str, list[Any]] = "", []
    while True:
        with connection().cursor() as cursor:
            cursor.execute(
                f"SELECT id, {column} FROM {model._meta.db_table} WHERE {where}{position[0]} "
                f"ORDER BY {order} LIMIT {MAX_IDS_PER_PAGE}",
                [*params, *position[1]],
            )
            page = cursor.fetchall()
        yield from (key.to_python(id) for id, _ in page)
        if len(page) < MAX_IDS_PER_PAGE:
            return
        id, value = page[-1]
        if column == "id":
            position = " AND id > %s", [id]
        else:
            position = f" AND {column} >= %s AND ({column} > %s OR id > %s)", [value, value, id]
