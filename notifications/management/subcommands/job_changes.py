"""Read the changes of jobs of all users, for ``manage.py notifications jobs tail``."""

from __future__ import annotations

from collections import OrderedDict
from datetime import datetime, timedelta
from itertools import islice
from typing import Any
from uuid import UUID

from notifications import times
from notifications.db.transactions import database
from notifications.models import Job

#: Jobs that one read takes at most of each kind: new, running, finished, and active when they were read last.
MAX_JOBS_PER_READ = 500
#: Jobs whose last version is remembered.
MAX_JOBS_REMEMBERED = 20_000
#: Seconds for which the end of a job may be committed late and is found all the same.
COMMIT_SECONDS = 60


class JobChanges:
    """Finds the jobs whose rows have changed since the last read. Each read is four queries by indexes."""

    def __init__(self) -> None:
        #: The version of each job that was read, and whether it was done, the latest last.
        self._versions: OrderedDict[UUID, tuple[int, bool]] = OrderedDict()
        self._since = times.now()

    def read(self) -> tuple[list[Job], bool]:
        """Return the changed jobs, in the order of their changes, and whether there may have been more."""
        since, self._since = self._since - timedelta(seconds=COMMIT_SECONDS), times.now()
        rows = Job.objects.using(database()).defer("args", "kwargs", "result")
        limit = MAX_JOBS_PER_READ + 1  # One more shows whether there are more.
        active = islice((id for id, (_, done) in reversed(self._versions.items()) if not done), limit)
        changed: dict[UUID, Job] = {}
        is_cut = False
        for found in (
            rows.order_by("-created_at", "-id")[:limit],
            rows.filter(finished_at__gte=since).order_by("-finished_at")[:limit],
            rows.filter(state=Job.State.RUNNING).order_by("worker", "id")[:limit],
            rows.filter(id__in=list(active)),
        ):
            new = [job for job in found if self._versions.get(job.id, (0, False))[0] != job.version]
            is_cut = is_cut or len(new) > MAX_JOBS_PER_READ
            for job in new[:MAX_JOBS_PER_READ]:
                changed[job.id] = job
                self._remember(job)
        return sorted(changed.values(), key=_changed_at), is_cut

    def _remember(self, job: Job) -> None:
        self._versions[job.id] = (job.version, job.done)
        self._versions.move_to_end(job.id)
        while len(self._versions) > MAX_JOBS_REMEMBERED:
            self._versions.popitem(last=False)


def _changed_at(job: Job) -> tuple[datetime, Any]:
    """Return when a job was finished, started or queued, the latest of them."""
    return max(moment for moment in (job.queued_at, job.started_at, job.finished_at) if moment), job.id
