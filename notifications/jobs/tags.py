"""Tags of jobs, which a project gives them to find together what belongs together."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any
from uuid import UUID

from django.db.models import Count

from notifications.db import bulk
from notifications.db.transactions import chunks, database
from notifications.models import Job, JobTag

MAX_ROWS_PER_INSERT = 500
#: Jobs with a tag that are counted at most: the newest.
MAX_JOBS_COUNTED = 100_000


def insert_tags(jobs: Iterable[Job]) -> None:
    """Store the tags of new jobs, in the transaction that inserts these."""
    rows = [bulk.new_row(JobTag, job=job.id, tag=tag) for job in jobs for tag in job.tags]
    for chunk in chunks(rows, MAX_ROWS_PER_INSERT):
        bulk.insert_rows(chunk)


def replace_tags(job: UUID, tags: Sequence[str]) -> None:
    """Give a job that is stored these tags in place of its own, inside the transaction that has locked it."""
    JobTag.objects.using(database()).filter(job=job).delete()
    bulk.insert_rows([bulk.new_row(JobTag, job=job, tag=tag) for tag in tags])


def ids_with_tag(tag: str) -> Any:
    """Return a queryset of the ids of the jobs with a tag."""
    return JobTag.objects.using(database()).filter(tag=tag).values_list("job", flat=True)


def read_tags(job: UUID) -> list[str]:
    """Return the tags of a job, sorted."""
    return sorted(JobTag.objects.using(database()).filter(job=job).values_list("tag", flat=True))


def count_states(tag: str, user: Any = None) -> dict[str, int]:
    """Return how many jobs with a tag are in each state, of at most ``MAX_JOBS_COUNTED``, the newest.

    ``user``
        The key of an owner: only jobs of this one.
    """
    jobs = Job.objects.using(database()).filter(pk__in=ids_with_tag(tag))
    if user is not None:
        jobs = jobs.filter(user=user)
    jobs = Job.objects.using(database()).filter(pk__in=jobs.order_by("-pk").values("pk")[:MAX_JOBS_COUNTED])
    counted = dict(jobs.order_by().values_list("state").annotate(Count("pk")))
    return {state: counted.get(state, 0) for state in Job.State.values}
