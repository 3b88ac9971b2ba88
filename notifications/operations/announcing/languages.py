"""The language of a reader whom no request of theirs is being answered to."""

from __future__ import annotations

from typing import Any

from django.conf import settings

from notifications.db.transactions import database
from notifications.models import Job

#: The newest jobs of a reader that are read at most.
MAX_JOBS_READ = 20


def language_of(user: Any) -> str:
    """Return the language in which a user (key) last enqueued a job, ``LANGUAGE_CODE`` if that is not known."""
    rows = Job.objects.using(database()).filter(user=user).order_by("-created_at", "-id")
    for language, schedule in rows.values_list("language", "schedule")[:MAX_JOBS_READ]:
        if language and not schedule:  # a process enqueues the jobs of schedules
            return str(language)
    return str(settings.LANGUAGE_CODE)
