"""Execute one attempt at a claimed job: prepare it, call its task, and turn what that does into an outcome."""

from __future__ import annotations

import asyncio
import contextvars
import json
import logging
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from functools import partial
from typing import Any
from uuid import UUID

from asgiref.sync import sync_to_async
from django.core.exceptions import ImproperlyConfigured
from django.utils import translation

from notifications.compat import should_send, task_backends, task_started
from notifications.context import (
    CurrentExecution,
    ExecutionSteps,
    RunningAttempt,
    enter_attempt,
    set_current_execution,
)
from notifications.db import project_code, signal_queue
from notifications.db.job_threads import JobThreads
from notifications.db.thread_calls import ThreadCall, keep_raised, result_of
from notifications.db.threads import DaemonExecutor, NoThread
from notifications.exceptions import JobCancelled, JobSuspended
from notifications.jobs import outcomes, results
from notifications.jobs.claiming.executors import SENDER_EXECUTORS, executor_of, is_async
from notifications.jobs.declaring import signatures
from notifications.jobs.declaring.policies import Policy, policy_of
from notifications.jobs.job_context import JobContext
from notifications.jobs.notifying import signals_of
from notifications.jobs.outcomes import Outcome
from notifications.jobs.tracebacks import drop_tracebacks
from notifications.jobs.transitions import batch_completion
from notifications.jobs.transitions.running import ClaimedJob, StartTooLate
from notifications.models import Wait
from notifications.tracing import spans, trace_context
from notifications.worker import subtasks

logger = logging.getLogger("notifications.jobs")

#: The error of a task that goes on although its job is to be suspended.
SWALLOWED = (
    "The task caught JobSuspended, which {!r} raised to suspend the job, and returned. Let it pass, as "
    "`except Exception` does."
)


def prepare_claimed_jobs(jobs: Sequence[ClaimedJob]) -> None:
    """Set ``owner`` and ``task_result`` of claimed jobs, and send ``task_started`` for each.

    A TaskResult is made only for a task that takes it, or for a receiver: it costs as much as the rest of a small job.
    On a worker the signals go through its signal queue, so a task may begin before a receiver is called.
    """
    batch_owners = batch_completion.read_batch_owners(claimed.row for claimed in jobs)
    has_receivers = should_send(task_started)
    started: list[tuple[Any, Any]] = []
    for claimed in jobs:
        job = claimed.row
        if batch_owners and job.id in batch_owners:
            claimed.owner = batch_owners[job.id]
        try:
            if not has_receivers and not results.find_task(job.task_path).takes_context:
                continue
            claimed.task_result = results.task_result(job, attempts=None if job.attempt > 1 else [])
            started.append((type(task_backends[job.backend]), claimed.task_result))
        except (ImportError, ImproperlyConfigured, ValueError):
            continue  # the execution requeues a job of an unknown task, and fails one with damaged arguments
    if has_receivers and started:
        signal_queue.send_later(lambda: _send_task_started(started), jobs=len(started))


def _send_task_started(started: Sequence[tuple[Any, Any]]) -> None:
    for backend, result in started:
        with signals_of(result.task.module_path):
            project_code.send(task_started, "task_started", backend, task_result=result)


class Execution(CurrentExecution):
    """One attempt at a job in this process.

    ``on_progress``
        Called when the task reports progress, from any thread.
    ``on_join``
        Called when the task begins to wait for another job, which frees its slot until then; from any thread.
    ``parts``, ``may_give_back_slot``
        See ``CurrentExecution``.
    ``run_inline``
        Where no other worker runs jobs, as in a test: runs jobs until the one with a given id is done.
    """

    def __init__(
        self,
        claimed: ClaimedJob,
        on_progress: Callable[[Execution], None],
        on_join: Callable[[Execution], None] = lambda execution: None,
        parts: Mapping[str, Any] | None = None,
        run_inline: Callable[[Any], None] | None = None,
        may_give_back_slot: Callable[[Exception], bool] = lambda exc: False,
    ) -> None:
        self.claimed, self.job = claimed, claimed.row
        self.on_progress = on_progress
        self.on_join = on_join
        self.parts = parts or {}
        self.steps: ExecutionSteps | None = None
        self.waits: Sequence[Wait] = ()
        self.run_inline, self.may_give_back_slot = run_inline, may_give_back_slot
        #: The jobs for whose ends the task waits, by the futures that it waits for.
        self.joined_jobs: dict[Future[Any], UUID] = {}
        self.running_attempt: RunningAttempt | None = None
        #: The call of a sync task on its thread.
        self.thread_call: Future[Any] | None = None
        self.sync_threads: DaemonExecutor | None = None
        self.job_threads: JobThreads | None = None
        self.asyncio_task: asyncio.Task[None] | None = None
        #: The task was called.
        self.has_begun = False
        #: The task has returned or raised.
        self.is_over = False
        #: The worker stops, or another one has claimed the job: there will be no outcome.
        self.is_stopping = False
        #: The job is to be cancelled.
        self.is_cancelling = False
        #: The task is async and runs, so it can be cancelled where it awaits.
        self.is_interruptible = False
        #: A sync task is in line for a thread. Its timeout counts from when it gets one.
        self.is_waiting_for_thread = False

    async def run(self, job_threads: JobThreads | None, sync_threads: DaemonExecutor | None) -> Outcome:
        """Call the task and return the outcome. Without threads a sync task runs on the caller's thread.

        ``job_threads`` are those of the context, on which thread-sensitive calls run.

        Raises ImportError if the task cannot be imported, ``WrongArguments`` if it does not take the arguments of the
        job, ``NoThread`` without a thread for it, ``StartTooLate``, ``asyncio.CancelledError`` if the worker stops.
        """
        job = self.job
        if self.is_cancelling or job.cancel_requested_at is not None:  # before the task was called
            return outcomes.cancelled(job, results.policy_at(job.task_path))
        task = results.find_task(job.task_path)
        policy = policy_of(task.func)
        set_current_execution(self)
        self.sync_threads, self.job_threads = sync_threads, job_threads
        self.running_attempt = attempt = enter_attempt(self.claimed.owner, job.id)
        if attempt and executor_of(task.func) in SENDER_EXECUTORS:
            attempt.sender_key = job.concurrency_key
        trace_context.restore(job.trace)
        if job.language and job.language != translation.get_language():
            translation.activate(job.language)
        if spans.tracer is None:
            return await self._call_task(task, policy)
        with spans.executing(job) as span:
            outcome = await self._call_task(task, policy)
            spans.set_outcome(span, outcome)
        return outcome

    async def _call_task(self, task: Any, policy: Policy) -> Outcome:
        job, sync_threads = self.job, self.sync_threads
        stored_args, kwargs = json.loads(job.args), {} if job.kwargs == "{}" else json.loads(job.kwargs)
        context = [JobContext(task_result=self.claimed.task_result)] if task.takes_context else []
        args = [*context, *stored_args]
        timeout = asyncio.timeout(policy.timeout)
        expires_at, has_returned = job.expires_at, False

        def start_timeout() -> None:
            if self.is_waiting_for_thread:
                self.is_waiting_for_thread = False
                if policy.timeout is not None:
                    timeout.reschedule(asyncio.get_running_loop().time() + policy.timeout)

        try:
            async with timeout:
                if is_async(task.func):
                    self.is_interruptible = True
                    self._begin()
                    value = await task.func(*args, **kwargs)
                elif sync_threads is None:
                    self._begin()
                    value = await sync_to_async(task.func)(*args, **kwargs)
                else:
                    self.is_waiting_for_thread = True
                    timeout.reschedule(None)
                    value = await self._call_on_thread(sync_threads, start_timeout, task.func, args, kwargs)
            has_returned = True
            result = "" if self.waits else outcomes.encode(value)
        except (NoThread, StartTooLate):
            raise
        except (
            BaseException
        ) as exc:  # whatever a task, or the class of what it returns, raises is its outcome
            if has_returned:
                return outcomes.failure(job, policy, "result-not-storable", exc)
            if isinstance(exc, asyncio.CancelledError) and self.is_stopping and not self.is_cancelling:
                raise
            if not self.is_cancelling and signatures.explains(task, stored_args, kwargs, exc):
                self.has_begun, job.expires_at = False, expires_at
                raise signatures.WrongArguments(str(exc)) from exc
            outcome = await self._make_outcome(exc, policy, is_late=timeout.expired())
            if outcome.exception is not exc:  # otherwise receivers of signals read it
                drop_tracebacks(exc)
            return outcome
        finally:
            self.is_waiting_for_thread = self.is_interruptible = False
            self.is_over = True
            if self.running_attempt:
                self.running_attempt.is_over = True
            # A task that timed out on a thread may still wait there.
            self._end_waits()
            if self.steps and self.steps.writes:
                # Of a task that timed out or was cancelled. Stored after the end of the attempt, they would be void.
                await asyncio.wait({asyncio.wrap_future(write) for write in self.steps.writes.copy()})
        if self.waits:
            return outcomes.failed(job, policy, RuntimeError(SWALLOWED.format(self.waits[0].name)))
        return outcomes.succeeded(job, policy, value, result, body=self.steps.text if self.steps else "")

    def _begin(self) -> None:
        """Take note that the task is called now. Its job does not expire any more. Raises ``StartTooLate``."""
        self.claimed.check_start()
        self.has_begun, self.job.expires_at = True, None

    async def _make_outcome(self, exc: BaseException, policy: Policy, *, is_late: bool) -> Outcome:
        """Return the outcome of a task that raised ``exc``, or whose time was over."""
        job = self.job
        if isinstance(exc, asyncio.CancelledError):
            return (outcomes.cancelled if self.is_cancelling else outcomes.failed)(job, policy, exc)
        if self.waits and not is_late and _is_suspension(exc):
            await subtasks.cancel_all(job)
            if self.is_cancelling:
                return outcomes.cancelled(job, policy, exc)
            return Outcome(job=job, state=job.State.WAITING, waits=self.waits)
        if self.is_cancelling and isinstance(exc, JobCancelled) and not is_late:
            return outcomes.cancelled(job, policy, exc)
        outcome = outcomes.timed_out(job, policy) if is_late else outcomes.failed(job, policy, exc)
        if self.is_cancelling and (is_late or outcome.retry_delay is not None):
            return outcomes.cancelled(job, policy, exc)
        if not is_late and outcome.retry_delay is not None:
            # The last attempt is logged by Django, with task_finished.
            logger.info(
                "Attempt failed, the job is retried: job %s (%s), attempt %d",
                job.id,
                job.task_path,
                job.attempt,
                exc_info=exc,
            )
        return outcome

    def cancel(self) -> None:
        """Cancel the task; called on the event loop.

        An async task is cancelled where it awaits. A sync task is not called if it is still in line for a thread, and
        ends itself by ``raise_if_cancelled()`` if it runs.
        """
        if self.is_cancelling:
            return
        self.is_cancelling = True
        if self.thread_call:
            self.thread_call.cancel()  # has no effect on a call that runs
            self._end_waits()
        elif self.is_interruptible and self.asyncio_task:
            self.asyncio_task.cancel()

    def _end_waits(self) -> None:
        """End the waits of a task for other jobs, and for slots of outbound calls."""
        for future in list(self.joined_jobs):
            future.cancel()
        if self.running_attempt:
            self.running_attempt.end_waits()

    async def _call_on_thread(
        self,
        threads: DaemonExecutor,
        on_start: Callable[[], None],
        function: Callable[..., Any],
        args: list[Any],
        kwargs: dict[str, Any],
    ) -> Any:
        """Call a sync task on a thread; ``on_start`` is called on the event loop when it gets one."""
        loop = asyncio.get_running_loop()

        def call() -> Any:
            self._begin()
            loop.call_soon_threadsafe(on_start)
            return keep_raised(function, *args, **kwargs)

        def detach() -> None:
            if threads.detach(future):
                logger.warning(
                    "Task does not end and keeps a thread: job %s (%s)", self.job.id, self.job.task_path
                )

        # Not submit(), which would change a JobSuspended.
        threads.run(future := ThreadCall(partial(contextvars.copy_context().run, call)))
        self.thread_call = future
        try:
            result = await asyncio.wrap_future(future)
        except asyncio.CancelledError:
            if not future.cancelled():  # the thread may be about to call it
                self.has_begun, self.job.expires_at = True, None
            # Later: writing off frees the thread for the next call in line, and calls that are cancelled at the same
            # moment, as at a stop, must leave the line first.
            loop.call_soon(detach)
            raise
        finally:
            if future.done():
                self.thread_call = None  # it keeps what the task returned or raised
        return result_of(result)


def _is_suspension(exc: BaseException) -> bool:
    """Return whether a task ended because it waits, also if a group of asyncio tasks has collected that."""
    if isinstance(exc, BaseExceptionGroup):
        return all(map(_is_suspension, exc.exceptions))
    return isinstance(exc, JobSuspended)
