"""Rings: hints, sent after a commit, that streams or the job queue have something new.

A ring names users, may carry what has changed (``carrying``), and may be lost. Processes of the site get it through the
doorbell, which listens to the signal ``rung``; on SQLite it is also a row of ``Ring``, or that of a new job, which
others read.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Sequence
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from notifications.db.adapters import user_to_db
from notifications.db.clock import local_seconds
from notifications.db.dialects import dialect_of
from notifications.db.transactions import connection, on_commit_merged, retrying_atomic
from notifications.ids import process_number
from notifications.signals import rung
from notifications.streams.carrying import CarriedChange, Changes

if TYPE_CHECKING:
    from notifications.models import Job

#: Seconds after which rows of ``Ring`` are deleted, because of the texts in them, and how old those are that stay then.
MAX_RING_SECONDS, RING_SECONDS_KEPT = 50, 20
#: Rows of ``Ring`` that one transaction deletes at most.
MAX_RINGS_DELETED = 5_000
#: Changes of one user that combined rings carry.
MAX_MERGED_CHANGES = 10
NO_CHANGES: Changes = MappingProxyType({})
#: How many ids of its own new jobs a process keeps.
MAX_OWN_JOBS = 1_000
#: Ids of jobs that this process has rung for itself, as SQLite stores them. Its listener does not ring for them again.
own_jobs: OrderedDict[str, None] = OrderedDict()


def ring(users: Iterable[Any], *, queue: bool = False, changes: Changes = NO_CHANGES) -> None:
    """Ring, after the commit, the streams of these users (keys), and with ``queue`` the job queue.

    Keys that are None are left out. All rings of one transaction are sent as one.

    ``changes``
        What the ring carries, of users for whom that is all: one change each.
    """
    keys = [user for user in dict.fromkeys(users) if user is not None]
    if not keys and not queue:
        return
    db = connection()
    if dialect_of(db).stores_rings:
        rung_at, row, params = local_seconds(), f"(%s, {process_number()}, %s, %s)", []
        for key in keys:
            carried = changes.get(key)
            params += [user_to_db(key), rung_at, carried[0].to_text() if carried else None]
        params += [None, rung_at, None] * queue
        rows = ", ".join([row] * (len(params) // 3))
        with db.cursor() as cursor:
            cursor.execute(
                f"INSERT INTO notifications_ring (user_id, origin, rung_at, change) VALUES {rows}", params
            )
    on_commit_merged("rings", (keys, queue, changes), _send, db)


def ring_new_jobs(jobs: Sequence[Job], *, queue: bool) -> None:
    """Ring, after the commit, for inserted jobs: the streams of their owners, and with ``queue`` the job queue.

    Other processes on SQLite read the jobs themselves, so that enqueueing is one statement and needs no transaction.
    Their commit is one that this process was to ``expect_own_jobs`` before.
    """
    users = [user for job in jobs if (user := job.user_id) is not None]
    if users or queue:
        on_commit_merged("rings", (users, queue, NO_CHANGES), _send)


def expect_own_jobs(jobs: Sequence[Job]) -> None:
    """Have the listener of this process not ring for these jobs. Called before their commit.

    After it, the listener may have read the row already and rung, and ``ring_new_jobs`` would ring again.
    """
    for job in jobs:
        own_jobs[job.id.hex] = None
    while len(own_jobs) > MAX_OWN_JOBS:
        own_jobs.popitem(last=False)


def has_old_rings() -> tuple[str, list[Any]]:
    """Return SQL that is true if ``prune_rings`` deletes something, and its parameters."""
    # The oldest one has the least id. After the clock was set back, the time of a ring may be ahead.
    age = "abs((SELECT rung_at FROM notifications_ring ORDER BY id LIMIT 1) - %s)"
    return f"coalesce({age}, 0) > {MAX_RING_SECONDS}", [local_seconds()]


def prune_rings() -> None:
    """Delete the rows of ``Ring`` older than ``RING_SECONDS_KEPT``, once one is older than ``MAX_RING_SECONDS``."""
    db = connection()
    if not dialect_of(db).stores_rings:
        return
    condition, params = has_old_rings()
    with db.cursor() as cursor:
        cursor.execute(f"SELECT {condition}", params)
        if not cursor.fetchone()[0]:
            return
    oldest = f"SELECT id FROM notifications_ring ORDER BY id LIMIT {MAX_RINGS_DELETED}"
    sql = f"DELETE FROM notifications_ring WHERE id IN ({oldest}) AND abs(rung_at - %s) > {RING_SECONDS_KEPT}"
    retrying_atomic(lambda: db.cursor().execute(sql, params))


def forget_changes(users: Iterable[Any]) -> None:
    """Remove what rows of ``Ring`` carry of these users (keys), inside the transaction that deletes other rows."""
    if dialect_of(db := connection()).stores_rings and (keys := list(map(user_to_db, users))):
        marks = ", ".join(["%s"] * len(keys))
        with db.cursor() as cursor:
            cursor.execute(f"UPDATE notifications_ring SET change = NULL WHERE user_id IN ({marks})", keys)


def merge(rung: dict[Any, Sequence[CarriedChange]], users: Iterable[Any], changes: Changes) -> None:
    """Add a ring for these users (keys) to others. Where one carries nothing, nothing is carried."""
    for user in users:
        known, new = rung.get(user), changes.get(user, ())
        if known is None:
            rung[user] = new
        else:
            # Not more of one user than a read would be for: what publishes them may wait for its connection.
            is_carried = known and new and len(known) < MAX_MERGED_CHANGES
            rung[user] = (*known, *new) if is_carried else ()


def _send(rings: list[tuple[list[Any], bool, Changes]]) -> None:
    rung_users: dict[Any, Any] = {}
    for keys, _, changes in rings:
        merge(rung_users, keys, changes)
    carried = {user: changes for user, changes in rung_users.items() if changes}
    queue = any(queue for _, queue, _ in rings)
    rung.send_robust(sender=None, users=list(rung_users), queue=queue, changes=carried)
