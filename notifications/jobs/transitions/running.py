"""What is read and stored of jobs while they run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from uuid import UUID

from notifications import streams
from notifications.db.clock import database_now
from notifications.db.transactions import database, retrying_atomic
from notifications.jobs.transitions.claimed_jobs import progress_of
from notifications.jobs.transitions.claims import deadline_after
from notifications.jobs.transitions.conditional_updates import conditional_update
from notifications.models import Job


def read_claims(worker: UUID) -> list[Job]:
    """Return the running jobs of a worker, with the columns that ``queueing.release()`` needs."""
    running = Job.objects.using(database()).filter(worker=worker, state=Job.State.RUNNING)
    columns = ("id", "fence", "state", "worker", "executor", "user", "task_path", "expires_at")
    return list(running.only(*columns, "backend", "queue_name"))


def cancellations_requested(worker: UUID) -> list[tuple[UUID, int, bool]]:
    """Return id, fence and ``cancelled_by_other`` of the running jobs of a worker that are to be cancelled."""
    running = Job.objects.using(database()).filter(worker=worker, state=Job.State.RUNNING)
    requested = running.filter(cancel_requested_at__isnull=False)
    return list(requested.values_list("id", "fence", "cancelled_by_other"))


def extend_deadlines(jobs: Sequence[Job], timeouts: Mapping[str, float | None]) -> None:
    """Count the deadlines of claimed jobs from now.

    For jobs whose timeout became known only after the claim, and for jobs that still wait for a thread. ``timeouts``
    are the seconds that tasks may take, None for no limit, by their dotted paths.
    """
    now = database_now()
    rows = [((deadline_after(now, timeouts[job.task_path]),), job) for job in jobs]
    retrying_atomic(lambda: conditional_update("deadline=%s", rows))


def store_progress(jobs: Sequence[Job]) -> None:
    """Store the progress of running jobs, and ring for their owners."""

    def write() -> None:
        conditional_update(
            "progress_current=%s, progress_total=%s, progress_message=%s, version=version+1",
            [(progress_of(job), job) for job in jobs],
        )
        streams.ring(job.user_id for job in jobs)

    retrying_atomic(write)
