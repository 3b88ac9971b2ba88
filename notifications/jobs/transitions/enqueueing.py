"""Insert new jobs: each with its owner, and once for a key.

The owner of a job is the user who may see it and is notified of its end: see ``context.py`` for who that is. A key that
the same owner enqueues again within ``KEY_LIFETIME`` stands for the same job.
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

from notifications import context, streams, times
from notifications.db import bulk
from notifications.db.adapters import user_keys_of
from notifications.db.transactions import (
    connection,
    database,
    in_callers_transaction,
    retrying,
    retrying_atomic,
)
from notifications.exceptions import IdempotencyKeyConflict
from notifications.jobs import limits
from notifications.models import Job
from notifications.validators import MAX_KEY_LENGTH

KEY_LIFETIME_HOURS = 24
KEY_LIFETIME = timedelta(hours=KEY_LIFETIME_HOURS)
#: How often an insertion is tried that violates the unique constraint of keys.
MAX_INSERT_TRIES = 3

KEY_PATTERN = re.compile(rf"[\x21-\x7e]{{1,{MAX_KEY_LENGTH}}}")


def enqueue(job: Job) -> Job:
    """Insert a queued job in the caller's transaction, and ring after its commit.

    Returns the job, or the existing one with the same idempotency key. Raises ``TooManyJobs`` and
    ``IdempotencyKeyConflict``.
    """
    job.created_at = job.queued_at = times.now()
    db = connection()

    def insert() -> Job:
        streams.expect_own_jobs([job])
        limits.insert_within_limit(job)
        streams.ring_new_jobs([job])
        return job

    if job.idempotency_key:
        return insert_once(job, insert)
    # It is one statement, which needs no transaction.
    return insert() if db.vendor == "postgresql" or in_callers_transaction(db) else retrying(insert)


def validated_key(value: Any) -> str:
    """Return a key that is valid, ``""`` for None. Raises TypeError or ValueError."""
    if value is None:
        return ""
    if not isinstance(value, str):
        raise TypeError(f"key must be a string, not {type(value).__name__}.")
    if not KEY_PATTERN.fullmatch(value):
        raise ValueError(
            f"key is {value[:100]!r}. It must be 1 to {MAX_KEY_LENGTH} visible ASCII characters, without spaces."
        )
    return value


def call_hash(path: str, args: Any, kwargs: Mapping[str, Any]) -> str:
    """Return a hash of a task's path and its arguments, which are JSON."""
    return sha256(json.dumps([path, args, kwargs], sort_keys=True).encode()).hexdigest()


def insert_once(job: Job, insert: Callable[[], Job]) -> Job:
    """Insert a job, or return the job of the same owner that has its key.

    Raises ``IdempotencyKeyConflict`` if that job has another task or other arguments.
    """
    job.idempotency_expires_at = times.now() + KEY_LIFETIME
    db = connection()

    def find_or_insert() -> Job:
        existing = job_with_key(job.user_id, job.idempotency_key)
        if existing is not None and existing.idempotency_hash != job.idempotency_hash:
            raise IdempotencyKeyConflict(job.idempotency_key)
        return existing or insert()

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


def job_with_key(user: Any, key: str) -> Job | None:
    """Return the job of a user (key) that has an idempotency key. An expired key is cleared first."""
    owned, owner = _owner_condition(user)
    # The last condition repeats that of the partial unique index, without which SQLite would not use the index.
    found = bulk.select(
        Job, f"WHERE {owned} AND idempotency_key = %s AND NOT (idempotency_key = '')", [*owner, key]
    )
    if not found:
        return None
    [job] = found
    now, expires_at = times.now(), job.idempotency_expires_at
    if expires_at is None or not now < expires_at <= times.latest_possible(now, KEY_LIFETIME):
        rows = Job.objects.using(database()).filter(id=job.id, idempotency_key=key)
        rows.update(idempotency_key="", idempotency_hash="")
        return None
    return job


def store_key(job: Job, key: str, hash: str) -> None:
    """Store a key on a job that has none or an expired one.

    Raises ``django.db.IntegrityError`` if another job of its owner has it.
    """
    db = connection()
    now = times.now()
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
            return keys[0]
    return None
