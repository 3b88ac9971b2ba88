"""How the jobs of schedules ended: record it, and notify the owner or group of a problem once, and of its end.

A problem begins with a run that failed or was missed, and ends with the next one that succeeds. Notifications are
created in transactions of their own, because they call receivers of the project, which must not delay ticks.
"""

from __future__ import annotations

import json
import logging
from collections import defaultdict
from collections.abc import Iterable
from datetime import datetime
from typing import Any
from uuid import UUID

from django.db.transaction import TransactionManagementError
from django.utils.formats import date_format
from django.utils.timezone import template_localtime
from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from notifications import paths, validators
from notifications.db.transactions import database, retrying_atomic
from notifications.jobs.notifying import notify
from notifications.jobs.schedules.declarations import ScheduleDeclaration
from notifications.jobs.schedules.users import find_notified_users
from notifications.jobs.transitions.guards import database_now, lock_query
from notifications.models import Job, Schedule, Tick
from notifications.streams.inbox import create_notifications

logger = logging.getLogger("notifications.jobs")

#: Runs of one schedule that are active at most, with ``"overlap": "allow"``.
MAX_ACTIVE_RUNS = 100
#: Active runs of all schedules that one round reads at most.
MAX_READ_RUNS = 1_000
MAX_ANNOUNCEMENT_LENGTH = 500

ACTIVE_STATES = (Job.State.QUEUED, Job.State.RUNNING)
#: The state of a run whose job does not exist any more.
DELETED = "deleted"
RECOVERED = "recovered"
FAILED, MISSED = "failed", "missed"  # of Schedule.Problem
LEVELS = {FAILED: "error", MISSED: "warning", RECOVERED: "success"}


def open_ticks(schedules: Iterable[str]) -> Any:
    """Return a query of the ticks of schedules whose jobs are active, as far as recorded."""
    return Tick.objects.using(database()).filter(
        schedule_id__in=list(schedules), outcome="enqueued", job_state=""
    )


def count_active(schedule: str) -> int:
    """Return how many jobs of a schedule are queued or running."""
    jobs = open_ticks([schedule]).values_list("job", flat=True)[: MAX_ACTIVE_RUNS * 2]
    active = Job.objects.using(database()).filter(pk__in=list(jobs), state__in=ACTIVE_STATES)
    return active.count()


def record_ends(schedules: Iterable[Schedule]) -> None:
    """Record which jobs of these schedules have ended, and which problems began or ended with them."""
    names = {row.problem_job: row.name for row in schedules if row.problem_job}
    ticks = open_ticks([row.name for row in schedules]).order_by("schedule_id", "id")
    open = list(ticks.values_list("id", "schedule_id", "job")[:MAX_READ_RUNS])
    if not open and not names:
        return
    ids = [job for _, _, job in open] + list(names)
    rows = Job.objects.using(database()).filter(pk__in=ids).values_list("id", "state", "error")
    jobs = {id: (state, error) for id, state, error in rows}
    ended: dict[str, list[tuple[int | None, UUID]]] = defaultdict(list)
    for tick, schedule, job in open:
        if jobs.get(job, (DELETED, None))[0] not in ACTIVE_STATES:
            ended[schedule].append((tick, job))
    for job, schedule in names.items():
        if jobs.get(job, ("", None))[0] == Job.State.SUCCEEDED:  # after a retry by hand
            ended[schedule].append((None, job))
    for schedule, runs in ended.items():
        _record_ends_of(schedule, [(tick, job, *jobs.get(job, (DELETED, None))) for tick, job in runs])


def _record_ends_of(schedule: str, runs: list[tuple[int | None, UUID, str, str | None]]) -> None:
    now = database_now()

    def write() -> None:
        # Another process that holds the row does the same, or enqueues; then the next round records the ends.
        row = lock_query(Schedule.objects.using(database()).filter(name=schedule)).first()
        if row is None:
            return
        ticks = Tick.objects.using(database()).filter(schedule_id=schedule)
        for tick, job, state, error in runs:
            if tick is None:
                if row.problem_job != job:
                    continue
                newest = ticks.filter(job_state=Job.State.FAILED, job=job).order_by("-due_at").first()
                ticks.filter(id=newest and newest.id).update(job_state=state)
            elif not ticks.filter(id=tick, job_state="").update(job_state=state):
                continue
            if state == Job.State.FAILED:
                note_failure(row, job, _detail(error), now)
            elif state == Job.State.SUCCEEDED:
                note_success(row)
        row.save(using=database())

    retrying_atomic(write)


def note_failure(row: Schedule, job: UUID | None, text: str, now: datetime) -> None:
    """Note that a run has failed, or that its job could not be enqueued. The caller holds the row and saves it."""
    if row.problem != FAILED:
        row.problem, row.problem_since = FAILED, row.problem_since or now
        _announce(row, FAILED, text or _("Its job could not be enqueued."))
    row.problem_job = job


def note_missed(row: Schedule, count: int, last: datetime, now: datetime) -> None:
    """Note that runs were missed. The caller holds the row and saves it."""
    if row.problem:
        return
    row.problem, row.problem_since = MISSED, now
    text = ngettext(
        "%(count)d run was missed, due %(when)s.",
        "%(count)d runs were missed, the last one due %(when)s.",
        count,
    )
    when = date_format(template_localtime(last), "DATETIME_FORMAT")
    _announce(row, MISSED, text % {"count": count, "when": when})


def note_success(row: Schedule) -> None:
    """Note that a run has succeeded, which ends a problem. The caller holds the row and saves it."""
    if not row.problem:
        return
    row.problem, row.problem_since, row.problem_job = "", None, None
    # A problem of which no user was notified yet needs no end.
    was_announced = not row.announcement
    _announce(
        row, RECOVERED if was_announced else "", _("The last run has succeeded.") if was_announced else ""
    )


def _announce(row: Schedule, announcement: str, text: str) -> None:
    row.announcement = announcement
    row.announcement_text = validators.shortened(text, MAX_ANNOUNCEMENT_LENGTH)


def send_announcement(row: Schedule, declaration: ScheduleDeclaration) -> None:
    """Notify the owner or group of a schedule of what was noted."""
    users = find_notified_users(declaration)
    name, announcement = row.name, row.announcement
    title = {
        FAILED: _("%(schedule)s has failed"),
        MISSED: _("%(schedule)s was not run"),
        RECOVERED: _("%(schedule)s runs again"),
    }[announcement] % {"schedule": name}
    fields = {
        "body": row.announcement_text,
        "level": LEVELS[announcement],
        "category": "schedule",
        "key": f"schedule:{name}",
        # The page of a job is for its owner.
        "url": paths.job_page(row.problem_job) if declaration.owner and row.problem_job else "",
    }

    def write(create: Any) -> None:
        rows = Schedule.objects.using(database()).filter(name=name, announcement=announcement)
        locked = lock_query(rows).first()
        if locked is None:
            return
        rows.update(announcement="", announcement_text="")
        if users:
            create(users, title, **fields)

    try:
        retrying_atomic(lambda: write(notify))
    except TransactionManagementError:
        logger.exception("Recorded without receivers of notification_recording: schedule %s", name)
        retrying_atomic(lambda: write(create_notifications))


def _detail(error: str | None) -> str:
    try:
        return str(json.loads(error or "{}").get("detail", ""))
    except (ValueError, AttributeError, RecursionError):
        return ""
