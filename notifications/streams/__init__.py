"""Numbering: gives changed rows their position (``seq``) in the stream of their user.

Writers insert or change rows with ``seq`` NULL and never touch a stream. At the end of a transaction of the app's own,
or after the commit of a caller's, numbering gives these rows the next positions. So the order of commits is the order
of ``seq``, a rollback leaves no gap, and a reader never sees n+1 without n.

Only modules of this package lock streams or change them.

numbering                               the pass that does it
building                                makes notifications, to be inserted by ``jobs``
positions, changes                      read: positions and the epoch, what follows a cursor
listing, grouping                       read lists, and groups as one row each
marking, marking_all, marking_seen      change what is read, archived, seen
snoozing                                archives until a time
rings, carrying                         hints after a commit that a stream has changed, and what changed
retention, purging                      delete old rows, and those of deleted users
rebuilding                              finds and corrects streams that do not agree with their rows
icons                                   the icons of notifications
"""

from __future__ import annotations

import logging
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING, Any

from django.db.models import F

from notifications.db import bulk
from notifications.db.adapters import user_from_db, user_to_db
from notifications.db.transactions import (
    connection,
    dialect,
    execute_many,
    fair_atomic,
    in_callers_transaction,
    on_commit,
    on_commit_merged,
    retrying_atomic,
)
from notifications.db.unavailable import UNAVAILABLE
from notifications.lazy_names import export_lazily
from notifications.models import Notification, Stream
from notifications.streams.carrying import Numbered
from notifications.streams.numbering import (
    HAS_OPEN_KEY,
    KEY_OWNER,
    Pass,
    StreamState,
    lock_statement,
    read_statement,
    unnumbered_index,
    write_streams,
)
from notifications.streams.positions import epoch_columns, find_unnumbered_users, parse_epoch
from notifications.streams.rings import has_old_rings, prune_rings, ring

if TYPE_CHECKING:
    from notifications.streams.building import build_notification as build_notification
    from notifications.streams.positions import seen_positions as seen_positions
else:
    __getattr__ = export_lazily(
        __name__,
        {
            "notifications.streams.building": "build_notification",
            "notifications.streams.positions": "seen_positions",
        },
    )

#: What apps use. Modules of the core use the other names, too.
__all__ = [
    "build_notification",
    "number",
    "ring",
    "seen_positions",
]

logger = logging.getLogger("notifications")

#: Streams that one transaction locks at most, if it does nothing else.
MAX_STREAMS_LOCKED = 100
#: Users that one search for pending rows finds at most.
MAX_PENDING_USERS = 1_000
_CHANGE = re.compile(r"(DELETE\s+FROM|UPDATE)\s+\W?notifications_notification\b", re.IGNORECASE)


def number(users: Iterable[Any], *, more_follows: bool = False) -> None:
    """Give all pending rows of these users (keys) their ``seq``, in transactions of the app's own.

    Inside a caller's transaction this is deferred until after its commit. With ``more_follows`` the caller goes on
    writing: SQLite's lock is left free for others before this returns.
    Raises ``django.db.OperationalError`` when the database stays busy; any process then numbers the rows within a
    second.
    """
    users = set(users)
    db = connection()
    if not in_callers_transaction(db):
        return _number_all(users, more_follows)
    on_commit_merged("numbering", users, lambda deferred: _number_all(set().union(*deferred)))


def number_committed(users: Iterable[Any], *, more_follows: bool = False) -> None:
    """Number as ``number`` does, without an error: after one a caller would write again what is committed already."""
    try:
        number(users, more_follows=more_follows)
    except UNAVAILABLE:
        logger.warning("Could not number rows. Any process does so within a second.", exc_info=True)


def number_if_needed(users: list[Any]) -> None:
    """Number the pending rows of these users (keys), so that a snapshot includes everything that is committed."""
    if unnumbered := find_unnumbered_users(users):
        number(unnumbered)


def number_in_transaction(users: Iterable[Any]) -> bool:
    """Number one pass of rows of these users (keys), as the last act of the app's own transaction that is open.

    Returns True when the pass was full: then call ``number`` after the commit, more rows may be pending.
    """
    ordered = sorted(set(users))
    if not ordered:
        return False
    db = connection()
    with db.cursor() as cursor:
        moved, is_full = Pass(cursor, db, ordered).run()
    if moved:
        ring(moved)
    return is_full


def number_new(rows: Iterable[Any]) -> Numbered | None:
    """Set ``seq``, in this order, on jobs and notifications that are about to be written for the first time.

    The transaction, one of the app's own, writes them next, rings for what is returned, and ends without waiting for
    anything, because it holds the streams. Returns None, and sets none, where a notification has the key of an
    unread one: that one must be archived, which only a pass of numbering does.
    """
    rows = list(rows)
    if not rows:
        return Numbered([])
    users = [row.user_id for row in rows]
    keys = {user: user_to_db(user) for user in sorted(set(users))}
    in_database = list(keys.values())
    statements = [read_statement(in_database, epoch_columns())]
    if keyed := [
        (keys[user], row.key)
        for user, row in zip(users, rows, strict=True)
        if isinstance(row, Notification) and row.key
    ]:
        statements.append(_find_unread(keyed))
    # Several statements: one that locked and read would read from a snapshot older than its lock.
    locking = dialect().locking_write(*lock_statement(in_database))
    found, *replaced = execute_many([*locking, *statements])[len(locking) :]
    if len(found) < len(keys):  # where it locks nothing, and users have no stream yet
        _, found, *replaced = execute_many([lock_statement(in_database), *statements])
    if any(replaced):
        return None
    size = 1 + len(StreamState.COLUMNS)
    streams = {user_from_db(row[0]): StreamState(*row[1:size]) for row in found}
    heads = {user: stream.head for user, stream in streams.items()}
    epoch = parse_epoch(*found[0][size:]) if found[0][size] is not None else None
    for user, row in zip(users, rows, strict=True):
        stream = streams[user]
        row.seq = stream.advance()
        if isinstance(row, Notification):
            row.raised, row.counted = row.seq, False  # also after an attempt that was rolled back
            stream.count(row, row.read_at is None)
    write_streams({key: streams[user] for user, key in keys.items()})
    return Numbered(rows, epoch, heads, streams)


def uncounting_deleted(rows: Sequence[Notification]) -> AbstractContextManager[None]:
    """Count those of these new rows no longer that hooks delete in the block, if ``number_new`` has numbered them.

    Inside the transaction that has inserted the rows, and holds their streams. If hooks have deleted or changed rows,
    the ``seq`` of all of them is None afterwards, because they are not known any more, and their ring carries nothing.
    """
    db = connection()
    numbered = [row for row in rows if row.seq is not None]
    # In one round trip rows are inserted after the block.
    return nullcontext() if not numbered or bulk.is_one_round_trip(db) else _Uncounting(db, numbered)


class _Uncounting:
    # Not two generators: each notification needs it.

    def __init__(self, db: Any, numbered: Sequence[Notification]) -> None:
        self._db = db
        self._numbered = numbered
        self._has_changed = False

    def __enter__(self) -> None:
        self._db.execute_wrappers.append(self._watch)

    def __exit__(self, kind: Any, *args: Any) -> None:
        self._db.execute_wrappers.remove(self._watch)
        if self._has_changed and kind is None:
            self._uncount()

    def _watch(self, execute: Any, sql: str, *args: Any) -> Any:
        self._has_changed = self._has_changed or _CHANGE.search(sql) is not None
        return execute(sql, *args)

    def _uncount(self) -> None:
        for row in self._numbered:
            row.seq = None
        counted = [row for row in self._numbered if row.counted]
        ids = [row.pk for row in counted]
        alias = self._db.alias
        left = set(Notification.objects.using(alias).filter(pk__in=ids).values_list("pk", flat=True))
        users = Counter(row.user_id for row in counted if row.pk not in left)
        for user, count in users.items():
            stream = Stream.objects.using(alias).filter(pk=user)
            stream.update(unread=F("unread") - count, unseen=F("unseen") - count)


def _find_unread(keys: Sequence[tuple[Any, str]]) -> tuple[str, list[Any]]:
    """Return the query, with its parameters, for a row if a user has an unread one with a key.

    Users are as the database has their keys.
    """
    new_keys, params = bulk.values(Notification, ("user_id", "key"), keys)
    # A subquery for each key: for a join PostgreSQL may read the keys of all users. Pending rows count.
    unread_row = (
        f"SELECT 1 FROM notifications_notification WHERE {KEY_OWNER} = new_keys.user_key AND key = new_keys.text "
        f"AND {HAS_OPEN_KEY} LIMIT 1"
    )
    return (
        f"WITH new_keys (user_key, text) AS ({new_keys}) SELECT 1 FROM new_keys WHERE ({unread_row}) = 1 LIMIT 1",
        params,
    )


def pending_condition() -> tuple[str, Sequence[Any]]:
    """Return SQL that is true if ``find_pending_users`` finds something, and its parameters."""
    pending = " OR ".join(
        f"EXISTS (SELECT 1 FROM notifications_{table}{unnumbered_index(index)} WHERE seq IS NULL)"
        for table, index in (("notification", "n"), ("job", "job"))
    )
    if not dialect().stores_rings:
        return pending, ()
    has_old, params = has_old_rings()
    return f"{pending} OR {has_old}", params


def find_pending_users() -> Iterator[Any]:
    """Yield users (keys) with pending rows, a bounded number, and prune rings.

    Rows stay pending when a process is killed between commit and numbering, when they were locked elsewhere, or when a
    failing ``on_commit`` hook of the host drops the later hooks.
    """
    with connection().cursor() as cursor:
        cursor.execute(
            f"SELECT user_id FROM notifications_notification{unnumbered_index('n')} WHERE seq IS NULL "
            f"UNION SELECT user_id FROM notifications_job{unnumbered_index('job')} WHERE seq IS NULL "
            f"LIMIT {MAX_PENDING_USERS}"
        )
        users = [user_from_db(user) for (user,) in cursor.fetchall()]
    yield from users
    prune_rings()


def number_pending() -> None:
    """Number the pending rows of users now, also inside a transaction of the caller's, and prune rings."""
    _number_all(list(find_pending_users()))


def find_pending(limit: int) -> set[Any]:
    """Return the ids of pending rows of all users, at most so many notifications and so many jobs."""
    found: set[Any] = set()
    with connection().cursor() as cursor:
        for table, index in (("notification", "n"), ("job", "job")):
            cursor.execute(
                f"SELECT id FROM notifications_{table}{unnumbered_index(index)} WHERE seq IS NULL LIMIT {limit}"
            )
            found |= {id for (id,) in cursor.fetchall()}
    return found


def raise_floors(floors: dict[Any, int]) -> None:
    """Raise the floor of each user (key) to the greatest ``seq`` that is deleted, in the transaction that deletes."""
    db = connection()
    with db.cursor() as cursor:
        for user in sorted(floors):
            cursor.execute(
                "UPDATE notifications_stream SET floor = %s WHERE user_id = %s AND floor < %s",
                [floors[user], user_to_db(user), floors[user]],
            )


def request_session_check(user: Any) -> None:
    """Raise the guard of a user (key), whose sessions may have ended, so that hubs check their sessions again.

    In a transaction of its own, after the commit of a caller's.
    """

    def change() -> None:
        with connection().cursor() as cursor:
            cursor.execute(
                "INSERT INTO notifications_stream (user_id, head, floor, unread, guard) VALUES (%s, 0, 0, 0, 1) "
                "ON CONFLICT (user_id) DO UPDATE SET guard = notifications_stream.guard + 1",
                [user_to_db(user)],
            )
        ring([user])

    on_commit(lambda: retrying_atomic(change))


def _number_all(users: Iterable[Any], more_follows: bool = False) -> None:
    ordered = sorted(users)
    for start in range(0, len(ordered), MAX_STREAMS_LOCKED):
        chunk = ordered[start : start + MAX_STREAMS_LOCKED]
        follows = more_follows or start + MAX_STREAMS_LOCKED < len(ordered)
        while fair_atomic(lambda chunk=chunk: number_in_transaction(chunk), more_follows=follows):  # type: ignore[misc]
            pass
