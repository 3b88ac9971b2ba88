"""Run claimed jobs as asyncio tasks of the worker's loop."""

from __future__ import annotations

import asyncio
import contextvars
import logging
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import replace
from functools import partial
from typing import Any

from asgiref.sync import ThreadSensitiveContext
from django.conf import settings
from django.utils import translation

from notifications.db.job_threads import JobThreads
from notifications.db.threads import DaemonExecutor, NoThread
from notifications.extension import WorkerPart
from notifications.extension.calls import HookName, log_left_out
from notifications.jobs import outcomes, results
from notifications.jobs.claiming.executors import EMAIL, QUARANTINED, SENDER_EXECUTORS, executor_at
from notifications.jobs.declaring.signatures import WrongArguments
from notifications.jobs.outcomes import Outcome
from notifications.jobs.transitions import notify_functions, queueing
from notifications.jobs.transitions.running import Claim, ClaimedJob, StartTooLate, claim_of
from notifications.models import Job
from notifications.worker.capacity import MAX_EMAIL_THREADS, MAX_SENDERS, MAX_WAITING_PER_SLOT
from notifications.worker.execution import Execution
from notifications.worker.state import WorkerState
from notifications.worker.subtasks import name_for

logger = logging.getLogger("notifications.jobs")

#: Threads for short calls of async tasks, which many jobs share: of the project's, and of the app's senders.
MAX_DATABASE_THREADS, MAX_SENDER_DATABASE_THREADS = 8, 4

#: Seconds after which an idle thread closes its connection to the server of e-mail.
EMAIL_IDLE_SECONDS = 10.0


class JobRunner:
    """Executes claimed jobs and passes their outcomes to ``on_outcome``.

    ``on_progress``, ``on_join``, ``parts``
        See ``Execution``.
    ``remove``
        Takes the execution of a job that went back to the queue out of those of the worker.
    """

    def __init__(
        self,
        state: WorkerState,
        *,
        on_outcome: Callable[[Outcome], None],
        on_progress: Callable[[Execution], None],
        on_join: Callable[[Execution], None],
        parts: Mapping[str, WorkerPart],
        remove: Callable[[Claim], None],
    ) -> None:
        self._state = state
        self._on_outcome = on_outcome
        self._on_progress = on_progress
        self._on_join = on_join
        self._parts = parts
        self._before_outcome = [
            (HookName(label, "before_outcome"), part.before_outcome)
            for label, part in parts.items()
            if type(part).before_outcome is not WorkerPart.before_outcome
        ]
        self._remove = remove
        self.sync_threads = DaemonExecutor(state.max_sync_threads, "notifications-sync", renews_sessions=True)
        self.email_threads = DaemonExecutor(
            MAX_EMAIL_THREADS, "notifications-email", idle_seconds=EMAIL_IDLE_SECONDS
        )
        # A job that waits for another one has given up its slot, and may keep its thread.
        limit = (1 + MAX_WAITING_PER_SLOT) * state.concurrency
        self._database_threads = JobThreads(MAX_DATABASE_THREADS, "notifications-database", limit=limit)
        self._sender_threads = JobThreads(
            MAX_SENDER_DATABASE_THREADS, "notifications-sender", limit=MAX_SENDERS
        )
        #: Those in which thread-sensitive calls use these threads. Each job runs in a copy.
        self._contexts: dict[JobThreads, contextvars.Context] = {}

    async def open(self) -> None:
        """Prepare the contexts of jobs. Entering one for each job took a quarter of the event loop's time."""
        for threads in (self._database_threads, self._sender_threads):
            # A new one, so that nothing leaks into it from the worker.
            self._contexts[threads] = context = contextvars.Context()
            await asyncio.get_running_loop().create_task(_enter(threads), context=context)

    def start(self, claimed: ClaimedJob) -> None:
        """Begin to execute a job, on the event loop."""
        job = claimed.row
        if job.executor == QUARANTINED:
            logger.warning(
                "Running a quarantined job apart from others: job %s (%s), attempt %d of %d, was running when its "
                "worker was lost.",
                job.id,
                job.task_path,
                job.attempt,
                job.max_attempts,
            )
        execution = Execution(
            claimed,
            self._on_progress,
            self._on_join,
            self._parts,
            may_give_back_slot=partial(self._may_give_back_slot, job),
        )
        self._state.executions.add(execution)
        # In a context of its own, so that nothing leaks into it from another job.
        executor = executor_at(job.task_path)
        job_threads = self._sender_threads if executor in SENDER_EXECUTORS else self._database_threads
        threads = self.email_threads if executor == EMAIL else self.sync_threads
        execution.asyncio_task = asyncio.get_running_loop().create_task(
            self._execute(execution, job_threads, threads),
            context=self._contexts[job_threads].copy(),
            name=name_for(job),
        )

    def _may_give_back_slot(self, job: Job, exc: Exception) -> bool:
        """See ``CurrentExecution``."""
        if executor_at(job.task_path) in self._state.capacity.free():
            return False
        return outcomes.is_retried(job, results.policy_at(job.task_path), exc)

    async def stop_all(self, seconds: float) -> None:
        """Cancel all executions, and wait at most this many seconds until they have ended."""
        for execution in self._state.executions.values():
            execution.is_stopping = True
            if execution.asyncio_task:
                execution.asyncio_task.cancel()
        if running := [
            execution.asyncio_task for execution in self._state.executions.values() if execution.asyncio_task
        ]:
            await asyncio.wait(running, timeout=seconds)

    def shutdown(self) -> None:
        """End the threads when their calls are done."""
        for threads in (self._database_threads, self._sender_threads, self.sync_threads, self.email_threads):
            threads.shutdown()

    async def _execute(self, execution: Execution, job_threads: JobThreads, threads: DaemonExecutor) -> None:
        try:
            await self._run_to_outcome(execution, job_threads, threads)
        finally:
            execution.asyncio_task = None  # its context has the execution
            job_threads.end_job(execution)

    async def _run_to_outcome(
        self, execution: Execution, job_threads: JobThreads, threads: DaemonExecutor
    ) -> None:
        outcome: Outcome | None
        try:
            outcome = await execution.run(job_threads, threads)
        except ImportError as exc:
            outcome = await self._requeue_unknown_task(execution.claimed, exc)
        except WrongArguments as exc:
            outcome = await self._requeue_unknown_call(execution.claimed, exc)
        except NoThread as exc:
            logger.error("Requeuing job %s, which gets no thread: %s", execution.job.id, exc)
            await self._requeue(execution.job, queueing.requeue_without_thread, execution.job)
            return
        except StartTooLate:
            what = "which its limit does not count any more: it was late to begin"
            await self._requeue(execution.job, queueing.requeue_late_start, execution.job)
            logger.warning("Requeued job %s, %s", execution.job.id, what)
            return
        except BaseException as exc:  # a defect of the app: the job must have an outcome all the same
            if isinstance(exc, asyncio.CancelledError) and execution.is_stopping:
                return  # the worker releases the job when it ends; or another worker has claimed it
            logger.exception("Could not make the outcome of job %s", execution.job.id)
            outcome = outcomes.fallback(execution.job)
        if outcome:
            try:
                outcome = await notify_functions.acall(outcome)
                for hook, wait in self._before_outcome:
                    await _call_part(execution, hook, wait)
            finally:  # also after a defect of the app: the finished task must not run again
                self._on_outcome(replace(outcome, notify=None) if outcome.notify else outcome)

    async def _requeue_unknown_task(self, claimed: ClaimedJob, exc: ImportError) -> Outcome | None:
        """Requeue a job whose task cannot be imported; return its failure if that was tried for too long."""
        job = claimed.row
        self._state.timeouts.pop(job.task_path, None)  # it is read again when the task can be imported
        if not await self._requeue(job, queueing.requeue_unknown_task, claimed):
            return outcomes.failure(job, kind="unknown-task")
        logger.warning("Requeued job %s, its task %s cannot be imported: %s", job.id, job.task_path, exc)
        return None

    async def _requeue_unknown_call(self, claimed: ClaimedJob, exc: WrongArguments) -> Outcome | None:
        """Requeue a job whose arguments its task does not take; return its failure if that was tried for too long."""
        job = claimed.row
        fails_after = queueing.UNKNOWN_CALL_FAILS_SECONDS
        if not await self._requeue(job, queueing.requeue_unknown_task, claimed, fails_after):
            return outcomes.failure(job, results.policy_at(job.task_path), "task-failed", exc.__cause__)
        logger.warning(
            "Requeued job %s, its task %s does not take its arguments: %s", job.id, job.task_path, exc
        )
        return None

    async def _requeue(self, job: Job, requeue: Callable[..., bool | None], *args: Any) -> bool:
        """Requeue a job by a function of ``queueing``, unless that returns False. Return whether it is requeued."""
        if (await self._state.retry_write(requeue, *args)) is False:
            return False
        self._remove(claim_of(job))
        return True


async def _call_part(execution: Execution, hook: HookName, call: Callable[[Any], Awaitable[None]]) -> None:
    """Await what a part of an extension does before an outcome is recorded, unless it fails or the worker stops."""
    try:
        await call(execution.job)
    except KeyboardInterrupt:
        raise
    except BaseException as exc:  # SystemExit would end the event loop
        if not (execution.is_stopping and isinstance(exc, asyncio.CancelledError)):
            log_left_out(hook, exc)


async def _enter(threads: JobThreads) -> None:
    """Have thread-sensitive calls of this context use these threads, until the process ends."""
    await ThreadSensitiveContext(executor=threads).__aenter__()  # type: ignore[no-untyped-call]
    # Reading the language of a context in which none is active takes several times as long.
    translation.activate(settings.LANGUAGE_CODE)
