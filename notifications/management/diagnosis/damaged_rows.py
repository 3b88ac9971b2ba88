"""Rows whose items cannot be shown as they are, because another program has damaged them: find and repair them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from django.db import models

from notifications import serializers, streams, times
from notifications.db.transactions import connection, retrying_atomic
from notifications.db.unavailable import is_damage
from notifications.models import Notification
from notifications.streams.changes import ITEM_COLUMNS

#: Rows that one query reads.
CHUNK_SIZE = 500
#: Columns for which there is no harmless value: a job whose state was lost would run again.
KEPT_COLUMNS = {
    *(
        "id",
        "user_id",
        "seq",
        "raised",
        "version",
        "task_path",
        "state",
        "executor",
        "attempt",
        "max_attempts",
    ),
}


@dataclass(slots=True)
class DamagedRow:
    """A notification or job, and what can be stored in its damaged columns."""

    model: Any
    #: As the database returns it.
    id: Any
    values: dict[str, Any]

    def __str__(self) -> str:
        id = UUID(self.id) if isinstance(self.id, str) else self.id
        return f"{self.model._meta.verbose_name} {id} ({', '.join(self.values)})"

    @property
    def can_repair(self) -> bool:
        """Whether what is damaged has a harmless value."""
        return not KEPT_COLUMNS & self.values.keys()

    def repair(self) -> None:
        """Store what can be read in place of what cannot. The change gets a number, so that clients get the row."""
        columns = {**self.values, "seq": None} if self.model is Notification else self.values
        changes = [f"{column} = %s" for column in columns]
        if self.model is not Notification:
            # An active job is sent as its version grows, one that has ended when it gets a number.
            changes += ["version = version + 1", "seq = CASE WHEN seq = 0 THEN 0 END"]
        fields = {field.column: field for field in self.model._meta.concrete_fields}
        params = [fields[column].get_db_prep_save(value, connection()) for column, value in columns.items()]

        def write() -> None:
            with connection().cursor() as cursor:
                cursor.execute(
                    f"UPDATE {_table(self.model)} SET {', '.join(changes)} WHERE id = %s", [*params, self.id]
                )

        retrying_atomic(write)


def find_damaged_rows(limit: int | None = None) -> Iterator[DamagedRow]:
    """Yield the damaged rows among the newest ``limit`` notifications and as many jobs, or among all."""
    for model, columns in ITEM_COLUMNS:
        for ids in _chunks_of_ids(model, limit):
            if not _are_intact(model, columns, ids):
                for id in ids:
                    if values := _find_damage(model, columns, id):
                        yield DamagedRow(model, id, values)


def repair_damaged_rows() -> Iterator[DamagedRow]:
    """Repair all damaged rows for which that is possible. Yields each one."""
    for row in find_damaged_rows():
        if row.can_repair:
            row.repair()
            yield row
    streams.number_pending()


def _chunks_of_ids(model: Any, limit: int | None) -> Iterator[list[Any]]:
    last: list[Any] = []
    while limit is None or limit > 0:
        size = CHUNK_SIZE if limit is None else min(limit, CHUNK_SIZE)
        with connection().cursor() as cursor:
            condition = "WHERE id < %s" if last else ""
            cursor.execute(f"SELECT id FROM {_table(model)} {condition} ORDER BY id DESC LIMIT {size}", last)
            ids = [id for (id,) in cursor.fetchall()]
        if not ids:
            return
        yield ids
        last = ids[-1:]
        limit = limit and limit - size


def _are_intact(model: Any, columns: Sequence[str], ids: Sequence[Any]) -> bool:
    try:
        return not any(map(serializers.find_defect, _select(model, columns, ids)))
    except Exception as exc:
        if not is_damage(exc):
            raise
        return False


def _find_damage(model: Any, columns: Sequence[str], id: Any) -> dict[str, Any]:
    if not _is_readable(model, "id", id):
        return {}
    fields = {field.column: field for field in model._meta.concrete_fields}
    unreadable = [column for column in columns if not _is_readable(model, column, id)]
    if unreadable:
        return {column: _default(fields[column]) for column in unreadable}
    for row in _select(model, columns, [id]):
        if serializers.find_defect(row):
            repaired = serializers.without_damage(row)
            names = {column: fields[column].attname for column in columns}
            return {
                column: getattr(repaired, name)
                for column, name in names.items()
                if getattr(repaired, name) != getattr(row, name)
            }
    return {}


def _is_readable(model: Any, column: str, id: Any) -> bool:
    try:
        list(_select(model, {"id", column}, [id]))
    except Exception as exc:
        if not is_damage(exc):
            raise
        return False
    return True


def _default(field: models.Field[Any, Any]) -> Any:
    return times.now() if isinstance(field, models.DateTimeField) and not field.null else field.get_default()


def _select(model: Any, columns: Any, ids: Sequence[Any]) -> Any:
    marks = ", ".join(["%s"] * len(ids))
    sql = f"SELECT {', '.join(columns)} FROM {_table(model)} WHERE id IN ({marks})"
    return model._default_manager.using(connection().alias).raw(sql, ids)


def _table(model: Any) -> str:
    return connection().ops.quote_name(model._meta.db_table)
