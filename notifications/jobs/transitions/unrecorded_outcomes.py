"""Outcomes at which a hook of an extension fails, stored with their jobs: the next claim records them.

Otherwise the work would be done again if its worker ends before the hook works.
"""

from __future__ import annotations

import json

from django.core import serializers

from notifications.db.transactions import retrying_atomic
from notifications.jobs.outcomes import Outcome
from notifications.jobs.transitions.conditional_updates import conditional_update
from notifications.models import Job

_FIELDS = (
    "state",
    "result",
    "error",
    "retry_delay",
    "attempt",
    "exception_class_path",
    "traceback",
    "location",
)


def store(outcome: Outcome) -> None:
    """Store what came of a running job, but for waits: a job that is suspended is executed again in any case."""
    job = outcome.job
    if outcome.waits or restore(job):
        return
    fields = {name: getattr(outcome, name) for name in _FIELDS}
    rows = serializers.serialize("json", filter(None, [outcome.notification]))
    text = json.dumps({**fields, "number": job.attempt, "notifications": rows})
    retrying_atomic(lambda: conditional_update("unrecorded_outcome=%s", [((text,), job)]))
    job.unrecorded_outcome = text


def restore(job: Job) -> Outcome | None:
    """Return the stored outcome of the attempt at a claimed job, None without one."""
    if job.unrecorded_outcome is None:  # as of nearly every job
        return None
    fields = json.loads(job.unrecorded_outcome)
    if fields.pop("number", None) != job.attempt:  # that of an earlier attempt was recorded
        return None
    rows = list(serializers.deserialize("json", fields.pop("notifications")))
    return Outcome(job=job, notification=rows[0].object if rows else None, **fields)
