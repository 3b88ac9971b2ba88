"""What engines have claimed lately: an engine that runs newer jobs of a queue has overtaken the older ones."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from datetime import datetime, timedelta

from notifications.db.transactions import database
from notifications.extension import BackendQueue
from notifications.jobs.claiming.executors import ENGINE, ENGINE_QUARANTINED
from notifications.models import Job

#: An engine runs jobs of a queue if it has finished one within so many seconds, of so many finished jobs.
RECENT_SECONDS, MAX_RECENT_JOBS = 5.0, 100
#: Running jobs of engines that are read at most.
MAX_RUNNING_JOBS = 5_000


@dataclass(frozen=True, kw_only=True, slots=True)
class Activity:
    """What engines run now or have finished within the last seconds.

    ``newest``: for each priority, when the newest claimed job was dispatched. ``running``: where jobs run now.
    """

    newest: dict[BackendQueue, dict[int, datetime | None]]
    running: set[BackendQueue]


def read_activity(now: datetime) -> Activity:
    """Return the activity. ``now`` is the database's time."""
    jobs = Job.objects.using(database()).filter(executor__in=(ENGINE, ENGINE_QUARANTINED))
    # The orders of the indexes of running and of finished jobs.
    running = jobs.filter(state=Job.State.RUNNING, worker__isnull=False).order_by("worker", "id")
    finished = jobs.filter(finished_at__gte=now - timedelta(seconds=RECENT_SECONDS)).order_by("-finished_at")
    columns = ("backend", "queue_name", "priority", "dispatched_at")
    running_rows = list(running.values_list(*columns)[:MAX_RUNNING_JOBS])
    newest: dict[BackendQueue, dict[int, datetime | None]] = defaultdict(dict)
    for backend, queue, priority, dispatched_at in [
        *running_rows,
        *finished.values_list(*columns)[:MAX_RECENT_JOBS],
    ]:
        times = newest[backend, queue]
        times[priority] = max(filter(None, (times.get(priority), dispatched_at)), default=None)
    return Activity(newest=dict(newest), running={(backend, queue) for backend, queue, *_ in running_rows})
