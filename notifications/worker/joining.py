"""Wait for jobs: join() and ajoin()."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Awaitable, Callable, Iterator
from concurrent.futures import CancelledError, Future
from contextlib import contextmanager
from typing import Any
from uuid import UUID

from notifications.compat import TaskResult
from notifications.context import current_execution
from notifications.db.clock import database_now, is_lease_valid
from notifications.db.job_sessions import app_sync_to_async
from notifications.db.thread_connections import close_idle_connections
from notifications.db.transactions import database, in_callers_transaction
from notifications.db.unavailable import QUERY_ERRORS, log_retried
from notifications.exceptions import JobCancelled, JobDoesNotExist
from notifications.ids import id_of
from notifications.jobs.claiming.unserved import claiming_workers
from notifications.jobs.declaring.tasks import refuse_backend, stores_jobs
from notifications.jobs.durable_calls import refuse_on_event_loop
from notifications.jobs.job_ends import JobEnd, Listen, end_reader, read_end
from notifications.models import Job
from notifications.worker.execution import Execution

logger = logging.getLogger("notifications.jobs")


def join(job: Any, timeout: float | None, *, listen: Listen) -> Any:
    """See ``notifications.api.join``."""
    refuse_on_event_loop("join")
    id, seconds, parent = _job_id(job), _validated_timeout(timeout), _waiting_job(job)
    end = read_end(id)
    if end is None:
        _refuse_in_transaction(parent)
        if parent and parent.run_inline:
            parent.run_inline(id)
            end = read_end(id)
    if end is None:
        close_idle_connections()
        with end_reader.wait_for(id, listen) as future, release_slot(parent, future, id):
            try:
                end = future.result(seconds)
            except TimeoutError:
                raise TimeoutError(_describe_timeout(id, seconds)) from None
            except CancelledError:
                raise JobCancelled("The job that was waiting has ended or was cancelled.") from None
    return end.value()


async def ajoin(
    job: Any,
    timeout: float | None,  # noqa: ASYNC109 (as join has it)
    *,
    listen: Listen,
    release_connections: Callable[[], Awaitable[None]],
) -> Any:
    """See ``notifications.api.join``. ``release_connections`` closes those of the request before the wait."""
    id, seconds, parent = _job_id(job), _validated_timeout(timeout), _waiting_job(job)

    def read_end_or_refuse() -> JobEnd | None:
        end = read_end(id)
        if end is None:
            _refuse_in_transaction(parent)
        return end

    end = await app_sync_to_async(read_end_or_refuse)()
    if end is None and parent and parent.run_inline:
        await app_sync_to_async(parent.run_inline)(id)
        end = await app_sync_to_async(read_end)(id)
    if end is None:
        if parent is None:
            await release_connections()
        with end_reader.wait_for(id, listen) as future, release_slot(parent, future, id):
            deadline = asyncio.timeout(seconds)
            try:
                async with deadline:
                    end = await asyncio.wrap_future(future)
            except TimeoutError:
                if not deadline.expired():
                    raise
                raise TimeoutError(await app_sync_to_async(_describe_timeout)(id, seconds)) from None
    return end.value()


def _job_id(job: Any) -> UUID:
    id = id_of(job, f"{job!r} cannot be joined. Pass what enqueue() returned, a job's id, or a batch.")
    if id is None:
        if isinstance(job, TaskResult) and not stores_jobs(job.backend):
            refuse_backend(job.backend, "join()")
        raise JobDoesNotExist(getattr(job, "id", job))
    return id


def _validated_timeout(timeout: Any) -> float | None:
    if timeout is None:
        return None
    if isinstance(timeout, bool) or not isinstance(timeout, int | float):
        raise TypeError(f"timeout must be a number of seconds or None, not {type(timeout).__name__}.")
    if not 0 <= timeout <= threading.TIMEOUT_MAX:
        raise ValueError(f"timeout is {timeout!r}. It must be a number of seconds of 0 or more, or None.")
    return timeout


def _waiting_job(job: Any) -> Execution | None:
    parent = current_execution()
    if parent is not None and parent.job.id == _job_id(job):
        raise ValueError("A job cannot wait for its own end.")
    assert parent is None or isinstance(parent, Execution)
    return parent


def _refuse_in_transaction(parent: Execution | None) -> None:
    if in_callers_transaction() and not (parent and parent.run_inline):
        raise RuntimeError(
            "The job is not done, and no worker sees it before this transaction commits. "
            "Wait for it after the atomic block; in a TestCase call notifications.testing.run_jobs() first."
        )


def _describe_timeout(id: UUID, seconds: float | None) -> str:
    problem = f"Job {id} was not done within {seconds:g} s."
    try:
        is_queued = Job.objects.using(database()).filter(id=id, state=Job.State.QUEUED).exists()
        if is_queued and not claiming_workers().filter(is_lease_valid(database_now())).exists():
            return f"{problem} It is queued, and no worker runs: start one with manage.py run_jobs."
    except QUERY_ERRORS as exc:
        log_retried(logger, "Could not read why a job was not done in time", exc)
    return f"{problem} It continues."


@contextmanager
def release_slot(execution: Execution | None, future: Future[Any], id: UUID) -> Iterator[None]:
    """Free the slot of a job, and the thread of a sync task, inside the block, which waits for the job with this id."""
    if execution is None:
        yield
        return
    execution.joined_jobs[future] = id
    if execution.is_over or (execution.is_cancelling and execution.thread_call):
        future.cancel()
    execution.on_join(execution)
    try:
        if execution.sync_threads and execution.thread_call:
            with execution.sync_threads.release_thread(execution.thread_call):
                yield
        else:
            yield
    finally:
        execution.joined_jobs.pop(future, None)
