"""Utilities for tests of projects that send notifications by other channels.

This module may be imported before the models are ready.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

from notifications.testing import clock, run_jobs


def send_deliveries(limit: int = 1_000, *, raise_errors: bool = False) -> int:
    """Send the deliveries that wait by all channels, as workers would, whenever they are due. Return how many.

    It advances the clock to when they are due, to the end of digests, of pauses of users, and to retries, and resets it
    at the end. Each is decided then: what is seen or read by now is not sent. Of the jobs only theirs run, as by
    ``run_jobs``.

    ``raise_errors``
        Raise the exception of the first one that fails for good.
    """
    from django.db.models import Q

    from notifications.contrib.deliveries.models import Delivery
    from notifications.contrib.deliveries.sending import enqueue_due
    from notifications.db import database

    deliveries = Delivery.objects.using(database())
    sent = deliveries.filter(state=Delivery.State.SENT)
    jobs = Q(id__in=deliveries.filter(state=Delivery.State.QUEUED, job__isnull=False).values("job"))
    count_before, ahead_before = sent.count(), clock.ahead
    ran = 0
    try:
        while True:
            started = clock.now()
            if enqueue_due():
                continue
            if count := run_jobs(limit - ran, raise_errors=raise_errors, among=jobs):
                ran += count
                continue
            if (next_at := _next_delivery_after(started, jobs)) is None:
                break
            clock.advance(max(next_at - clock.now(), timedelta()))
    finally:
        clock.ahead = ahead_before
    return sent.count() - count_before


def _next_delivery_after(after: datetime, jobs: Any) -> datetime | None:
    """Return when the next delivery, or one of the jobs of deliveries, is due that was not due at a time."""
    from django.db.models import Min

    from notifications.contrib.deliveries.models import Delivery
    from notifications.db import database
    from notifications.models import Job

    pending = Delivery.objects.using(database()).filter(state=Delivery.State.PENDING, due_at__gt=after)
    queued = Job.objects.using(database()).filter(jobs, state=Job.State.QUEUED, due_at__gt=after)
    times = (pending.aggregate(at=Min("due_at"))["at"], queued.aggregate(at=Min("due_at"))["at"])
    return min((at for at in times if at), default=None)
