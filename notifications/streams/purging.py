"""Delete the rows of deleted users.

A process that is killed between the deletion and the purge leaves all rows, and a job that notifies later leaves a
stream. ``prune`` finds both.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from functools import partial
from typing import Any

from django.apps import apps
from django.contrib.auth import get_user_model
from django.db import router
from django.db.backends.utils import CursorWrapper
from django.db.models import Model, QuerySet

from notifications.db import bulk
from notifications.db.adapters import user_to_db
from notifications.db.transactions import (
    MAX_ROWS_PER_TRANSACTION,
    chunks,
    connection,
    database,
    dialect,
    fair_atomic,
)
from notifications.extension import hooks
from notifications.models import (
    AnnouncedState,
    Attempt,
    InboxViews,
    Job,
    JobTag,
    Notification,
    OwedCall,
    PendingMark,
    Ring,
    SeenMark,
    Stream,
    Wait,
)
from notifications.streams.rings import ring

#: Keys of users, jobs or notifications that one query looks up at most.
MAX_KEYS_PER_CHUNK = 500
#: Users whose rows one transaction deletes at most.
MAX_USERS_PER_TRANSACTION = 100
#: Rows of a table of an extension that belong to jobs or notifications, and that one transaction deletes.
MAX_BELONGINGS_PER_CHUNK = 1_000


def purge(users: Iterable[Any]) -> int:
    """Delete all rows of deleted users (keys); return how many ``purge_chunk`` has counted."""
    deleted = 0
    for group in chunks(users, MAX_USERS_PER_TRANSACTION):
        while count := fair_atomic(partial(purge_chunk, group)):
            deleted += count
    return deleted


def purge_chunk(users: Sequence[Any]) -> int:
    """Delete, inside a transaction, a chunk of the rows of a group of deleted users (keys), the streams last.

    Jobs of handlers, webhooks and callbacks about a row are deleted before it, also those that have not ended,
    because their arguments have its texts. A worker stops within seconds those of them that it runs.
    Returns the number of jobs or notifications, of rows that belong to them, of seen marks, of rows of extensions, or
    of rows of others that named a user; 0 when only the streams were left.
    """
    keys = [user_to_db(user) for user in users]
    with connection().cursor() as cursor:
        for model in (Job, Notification):
            if ids := select_ids(model, "user_id", keys):
                return _delete_chunk(cursor, model, ids)
        if ids := select_ids(SeenMark, "user_id", keys):
            _delete(cursor, SeenMark, "id", _lock(cursor, SeenMark, ids))
            return len(ids)
        count = delete_rows(AnnouncedState, "user_id", keys) or clear_users(Wait, "ended_by_id", keys)
        if count:
            return count
        for label, column in hooks.tables["user"]:
            if count := _delete_of_users(apps.get_model(label), column, keys):
                return count
        for label, column in hooks.tables["named user"]:
            if count := clear_users(apps.get_model(label), column, keys):
                return count
        for model in (InboxViews, PendingMark, Ring, Stream):
            _delete(cursor, model, "user_id", keys)
    ring(users)
    return 0


def select_ids(model: Any, column: str, keys: Sequence[Any]) -> list[Any]:
    """Return the ids of some rows with one of these values, as the database stores both."""
    condition, params = bulk.where_in(model, column, keys)
    table, key = model._meta.db_table, model._meta.pk.column
    with connection().cursor() as cursor:
        cursor.execute(
            f"SELECT {key} FROM {table} WHERE {condition} LIMIT {MAX_ROWS_PER_TRANSACTION}", params
        )
        return [id for (id,) in cursor.fetchall()]


def delete_rows(model: Any, column: str, keys: Sequence[Any], limit: int = MAX_ROWS_PER_TRANSACTION) -> int:
    """Delete, inside a transaction, at most ``limit`` rows with one of these values; return how many.

    ``keys``
        The values as the database stores them.
    """
    condition, params = bulk.where_in(model, column, keys)
    table, key = model._meta.db_table, model._meta.pk.column
    chosen = dialect().in_subquery(key, f"SELECT {key} FROM {table} WHERE {condition} LIMIT {limit}")
    with connection().cursor() as cursor:
        cursor.execute(f"DELETE FROM {table} WHERE {chosen}", params)
        return int(cursor.rowcount)


def _delete_of_users(model: Any, column: str, keys: Sequence[Any]) -> int:
    """Delete rows of an extension, or those that belong to them while there are some; return how many."""
    if not (belongings := hooks.tables.get(model._meta.label)):
        return delete_rows(model, column, keys)
    owners = select_ids(model, column, keys)
    for label, owner in belongings if owners else ():
        if count := delete_rows(apps.get_model(label), owner, owners):
            return count
    return delete_rows(model, model._meta.pk.column, owners) if owners else 0


def clear_users(model: Any, column: str, keys: Sequence[Any]) -> int:
    """Set a column to NULL, inside a transaction, in a chunk of the rows where it names a deleted user.

    Returns how many rows they are.
    For rows that stay, of other users or without one. The column would name the next user with that key, and
    ``dumpdata`` with natural keys fails at a user who does not exist.

    ``keys``
        Those of the users, as the database stores them.
    """
    with connection().cursor() as cursor:
        if ids := select_ids(model, column, keys):
            of_ids, params = bulk.where_in(model, "id", _lock(cursor, model, ids))
            cursor.execute(f"UPDATE {model._meta.db_table} SET {column} = NULL WHERE {of_ids}", params)
        return len(ids)


def _delete_chunk(cursor: CursorWrapper, model: Any, ids: Sequence[Any]) -> int:
    """Delete rows, or what belongs to them, or while there are some, jobs about them. Returns how many."""
    # A transaction locks jobs in the order of their ids: these and their sources are not in one order.
    sources = ids
    if jobs := _lock(cursor, Job, select_ids(Job, "event_source", ids)):
        return _delete_with_belongings(cursor, Job, jobs)
    ids = _lock(cursor, model, ids)
    if select_ids(Job, "event_source", sources):
        return 1  # The transaction that held a row has inserted one.
    return _delete_with_belongings(cursor, model, ids)


def _delete_with_belongings(cursor: CursorWrapper, model: Any, ids: Sequence[Any]) -> int:
    whole = delete_belongings(model, ids)
    if not whole:
        return MAX_BELONGINGS_PER_CHUNK
    _delete(cursor, model, "id", whole)
    return len(whole)


def _lock(cursor: CursorWrapper, model: Any, ids: Sequence[Any]) -> list[Any]:
    if not ids:
        return []
    of_ids, params = bulk.where_in(model, "id", ids)
    lock = bulk.lock_sql(skip_locked=False)
    cursor.execute(f"SELECT id FROM {model._meta.db_table} WHERE {of_ids} ORDER BY id{lock}", params)
    return [id for (id,) in cursor.fetchall()]


def _delete(cursor: CursorWrapper, model: Any, column: str, keys: Sequence[Any]) -> None:
    condition, params = bulk.where_in(model, column, keys)
    cursor.execute(f"DELETE FROM {model._meta.db_table} WHERE {condition}", params)


def delete_belongings(model: Any, ids: Sequence[Any]) -> Sequence[Any]:
    """Delete a bounded number of the rows that belong to jobs or notifications; return whose rows are all deleted.

    Called inside the transaction that has locked the rows themselves, and deletes those that are returned. Nothing that
    belongs to the others is deleted: a job that is retried by hand in between would make calls again whose steps were
    stored. Of one that alone has too many rows some are deleted, and nothing is returned.

    ``ids``
        As the database stores them.
    """
    of_extensions = hooks.tables["job" if model is Job else "notification"]
    tables = [(apps.get_model(label), column) for label, column in of_extensions]
    for table, column in tables:
        while _has_too_many_rows(table, column, ids):
            if len(ids) == 1:
                delete_rows(table, column, ids, MAX_BELONGINGS_PER_CHUNK)
                return ()
            ids = ids[: len(ids) // 2]
    with connection().cursor() as cursor:
        for table, column in tables:
            _delete(cursor, table, column, ids)
        _delete(cursor, OwedCall, "subject", ids)
        if model is Job:
            # Not before their jobs: one that waits without a wait would be queued again.
            _delete(cursor, JobTag, "job", ids)
            _delete(cursor, Attempt, "job_id", ids)
            _delete(cursor, Wait, "job", ids)
    return ids


def _has_too_many_rows(model: Any, column: str, keys: Sequence[Any]) -> bool:
    condition, params = bulk.where_in(model, column, keys)
    with connection().cursor() as cursor:
        cursor.execute(
            f"SELECT 1 FROM {model._meta.db_table} WHERE {condition} LIMIT 1 OFFSET {MAX_BELONGINGS_PER_CHUNK}",
            params,
        )
        return cursor.fetchone() is not None


def find_deleted_users(*, in_extensions: bool = True) -> Iterator[list[Any]]:
    """Yield, for a chunk of keys at a time, the keys of the users that do not exist any more.

    ``in_extensions``
        Also those whose streams are purged: an extension that was not installed then has kept its rows, and a request
        that was running may have saved a view.
    """
    model, alias = get_user_model(), database()
    if router.db_for_write(model) != alias:
        return
    columns: list[tuple[type[Model], str]] = [(Stream, "user_id")]
    if in_extensions:
        of_extensions = [*hooks.tables["user"], *hooks.tables["named user"]]
        columns += [
            (InboxViews, "user_id"),
            *((apps.get_model(label), column) for label, column in of_extensions),
        ]
    for table, column in columns:
        for keys in _read_keys(table, column):
            # Read after the rows, because a user exists before them.
            yield _find_missing(model, keys)


def find_orphans() -> Iterator[tuple[Any, str, list[Any]]]:
    """Yield tables of extensions, and keys of jobs or notifications that do not exist, a chunk of keys at a time.

    These were deleted while the extension was not installed. With each the column, and the keys as the database stores
    them.
    """
    for owner, tables in ((Job, hooks.tables["job"]), (Notification, hooks.tables["notification"])):
        prepare = partial(owner._meta.pk.get_db_prep_value, connection=connection())
        for label, column in tables:
            table = apps.get_model(label)
            for keys in _read_keys(table, column):
                yield table, column, list(map(prepare, _find_missing(owner, keys)))


def _read_keys(model: Any, column: str) -> Iterator[list[Any]]:
    """Yield the different values of an indexed column, a chunk at a time."""
    rows = QuerySet(model, using=database()).filter(**{f"{column}__isnull": False}).order_by(column)
    keys: list[Any] = []
    while True:
        later = rows.filter(**{f"{column}__gt": keys[-1]}) if keys else rows
        keys = list(later.values_list(column, flat=True).distinct()[:MAX_KEYS_PER_CHUNK])
        yield keys
        if len(keys) < MAX_KEYS_PER_CHUNK:
            return


def _find_missing(model: Any, keys: Sequence[Any]) -> list[Any]:
    # Not by a manager of the host, which may hide users.
    existing = set(QuerySet(model, using=database()).filter(pk__in=keys).values_list("pk", flat=True))
    return [key for key in keys if key not in existing]
