"""Why queued jobs wait: the one place that says so, for commands, pages and logs."""

from __future__ import annotations

import enum
from collections.abc import Sequence
from typing import Any
from uuid import UUID

from notifications.db.transactions import database
from notifications.extension import hooks
from notifications.jobs.claiming.backlog import QueueDepths, unserved_jobs
from notifications.jobs.claiming.queues import paused_queues
from notifications.models import Job


class WaitReason(enum.StrEnum):
    """Why a queued job waits; the value is a key of JSON. The first one that applies counts."""

    PAUSED = "paused"
    SCHEDULED = "scheduled"
    LIMITED = "limited"
    NO_WORKER = "no_worker"
    #: Others begin before it, or its key or queue is at its limit of running jobs.
    IN_TURN = "in_turn"


def why_jobs_wait(jobs: Sequence[Any]) -> dict[UUID, WaitReason]:
    """Return why each of these jobs waits that is queued, by id, in a few queries for all of them."""
    queued = [job for job in jobs if job.state == Job.State.QUEUED]
    if not queued:
        return {}
    paused = set(paused_queues())
    ids = [job.pk for job in queued]
    unserved = {
        pk
        for rows in (unserved_jobs(), hooks.dispatch.unserved_jobs(Job.objects.using(database())))
        for pk in rows.filter(pk__in=ids).values_list("pk", flat=True)
    }

    def reason(job: Any) -> WaitReason:
        if job.queue_name in paused:
            return WaitReason.PAUSED
        if job.pk in unserved:
            return WaitReason.NO_WORKER
        if job.waits_for_limit:
            return WaitReason.LIMITED
        return WaitReason.IN_TURN if job.due_at is None else WaitReason.SCHEDULED

    return {job.pk: reason(job) for job in queued}


def describe_depths(found: QueueDepths) -> str:
    """Return in words how many jobs of these queues wait, and why: "0 jobs waiting, 78 for a limit, 3 scheduled"."""
    depths = found.queues
    at_least = "at least " if found.is_cut or any(depth.is_capped for depth in depths) else ""
    text = f"{at_least}{sum(depth.due for depth in depths if not depth.is_paused)} jobs waiting"
    for count, reason in (
        (sum(depth.due for depth in depths if depth.is_paused), "in paused queues"),
        (sum(depth.limited for depth in depths), "for a limit"),
        (sum(depth.delayed for depth in depths), "scheduled"),
    ):
        text += f", {count} {reason}" if count else ""
    return text
