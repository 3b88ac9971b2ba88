"""Dispatch the jobs of the app's own senders: webhooks, push messages, e-mails.

Their servers may not answer. So a few ids for each process of the engine are dispatched at a time, and the ids of the
project's jobs do not wait behind thousands of them in the broker.
"""

from __future__ import annotations

from collections.abc import Collection

from django.db.models import Q

from notifications.contrib.engines.dispatching import count_processes, mark_sent
from notifications.db.clock import database_now
from notifications.db.transactions import database, retrying_atomic
from notifications.jobs.claiming import candidates
from notifications.jobs.claiming.candidates import RunningLimits
from notifications.jobs.claiming.executors import ENGINE_SENDER
from notifications.jobs.claiming.queues import queue_limits
from notifications.models import Job

#: Ids that each process of an engine has at a time.
MAX_PER_PROCESS = 8
#: Seconds after which an id that no process has claimed is dispatched again, at most: it keeps others from their turn.
MAX_INTERVAL_SECONDS = 60.0


def dispatch_sender_jobs(unreachable: Collection[str] = ()) -> list[Job]:
    """Return jobs of senders to be sent to their engine: the first ones, and those whose ids no process has claimed.

    Of the backends in ``unreachable``, whose engines did not answer this process, one job is sent in an interval.
    """
    claimable = candidates.claimable_queues((), (ENGINE_SENDER,))
    if not claimable:
        return []
    rows = Job.objects.using(database()).filter(worker__isnull=False, executor=ENGINE_SENDER)

    def write() -> list[Job]:
        now = database_now()
        running = rows.filter(state=Job.State.RUNNING).order_by("worker", "id").count()
        free = {ENGINE_SENDER: MAX_PER_PROCESS * max(count_processes(now), 1) - running}
        if free[ENGINE_SENDER] <= 0:
            return []
        limits = RunningLimits(queue_limits(), free)
        jobs = candidates.lock_jobs(now, free[ENGINE_SENDER], claimable, Q(), free, limits)
        due = [job for job in jobs if job.next_dispatch_at is None or job.next_dispatch_at <= now]
        tried = [next((job for job in due if job.backend == alias), None) for alias in unreachable]
        sent = [job for job in due if job.backend not in unreachable or job in tried]
        mark_sent(sent, now, most=MAX_INTERVAL_SECONDS)
        return sent

    return retrying_atomic(write)
