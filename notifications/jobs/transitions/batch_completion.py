"""When a batch is done, and how far it is: from the states of its jobs, by whoever finished some of them.

Whoever looks does so after the commit of the jobs that he finished. So of two who finish the last ones, the later one
sees both, and if both do, the guard of the batch's row lets one of them end it: nobody waits for a lock.
"""

from __future__ import annotations

import json
import logging
import math
import time
from collections import Counter
from collections.abc import Iterable
from typing import Any
from uuid import UUID

from django.db.models import Count, Exists, OuterRef
from django.utils import translation
from django.utils.module_loading import import_string
from django.utils.translation import ngettext

from notifications import streams
from notifications.db.transactions import database, retrying_atomic
from notifications.jobs.policies import Policy
from notifications.jobs.transitions import outcomes
from notifications.jobs.transitions.guards import guarded_update, locked
from notifications.jobs.transitions.outcomes import Outcome
from notifications.models import Job

logger = logging.getLogger("notifications.jobs")

#: The task of all batches.
BATCH = "notifications.jobs.batches.batch"
ACTIVE = (Job.State.QUEUED, Job.State.RUNNING)
#: Seconds between two reports of how far a batch is, by one process.
REPORT = 0.5
#: Batches of which this is remembered.
REMEMBERED = 1_000

#: When this process reported last how far a batch is, and those that have moved since.
_reported: dict[UUID, float] = {}
_moved: set[UUID] = set()


def ended(batches: Iterable[UUID]) -> list[Outcome]:
    """Return the outcomes of those of these batches that have no active job any more; report how far others are."""
    over = []
    for id in set(batches):
        if Job.objects.using(database()).filter(batch=id, state__in=ACTIVE).exists():
            _report(id)
        else:
            over.append(id)
            _forget(id)
    counted = [(job, _counts(job.id)) for job in running().filter(id__in=over)] if over else []
    # A job that somebody has had tried again since is neither done well nor badly: its end settles the batch.
    return [_told(job, counts) for job, counts in counted if not any(counts[state] for state in ACTIVE)]


def left() -> set[UUID]:
    """Return the batches that nobody ended, and those that have moved since this process reported on them."""
    active = Job.objects.using(database()).filter(batch=OuterRef("id"), state__in=ACTIVE)
    over = running().filter(~Exists(active))
    return {*over.values_list("id", flat=True), *_moved}


def inside(batches: Iterable[UUID]) -> set[UUID]:
    """Return these batches and the ones inside them that are not done."""
    found = new = set(batches)
    while new:
        new = set(running().filter(batch__in=new).values_list("id", flat=True)) - found
        found = found | new
    return found


def is_batch(job: Job) -> bool:
    return job.task_path == BATCH


def running() -> Any:
    """The batches that are not done: what runs without a worker."""
    return Job.objects.using(database()).filter(state=Job.State.RUNNING, worker__isnull=True)


def _report(id: UUID) -> None:
    now = time.monotonic()
    if now - _reported.get(id, -math.inf) < REPORT:
        _moved.add(id)
        return
    if len(_reported) >= REMEMBERED:
        _reported.clear()  # other processes ended some of them
    _reported[id] = now
    _moved.discard(id)
    counts = _counts(id)
    done = sum(counts[state] for state in counts if state not in ACTIVE)

    def write() -> None:
        # Of two who report at a time the one who counted less may come later.
        rows = [job for job in locked(running().filter(id=id)) if (job.progress_current or 0) < done]
        guarded_update(
            "progress_current=%s, progress_message=%s, version=version+1",
            [((done, _words(job, counts)), job) for job in rows],
        )
        streams.ring(job.user_id for job in rows)

    retrying_atomic(write)


def _forget(id: UUID) -> None:
    _reported.pop(id, None)
    _moved.discard(id)


def _counts(id: UUID) -> Counter[Any]:
    states = (
        Job.objects.using(database()).filter(batch=id).order_by().values("state").annotate(jobs=Count("id"))
    )
    return Counter({row["state"]: row["jobs"] for row in states})


def _words(job: Job, counts: Counter[Any]) -> str:
    failed = counts[Job.State.FAILED]
    if not failed:
        return ""
    with translation.override(job.language or None):
        return ngettext("%(count)d failed", "%(count)d failed", failed) % {"count": failed}


def _told(job: Job, counts: Counter[Any]) -> Outcome:
    try:
        return _outcome(job, counts)
    except BaseException:  # of the host's words: the other batches must not wait for this one
        logger.exception("The outcome of batch %s cannot be told.", job.id)
        return outcomes.fallback(job)


def _outcome(job: Job, counts: Counter[Any]) -> Outcome:
    policy = _policy(job)
    job.progress_current, job.progress_message = job.progress_total, ""
    if job.cancel_requested_at and counts[Job.State.CANCELLED]:
        return outcomes.cancelled(job, policy)
    return outcomes.of_batch(
        job,
        policy,
        succeeded=counts[Job.State.SUCCEEDED],
        failed=counts[Job.State.FAILED],
        cancelled=counts[Job.State.CANCELLED],
    )


def _policy(job: Job) -> Policy:
    notify = json.loads(job.kwargs)["notify"]
    if isinstance(notify, str):
        try:
            notify = import_string(notify)
            if not callable(notify):
                raise TypeError(f"{notify!r} is no function.")
        except BaseException:  # the module is the host's, perhaps a later version: default words will do
            logger.exception("The notify function of batch %s is not there.", job.id)
            notify = True
    return Policy(notify=notify)
