"""Jobs with a key: asked for again within a day, the same one is meant."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from datetime import timedelta
from functools import partial
from hashlib import sha256
from typing import Any

from django.db import IntegrityError, transaction

from notifications import times
from notifications.db import bulk
from notifications.db.transactions import connection, database, in_callers_transaction, retrying_atomic
from notifications.exceptions import IdempotencyKeyConflict
from notifications.models import Job
from notifications.validators import KEY

#: How long a key is kept.
KEY_LIFETIME = timedelta(hours=24)
#: Times that an insertion is tried which others come before.
MAX_TRIES = 3

#: What a key may be.
VISIBLE = re.compile(rf"[\x21-\x7e]{{1,{KEY}}}")


def key_of(value: Any) -> str:
    """Return a key that may be used; ``""`` for None. Raises TypeError or ValueError."""
    if value is None:
        return ""
    if not isinstance(value, str):
        raise TypeError(f"key must be a string, not {type(value).__name__}.")
    if not VISIBLE.fullmatch(value):
        raise ValueError(
            f"key is {value[:100]!r}. It must be 1 to {KEY} visible ASCII characters, without spaces."
        )
    return value


def hash_of(path: str, args: Any, kwargs: Mapping[str, Any]) -> str:
    """Return what tells calls of tasks apart: a hash of the task and its arguments, which are JSON."""
    return sha256(json.dumps([path, args, kwargs], sort_keys=True).encode()).hexdigest()


def insert_once(job: Job, insert: Callable[[], Job]) -> Job:
    """Insert a job, or return the one of the same owner that has its key.

    Raises ``IdempotencyKeyConflict`` if that is another task, or has other arguments.
    """
    job.idempotency_expires_at = times.now() + KEY_LIFETIME
    db = connection()

    def look_and_insert() -> Job:
        there = holder(job.user_id, job.idempotency_key)
        if there is not None and there.idempotency_hash != job.idempotency_hash:
            raise IdempotencyKeyConflict(job.idempotency_key)
        return there or insert()

    for tries_left in reversed(range(MAX_TRIES)):
        try:
            if not in_callers_transaction(db):
                return retrying_atomic(look_and_insert)
            with transaction.atomic(using=db.alias):  # the caller's transaction outlives a violation
                return look_and_insert()
        except IntegrityError:  # somebody else was quicker: theirs is there now
            if not tries_left:
                raise
    raise AssertionError("unreachable")


def holder(user: Any, key: str) -> Job | None:
    """Return the job of a user (key) that has a key. One that has expired is free from now on."""
    whose, owner = _whose(user)
    # The last condition is in the words of the index, or SQLite would not take it.
    found = bulk.select(
        Job, f"WHERE {whose} AND idempotency_key = %s AND NOT (idempotency_key = '')", [*owner, key]
    )
    if not found:
        return None
    [there] = found
    if there.idempotency_expires_at is None or there.idempotency_expires_at <= times.now():
        rows = Job.objects.using(database()).filter(id=there.id, idempotency_key=key)
        rows.update(idempotency_key="", idempotency_hash="")
        return None
    return there


def give_key(job: Job, key: str, hash: str) -> None:
    """Store a key on a job that has none. Raises ``django.db.IntegrityError`` where another job of its owner has it."""
    db = connection()
    now = times.now()
    time = partial(times.to_db, db=db)
    with db.cursor() as cursor:
        cursor.execute(
            "UPDATE notifications_job "
            "SET idempotency_key = %s, idempotency_hash = %s, idempotency_expires_at = %s "
            "WHERE id = %s AND (idempotency_key = '' OR idempotency_expires_at <= %s)",
            [key, hash, time(now + KEY_LIFETIME), Job._meta.pk.get_db_prep_value(job.id, db), time(now)],
        )


def _whose(user: Any) -> tuple[str, list[Any]]:
    if user is None:
        return "user_id IS NULL", []
    return "user_id = %s", [Job._meta.get_field("user").get_db_prep_value(user, connection())]
