"""Remind those who are asked an open question, and keep up to date who they are.

A reminder is a new notification, which replaces the earlier one of its user: so it is toasted, counted as unseen and
delivered by the other channels like the first.

Authentication backends and managers of users find those who are asked, and may take seconds. So processes call
``remind_of_due`` and ``update_addressees`` on threads for code of the project.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Collection, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from functools import cache, partial
from typing import Any
from uuid import UUID

from django.db import Error
from django.db.models import Q

from notifications.contrib.questions.addressees import (
    MAX_ADDRESSEES,
    NoAddressee,
    find_addressees,
    may_answer,
    read_user,
)
from notifications.contrib.questions.models import AskedQuestion
from notifications.contrib.questions.question_notifications import change_addressees, close_left_notifications
from notifications.db import database, database_now, database_now_sql, fair_atomic, lock_query
from notifications.extension import Duty, Upkeep, left_to_later
from notifications.inbox import active_users
from notifications.jobs.notifying import number, prepare_hooks
from notifications.jobs.transitions.waiting import update_waiting_jobs
from notifications.models import Job

logger = logging.getLogger("notifications.jobs")

#: Seconds between two searches for users who may answer open questions by now, or may not any more.
CHECK_INTERVAL_SECONDS = 300.0
#: Seconds between two searches for notifications of questions that have ended otherwise.
PRUNE_INTERVAL_SECONDS = 3600.0
#: Until when a reminder is put off while it is not known who is asked: a directory of the project may be away.
UNKNOWN_RETRY = timedelta(minutes=1)
#: Questions of which one call reminds, each in a transaction of its own, and those that it looks at.
MAX_QUESTIONS, MAX_QUESTIONS_READ = 100, 1_000
#: Open questions whose addressees one chunk of ``update_addressees`` searches for, and where it goes on.
MAX_QUESTIONS_PER_CHECK = 100
Position = tuple[datetime, UUID]
FIRST_POSITION: Position = (datetime(1970, 1, 1, tzinfo=UTC), UUID(int=0))


def make_duties(process: Upkeep) -> list[Duty]:
    """See ``Extension.duties()``."""
    start, position = process.project_threads.start, None

    def update_chunk() -> bool:
        nonlocal position
        position = update_addressees(position)
        return position is not None

    return [
        Duty(
            "remind of open questions",
            0,
            lambda: start(remind_of_due, "Could not remind of open questions"),
            is_for_each_process=True,
            condition=due_condition,
        ),
        Duty(
            "update who is asked open questions",
            CHECK_INTERVAL_SECONDS,
            lambda: start(update_chunk, "Could not update who is asked open questions"),
        ),
        # At the start too, because the app may be installed again.
        Duty(
            "close questions without a wait",
            PRUNE_INTERVAL_SECONDS,
            lambda: process.run_chunks(partial(fair_atomic, close_left_notifications)),
            at_start=True,
        ),
    ]


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
    rows = AskedQuestion.objects.using(database()).filter(ended_at=None, remind_at__lte=database_now())
    due = list(rows.order_by("remind_at")[:MAX_QUESTIONS_READ])
    reminded = 0
    prepare_hooks()
    for wait in due:
        users = _find_users(wait)  # the project's code is not called in the transaction
        with left_to_later("remind of a question"):
            reminded += fair_atomic(partial(_change, wait.id, users), more_follows=len(due) > 1)
        if reminded == MAX_QUESTIONS:
            return True
    return False


def update_addressees(after: Position | None = None) -> Position | None:
    """Ask open questions of those who may answer them by now, and close the notifications of those who may not.

    While a job waits, users come into a group or lose a permission. If nobody is left, staff are asked. Reads a bounded
    number of open questions, the oldest first, after a position. Returns the position of the last of them, None if
    there are no more.
    """
    created_at, id = after or FIRST_POSITION
    rows = AskedQuestion.objects.using(database()).filter(ended_at=None)
    is_later = Q(created_at__gt=created_at) | Q(id__gt=id)
    rows = rows.filter(is_later, created_at__gte=created_at)  # a range of the index
    waits = list(rows.order_by("created_at", "id")[:MAX_QUESTIONS_PER_CHECK])
    # Most questions ask their owners: these users are read at once.
    active = _read_active({key for wait in waits for key in wait.addressees.get("users", ())})

    @cache
    def find(asked: str) -> list[Any]:
        return find_addressees(json.loads(asked))

    prepare_hooks()
    for wait in waits:
        current = set(json.loads(wait.details)["to"])
        if current and current == active & set(wait.addressees.get("users", ())):
            continue
        users = _find_users(wait, lambda asked: find(json.dumps(asked)))
        if users is None or current == set(map(str, users)):
            continue
        with left_to_later("change who is asked a question"):
            if fair_atomic(partial(_change, wait.id, users, details=wait.details), more_follows=True):
                logger.info("Changed who is asked an open question: job %s", wait.job)
    return (waits[-1].created_at, waits[-1].id) if len(waits) == MAX_QUESTIONS_PER_CHECK else None


def _find_users(
    wait: AskedQuestion, find: Callable[[Mapping[str, Any]], list[Any]] = find_addressees
) -> list[Any] | None:
    """Return the keys of those who are asked a question from now on, None if that is not known.

    Those who are asked and may answer stay. Others are added up to ``MAX_ADDRESSEES``.
    """
    asked, current = wait.addressees, json.loads(wait.details)["to"]
    try:
        try:
            found = {str(key): key for key in find(asked)}
        except NoAddressee as exc:
            found = {}
            if current:
                logger.warning("No one can answer the question %s of job %s: %s", wait.id, wait.job, exc)
        kept = {}
        for key in current:
            if key in found:
                kept[key] = found[key]
            elif (user := read_user(key)) is not None and may_answer(asked, user):
                kept[key] = user.pk
    except Exception as exc:  # of an authentication backend of the project
        # A directory or a database that is away has one line in each round, and no traceback.
        trace = None if isinstance(exc, Error | OSError) else exc
        text = "Could not find who may answer the question %s of job %s: %s"
        logger.error(text, wait.id, wait.job, " ".join(str(exc).split()), exc_info=trace)
        return None
    return list({**kept, **found}.values())[:MAX_ADDRESSEES]


def _change(id: UUID, users: Sequence[Any] | None, *, details: str | None = None) -> bool:
    """Ask one question of these users (keys), unless it has ended or its job is locked. Returns whether it did.

    ``users``
        None: they are not known now, and the reminder comes later.
    ``details``
        Those of the question before ``users`` were searched for. If they have changed, so have its addressees, and it
        is left alone. None: this is a reminder, if its time has come.
    """
    rows = AskedQuestion.objects.using(database()).filter(id=id, ended_at=None)
    found = rows.values_list("job", flat=True).first()
    job = found and lock_query(Job.objects.using(database()).filter(id=found)).first()
    now = database_now()
    # Read after the lock: it may have ended, or another process may have changed it.
    is_unchanged = Q(remind_at__lte=now) if details is None else Q(details=details)
    wait = job and rows.filter(is_unchanged).first()
    if not wait:
        return False
    changed: set[Any] = set()
    if users is None:
        wait.remind_at = now + UNKNOWN_RETRY
    else:
        changed = change_addressees(wait, job, users, now, is_reminder=details is None)
        wait.remind_at = wait.next_reminder(now)
    wait.save(update_fields=["remind_at", "details"])
    update_waiting_jobs([wait.job], now)  # its owner may be one of them
    number(changed)
    return True


def _read_active(keys: Collection[str]) -> set[str]:
    """Return those of these keys of users, as strings, whose users exist and are active."""
    users = active_users(keys=list(keys))
    return {str(key) for key in users.values_list("pk", flat=True)}
