"""Hand over jobs of the lane "isolated": one of them may have ended the process that ran them all.

A process of an engine claims one of them at a time (``jobs/worker/handed_jobs.py``), so that a job that ends processes
reaches its last attempt without taking the others along. Which process gets an id is decided by the engine. So no more
ids are handed over than there are processes, and an id that came to a process with another suspect is sent again soon.
"""

from __future__ import annotations

from collections import Counter
from datetime import datetime, timedelta

from django.db.models import Q

from notifications.db.transactions import database, retrying_atomic
from notifications.jobs.claiming import candidates
from notifications.jobs.claiming.concurrency import RunningLimits
from notifications.jobs.claiming.lanes import ISOLATED
from notifications.jobs.claiming.queues import queue_limits
from notifications.jobs.transitions.guards import database_now, guarded_update
from notifications.models import Job, Worker

#: Isolated jobs that are looked at in one transaction.
MAX_JOBS_PER_TRANSACTION = 50
#: Seconds until an id is sent again that no process has claimed, and one that came to a process with another suspect.
RESEND_SECONDS, REFUSED_RESEND_SECONDS = 10.0, 1.0


def hand_over_isolated_jobs() -> list[Job]:
    """Return isolated jobs to be sent to their engines: the first ones, and those whose ids no process has claimed."""
    claimable = candidates.claimable_queues((), (ISOLATED,))
    if not claimable:
        return []

    def write() -> list[Job]:
        now = database_now()
        lanes = {ISOLATED: MAX_JOBS_PER_TRANSACTION}
        limits = RunningLimits(queue_limits(), lanes)
        jobs = candidates.lock_jobs(now, MAX_JOBS_PER_TRANSACTION, claimable, Q(), lanes, limits)
        max_handed = max(_count_processes(now), 1)
        handed: Counter[str] = Counter()
        sent = []
        for job in jobs:
            handed[job.backend] += 1
            if handed[job.backend] <= max_handed and (job.hand_over_at is None or job.hand_over_at <= now):
                sent.append(job)
        guarded_update(
            "hand_over_at=%s, handed_over_at=%s, handovers=handovers+1",
            [((now + timedelta(seconds=RESEND_SECONDS), now), job) for job in sent],
            state="queued",
        )
        return sent

    return retrying_atomic(write)


def _count_processes(now: datetime) -> int:
    """Return how many processes of engines live."""
    rows = Worker.objects.using(database())
    return rows.filter(queues__startswith="engine:", lease_until__gte=now).count()
