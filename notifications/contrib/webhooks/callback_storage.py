"""Callbacks that jobs wait for: their rows, which are stored before their URLs are sent, and their ends.

The row of the job is locked first, as in ``waiting.py``.
"""

from __future__ import annotations

import hashlib
import hmac
import json
from datetime import timedelta
from typing import Any
from uuid import UUID

from django.utils.crypto import salted_hmac

from notifications.db import database, database_now, lock_query, retrying_atomic
from notifications.exceptions import AttemptEnded
from notifications.jobs import end_stored
from notifications.models import Job, Wait


def store_callback(job: Job, name: str, secret: str, lasts: timedelta | None) -> tuple[Wait, str]:
    """Store a callback of a running job, unless it exists. Returns its row, and the token of its URL.

    Raises ``AttemptEnded`` if the claim of the job is void.
    """

    def write() -> tuple[Wait, str]:
        claimed = Job.objects.using(database()).filter(
            id=job.id, fence=job.fence, worker=job.worker, state=Job.State.RUNNING
        )
        if lock_query(claimed.only("id"), skip_locked=False).first() is None:
            raise AttemptEnded
        now = database_now()
        wait = Wait.objects.using(database()).filter(job=job.id, name=name).first()
        if wait is None:
            wait = Wait(job=job.id, name=name, kind="callback", attempt=job.attempt, created_at=now)
            wait.due_at = now + lasts if lasts is not None else None
        token = make_token(wait.id)
        stored = json.loads(wait.details)
        # Another one after SECRET_KEY was replaced. The URL that was sent before goes on working.
        hashes = {*stored.get("hashes", []), _hash(token)}
        details = {"hashes": sorted(hashes), "secret": secret}
        if details != stored:
            wait.details = json.dumps(details)
            wait.save(using=database())
        return wait, token

    return retrying_atomic(write)


def make_token(id: UUID) -> str:
    """Return the token of a callback's URL: the same each time, so that no execution of the job needs another URL.

    Only ``SECRET_KEY`` makes it from the random id. The row has its hash.
    """
    return salted_hmac("notifications.callback", str(id), algorithm="sha256").hexdigest()


def find_callback(id: UUID, token: str) -> tuple[Wait, str] | None:
    """Return the callback whose URL has this id and token, and its secret; None if there is no such URL."""
    wait = Wait.objects.using(database()).filter(id=id, kind="callback").first()
    details: dict[str, Any] = json.loads(wait.details) if wait else {}
    given = _hash(token)
    # All are compared, whichever is the right one.
    is_known = [hmac.compare_digest(known, given) for known in details.get("hashes", [])]
    return (wait, details["secret"]) if wait and any(is_known) else None


def is_open(wait: Wait) -> bool:
    """Return whether a callback can be called: it has not ended, and its time is not over."""
    if wait.ended_at is not None:
        return False
    return wait.due_at is None or wait.due_at > database_now()  # the duty that ends it may come later


def end_callback(found: Wait, value: str) -> bool:
    """Store what a callback has brought, and queue its job if it waits for nothing else. False if it is not open.

    ``value``
        JSON.
    """
    rows = Wait.objects.using(database()).filter(id=found.id)
    return end_stored(found.job, rows, how="called_back", value=value)[1]


def _hash(token: str) -> str:
    return hashlib.sha256(token.encode(errors="replace")).hexdigest()
