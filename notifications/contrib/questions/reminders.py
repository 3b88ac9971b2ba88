"""Remind those who are asked an open question, and keep up to date who they are.

A reminder is a new notification, which replaces the earlier one of its user: so it is toasted, counted as unseen and
delivered by the other channels like the first.

Authentication backends and managers of users find those who are asked, and may take seconds. So processes do that on
threads for code of the project.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from functools import cache, partial
from typing import Any
from uuid import UUID

from django.db.models import Q

from notifications.contrib.questions.addressees import (
    MAX_ADDRESSEES,
    NoAddressee,
    find_addressees,
    may_answer,
    read_user,
)
from notifications.contrib.questions.models import AskedQuestion
from notifications.contrib.questions.question_notifications import (
    MAX_CLOSED_AT_ONCE,
    change_addressees,
    close_left_notifications,
    find_left_notifications,
)
from notifications.db import database, database_now, database_now_sql, fair_atomic, lock_query, read_ids
from notifications.extension import Duty, Subjects, Upkeep
from notifications.inbox import active_users
from notifications.jobs.notifying import number
from notifications.jobs.owed_calls import run_owing
from notifications.jobs.transitions.waiting import update_waiting_jobs
from notifications.models import Job

logger = logging.getLogger("notifications.jobs")

#: Seconds between two searches for users who may answer open questions by now, or may not any more.
CHECK_INTERVAL_SECONDS = 300.0
#: Seconds between two searches for notifications of questions that have ended otherwise.
PRUNE_INTERVAL_SECONDS = 3600.0
#: Open questions whose addressees one call of ``update_addressees`` searches for.
MAX_QUESTIONS_PER_CHECK = 100


def make_duties(process: Upkeep) -> list[Duty]:
    """See ``Extension.duties()``."""
    return [
        Duty(
            "remind of open questions",
            0,
            lambda ids: remind(*ids),
            is_for_each_process=True,
            condition=due_condition,
            subjects=Subjects(find_due, calls_project=True),
        ),
        Duty(
            "update who is asked open questions",
            CHECK_INTERVAL_SECONDS,
            update_addressees,
            subjects=Subjects(find_open, MAX_QUESTIONS_PER_CHECK, calls_project=True),
        ),
        # At the start too, because the app may be installed again.
        Duty(
            "close questions without a wait",
            PRUNE_INTERVAL_SECONDS,
            close_left_notifications,
            at_start=True,
            subjects=Subjects(find_left_notifications, MAX_CLOSED_AT_ONCE),
        ),
    ]


def due_condition() -> tuple[str, Sequence[Any]]:
    """Return SQL that is true if ``find_due`` finds something, and its parameters."""
    now, param = database_now_sql()
    return f"EXISTS (SELECT 1 FROM notifications_wait WHERE ended_at IS NULL AND remind_at <= {now})", (
        param,
    )


def find_due() -> Iterator[UUID]:
    """Yield the ids of open questions of which it is time to remind, those first whose time was first."""
    now, param = database_now_sql()
    where = f"ended_at IS NULL AND remind_at <= {now} AND kind = 'question'"
    yield from read_ids(AskedQuestion, where, [param], "remind_at")


def remind(id: UUID) -> None:
    """Remind of an open question, unless another transaction holds its job locked.

    Raises what code of the project raises that finds those who are asked, such as while a directory is away.
    """
    wait = AskedQuestion.objects.using(database()).filter(id=id, ended_at=None).first()
    if wait is None:
        return
    users = _find_users(wait)  # the project's code is not called in the transaction
    run_owing(partial(fair_atomic, more_follows=True), partial(_change, id, users))


def remind_of_due() -> None:
    """Remind of open questions whose time for it has come."""
    for id in find_due():
        remind(id)


def find_open() -> Iterator[UUID]:
    """Yield the ids of open questions, the oldest first."""
    yield from read_ids(AskedQuestion, "ended_at IS NULL AND kind = 'question'", (), "created_at")


def update_addressees(ids: Sequence[UUID]) -> None:
    """Ask open questions of those who may answer them by now, and close the notifications of those who may not.

    While a job waits, users come into a group or lose a permission. If nobody is left, staff are asked.
    """
    rows = AskedQuestion.objects.using(database()).filter(id__in=ids, ended_at=None)
    waits = list(rows.order_by("created_at", "id"))
    # Most questions ask their owners: these users are read at once.
    active = _read_active({key for wait in waits for key in wait.addressees.get("users", ())})

    @cache
    def find(asked: str) -> list[Any]:
        return find_addressees(json.loads(asked))

    for wait in waits:
        current = set(json.loads(wait.details)["to"])
        if current and current == active & set(wait.addressees.get("users", ())):
            continue
        users = _find_users(wait, lambda asked: find(json.dumps(asked)))
        if current == set(map(str, users)):
            continue
        run = partial(fair_atomic, more_follows=True)
        if run_owing(run, partial(_change, wait.id, users, details=wait.details)):
            logger.info("Changed who is asked an open question: job %s", wait.job)


def _find_users(
    wait: AskedQuestion, find: Callable[[Mapping[str, Any]], list[Any]] = find_addressees
) -> list[Any]:
    """Return the keys of those who are asked a question from now on.

    Those who are asked and may answer stay. Others are added up to ``MAX_ADDRESSEES``.
    """
    asked, current = wait.addressees, json.loads(wait.details)["to"]
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
    return list({**kept, **found}.values())[:MAX_ADDRESSEES]


def _change(id: UUID, users: Sequence[Any], *, details: str | None = None) -> bool:
    """Ask one question of these users (keys), unless it has ended or its job is locked. Returns whether it did.

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
