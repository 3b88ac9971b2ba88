"""Times that were stored while a clock was wrong: ``doctor`` names them, and ``doctor --repair`` replaces them.

A stored time before which something does not happen, or at which it last happened, is at most its longest interval
ahead. One that lies beyond was stored while a clock was fast, and stops what it gates until that time: a retry does not
begin, an alert is not evaluated.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Any, NamedTuple

from django.db.models import Case, Exists, F, OuterRef, Q, Value, When

from notifications import times
from notifications.conf import settings
from notifications.db.clock import MAX_LEASES, StoredTime, database_now
from notifications.db.transactions import MAX_ROWS_PER_TRANSACTION, database
from notifications.extension import hooks
from notifications.jobs.results import loaded_policy_at
from notifications.jobs.transitions.claims import DEADLINE_MARGIN_SECONDS
from notifications.jobs.transitions.queueing import REQUEUE_DELAY_SECONDS
from notifications.models import (
    Attempt,
    Job,
    Notification,
    ServerProcess,
    Wait,
    Worker,
)
from notifications.streams.snoozing import MAX_SNOOZE

#: How long a job may run at most: so many timeouts, but not less than this: processes of two deployments
#: may have different settings.
MAX_TIMEOUTS, MIN_LONGEST_RUN = 10, timedelta(days=7)


class WrongTime(NamedTuple):
    """A stored time that is impossible: of which row and field."""

    row: Any
    field: str
    moment: datetime

    def __str__(self) -> str:
        return f"{self.row._meta.verbose_name} {self.row.pk}: {self.field} is {self.moment:%Y-%m-%d %H:%M:%S} UTC"


def stored_times(now: datetime) -> tuple[StoredTime, ...]:
    """Return the fields that gate something, except those of which the reader itself finds that they are impossible.

    ``now`` is the database's time. By a clock of this machine that is fast a new time would be impossible again.
    """
    moment = Value(now, output_field=times.MomentField())
    lease = MAX_LEASES * timedelta(seconds=settings.LEASE)
    queued = Q(state=Job.State.QUEUED)
    return (
        StoredTime(model=Worker, name="lease_until", longest=lease),
        StoredTime(model=ServerProcess, name="lease_until", longest=timedelta(minutes=10)),
        # A project may enqueue a job for any time, and staff may choose any. What a worker whose clock was fast has
        # stored is the time of its claim or of its attempt, plus a delay.
        # A job whose task could not be imported is due again within seconds. When it fails stays as far from that.
        StoredTime(
            model=Job,
            name="run_after",
            rows=queued & Q(fail_if_unknown_after__isnull=False) & ~Q(executor=Job.Executor.OBSERVED),
            longest=timedelta(seconds=REQUEUE_DELAY_SECONDS),
            changes={"fail_if_unknown_after": moment + (F("fail_if_unknown_after") - F("run_after"))},
        ),
        StoredTime(
            model=Job,
            name="run_after",
            rows=queued
            & Q(fence__gt=0)
            & ~Q(executor=Job.Executor.OBSERVED)
            & _was_claimed_by_fast_clock(now),
        ),
        *(each for hook in hooks.stored_times for each in hook(now)),
        StoredTime(model=Notification, name="snoozed_until", longest=MAX_SNOOZE),
        # Enqueued by a fast clock. Only the project knows whether the time of the job was meant.
        StoredTime(
            model=Job,
            name="run_after",
            rows=queued & Q(fence=0, created_at__gt=times.latest_possible(now)),
            can_repair=False,
        ),
        *(
            StoredTime(
                model=Job, name="deadline", rows=rows, longest=longest, changes={"deadline": moment + longest}
            )
            for rows, longest in _running_tasks()
        ),
        # A wait lasts as long as its task says, from when it was stored, and so do the times of reminders.
        *(
            StoredTime(
                model=Wait,
                name="created_at",
                rows=Q(ended_at=None, kind=kind),
                changes=_moved_waits(moment),
            )
            for kind in hooks.wait_kinds
        ),
        # What has ended would never be deleted. It is shown to its user, so it gets a number as any change does.
        StoredTime(
            model=Job,
            name="finished_at",
            changes={
                "seq": Case(When(user=None, then=Value(0)), default=None),
                "version": F("version") + 1,
            },
        ),
        StoredTime(model=Notification, name="archived_at", changes={"seq": None}),
    )


def _was_claimed_by_fast_clock(now: datetime) -> Q:
    """Return the condition that the latest attempt at a job began or ended in the future."""
    latest = times.latest_possible(now)
    ended = Attempt.objects.filter(job=OuterRef("pk"), number=OuterRef("attempt"), ended_at__gt=latest)
    return Q(started_at__gt=latest) | Q(Exists(ended))


def _moved_waits(moment: Value) -> dict[str, Any]:
    moved = {name: moment + (F(name) - F("created_at")) for name in ("due_at", "remind_at")}
    return {"created_at": moment} | moved


def _running_tasks() -> Iterator[tuple[Q, timedelta]]:
    """Yield a condition for the running jobs of each task that this process has imported, and how long they may run.

    Importing a module may take seconds. Another process may have one with a longer timeout, which is not to be cut.
    """
    rows = Job.objects.using(database()).filter(
        state=Job.State.RUNNING, worker__isnull=False, deadline__isnull=False
    )
    running = Q(state=Job.State.RUNNING, worker__isnull=False)
    for path in rows.values_list("task_path", flat=True).distinct():
        if policy := loaded_policy_at(path):
            seconds = MAX_TIMEOUTS * (policy.timeout + DEADLINE_MARGIN_SECONDS)
            yield running & Q(task_path=path), max(timedelta(seconds=seconds), MIN_LONGEST_RUN)


def find_wrong_times() -> Iterator[WrongTime]:
    """Yield the stored times that are impossible, a bounded number of each kind."""
    now = database_now()
    for stored in stored_times(now):
        # In any order: for that of the keys SQLite would read all jobs.
        for row in stored.find(now).order_by()[:MAX_ROWS_PER_TRANSACTION]:
            yield WrongTime(row, stored.name, getattr(row, stored.name))


def repair_wrong_times() -> Iterator[tuple[str, int]]:
    """Replace stored times that are impossible. Yields each field of which some were replaced, and of how many rows."""
    now = database_now()
    for stored in stored_times(now):
        if stored.can_repair and (count := stored.repair(now)):
            yield f"{stored.model._meta.verbose_name}: {stored.name}", count
