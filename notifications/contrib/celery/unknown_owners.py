"""Log the owners of observed tasks that do not exist: an argument may hold any number."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from typing import Any

from django.contrib.auth import get_user_model
from django.db import router

from notifications.models import Job

logger = logging.getLogger("notifications.jobs")

#: Keys of users that are remembered, so that each is looked up once.
MAX_KNOWN_KEYS = 10_000

_known_keys: set[Any] = set()


def log_unknown_owners(jobs: Iterable[Job]) -> None:
    """Log the owners of jobs that are no users, each once in this process. Raises ``django.db.Error``."""
    first_jobs: dict[Any, Job] = {}
    for job in jobs:
        if job.user_id is not None and job.user_id not in _known_keys:
            first_jobs.setdefault(job.user_id, job)
    if not first_jobs:
        return
    model = get_user_model()
    users = model._base_manager.using(router.db_for_write(model)).filter(pk__in=list(first_jobs))
    existing = set(users.values_list("pk", flat=True))
    for key, job in first_jobs.items():
        if key not in existing:
            logger.error(
                "The owner of a Celery task is no user, so that its notification reaches no one: "
                "task %s, job %s, user %s",
                job.task_path,
                job.id,
                key,
            )
    if len(_known_keys) + len(first_jobs) > MAX_KNOWN_KEYS:
        _known_keys.clear()
    _known_keys.update(first_jobs)
