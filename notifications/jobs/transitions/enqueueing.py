"""Insert new jobs: each with its owner, and once for a key.

The owner of a job is the user who may see it and is notified of its end: see ``context.py`` for who that is. A key that
the same owner enqueues again within ``KEY_LIFETIME`` stands for the same job, a queued key until that job begins. Both
are in one column, with one unique index.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from datetime import timedelta
from functools import partial
from hashlib import sha256
from typing import Any

from django.db import IntegrityError, transaction
from django.db.models import Model

from notifications import context, times
from notifications.db import bulk
from notifications.db.adapters import user_keys_of
from notifications.db.clock import database_now, is_in_force
from notifications.db.transactions import (
    connection,
    database,
    in_callers_transaction,
    retrying,
    retrying_atomic,
)
from notifications.exceptions import IdempotencyKeyConflict
from notifications.jobs import limits, tags, turns
from notifications.jobs.declaring.tasks import wakes_builtin_worker
from notifications.jobs.transitions.conditional_updates import ring_queued
from notifications.jobs.users import log_unknown
from notifications.models import Job
from notifications.streams import rings
from notifications.validators import MAX_KEY_LENGTH

KEY_LIFETIME_HOURS = 24
KEY_LIFETIME = timedelta(hours=KEY_LIFETIME_HOURS)
#: How often an insertion is tried that violates the unique constraint of keys.
MAX_INSERT_TRIES = 3

#: What the call that is enqueued last sets on the queued job with its queued key.
REPLACED_COLUMNS = (
    "args",
    "kwargs",
    "title",
    "url",
    "priority",
    "run_after",
    "due_at",
    "expires_at",
    "share_name",
    "turn",
    "max_attempts",
    "concurrency_key",
    "limit_key",
    "limit_turn",
    "language",
    "trace",
    "executor",
)

#: How a stored key begins that stands for a job until it begins. No other key has a space.
QUEUED_KEY_PREFIX = "queued "
KEY_PATTERN = re.compile(rf"[\x21-\x7e]{{1,{MAX_KEY_LENGTH}}}")


def enqueue(job: Job) -> Job:
    """Insert a queued job in the caller's transaction, and ring after its commit.

    Returns the job, or the existing one with the same key. Raises ``TooManyJobs`` and ``IdempotencyKeyConflict``.
    """
    job.created_at = job.queued_at = times.now()

    def insert() -> Job:
        rings.expect_own_jobs([job])
        limits.insert_within_limit(job)
        if job.tags:
            tags.insert_tags([job])
        rings.ring_new_jobs([job], queue=wakes_builtin_worker([job.backend]))
        return job

    if job.idempotency_key:
        return insert_once(job, insert)
    # Without tags it is one statement, which needs no transaction.
    return retrying_atomic(insert) if job.tags else retrying(insert)


def stored_key(path: str, args: Any, kwargs: Any, *, key: Any, queued_key: Any) -> tuple[str, str]:
    """Return ``idempotency_key`` and ``idempotency_hash`` of a job with these options, both ``""`` without a key.

    Raises TypeError or ValueError.
    """
    if key is not None and queued_key is not None:
        raise ValueError(
            "A job takes key or queued_key, not both. key stands for the job for "
            f"{KEY_LIFETIME_HOURS} hours, queued_key until it begins."
        )
    if key is not None:
        return _validated("key", key), call_hash(path, args, kwargs)
    if queued_key is not None:
        # A queued key is one of its task, which is in the hash.
        hash = sha256(f"{path} {_validated('queued_key', queued_key)}".encode()).hexdigest()
        return f"{QUEUED_KEY_PREFIX}{hash}", ""
    return "", ""


def _validated(name: str, value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError(f"{name} must be a string, not {type(value).__name__}.")
    if not KEY_PATTERN.fullmatch(value):
        raise ValueError(
            f"{name} is {value[:100]!r}. It must be 1 to {MAX_KEY_LENGTH} visible ASCII characters, without spaces."
        )
    return value


def call_hash(path: str, args: Any, kwargs: Mapping[str, Any]) -> str:
    """Return a hash of a task's path and its arguments, which are JSON."""
    return sha256(json.dumps([path, args, kwargs], sort_keys=True).encode()).hexdigest()


def insert_once(job: Job, insert: Callable[[], Job]) -> Job:
    """Insert a job, or return the job of the same owner that has its key.

    Raises ``IdempotencyKeyConflict`` if that job has another task or other arguments.
    """
    find = _replace_queued_job if job.idempotency_key.startswith(QUEUED_KEY_PREFIX) else _find_equal_job
    db = connection()

    def find_or_insert() -> Job:
        return find(job) or insert()

    for tries_left in reversed(range(MAX_INSERT_TRIES)):
        try:
            if not in_callers_transaction(db):
                return retrying_atomic(find_or_insert)
            with transaction.atomic(
                using=db.alias
            ):  # A savepoint: a violation must not abort the caller's work.
                return find_or_insert()
        except IntegrityError:  # Another transaction has inserted its job after this one looked: find that.
            if not tries_left:
                raise
    raise AssertionError("unreachable")


def _find_equal_job(job: Job) -> Job | None:
    """Return the job that has the key of a new one. Raises ``IdempotencyKeyConflict`` if its call is another one."""
    existing = job_with_key(job.user_id, job.idempotency_key)
    if existing is not None and existing.idempotency_hash != job.idempotency_hash:
        raise IdempotencyKeyConflict(job.idempotency_key)
    if existing is None:
        job.idempotency_expires_at = database_now(is_estimate=True) + KEY_LIFETIME
    return existing


def _replace_queued_job(job: Job) -> Job | None:
    """Give the queued job that has the queued key of a new one the call of that one, and return it.

    Returns None without one. The claim takes the key of a job that begins, this that of a job that was cancelled.

    The row stays locked until the commit of the caller's transaction, so no worker begins the job before it can see
    what the caller has written. It would run without that, and no other job would.
    """
    # Without it, callers of jobs that begin at once would find the unique index violated again and again.
    bulk.lock_name("queued key", f"{job.user_id} {job.idempotency_key}")
    existing = _find(job.user_id, job.idempotency_key)
    if existing is None:
        return None
    db = connection()
    turns.set_due_time(job)
    if job.due_at is None and existing.due_at is None:
        job.share_name, job.turn = existing.share_name, existing.turn
    elif job.due_at is None:
        [(job.share_name, job.turn)] = turns.next_places([job], [job.executor])
    if job.due_at is None and job.limit_key == existing.limit_key:
        job.limit_turn = existing.limit_turn
    columns = bulk.column_values(Job, REPLACED_COLUMNS, [job])[0]
    with db.cursor() as cursor:
        if existing.state == Job.State.QUEUED and existing.started_at is None:
            changes = ", ".join(f"{name} = %s" for name in REPLACED_COLUMNS)
            id = Job._meta.pk.get_db_prep_value(existing.id, db)
            # Each claim raises the fence.
            cursor.execute(
                f"UPDATE notifications_job SET {changes}, version = version + 1 "
                "WHERE id = %s AND fence = %s AND state || '' = 'queued'",
                [*columns, id, existing.fence],
            )
            if cursor.rowcount:
                for name in REPLACED_COLUMNS:
                    setattr(existing, name, getattr(job, name))
                existing.version += 1
                tags.replace_tags(existing.id, job.tags)
                ring_queued([existing])
                return existing
    _clear_key(existing)
    return None


def job_with_key(user: Any, key: str) -> Job | None:
    """Return the job of a user (key) that has an idempotency key. An expired key is cleared first."""
    job = _find(user, key)
    if job is None:
        return None
    if not is_in_force(job.idempotency_expires_at, database_now(is_estimate=True), KEY_LIFETIME):
        _clear_key(job)
        return None
    return job


def _find(user: Any, key: str) -> Job | None:
    owned, owner = _owner_condition(user)
    # The last condition repeats that of the partial unique index, without which SQLite would not use the index.
    found = bulk.select_rows(
        Job, f"WHERE {owned} AND idempotency_key = %s AND NOT (idempotency_key = '')", [*owner, key]
    )
    return found[0] if found else None


def _clear_key(job: Job) -> None:
    """Take the key of a job that it does not stand for any more."""
    rows = Job.objects.using(database()).filter(id=job.id, idempotency_key=job.idempotency_key)
    rows.update(idempotency_key="", idempotency_hash="")


def store_key(job: Job, key: str, hash: str) -> None:
    """Store a key on a job that has none or an expired one.

    Raises ``django.db.IntegrityError`` if another job of its owner has it.
    """
    db = connection()
    now = database_now(is_estimate=True)
    time = partial(times.to_db, db=db)
    with db.cursor() as cursor:
        cursor.execute(
            "UPDATE notifications_job "
            "SET idempotency_key = %s, idempotency_hash = %s, idempotency_expires_at = %s "
            "WHERE id = %s AND (idempotency_key = '' OR idempotency_expires_at <= %s OR idempotency_expires_at > %s)",
            [
                *(key, hash, time(now + KEY_LIFETIME), Job._meta.pk.get_db_prep_value(job.id, db)),
                *(time(now), time(times.latest_possible(now, KEY_LIFETIME))),
            ],
        )


def _owner_condition(user: Any) -> tuple[str, list[Any]]:
    if user is None:
        return "user_id IS NULL", []
    return "user_id = %s", [Job._meta.get_field("user").get_db_prep_value(user, connection())]


def owner_key(owner: Any = None) -> Any:
    """Return the key of the owner of a job that is enqueued now, or None. ``owner`` is that of ``.using()``.

    Raises TypeError or ValueError.
    """
    for user in (owner, *context.owners()):
        if user is not None and not getattr(user, "is_anonymous", False):
            keys = user_keys_of(user)
            if len(keys) != 1:
                raise ValueError(f"The owner of a job is one user, not {len(keys)}: {user!r}.")
            if not isinstance(user, Model):
                log_unknown(user, keys)
            return keys[0]
    return None
