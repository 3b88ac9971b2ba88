"""Jobs with a key: asked for again within a day, the same one is meant."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from datetime import timedelta
from hashlib import sha256
from typing import Any

from django.db import IntegrityError, transaction
from django.db.models import Q
from django.utils import timezone

from notifications.bounds import KEY
from notifications.exceptions import KeyReused
from notifications.models import Job
from notifications.transactions import connection, database, ours

#: How long a key is kept.
KEPT = timedelta(hours=24)
#: Times that an insertion is tried which others come before.
TRIES = 3

_VISIBLE = re.compile(rf"[\x21-\x7e]{{1,{KEY}}}")


def key_of(value: Any) -> str:
    """Return a key that may be used; ``""`` for None. Raises TypeError or ValueError."""
    if value is None:
        return ""
    if not isinstance(value, str):
        raise TypeError(f"key must be a string, not {type(value).__name__}.")
    if not _VISIBLE.fullmatch(value):
        raise ValueError(
            f"key is {value[:100]!r}. It must be 1 to {KEY} visible ASCII characters, without spaces."
        )
    return value


def hash_of(path: str, args: Any, kwargs: Mapping[str, Any]) -> str:
    """Return what tells calls of tasks apart: a hash of the task and its arguments, which are JSON."""
    return sha256(json.dumps([path, args, kwargs], sort_keys=True).encode()).hexdigest()


def insert_once(job: Job, insert: Callable[[], Job]) -> Job:
    """Insert a job, or return the one of the same owner that has its key.

    Raises ``KeyReused`` if that is another task, or has other arguments.
    """
    job.idempotency_expires_at = timezone.now() + KEPT
    db = connection()

    def look_and_insert() -> Job:
        there = holder(job.user_id, job.idempotency_key)
        if there is not None and there.idempotency_hash != job.idempotency_hash:
            raise KeyReused(job.idempotency_key)
        return there or insert()

    for tries_left in reversed(range(TRIES)):
        try:
            if not db.in_atomic_block:
                return ours(look_and_insert)
            with transaction.atomic(using=db.alias):  # the caller's transaction outlives a violation
                return look_and_insert()
        except IntegrityError:  # somebody else was quicker: theirs is there now
            if not tries_left:
                raise
    raise AssertionError("unreachable")


def holder(user: Any, key: str) -> Job | None:
    """Return the job of a user (key) that has a key. One that has expired is free from now on."""
    rows = Job.objects.using(database()).filter(user=user, idempotency_key=key)
    # In the words of the index, or SQLite would not take it.
    rows = rows.extra(where=["NOT (idempotency_key = '')"])
    there = rows.first()
    if there is None:
        return None
    if there.idempotency_expires_at is None or there.idempotency_expires_at <= timezone.now():
        rows.filter(id=there.id).update(idempotency_key="", idempotency_hash="")
        return None
    return there


def give_key(job: Job, key: str, hash: str) -> None:
    """Store a key on a job that has none. Raises ``django.db.IntegrityError`` where another job of its owner has it."""
    now = timezone.now()
    rows = Job.objects.using(database()).filter(id=job.id)
    rows.filter(Q(idempotency_key="") | Q(idempotency_expires_at__lte=now)).update(
        idempotency_key=key, idempotency_hash=hash, idempotency_expires_at=now + KEPT
    )
