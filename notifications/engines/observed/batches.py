"""The batches of Celery's groups: open while the group is published, and run again for a job that comes later.

Also jobs that run again: those that have failed by a guess.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

from django.db.models import Count

from notifications import streams
from notifications.db.clock import database_now
from notifications.db.locks import lock_query
from notifications.db.transactions import database, retrying_atomic
from notifications.jobs import outcomes
from notifications.jobs.transitions import batch_completion, finishing
from notifications.jobs.transitions.batch_completion import BATCH
from notifications.jobs.transitions.conditional_updates import conditional_update
from notifications.models import Job
from notifications.states import DONE, REOPENABLE

logger = logging.getLogger("notifications.jobs")

#: Batches whose progress one round compares with their jobs.
MAX_BATCHES_PER_ROUND = 100


def extend(id: UUID, open_until: datetime) -> None:
    """Keep a batch open until a time, after which it ends although its publisher has not closed it."""

    def write() -> None:
        rows = [job for job in _lock(id) if job.state == Job.State.RUNNING]
        conditional_update("open_until=%s", [((open_until,), job) for job in rows])

    retrying_atomic(write)


def close(id: UUID, *, count: int, total: int, title: str, url: str = "") -> None:
    """Let a batch end when its jobs are done, and end it if they are.

    ``count`` is how many jobs were published, ``total`` how many there will be if all succeed. A batch that has ended
    with fewer jobs, because its publisher was frozen for too long, runs again until all are done.
    """

    def write() -> None:
        rows = list(_lock(id))
        for job in rows:
            if job.state in REOPENABLE and (job.progress_total or 0) < count:
                _reopen(job)
        running = [job for job in rows if job.state == Job.State.RUNNING]
        conditional_update(
            "open_until=NULL, progress_total=%s, title=%s, url=%s, version=version+1",
            [((total, title, url or job.url), job) for job in running],
        )
        streams.ring(job.user_id for job in running)

    retrying_atomic(write)
    finishing.finish_batches([id])


def reopen_in_transaction(id: UUID) -> None:
    """Have a batch run again that has ended before one of its jobs was inserted. Inside a transaction."""
    for job in _lock(id):
        if job.state in REOPENABLE:
            _reopen(job)
            streams.ring([job.user_id])


def requeue_guesses(jobs: Sequence[Job]) -> None:
    """Queue jobs again that have failed by a guess, because their real ends are known. Changes them as their rows.

    Inside a transaction that holds the rows locked. Their batches run again. The fence is raised, so that the next end
    is no first one: its notification archives that of the guess.
    """
    conditional_update(
        "state='queued', seq=0, version=version+1, fence=fence+1, worker=NULL, run_after=NULL, "
        "result=NULL, error=NULL, finished_at=NULL",
        [((), job) for job in jobs],
        state="failed",
    )
    for job in jobs:
        logger.warning("Corrected a guess: job %s, %s", job.id, outcomes.error_type(job.error))
        job.state, job.seq, job.worker, job.run_after, job.error = Job.State.QUEUED, 0, None, None, None
        job.finished_at, job.fence, job.version = None, job.fence + 1, job.version + 1
    for batch in sorted({job.batch for job in jobs if job.batch}):
        reopen_in_transaction(batch)


def store_progress() -> None:
    """Store the progress of batches of which more jobs are done than their rows say.

    A process stores the progress of a batch once in a while as its jobs end, so that which follows the last of them
    soon after the one before is not stored. The main processes of Celery's workers call this every few seconds.
    """
    batches = (
        batch_completion.running_batches().filter(executor=Job.Executor.OBSERVED).order_by("worker", "id")
    )
    stored = dict(batches.values_list("id", "progress_current")[:MAX_BATCHES_PER_ROUND])
    if not stored:
        return
    jobs = Job.objects.using(database()).filter(batch__in=list(stored))
    ended = jobs.filter(state__in=DONE).order_by().values("batch")
    counts = dict(ended.annotate(jobs=Count("id")).values_list("batch", "jobs"))
    finishing.finish_batches(id for id, count in counts.items() if count > (stored[id] or 0))


def _lock(id: UUID) -> Any:
    return lock_query(
        Job.objects.using(database()).filter(id=id, task_path=BATCH, executor=Job.Executor.OBSERVED),
        skip_locked=False,
    )


def _reopen(job: Job) -> None:
    now = database_now()
    conditional_update(
        "state='running', seq=0, version=version+1, fence=fence+1, attempt=attempt+1, max_attempts=attempt+1, "
        "queued_at=%s, started_at=%s, open_until=NULL, result=NULL, error=NULL, finished_at=NULL, "
        "progress_current=0, progress_message=''",
        [((now, now), job)],
        state=job.state,
    )
    job.state, job.fence = Job.State.RUNNING, job.fence + 1
