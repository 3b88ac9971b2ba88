"""Jobs that wait in vain: no worker is alive, or none that takes their queue."""

from __future__ import annotations

import logging
from datetime import timedelta
from typing import Any

from django.db.models import Q

from notifications.db.transactions import database
from notifications.jobs.claiming import candidates
from notifications.jobs.transitions.guards import database_now
from notifications.models import Job, Worker

logger = logging.getLogger("notifications.jobs")

#: Seconds that a job may wait before anybody is told.
WAIT_SECONDS = 10.0

_is_warned = False


def unserved() -> Any:
    """Return a query of the jobs that are due for over ``WAIT_SECONDS`` seconds and that no live worker takes."""
    now = database_now()
    jobs = Job.objects.using(database())
    live = Worker.objects.using(database()).filter(lease_until__gte=now).values_list("queues", flat=True)
    served = {name for queues in live for name in queues.split(",")}
    if "" in served:  # a worker of all queues
        return jobs.none()
    # Their names first: where there are none, what waits in the others is not read, however much it is. Full queues are
    # among them: what runs there may be a lost worker's.
    if not (names := candidates.waiting().keys() - served):
        return jobs.none()
    ago = now - timedelta(seconds=WAIT_SECONDS)
    late = Q(run_after=None) | Q(run_after__lt=ago)
    return jobs.filter(late, state=Job.State.QUEUED, queued_at__lt=ago, queue_name__in=names)


def warn() -> None:
    """Log one warning when jobs begin to wait in vain, and no other one before that was over."""
    global _is_warned
    job = _first()
    if job and not _is_warned:
        logger.warning(
            "Job %s of queue %s waits for over %g s, and no worker that takes it is alive. "
            "Start one: manage.py run_jobs.",
            job.pk,
            job.queue_name,
            WAIT_SECONDS,
        )
    _is_warned = job is not None


def _first() -> Job | None:
    # Each part in the order of its index: for any other SQLite would read the whole table.
    jobs = unserved().only("queue_name")
    ready = jobs.filter(run_after=None).order_by("lane", "-priority", "id")
    later = jobs.filter(run_after__isnull=False).order_by("run_after", "id")
    return ready.first() or later.first()
