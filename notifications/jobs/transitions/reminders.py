"""Remind those who were asked a question that is still open.

A reminder is a new notification, which replaces the earlier one of its user: so it is toasted, counted as unseen and
delivered by the other channels like the first.

Authentication backends and managers of users find those who are asked, and may take seconds. So processes call
``remind_of_due`` and ``ask_staff`` on threads for code of the project.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any
from uuid import UUID

from django.db.models import Q

from notifications.db.clock import database_now, database_now_sql
from notifications.db.locks import lock_query
from notifications.db.transactions import database, fair_atomic
from notifications.jobs.addressees import find_addressees, read_active
from notifications.jobs.transitions.question_notifications import number, replace_notifications
from notifications.models import Job, Wait

logger = logging.getLogger("notifications.jobs")

#: Questions of which one call reminds, each in a transaction of its own, and those that it looks at.
MAX_QUESTIONS, MAX_QUESTIONS_READ = 100, 1_000
#: Open questions that one chunk of the search for those without an addressee reads, and where it goes on.
MAX_QUESTIONS_PER_CHECK = 100
Position = tuple[datetime, UUID]
FIRST_POSITION: Position = (datetime(1970, 1, 1, tzinfo=UTC), UUID(int=0))


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


def ask_staff(after: Position | None = None) -> Position | None:
    """Ask staff the open questions of which no addressee is active any more: users may leave while jobs wait.

    Reads a bounded number of open questions, the oldest first, after a position. Returns the position of the last of
    them, None if there are no more.
    """
    created_at, id = after or FIRST_POSITION
    rows = Wait.objects.using(database()).filter(kind=Wait.Kind.QUESTION, ended_at=None)
    is_later = Q(created_at__gt=created_at) | Q(id__gt=id)
    rows = rows.filter(is_later, created_at__gte=created_at)  # a range of the index
    waits = list(rows.order_by("created_at", "id")[:MAX_QUESTIONS_PER_CHECK])
    asked = {wait.id: json.loads(wait.details)["to"] for wait in waits}
    active = read_active({key for keys in asked.values() for key in keys})
    for wait in waits:
        if not active.isdisjoint(asked[wait.id]):
            continue
        if not (users := _find_users(wait)):
            return None  # there is no staff either, which is logged once
        if fair_atomic(partial(_remind, wait.id, users, details=wait.details), more_follows=True):
            logger.info("Asked staff a question whose addressees are gone: job %s", wait.job)
    return (waits[-1].created_at, waits[-1].id) if len(waits) == MAX_QUESTIONS_PER_CHECK else None


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


def _remind(id: UUID, users: Sequence[Any], *, details: str | None = None) -> bool:
    """Remind of one question, unless it has ended or its job is locked. Returns whether it did.

    ``details``
        Those of the question before ``users`` were searched for. If they have changed, it was asked meanwhile, and is
        left alone. None: remind only if the time of a reminder has come.
    """
    rows = Wait.objects.using(database()).filter(id=id, ended_at=None)
    found = rows.values_list("job", flat=True).first()
    job = found and lock_query(Job.objects.using(database()).filter(id=found)).first()
    now = database_now()
    # Read after the lock: it may have ended, or another process may have reminded of it.
    is_unchanged = Q(remind_at__lte=now) if details is None else Q(details=details)
    wait = job and rows.filter(is_unchanged).first()
    if not wait:
        return False
    wait.remind_at = next_time(wait, now)
    asked = replace_notifications(wait, job, users) if users else set()
    wait.save(update_fields=["remind_at", "details"])
    number(asked)
    return True
