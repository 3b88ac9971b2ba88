"""Suspend running jobs, and queue them again when what they wait for has ended.

Both lock the row of the job first, whatever its state, and read and change its waits after that. With the wait locked
first, a wait that ends while its job is being suspended does not see the job wait, and the job does not see the end: it
would wait for ever.

Waits of a kind whose extension is not installed any more are not ended, because only it knows how their notifications
are closed. They go on when it is installed again.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Collection, Iterable, Iterator, Sequence
from datetime import datetime
from functools import partial
from typing import Any
from uuid import UUID

from notifications import streams, times
from notifications.db import bulk
from notifications.db.bulk import lock_query
from notifications.db.clock import database_now, database_now_sql
from notifications.db.keyset import read_ids
from notifications.db.transactions import chunks, database, fair_atomic, on_commit
from notifications.extension import RecordedTransaction, WaitKind, hooks
from notifications.jobs.claiming import candidates
from notifications.jobs.claiming.executors import executor_at
from notifications.jobs.notifying import insert_notifications, number, wake_workers
from notifications.jobs.outcomes import Outcome
from notifications.jobs.owed_calls import blaming, run_owing
from notifications.jobs.transitions.conditional_updates import conditional_update, ring_queued, store_own_act
from notifications.jobs.transitions.running import PROGRESS_COLUMNS, progress_of
from notifications.jobs.turns import assign_places
from notifications.models import Job, Wait
from notifications.states import DONE
from notifications.streams import building, marking

logger = logging.getLogger("notifications.jobs")

#: Waits that one transaction ends at most, and jobs that it queues again.
MAX_WAITS_PER_TRANSACTION = 100
#: Notifications of questions that one transaction closes, if it ends more than one.
MAX_NOTIFICATIONS_PER_TRANSACTION = 100
#: Waiting jobs that one chunk of the search for jobs without an open wait reads.
MAX_JOBS_PER_CHECK = 1_000


def suspend_jobs(group: Sequence[Outcome], now: datetime) -> set[Any]:
    """Suspend running jobs until their waits have ended, or queue them if these have ended already.

    Inside the transaction that records the outcomes and holds the rows locked. Returns the keys of the users who are
    asked, whose notifications it then numbers.
    """
    rows = Wait.objects.using(database()).filter(job__in=[outcome.job.id for outcome in group])
    stored = {(wait.job, wait.name): wait for wait in rows}
    inserted: list[Wait] = []
    awaited: list[UUID] = []
    for outcome in group:
        job, is_open = outcome.job, []
        for wait in outcome.waits:
            existing = stored.get((job.id, wait.name))
            if existing is None:
                wait.begin(now)
                inserted.append(wait)
                is_open.append(wait)
            elif existing.ended_at is None:
                awaited.append(existing.id)
                is_open.append(existing)
        job.state = Job.State.WAITING if is_open else Job.State.QUEUED
        job.waiting = _describe(is_open, job.user_id)
        # The attempt has ended by itself, so it is not what ends processes.
        job.executor = executor_at(job.task_path)
    bulk.insert_rows(inserted)
    asked = insert_notifications_of(inserted, [outcome.job for outcome in group], now)
    if awaited:
        Wait.objects.using(database()).filter(id__in=awaited).update(is_awaited=True)
    progress = ", ".join(f"{column}=%s" for column in PROGRESS_COLUMNS)
    changes = (
        f"executor=%s, worker=NULL, deadline=NULL, fail_if_unknown_after=NULL, version=version+1, {progress}"
    )
    suspended = [o.job for o in group if o.job.state == Job.State.WAITING]
    conditional_update(
        f"state='waiting', waiting=%s, {changes}",
        [((job.waiting, job.executor, *progress_of(job)), job) for job in suspended],
    )
    ready = [o.job for o in group if o.job.state == Job.State.QUEUED]
    assign_places(ready)
    conditional_update(
        f"state='queued', run_after=%s, share_name=%s, turn=%s, attempt=attempt-1, {changes}",
        [((now, job.share_name, job.turn, job.executor, *progress_of(job)), job) for job in ready],
    )
    # The next job of the same key or queue may begin now.
    has_limits = candidates.has_limited_jobs(outcome.job for outcome in group)
    streams.ring([outcome.job.user_id for outcome in group], queue=has_limits)
    ring_queued(ready)
    return asked


def insert_notifications_of(waits: Sequence[Wait], jobs: Iterable[Job], now: datetime) -> set[Any]:
    """Insert the notifications of new waits of these jobs, with what extensions add to them.

    Inside the transaction that stores the waits. Returns the keys of their users, whose rows it then numbers.
    """
    by_id = {job.id: job for job in jobs}
    users = set()
    for kind, of_kind in _by_kind(waits):
        if not (rows := list(kind.opened(of_kind, by_id))):
            continue
        tx = RecordedTransaction(now=now, jobs={row.id: by_id[row.job] for row in rows if row.job})
        with blaming() as blamed:
            blamed.hook = kind.opened
            building.prepare(rows)
            for chunk in chunks(rows):
                wake_workers(insert_notifications(chunk, tx))
        if tx.kept:
            on_commit(partial(hooks.call_after_commit, tx))
        users |= {row.user_id for row in rows}
    return users


def open_notifications(wait: Wait, job: Job) -> set[Any]:
    """Insert the notifications of an open wait that has none yet, inside a transaction that holds the job locked.

    Returns the keys of their users, whose rows it then numbers.
    """
    details = wait.details
    users = insert_notifications_of([wait], [job], database_now())
    if wait.details != details:
        wait.save(using=database(), update_fields=["details"])
    return users


def due_condition() -> tuple[str, Sequence[Any]]:
    """Return SQL that is true if ``find_due_waits`` finds something, and its parameters."""
    now, param = database_now_sql()
    kinds, params = _of_known_kinds()
    due = f"SELECT 1 FROM notifications_wait WHERE ended_at IS NULL AND due_at <= {now} AND {kinds}"
    return f"EXISTS ({due})", (param, *params)


def find_due_waits() -> Iterator[UUID]:
    """Yield the ids of waits whose time has come, those first whose time was first."""
    now, param = database_now_sql()
    kinds, params = _of_known_kinds()
    where = f"ended_at IS NULL AND due_at <= {now} AND {kinds}"
    yield from read_ids(Wait, where, [param, *params], "due_at")


def end_due_waits(ids: Collection[UUID]) -> list[UUID]:
    """End these waits whose time has come, and queue their jobs. Return those that are left to another transaction.

    Those whose jobs other transactions hold locked are left to a later search.
    """
    return run_owing(fair_atomic, partial(_end_due_waits, ids))


def end_waits(waits: Sequence[Wait], now: datetime, *, defer_numbering: bool = False) -> None:
    """Store the ends of open waits, and queue the jobs that wait for nothing else.

    ``waits`` have ``how`` and what belongs to it. The caller's transaction holds the rows of their jobs locked, and has
    read the waits since; this is its last act, unless ``defer_numbering``.
    """
    ended = []
    for wait in waits:
        wait.ended_at = now
        changed = (
            Wait.objects.using(database())
            .filter(id=wait.id, ended_at=None)
            .update(
                ended_at=now,
                how=wait.how,
                value=wait.value,
                ended_by=wait.ended_by_id,
                ended_with=wait.ended_with,
            )
        )
        if changed:
            ended.append(wait)
    update_waiting_jobs({wait.job for wait in ended}, now, acts=ended)
    (streams.number if defer_numbering else number)(close_notifications(ended, now))


def cancel_waits(jobs: Collection[UUID], now: datetime) -> set[Any]:
    """End the open waits of jobs that end. The caller's transaction holds the rows of the jobs locked.

    Returns the keys of the users whose notifications of questions it then numbers.
    """
    rows = Wait.objects.using(database()).filter(job__in=jobs, ended_at=None, kind__in=list(hooks.wait_kinds))
    waits = list(rows)
    rows.update(ended_at=now, how=Wait.How.CANCELLED)
    for wait in waits:
        wait.ended_at, wait.how = now, Wait.How.CANCELLED
    return close_notifications(waits, now)


def delete_waits(jobs: Collection[UUID], *, from_start: bool) -> None:
    """Delete the waits of jobs that are retried by hand, but for those whose ends the jobs go on from.

    The caller's transaction holds the rows of the jobs locked. ``from_start`` deletes all that have ended.
    """
    rows = Wait.objects.using(database()).filter(job__in=jobs, ended_at__isnull=False)
    if not from_start:
        rows = rows.filter(how__in=[Wait.How.CANCELLED, Wait.How.EXPIRED])
    rows.delete()


def find_jobs_without_wait() -> Iterator[UUID]:
    """Yield the ids of waiting jobs that have no open wait, which a defect has left."""
    for ids in chunks(read_ids(Job, "state = 'waiting'", (), "id"), MAX_JOBS_PER_CHECK):
        yield from sorted(set(ids) - _awaiting(ids))


def queue_jobs_without_wait(ids: Collection[UUID]) -> None:
    """Queue those of these waiting jobs that have no open wait, and log each."""
    for id in fair_atomic(lambda: _queue_without_wait(ids), more_follows=True):
        logger.error("Queued a waiting job that had nothing to wait for, which is a defect: job %s", id)


def find_left_jobs() -> Iterator[UUID]:
    """Yield the ids of jobs that have ended and have open waits.

    They are of kinds whose extension was not installed when the jobs ended, and is again.
    """
    open_waits = Wait.objects.using(database()).filter(ended_at=None)
    for kind in hooks.wait_kinds:
        for ids in chunks(
            read_ids(Wait, "ended_at IS NULL AND kind = %s", [kind], "created_at"), MAX_JOBS_PER_CHECK
        ):
            jobs = Job.objects.using(database()).filter(id__in=open_waits.filter(id__in=ids).values("job"))
            yield from jobs.filter(state__in=DONE).values_list("id", flat=True)


def cancel_left_waits(jobs: Collection[UUID]) -> None:
    """Cancel the open waits of those of these jobs that have ended."""

    def cancel() -> None:
        rows = Job.objects.using(database()).filter(id__in=jobs, state__in=DONE).order_by("id")
        number(cancel_waits([job.id for job in lock_query(rows.only("id"))], database_now()))

    run_owing(partial(fair_atomic, more_follows=True), cancel)


def _of_known_kinds() -> tuple[str, Sequence[Any]]:
    kinds = list(hooks.wait_kinds)
    return f"kind IN ({', '.join(['%s'] * len(kinds))})", kinds


def _end_due_waits(ids: Collection[UUID]) -> list[UUID]:
    rows = Wait.objects.using(database()).filter(id__in=ids, ended_at=None, due_at__lte=database_now())
    jobs = Job.objects.using(database()).filter(id__in=rows.values("job")).order_by("id")
    locked = [job.id for job in lock_query(jobs.only("id"))]
    # Read after the lock: others may have ended some meanwhile.
    waits = list(rows.filter(job__in=locked).order_by("due_at"))
    for wait in waits:
        wait.how = _kind_of(wait).ends_by_time
    ending, remaining = _bounded(waits)
    end_waits(ending, database_now())
    return [wait.id for wait in remaining]


def _bounded(waits: Sequence[Wait]) -> tuple[Sequence[Wait], Sequence[Wait]]:
    """Return the waits that one transaction ends, at least one, and the others, because of their notifications."""
    count = 0
    for index, wait in enumerate(waits):
        count += len(_kind_of(wait).notification_ids(wait))
        if count > MAX_NOTIFICATIONS_PER_TRANSACTION and index:
            return waits[:index], waits[index:]
    return waits, ()


def _queue_without_wait(ids: Collection[UUID]) -> list[UUID]:
    rows = Job.objects.using(database()).filter(id__in=ids).order_by("id")
    return update_waiting_jobs([job.id for job in lock_query(rows.only("id"))], database_now())


def update_waiting_jobs(ids: Collection[UUID], now: datetime, *, acts: Collection[Wait] = ()) -> list[UUID]:
    """Queue those of these locked jobs that wait for nothing, and return their ids. Others show what is left.

    ``acts``
        Waits of them that users have ended now.
    """
    jobs = list(Job.objects.using(database()).filter(id__in=ids, state=Job.State.WAITING).order_by("id"))
    open_waits: dict[UUID, list[Wait]] = {}
    rows = Wait.objects.using(database()).filter(job__in=[job.id for job in jobs], is_awaited=True)
    for wait in rows.filter(ended_at=None).order_by("id"):
        open_waits.setdefault(wait.job, []).append(wait)
    by_id = {job.id: job for job in jobs}
    for wait in acts:
        if (job := by_id.get(wait.job)) is None:
            store_own_act([wait.job], wait.ended_by_id, now)
        elif wait.ended_by_id is not None and job.user_id == wait.ended_by_id:
            job.owner_acted_at = now
    ready = [job for job in jobs if job.id not in open_waits]
    others = [job for job in jobs if job.id in open_waits]
    assign_places(ready)
    conditional_update(
        "state='queued', run_after=%s, share_name=%s, turn=%s, owner_acted_at=%s, attempt=attempt-1, waiting=NULL, "
        "version=version+1",
        [((now, job.share_name, job.turn, job.owner_acted_at), job) for job in ready],
        state="waiting",
    )
    conditional_update(
        "waiting=%s, owner_acted_at=%s, version=version+1",
        [((_describe(open_waits[job.id], job.user_id), job.owner_acted_at), job) for job in others],
        state="waiting",
    )
    streams.ring(job.user_id for job in others)
    ring_queued(ready)
    return [job.id for job in ready]


def _awaiting(jobs: Sequence[UUID]) -> set[UUID]:
    rows = Wait.objects.using(database()).filter(job__in=jobs, is_awaited=True, ended_at=None)
    return set(rows.values_list("job", flat=True))


def _describe(waits: Iterable[Wait], owner: Any) -> str | None:
    """Return what the item of the job says about the first of these waits that its owner may know, without links."""
    for wait in waits:
        if _kind_of(wait).is_shown_to(wait, owner):
            item = {
                "id": str(wait.id),
                "kind": str(wait.kind),
                "title": wait.title or wait.name,
                "expires_at": times.format_time(wait.due_at),
                "choices": json.loads(wait.details).get("choices") or None,
            }
            return json.dumps(item, ensure_ascii=False)
    return None


def close_notifications(waits: Sequence[Wait], now: datetime) -> set[Any]:
    """Close the notifications of waits, whose kinds may change others. Returns the keys of the users of these."""
    if not waits:
        return set()
    others = [id for wait in waits for id in _kind_of(wait).notification_ids(wait)]
    changed = marking.close([wait.id for wait in waits], now, others)
    return changed.union(*(kind.ended(of_kind) for kind, of_kind in _by_kind(waits)))


def _by_kind(waits: Sequence[Wait]) -> Iterable[tuple[WaitKind, list[Wait]]]:
    kinds = dict.fromkeys(map(_kind_of, waits))
    return [(kind, [wait for wait in waits if _kind_of(wait) is kind]) for kind in kinds]


def _kind_of(wait: Wait) -> WaitKind:
    return hooks.find_wait_kind(wait.kind)
