"""Rings: hints, sent after a commit, that streams or the job queue have something new.

A ring names users and carries no data, and it may be lost. Processes of the site get it through the doorbell, which
listens to the signal ``rung``; on SQLite it is also a row of ``Ring``, or that of a new job, which others read.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

from notifications.db.adapters import user_to_db
from notifications.db.dialects import dialect_of
from notifications.db.transactions import connection, on_commit_merged, retrying_atomic
from notifications.ids import process_number
from notifications.signals import rung

if TYPE_CHECKING:
    from notifications.models import Job

#: Rows of ``Ring`` that are kept.
MAX_RINGS_KEPT = 5_000
#: How many ids of its own new jobs a process keeps.
MAX_OWN_JOBS = 1_000
#: Ids of jobs that this process has rung for itself, as SQLite stores them. Its listener does not ring for them again.
own_jobs: OrderedDict[str, None] = OrderedDict()


def ring(users: Iterable[Any], *, queue: bool = False) -> None:
    """Ring, after the commit, the streams of these users (keys), and with ``queue`` the job queue.

    Keys that are None are left out. All rings of one transaction are sent as one.
    """
    keys = [user for user in dict.fromkeys(users) if user is not None]
    if not keys and not queue:
        return
    db = connection()
    dialect_of(db).store_rings(db, [*map(user_to_db, keys), *[None] * queue], process_number())
    on_commit_merged("rings", (keys, queue), _send)


def ring_new_jobs(jobs: Sequence[Job], *, queue: bool) -> None:
    """Ring, after the commit, for inserted jobs: the streams of their owners, and with ``queue`` the job queue.

    Other processes on SQLite read the jobs themselves, so that enqueueing is one statement and needs no transaction.
    Outside of a transaction this process was to ``expect_own_jobs`` before they were inserted.
    """
    expect_own_jobs(jobs)
    users = [job.user_id for job in jobs if job.user_id is not None]
    if users or queue:
        on_commit_merged("rings", (users, queue), _send)


def expect_own_jobs(jobs: Sequence[Job]) -> None:
    """Have the listener of this process not ring for these jobs. Called before their commit.

    After it, the listener may have read the row already and rung, and ``ring_new_jobs`` would ring again.
    """
    for job in jobs:
        own_jobs[job.id.hex] = None
    while len(own_jobs) > MAX_OWN_JOBS:
        own_jobs.popitem(last=False)


def too_many_rings() -> str:
    """Return SQL that is true if ``prune_rings`` deletes something."""
    # Two subqueries: SQLite scans the whole table for min and max in one.
    span = "(SELECT max(id) FROM notifications_ring) - (SELECT min(id) FROM notifications_ring)"
    return f"coalesce({span}, 0) >= {2 * MAX_RINGS_KEPT}"


def prune_rings() -> None:
    """Delete all but the last ``MAX_RINGS_KEPT`` rows of ``Ring``, once there are twice as many."""
    db = connection()
    if not (statement := dialect_of(db).delete_rings(MAX_RINGS_KEPT)):
        return
    with db.cursor() as cursor:
        cursor.execute(f"SELECT {too_many_rings()}")
        if not cursor.fetchone()[0]:
            return
    retrying_atomic(lambda: db.cursor().execute(statement))


def _send(rings: list[tuple[list[Any], bool]]) -> None:
    users = list(dict.fromkeys([user for keys, _ in rings for user in keys]))
    rung.send_robust(sender=None, users=users, queue=any(queue for _, queue in rings))
