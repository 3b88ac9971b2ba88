"""The URLs that requests have sent with their jobs, to be called when these end.

What is called is an event of another form than those of handlers: see ``webhooks/callbacks.py``.
"""

from __future__ import annotations

from collections.abc import Iterable
from uuid import UUID

from notifications.db.locks import lock_query
from notifications.db.transactions import database
from notifications.jobs.handlers.declarations import load_handlers
from notifications.models import Job, JobCallback
from notifications.states import ACTIVE


def store_url(job: Job, url: str) -> None:
    """Store the URL of a job that this transaction has enqueued, or found, unless it has one or has ended."""
    # Its end locks the row before it looks for a URL, so it either finds this one, or is found here.
    rows = lock_query(Job.objects.using(database()).filter(pk=job.pk), skip_locked=False)
    if rows.values_list("state", flat=True).first() in ACTIVE:
        JobCallback.objects.using(database()).bulk_create(
            [JobCallback(job=job.pk, url=url)], ignore_conflicts=True
        )


def url_of(job: UUID) -> str:
    """Return the URL that is called when a job ends, empty if there is none."""
    rows = JobCallback.objects.using(database()).filter(job=job)
    return rows.values_list("url", flat=True).first() or ""


def read_urls(jobs: Iterable[UUID]) -> dict[UUID, str]:
    """Return the URLs of those of these jobs that have one, whose rows are locked. No query where callbacks are off."""
    if load_handlers().callback is None:
        return {}
    rows = JobCallback.objects.using(database()).filter(job__in=list(jobs))
    return dict(rows.values_list("job", "url"))
