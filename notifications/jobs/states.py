"""The word for the state of a job: the same one on pages, in the admin, in notifications and in the browser client."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from django.utils import timezone
from django.utils.formats import date_format
from django.utils.translation import gettext_lazy as _

from notifications import times

#: The state of a job that waits for another attempt.
RETRY_AT = _("Queued, retry at {time}")


def describe_state(job: Any) -> str:
    """Return the state of a ``Job`` or ``JobInfo`` in words: "Running", or "Queued, retry at 14:05".

    The time is in the current time zone, with its date if it is a day or more away.
    """
    from notifications.models import Job  # imported when the apps are loaded; JobInfo is imported before

    label = str(Job.State(job.state).label)
    now = times.now()
    if job.state != Job.State.QUEUED or not job.attempt or job.run_after is None:
        return label
    start = times.as_utc(job.run_after)
    if start <= now:
        return label
    local = timezone.localtime(start)
    text = date_format(local, "H:i" if start - now < timedelta(days=1) else "j M Y, H:i")
    return str(RETRY_AT).format(time=text)
