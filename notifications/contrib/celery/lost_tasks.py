"""What became of running tasks whose process is gone: the one thing that is inferred of observed tasks.

The result backend says how such a task has ended, if there is one, and Celery's main process knows its last successes.
Else a task that is acknowledged late is queued again, because its message is with the broker, and another one has ended
as ``outcome-unknown``. A report that comes later corrects that.

The same two are asked about queued jobs: start and end of a task may both have died with its process.
"""

from __future__ import annotations

import logging
import os
from collections import Counter
from collections.abc import Callable, Collection, Iterable
from datetime import timedelta
from typing import Any
from uuid import UUID

from celery.worker import state as worker_state

from notifications.contrib.celery import results, task_ends
from notifications.contrib.celery.execution import policy_of
from notifications.contrib.celery.held_reports import observer
from notifications.contrib.celery.messages import job_id, observation_of, task_id
from notifications.db import database, database_now, is_unavailable
from notifications.jobs import Outcome
from notifications.jobs.claiming.executors import EAGER_QUEUE
from notifications.models import Job
from notifications.worker import Lease

logger = logging.getLogger("notifications.jobs")

#: Jobs of each kind that one look is about.
MAX_JOBS_PER_ROUND = 100
#: Seconds after ``expires_at`` at which a queued job ends: its start may be about to be recorded.
EXPIRY_MARGIN = timedelta(seconds=5)
#: Age at which the result backend is asked about a queued job, and the errors after which a round asks no more.
LOOKUP_AGE, MAX_LOOKUP_ERRORS = timedelta(seconds=60), 3
#: How often a task is terminated whose cancellation was requested where this worker did not hear of it.
MAX_TERMINATE_REQUESTS = 3

#: Of a job, and of one execution of it.
Claim = tuple[UUID, int]


class LostTasks:
    """What the main process of one worker looks for every few seconds.

    ``process_ids``
        Returns the ids of the processes that run the tasks of this worker.
    """

    def __init__(
        self, app: Any, hostname: str, lease: Lease, process_ids: Callable[[], Collection[int]] | None = None
    ) -> None:
        self._app = app
        self._hostname = hostname
        self._lease = lease
        self.process_ids = process_ids or (lambda: {os.getpid()})
        #: Running jobs of this worker whose process was gone at the last look.
        self._gone: set[Claim] = set()
        #: How often tasks were to be terminated.
        self._terminated: Counter[Claim] = Counter()
        #: The processes of this worker, and the tasks that Celery knew to have succeeded, at the last look.
        self._processes: set[int] = set()
        self._successful: set[str] = set()
        self._has_lost_child = False
        #: The queued jobs about which the result backend was asked before this round.
        self._asked = 0

    def run_round(self) -> None:
        """Look once. Raises ``django.db.Error``; what the result backend raises is logged."""
        own = list(_running().filter(worker=self._lease.worker).order_by("worker", "id"))
        processes = set(self.process_ids())
        gone = {_claim(job) for job in own if job.process_id not in processes}
        # Celery reports a child that was killed by itself, soon after it is gone.
        self._end_all(self._find_end, (job for job in own if _claim(job) in gone & self._gone))
        self._gone = gone
        self._terminate([job for job in own if _claim(job) not in gone and job.cancel_requested_at])
        self._end_all(self._find_end, self._of_lost_workers())
        self._end_all(self._find_expiry, _expired())
        self._end_queued(processes)

    def _end_queued(self, processes: set[int]) -> None:
        """End queued jobs whose ends Celery knows."""
        if self._has_lost_child:
            # What was known at the last look: a child that lives has recorded that by now, with its results.
            ids = [job_id(id) for id in self._successful]
            self._end_all(self._find_reported, _queued().filter(id__in=ids))
        self._has_lost_child = not self._processes <= processes
        self._processes, self._successful = processes, set(worker_state.successful_requests)
        if self._lease.may_reap():
            self._end_all(self._find_reported, self._next_silent(), max_errors=MAX_LOOKUP_ERRORS)

    def _next_silent(self) -> list[Job]:
        """Return the next of the queued jobs of which nothing was reported for ``LOOKUP_AGE``, round after round."""
        before = database_now() - LOOKUP_AGE
        rows = _queued().filter(queued_at__lt=before).exclude(run_after__gt=before)
        # The order of their index.
        found = list(rows.order_by("expires_at", "id")[self._asked : self._asked + MAX_JOBS_PER_ROUND])
        self._asked = self._asked + len(found) if len(found) == MAX_JOBS_PER_ROUND else 0
        return found

    def _of_lost_workers(self) -> Iterable[Job]:
        rows = _running().filter(self._lease.of_lost_workers()).exclude(worker=self._lease.worker)
        return list(rows.order_by("worker", "id")[:MAX_JOBS_PER_ROUND])

    def _end_all(
        self, find: Callable[[Job], Outcome | None], jobs: Iterable[Job], max_errors: int = MAX_JOBS_PER_ROUND
    ) -> None:
        """End jobs. An error, as of a result that cannot be read, keeps no other waiting, but for ``max_errors``."""
        ends, errors = [], 0
        for job in list(jobs)[:MAX_JOBS_PER_ROUND]:
            try:
                if end := find(job):
                    ends.append(end)
            except Exception as exc:
                if is_unavailable(exc):
                    raise
                logger.warning("Could not find out how an observed task has ended: job %s: %r", job.id, exc)
                errors += 1
                if errors == max_errors:
                    break
        for end in observer.complete(ends):
            observer.end(end)  # if the row is locked, the next look does

    def _find_end(self, job: Job) -> Outcome | None:
        """Return the end of a running job whose process is gone, None if it is queued again."""
        meta, observation = results.read_meta(self._app, task_id(job)), observation_of(job.task_path)
        policy = policy_of(observation)
        if outcome := meta and task_ends.from_meta(job, policy, meta):
            return outcome
        if job.worker == self._lease.worker and task_id(job) in worker_state.successful_requests:
            return task_ends.succeeded(job, policy, None)
        if job.cancel_requested_at is not None:
            return observer.cancelled(job, policy)
        if job.acks_late:
            observer.requeue_lost(job, observation.start_within if observation else None)
            return None
        logger.warning("Ending the job of a lost Celery task: job %s (%s)", job.id, job.task_path)
        return observer.failed_as(job, policy, "outcome-unknown")

    def _find_reported(self, job: Job) -> Outcome | None:
        """Return the end of a queued job that the result backend or Celery's main process knows, else None."""
        policy = policy_of(observation_of(job.task_path))
        meta = results.read_meta(self._app, task_id(job))
        if outcome := meta and task_ends.from_meta(job, policy, meta):
            return outcome
        return task_ends.succeeded(job, policy, None) if task_id(job) in self._successful else None

    def _find_expiry(self, job: Job) -> Outcome | None:
        """Return the end of a queued job that was not started in time. Its reports may have died with a child.

        None of one that other tasks have replaced, which go on.
        """
        policy = policy_of(observation_of(job.task_path))
        meta = results.read_meta(self._app, task_id(job))
        if outcome := meta and task_ends.from_meta(job, policy, meta):
            return outcome
        if job.process_id is not None:
            observer.check_replaced_later(job)
            return None
        return task_ends.expired(job, policy)

    def _terminate(self, jobs: Iterable[Job]) -> None:
        """Terminate tasks whose cancellation was requested in a process that could not reach this worker."""
        claims = {_claim(job): task_id(job) for job in jobs}
        self._terminated = Counter({claim: self._terminated[claim] + 1 for claim in claims})
        # At the first look the request may be on its way.
        ids = [
            id for claim, id in claims.items() if 1 < self._terminated[claim] <= MAX_TERMINATE_REQUESTS + 1
        ]
        if ids:
            results.send_revoke(self._app, ids, destination=[self._hostname])


def _running() -> Any:
    """Return a query of the running jobs, without those of tasks that their publishers call themselves."""
    rows = Job.objects.using(database()).filter(executor=Job.Executor.OBSERVED, state=Job.State.RUNNING)
    return rows.filter(worker__isnull=False).exclude(queue_name=EAGER_QUEUE)


def _queued() -> Any:
    """Return a query of the queued jobs, without those that go on with other tasks."""
    rows = Job.objects.using(database()).filter(executor=Job.Executor.OBSERVED, state=Job.State.QUEUED)
    return rows.filter(process_id=None).exclude(queue_name=EAGER_QUEUE)


def _expired() -> Iterable[Job]:
    rows = Job.objects.using(database()).filter(executor=Job.Executor.OBSERVED, state=Job.State.QUEUED)
    return list(
        rows.filter(expires_at__lt=database_now() - EXPIRY_MARGIN).order_by("expires_at", "id")[
            :MAX_JOBS_PER_ROUND
        ]
    )


def _claim(job: Job) -> Claim:
    return job.id, job.fence
