"""Why queued and scheduled jobs wait: the one place that says so, for commands, pages, metrics, alerts and logs."""

from __future__ import annotations

import enum
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any
from uuid import UUID

from django.utils import translation
from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from notifications.db.clock import database_now
from notifications.jobs.claiming.backlog import QueueDepth, QueueDepths
from notifications.jobs.claiming.queues import paused_queues
from notifications.jobs.claiming.unserved import find_unserved_queues, has_waited
from notifications.models import Job


class WaitReason(enum.StrEnum):
    """Why a queued job waits; the value is a key of JSON. The first one that applies counts."""

    PAUSED = "paused"
    NO_WORKER = "no_worker"
    SCHEDULED = "scheduled"
    LIMITED = "limited"
    #: Others begin before it, or its key or queue is at its limit of running jobs.
    IN_TURN = "in_turn"


def why_jobs_wait(jobs: Sequence[Any]) -> dict[UUID, WaitReason]:
    """Return why each of these jobs waits that is queued, by id, in a few queries for all of them."""
    queued = [job for job in jobs if job.state == Job.State.QUEUED]
    if not queued:
        return {}
    now, paused = database_now(), set(paused_queues())
    old = [job for job in queued if job.queue_name not in paused and has_waited(job, now)]
    unserved = find_unserved_queues() if old else set()

    def reason(job: Any) -> WaitReason:
        if job.queue_name in paused:
            return WaitReason.PAUSED
        if (job.backend, job.queue_name) in unserved and has_waited(job, now):
            return WaitReason.NO_WORKER
        if job.waits_for_limit:
            return WaitReason.LIMITED
        return WaitReason.IN_TURN if job.due_at is None else WaitReason.SCHEDULED

    return {job.pk: reason(job) for job in queued}


class WaitCounts(dict[str, int]):
    """How many jobs wait for each reason that one waits for, by the values of ``WaitReason``, as JSON has them."""

    @classmethod
    def of(cls, depths: Iterable[QueueDepth]) -> WaitCounts:
        """Return the numbers of the jobs of these queues."""
        counts = Counter[str]()
        for depth in depths:
            if depth.is_paused:
                counts[WaitReason.PAUSED.value] += depth.total
            else:
                counts[WaitReason.IN_TURN.value] += depth.due - depth.unserved
                counts[WaitReason.NO_WORKER.value] += depth.unserved
                counts[WaitReason.LIMITED.value] += depth.limited
                counts[WaitReason.SCHEDULED.value] += depth.delayed
        return cls(+counts)

    def describe(self) -> str:
        """Return in the active language how many wait, and why: "81 jobs waiting, 78 for a limit, 3 scheduled"."""
        total = sum(self.values())
        text = ngettext("%(count)d job waiting", "%(count)d jobs waiting", total) % {"count": total}
        return ", ".join([text, *self.list_reasons()])

    def list_reasons(self) -> list[str]:
        """Return in the active language how many wait for each reason but their turn: "78 for a limit"."""
        texts = (
            (WaitReason.NO_WORKER, _("%(count)d for a worker")),
            (WaitReason.LIMITED, _("%(count)d for a limit")),
            (WaitReason.SCHEDULED, _("%(count)d scheduled")),
            (WaitReason.PAUSED, _("%(count)d in paused queues")),
        )
        return [text % {"count": self[reason]} for reason, text in texts if self.get(reason)]


def describe_depths(found: QueueDepths) -> str:
    """Return in English, for commands, how many jobs of these queues wait, and why."""
    is_capped = any(depth.is_capped or depth.is_delayed_capped for depth in found.queues)
    with translation.override("en"):
        text = WaitCounts.of(found.queues).describe()
    return f"at least {text}" if found.is_cut or is_capped else text
