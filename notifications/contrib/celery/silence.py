"""Queued jobs of which Celery has reported nothing for long: their messages may be lost. A backlog is no loss."""

from __future__ import annotations

import math
from datetime import datetime, timedelta
from typing import Any

from django.db.models import Max
from django.utils.html import format_html
from django.utils.translation import gettext as _

from notifications import times
from notifications.db import database
from notifications.http import exact_time
from notifications.models import Job

#: How long a job is queued before anything is concluded from that.
SILENT_AFTER = timedelta(minutes=5)
#: The jobs, those that ended last, among which tasks of a queue are searched.
MAX_ENDED_READ = 10_000


def describe_silence(job: Job, request: Any) -> dict[str, Any]:
    """Return since when there is no word of a job, or when that may be said. See ``JobSection.page_context()``."""
    if since := silent_since(job):
        text = _("No word from Celery since {time}. It may be lost.")
        return {"doubt": format_html(text, time=exact_time(since))}
    queued = _queued_since(job)
    seconds = (queued + SILENT_AFTER - times.now()).total_seconds() if queued else 0
    # A second later, because it is a moment of the database's clock.
    return {"reload_after": math.ceil(seconds) + 1} if seconds > 0 else {}


def silent_since(job: Job) -> datetime | None:
    """Return since when a queued job of an observed task could have started, None if it is expected to.

    It is while it is young, or other tasks of its queue have started since, or it goes on with other tasks.
    """
    since = _queued_since(job)
    if since is None or times.now() - since < SILENT_AFTER or read_last_start(job.queue_name, since):
        return None
    return since


def _queued_since(job: Job) -> datetime | None:
    """Return since when a queued job of an observed task could have started, None for others."""
    if job.executor != Job.Executor.OBSERVED or job.state != Job.State.QUEUED or job.process_id is not None:
        return None
    return max(times.as_utc(job.queued_at), times.as_utc(job.run_after or job.queued_at))


def read_last_start(queue: str, since: datetime) -> datetime | None:
    """Return when an observed task of a queue was last started after a time, None if none was, as far as reported."""
    jobs = Job.objects.using(database())
    ended = jobs.filter(finished_at__gt=since).order_by("-finished_at").values("id")[:MAX_ENDED_READ]
    started = jobs.filter(executor=Job.Executor.OBSERVED, queue_name=queue, started_at__gt=since)
    # Each reads by an index of its own.
    starts: list[Any] = [
        rows.aggregate(last=Max("started_at"))["last"]
        for rows in (
            started.filter(state=Job.State.RUNNING),
            started.filter(state=Job.State.QUEUED),
            started.filter(id__in=ended),
        )
    ]
    return max((times.as_utc(start) for start in starts if start), default=None)
