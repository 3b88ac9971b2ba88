"""Find out what became of observed tasks of which no signal came: a worker was killed, a message or a write was lost.

Each worker's main process looks every few seconds, at a bounded number of jobs. The result backend is asked first. What
it does not know ends as a failure, never as a job that waits for ever:

running here, but not in this worker any more   after ``MISSING_SECONDS``
running on a lost worker                        at once; a task with ``acks_late`` is queued and waits for its message
queued, and not started when it could have been when neither a worker nor the broker has had it at two checks, and the
                                                broker has delivered again what lost workers had received

Such an end is a guess. The process that records the real one corrects it, and may be killed before it has done so. So
the result backend is asked again for some minutes.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from celery import states
from celery.worker import state as worker_state
from django.db.models import Q

from notifications import times
from notifications.contrib.celery import broker, task_ends
from notifications.contrib.celery.connections import BoundedCaller, NoAnswer
from notifications.contrib.celery.execution import policy_of, record_outcome, retry_unlocked
from notifications.contrib.celery.messages import (
    FIRST_CHECK_SECONDS,
    observation_of,
    task_id,
)
from notifications.contrib.celery.seen_workers import SeenWorkers
from notifications.db.clock import database_now
from notifications.db.transactions import database
from notifications.db.unavailable import is_unavailable
from notifications.engines.observed import changes
from notifications.jobs import outcomes
from notifications.jobs.claiming.executors import EAGER_QUEUE
from notifications.jobs.outcomes import Outcome
from notifications.jobs.transitions import notify_functions
from notifications.models import Job, Worker
from notifications.worker.lease import Lease, find_dead_neighbors

logger = logging.getLogger("notifications.jobs")

#: Seconds after which a broker, or a result backend, counts as one that does not answer.
NO_ANSWER_SECONDS = 15.0
#: Jobs of each kind that one round looks at, and seconds for which it goes on with queued ones.
MAX_JOBS_PER_ROUND, MAX_ROUND_SECONDS = 100, 5.0
#: Seconds after which a task that is not in its worker any more is over. The process that ran it may still be trying to
#: record its end.
MISSING_SECONDS = 35.0
#: Seconds between two checks of a queued job whose message was found, and of one whose message was not.
RECHECK_SECONDS, MISSING_RECHECK_SECONDS = 25.0, 10.0
#: Seconds for which a message must not have been found before it is lost.
LOST_SECONDS = 8.0
#: Seconds that a job may wait whose message may be in a queue, or in a worker that does not answer.
MAX_WAIT_SECONDS = 24 * 3600.0
#: Seconds after a guess at which the result backend is asked again, and the guesses that a process remembers.
GUESS_RECHECK_SECONDS, MAX_GUESSES = (10.0, 30.0, 60.0, 120.0, 300.0, 600.0), 1_000
#: Seconds between two requests to terminate a task whose cancellation was requested, and how often it is requested.
TERMINATE_INTERVAL_SECONDS, MAX_TERMINATE_REQUESTS = 5.0, 3


class Reconciler:
    """What the main process of one worker checks, on a thread of its own: a broker may not answer for some time."""

    def __init__(self, app: Any, hostname: str, lease: Lease) -> None:
        self._app = app
        self._hostname = hostname
        self._lease = lease
        self._workers = SeenWorkers(lease.broker)
        self._caller = BoundedCaller("notifications-celery-questions", NO_ANSWER_SECONDS)
        #: Since when (monotonic) running jobs of this worker are not among its tasks, by id and fence.
        self._missing: dict[tuple[Any, int], float] = {}
        #: When this process has failed jobs by a guess (monotonic), and how often it has asked again since.
        self._guesses: dict[UUID, tuple[float, int]] = {}
        #: Ends that are found and not yet recorded.
        self._ends: list[Outcome] = []
        #: How often, and when last (monotonic), a task was to be terminated.
        self._terminated: dict[tuple[Any, int], tuple[int, float]] = {}

    def run_round(self) -> None:
        """Look once. Raises ``django.db.Error``; what the broker and the result backend raise is logged."""
        self._workers.update(database_now())
        for check in (
            self._check_own_tasks,
            self._check_lost_workers,
            self._check_queued,
            self._check_guesses,
        ):
            try:
                try:
                    check()
                finally:
                    self._record_ends()
            except Exception as exc:
                if is_unavailable(exc):  # not every OSError: a broker that is away raises one, too
                    raise
                logger.warning("Could not reconcile observed tasks: %s: %r", check.__name__, exc)

    def _check_own_tasks(self) -> None:
        own = _running().filter(worker=self._lease.worker).exclude(queue_name=EAGER_QUEUE)
        running = list(own.order_by("worker", "id"))
        executed_ids = set(worker_state.requests)
        now = time.monotonic()
        claims = {(job.id, job.fence): job for job in running}
        missing = {claim for claim, job in claims.items() if task_id(job) not in executed_ids}
        self._missing = {claim: self._missing.get(claim, now) for claim in missing}
        lost = [claims[claim] for claim, since in self._missing.items() if now - since > MISSING_SECONDS]
        for job in lost[:MAX_JOBS_PER_ROUND]:
            self._for_one(self._end_running, job, "outcome-unknown")
        self._terminate(
            [job for claim, job in claims.items() if claim not in missing and job.cancel_requested_at]
        )

    def _terminate(self, jobs: Sequence[Job]) -> None:
        """Terminate tasks whose cancellation was requested in a process that could not reach this worker."""
        now = time.monotonic()
        claims = {(job.id, job.fence): job for job in jobs}
        self._terminated = {claim: self._terminated.get(claim, (0, now)) for claim in claims}
        for claim, (requests, at) in self._terminated.items():
            if requests < MAX_TERMINATE_REQUESTS and now - at > TERMINATE_INTERVAL_SECONDS:
                self._terminated[claim] = requests + 1, now
                ids = [task_id(claims[claim])]
                self._caller.call(broker.send_revoke, self._app, ids, destination=[self._hostname])

    def _check_lost_workers(self) -> None:
        lost = Q(worker__in=find_dead_neighbors())
        if self._lease.may_reap():
            live = Worker.objects.using(database()).filter(lease_until__gte=database_now())
            lost |= ~Q(worker__in=live.values_list("id", flat=True))
        jobs = _running().filter(lost).exclude(worker=self._lease.worker).exclude(queue_name=EAGER_QUEUE)
        jobs = jobs.exclude(broker__in=self._workers.other_brokers)
        for job in jobs.order_by("worker", "id")[:MAX_JOBS_PER_ROUND]:
            self._for_one(self._end_running, job, "worker-lost")

    def _for_one(self, end: Callable[[Job, str], object], job: Job, kind: str) -> None:
        """End one job. An error, as of a result that cannot be read, must not keep the others waiting."""
        try:
            end(job, kind)
        except Exception as exc:
            if isinstance(exc, NoAnswer) or is_unavailable(exc):  # which all others would wait for too
                raise
            logger.warning("Could not reconcile an observed task: job %s: %r", job.id, exc)

    def _record_ends(self) -> None:
        """Record the ends that were found. Their notify functions are called at once, not one after another."""
        ends, self._ends = self._ends, []
        for end in notify_functions.call_all(ends):
            self._for_one(lambda *_: retry_unlocked(lambda: record_outcome(end)), end.job, "")  # noqa: B023

    def _end_running(self, job: Job, kind: str) -> None:
        """End a running job that nothing runs any more."""
        meta = self._caller.call(broker.read_meta, self._app, task_id(job))
        if self._add_end(job, meta):
            return
        is_retried = bool(meta) and meta["status"] == states.RETRY  # type: ignore[index]
        if is_retried or (
            job.cancel_requested_at is None and broker.is_delivered_again(self._app, job.task_path)
        ):
            changes.requeue_lost(job, times.now() + timedelta(seconds=FIRST_CHECK_SECONDS))
            return
        if job.cancel_requested_at is not None:
            self._ends.append(outcomes.cancelled(job, policy_of(observation_of(job.task_path))))
        else:
            self._fail(job, kind)

    def _add_end(self, job: Job, meta: dict[str, Any] | None) -> bool:
        """Add the end of a job that the result backend knows. Returns whether there is one."""
        outcome = meta and task_ends.from_meta(job, policy_of(observation_of(job.task_path)), meta)
        if not outcome:
            return False
        self._ends.append(outcome)
        return True

    def _check_queued(self) -> None:
        stop_at = time.monotonic() + MAX_ROUND_SECONDS
        # A broker that was flushed has lost more than one query looks for. But a backlog of tasks that only wait would
        # be looked through all the time: their worker then ran 0.79 as many tasks.
        while self._check_some_queued() and time.monotonic() < stop_at:
            pass

    def _check_some_queued(self) -> bool:
        """Check some overdue jobs. Return whether to check more: there are, and messages of these were not found."""
        now = database_now()
        jobs = changes.take_overdue(
            now,
            now + timedelta(seconds=RECHECK_SECONDS),
            MAX_JOBS_PER_ROUND,
            other_brokers=self._workers.other_brokers,
        )
        waiting: list[Job] = []

        def finish_or_add(job: Job, kind: str) -> None:
            if not self._add_end(job, self._caller.call(broker.read_meta, self._app, task_id(job))):
                waiting.append(job)

        for job in jobs:
            self._for_one(finish_or_add, job, "")
        expired = [job for job in waiting if _has_expired(job, now)]
        for job in expired:
            self._fail(job, "expired")
        waiting = [job for job in waiting if job not in expired]
        is_any_absent = self._look_for(waiting, now) if waiting else False
        self._record_ends()
        has_found = is_any_absent or len(waiting) < len(jobs)
        return has_found and len(jobs) == MAX_JOBS_PER_ROUND

    def _look_for(self, jobs: Sequence[Job], now: datetime) -> bool:
        """Look for the messages of queued jobs in workers and queues, and fail the jobs whose messages are lost.

        Return whether the message of one was in neither.
        """
        has_messages = self._caller.call(
            broker.find_messages, self._app, {task_id(job): job.queue_name for job in jobs}
        )
        # All workers answer this query, so it is skipped for jobs whose queue has a backlog.
        absent = [id for id, is_found in has_messages.items() if is_found is False]
        in_workers, answers = set[str](), 0
        if absent:
            in_workers, answers = self._caller.call(
                broker.find_in_workers, self._app, absent, self._workers.live
            )
        all_answered = answers >= self._workers.live
        redelivery = timedelta(seconds=self._caller.call(broker.redelivery_seconds, self._app))
        soon = now + timedelta(seconds=MISSING_RECHECK_SECONDS)
        for job in jobs:
            if task_id(job) in in_workers:
                continue  # it is checked again
            waited = (now - max(job.queued_at, job.run_after or job.queued_at)).total_seconds()
            if has_messages[task_id(job)] is not False or not all_answered:
                if waited > MAX_WAIT_SECONDS:
                    self._fail(job, "never-started")
                elif task_id(job) in absent:  # a worker was too busy to answer, or is about to begin
                    changes.set_missing([job], job.missing_since, soon)
                continue
            if self._workers.may_have_lost(job, now - redelivery):
                continue
            since = job.missing_since or now
            if (now - since).total_seconds() >= LOST_SECONDS:
                self._fail(job, "worker-lost" if job.attempt else "never-started")
            else:
                changes.set_missing([job], since, soon)
        return bool(set(absent) - set(in_workers))

    def _fail(self, job: Job, kind: str) -> None:
        """End a job by a guess."""
        logger.warning("Ending the job of a lost Celery task: job %s (%s), %s", job.id, job.task_path, kind)
        self._ends.append(outcomes.ended_by_engine(job, policy_of(observation_of(job.task_path)), kind))
        self._guesses[job.id] = time.monotonic(), 0
        if len(self._guesses) > MAX_GUESSES:
            del self._guesses[next(iter(self._guesses))]

    def _check_guesses(self) -> None:
        """Ask the result backend again about jobs that this process has failed by a guess."""
        now = time.monotonic()
        due = [id for id, (at, checks) in self._guesses.items() if now - at >= GUESS_RECHECK_SECONDS[checks]][
            :MAX_JOBS_PER_ROUND
        ]
        jobs = {job.id: job for job in changes.read_many(due) if outcomes.is_guess(job)}
        for id in due:
            at, checks = self._guesses.pop(id)
            if id in jobs and checks + 1 < len(GUESS_RECHECK_SECONDS):
                self._guesses[id] = at, checks + 1
        for job in jobs.values():
            self._for_one(self._finish_if_known, job, "")

    def _finish_if_known(self, job: Job, kind: str) -> None:
        self._add_end(job, self._caller.call(broker.read_meta, self._app, task_id(job)))


def _running() -> Any:
    """Return a query of the running jobs, without batches, which have no worker."""
    rows = Job.objects.using(database()).filter(executor=Job.Executor.OBSERVED, state=Job.State.RUNNING)
    return rows.filter(worker__isnull=False)


def _has_expired(job: Job, now: datetime) -> bool:
    """Return whether no worker would start the task any more."""
    return job.expires_at is not None and job.expires_at < now
