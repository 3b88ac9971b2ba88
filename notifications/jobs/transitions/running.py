"""Changes of running jobs that leave them running: deadlines and progress."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Any
from uuid import UUID

from notifications import streams
from notifications.db.clock import database_now
from notifications.db.transactions import database, retrying_atomic
from notifications.jobs.transitions.claims import DEADLINE_MARGIN_SECONDS
from notifications.jobs.transitions.conditional_updates import conditional_update
from notifications.models import Job

PROGRESS_COLUMNS = ("progress_current", "progress_total", "progress_message")


def read_claims(worker: UUID) -> list[Job]:
    """Return the running jobs of a worker, with the columns on which their changes are conditional."""
    running = Job.objects.using(database()).filter(worker=worker, state=Job.State.RUNNING)
    return list(running.only("id", "fence", "state", "worker", "executor", "user"))


def extend_deadlines(jobs: Sequence[Job], timeouts: Mapping[str, float]) -> None:
    """Count the deadlines of claimed jobs from now.

    For jobs whose timeout became known only after the claim, and for jobs that still wait for a thread. ``timeouts``
    are the seconds that tasks may take, by their dotted paths.
    """
    now = database_now()
    rows = [
        ((now + timedelta(seconds=timeouts[job.task_path] + DEADLINE_MARGIN_SECONDS),), job) for job in jobs
    ]
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


def progress_of(job: Job) -> tuple[Any, ...]:
    """Return the values of ``PROGRESS_COLUMNS``."""
    return (job.progress_current, job.progress_total, job.progress_message)
