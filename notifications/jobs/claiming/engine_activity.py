"""What engines have claimed lately: an engine that runs newer jobs of a queue has overtaken the older ones."""

from __future__ import annotations

from collections import defaultdict
from datetime import datetime, timedelta

from notifications.db.transactions import database
from notifications.jobs.claiming.lanes import ENGINE
from notifications.models import Job

#: An engine runs jobs of a queue if it has finished one within so many seconds, of so many finished jobs.
RECENT_SECONDS, MAX_RECENT_JOBS = 5.0, 100
#: Running jobs of engines that are read at most.
MAX_RUNNING_JOBS = 5_000

#: By alias of a backend and queue: for each priority, when the newest claimed job was handed over.
Activity = dict[tuple[str, str], dict[int, datetime | None]]


def read_activity(now: datetime) -> Activity:
    """Return when the newest jobs were handed over that engines run now or have finished within the last seconds.

    ``now`` is the database's time. A queue of which an engine runs nothing is not in the result.
    """
    jobs = Job.objects.using(database()).filter(lane=ENGINE)
    # The orders of the indexes of running and of finished jobs.
    running = jobs.filter(state=Job.State.RUNNING, worker__isnull=False).order_by("worker", "id")
    finished = jobs.filter(finished_at__gte=now - timedelta(seconds=RECENT_SECONDS)).order_by("-finished_at")
    columns = ("backend", "queue_name", "priority", "handed_over_at")
    rows = [
        *running.values_list(*columns)[:MAX_RUNNING_JOBS],
        *finished.values_list(*columns)[:MAX_RECENT_JOBS],
    ]
    activity: Activity = defaultdict(dict)
    for backend, queue, priority, handed_over_at in rows:
        newest = activity[backend, queue]
        known = newest.get(priority)
        newest[priority] = max(filter(None, (known, handed_over_at)), default=None)
    return dict(activity)
