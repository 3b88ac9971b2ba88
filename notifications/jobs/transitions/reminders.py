"""Remind those who were asked a question that is still open.

A reminder is a new notification, which replaces the earlier one of its user: so it is toasted, counted as unseen and
delivered by the other channels like the first.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Sequence
from datetime import datetime, timedelta
from functools import partial
from typing import Any
from uuid import UUID

from notifications.db.clock import database_now, database_now_sql
from notifications.db.locks import lock_query
from notifications.db.transactions import database, fair_atomic
from notifications.jobs.addressees import find_addressees
from notifications.jobs.transitions.question_notifications import number, replace_notifications
from notifications.models import Job, Wait

logger = logging.getLogger("notifications.jobs")

#: Questions of which one call reminds, each in a transaction of its own, and those that it looks at.
MAX_QUESTIONS, MAX_QUESTIONS_READ = 100, 1_000


def due_condition() -> tuple[str, Sequence[Any]]:
    """Return SQL that is true if ``remind_of_due`` may find something, and its parameters."""
    now, param = database_now_sql()
    return f"EXISTS (SELECT 1 FROM notifications_wait WHERE ended_at IS NULL AND remind_at <= {now})", (
        param,
    )


def remind_of_due() -> bool:
    """Remind of open questions whose time for it has come. Returns whether there may be more.

    Those whose jobs other transactions hold locked are left to a later call, and hold up no others.
    """
    rows = Wait.objects.using(database()).filter(ended_at=None, remind_at__lte=database_now())
    due = list(rows.order_by("remind_at")[:MAX_QUESTIONS_READ])
    reminded = 0
    for wait in due:
        users = _find_users(wait)  # the project's code is not called in the transaction
        reminded += fair_atomic(partial(_remind, wait.id, users), more_follows=len(due) > 1)
        if reminded == MAX_QUESTIONS:
            return True
    return False


def next_time(wait: Wait, now: datetime) -> datetime | None:
    """Return when those who were asked a question are reminded after ``now``, None for never."""
    times = (
        wait.created_at + timedelta(seconds=seconds) for seconds in json.loads(wait.details).get("remind", ())
    )
    return next((time for time in times if time > now), None)


def _find_users(wait: Wait) -> list[Any]:
    """Return the keys of the active ones of those who were asked, or of staff; none if that cannot be told."""
    keys = json.loads(wait.details)["to"]
    try:
        return find_addressees(keys, None)
    except RuntimeError as exc:
        logger.warning("Could not remind of the question %s: %s", wait.id, exc)
    except Exception:  # of an authentication backend of the project
        logger.exception("Could not remind of the question %s", wait.id)
    return []


def _remind(id: UUID, users: Sequence[Any]) -> bool:
    """Remind of one question, unless it has ended or its job is locked. Returns whether it did."""
    rows = Wait.objects.using(database()).filter(id=id, ended_at=None)
    found = rows.values_list("job", flat=True).first()
    job = found and lock_query(Job.objects.using(database()).filter(id=found)).first()
    if not job:
        return False
    now = database_now()
    # Read after the lock: it may have ended, or another process may have reminded of it.
    wait = rows.filter(remind_at__lte=now).first()
    if wait is None:
        return False
    wait.remind_at = next_time(wait, now)
    asked = replace_notifications(wait, job, users) if users else set()
    wait.save(update_fields=["remind_at", "details"])
    number(asked)
    return True
