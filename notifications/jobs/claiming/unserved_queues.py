"""Jobs that wait although they are due, because no live worker takes their queue."""

from __future__ import annotations

import logging
from datetime import timedelta
from typing import Any

from django.db.models import Q

from notifications.db.clock import database_now
from notifications.db.transactions import database
from notifications.jobs.claiming import candidates
from notifications.jobs.claiming.candidates import MIN_WAIT_SECONDS
from notifications.jobs.claiming.executors import WORKER_EXECUTORS
from notifications.models import Job, Worker

logger = logging.getLogger("notifications.jobs")

_has_warned = False


def unserved_jobs() -> Any:
    """Return a queryset of the jobs, due for over ``MIN_WAIT_SECONDS``, whose queue no live worker takes."""
    now = database_now()
    jobs = Job.objects.using(database())
    live = claiming_workers().filter(lease_until__gte=now, request="").values_list("queues", flat=True)
    served = {name for queues in live for name in queues.split(",")}
    if "" in served:  # A worker that takes all queues.
        return jobs.none()
    # First the names of queues with due jobs, by index lookups: usually all are served and no backlog is read. Queues
    # at their limits are included, because the jobs that run there may be those of a lost worker.
    if not (names := candidates.due_queues().keys() - served):
        return jobs.none()
    latest = now - timedelta(seconds=MIN_WAIT_SECONDS)
    due = Q(run_after=None) | Q(run_after__lt=latest)
    return jobs.filter(
        due, state=Job.State.QUEUED, executor__in=WORKER_EXECUTORS, queued_at__lt=latest, queue_name__in=names
    )


def claiming_workers() -> Any:
    """Return a queryset of the workers that claim jobs; those that only observe tasks have a concurrency of 0."""
    return Worker.objects.using(database()).filter(concurrency__gt=0)


def warn_of_unserved_jobs() -> None:
    """Log one warning when there are unserved jobs, and the next one only after there were none."""
    global _has_warned
    job = _first_unserved_job()
    if job and not _has_warned:
        logger.warning(
            "No live worker takes queue %s: job %s has waited for over %g s. Start a worker: manage.py run_jobs.",
            job.queue_name,
            job.pk,
            MIN_WAIT_SECONDS,
        )
    _has_warned = job is not None


def _first_unserved_job() -> Job | None:
    # Two queries, each in the order of its index. For another order SQLite would read the whole table.
    jobs = unserved_jobs().only("queue_name")
    ready = jobs.filter(run_after=None).order_by("executor", "-priority", "id")
    delayed = jobs.filter(run_after__isnull=False).order_by("run_after", "id")
    found: Job | None = ready.first() or delayed.first()
    return found
