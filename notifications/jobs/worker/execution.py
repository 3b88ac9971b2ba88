"""One attempt at a job: the task is called, and what comes out becomes an outcome."""

from __future__ import annotations

import asyncio
import contextvars
import json
import logging
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Executor, Future
from contextlib import contextmanager, suppress
from inspect import iscoroutinefunction
from typing import Any, TypeVar
from uuid import UUID

from asgiref.sync import ThreadSensitiveContext, sync_to_async
from django.core.exceptions import ImproperlyConfigured
from django.utils import translation

from notifications import traces, validators
from notifications.compat import TaskContext, is_heard, task_backends, task_started
from notifications.db.threads import DaemonExecutor, NoThread, check_connections
from notifications.exceptions import JobCancelled
from notifications.jobs import host_code, results
from notifications.jobs.claiming.claimed_job import ClaimedJob
from notifications.jobs.enqueueing.owners import read_batch_owners, set_running_job
from notifications.jobs.policies import policy_of
from notifications.jobs.transitions import outcomes, signal_queue
from notifications.jobs.transitions.outcomes import Outcome

T = TypeVar("T")

logger = logging.getLogger("notifications.jobs")


class Execution:
    """A job while it runs here."""

    __slots__ = (
        "call",
        "cancelling",
        "claimed",
        "database_thread",
        "inline",
        "interruptible",
        "job",
        "joined",
        "on_join",
        "on_progress",
        "over",
        "stopping",
        "task",
        "threads",
        "waits",
    )

    def __init__(
        self,
        claimed: ClaimedJob,
        on_progress: Callable[[Execution], None],
        on_join: Callable[[], None] = lambda: None,
        inline: Callable[[Any], None] | None = None,
    ) -> None:
        self.claimed = claimed
        self.job = claimed.row
        self.on_progress = on_progress
        #: Called, from any thread, when it begins to wait for another job: its slot is free until then.
        self.on_join = on_join
        #: Where nobody else runs jobs: runs others until the one with this id is done.
        self.inline = inline
        self.over = False
        #: The jobs for whose ends it waits.
        self.joined: dict[Future[Any], UUID] = {}
        #: The call of a sync task on its thread.
        self.call: Future[Any] | None = None
        self.threads: DaemonExecutor | None = None
        self.database_thread: Executor | None = None
        self.stopping = False
        #: Whether somebody wants it cancelled, and whether it may be ended where it awaits something.
        self.cancelling = False
        self.interruptible = False
        #: Whether it waits for a thread; its time has not begun then.
        self.waits = False
        self.task: asyncio.Task[None] | None = None

    async def run(self, database_thread: Executor | None, threads: DaemonExecutor | None) -> Outcome:
        """Call the task and return the outcome. Without threads everything runs on the caller's.

        Raises ImportError when the task is not known here, ``NoThread`` when there is no thread for it, and
        ``asyncio.CancelledError`` when the worker stops.
        """
        job = self.job
        if self.cancelling or job.cancel_requested_at is not None:  # before it began, here or elsewhere
            return outcomes.cancelled(job, results.policy_at(job.task_path))
        task = results.find_task(job.task_path)
        policy = policy_of(task.func)
        _current.set(self)
        self.threads, self.database_thread = threads, database_thread
        set_running_job(self.claimed.owner, job.id)
        traces.carry(job.trace)
        if job.language and job.language != translation.get_language():
            translation.activate(job.language)
        args, kwargs = json.loads(job.args), json.loads(job.kwargs)
        if task.takes_context:
            args = [JobContext(task_result=self.claimed.task_result), *args]
        limit = asyncio.timeout(policy.timeout)

        def begin() -> None:
            if self.waits:
                self.waits = False
                limit.reschedule(asyncio.get_running_loop().time() + policy.timeout)

        try:
            async with limit, ThreadSensitiveContext(executor=database_thread):
                if iscoroutinefunction(task.func):
                    self.interruptible = True
                    value = await task.func(*args, **kwargs)
                elif threads is None:
                    value = await sync_to_async(task.func)(*args, **kwargs)
                else:
                    self.waits = True
                    limit.reschedule(None)
                    value = await _in_thread(threads, begin, self, task.func, args, kwargs)
        except asyncio.CancelledError as exc:
            if self.cancelling:
                return outcomes.cancelled(job, policy, exc)
            if self.stopping:
                raise
            return outcomes.failed(job, policy, exc)
        except NoThread:
            raise
        except BaseException as exc:  # the worker's boundary: whatever a task raises is its outcome
            if limit.expired():
                return outcomes.timed_out(job, policy)
            if self.cancelling and isinstance(exc, JobCancelled):
                return outcomes.cancelled(job, policy, exc)
            outcome = outcomes.failed(job, policy, exc)
            if outcome.retry_delay is not None:  # the last one is logged by Django, with task_finished
                logger.info(
                    "Job is tried again: %s (%s), attempt %d.",
                    job.id,
                    job.task_path,
                    job.attempt,
                    exc_info=exc,
                )
            return outcome
        finally:
            self.waits = self.interruptible = False
            self.over = True
            for future in list(self.joined):  # a thread that was abandoned waits for nothing any more
                future.cancel()
        return outcomes.succeeded(job, policy, value)

    def cancel(self) -> None:
        """Have the task ended, on the event loop: an async one where it awaits, a sync one in line or when it looks."""
        if self.cancelling:
            return
        self.cancelling = True
        if self.call:
            self.call.cancel()  # does nothing to one that runs
            for future in list(self.joined):
                future.cancel()
        elif self.interruptible and self.task:
            self.task.cancel()


_current: contextvars.ContextVar[Execution | None] = contextvars.ContextVar(
    "notifications_running", default=None
)


def is_job() -> bool:
    """Whether this is called by a job."""
    return _current.get() is not None


def current() -> Execution | None:
    """Return the job that calls this, if one does."""
    return _current.get()


def on_shared_thread() -> bool:
    """Whether this is called on a thread for the database work of async tasks."""
    run = _current.get()
    thread = run.database_thread if run else None
    return isinstance(thread, DaemonExecutor) and thread.runs_this_thread()


@contextmanager
def release_slot(run: Execution | None, future: Future[Any], id: UUID) -> Iterator[None]:
    """Give up the slot of a job, and the thread of a sync one, while it waits for the end of the one with this id."""
    if run is None:
        yield
        return
    run.joined[future] = id
    if run.over or (run.cancelling and run.call):
        future.cancel()
    run.on_join()
    try:
        if run.threads and run.call:
            with run.threads.lend_thread(run.call):
                yield
        else:
            yield
    finally:
        run.joined.pop(future, None)


class JobContext(TaskContext):
    """What a task with ``takes_context=True`` gets: Django's context, and what it may say and ask about its job."""

    def progress(self, current: int, total: int | None = None, message: str = "") -> None:
        """See ``notifications.api.progress``."""
        progress(current, total, message)

    def raise_if_cancelled(self) -> None:
        """Raise ``JobCancelled`` if somebody wants this job cancelled: the way for a sync task to end early."""
        running = _current.get()
        if running is not None and running.cancelling:
            raise JobCancelled


def progress(current: int, total: int | None = None, message: str = "") -> None:
    """See ``notifications.api.progress``."""
    current = validators.integer("current", current)
    total = None if total is None else validators.integer("total", total)
    message = validators.text("message", message, validators.PROGRESS)
    running = _current.get()
    if running is None:
        return
    job = running.job
    job.progress_current, job.progress_total, job.progress_message = current, total, message
    running.on_progress(running)


def track(items: Iterable[T], *, message: str = "") -> Iterator[T]:
    """See ``notifications.api.track``."""
    total = len(items) if hasattr(items, "__len__") else None  # type: ignore[arg-type]
    for done, item in enumerate(items):
        progress(done, total, message)
        yield item
    if total is not None:
        progress(total, total, message)


def send_task_started(jobs: Sequence[ClaimedJob]) -> None:
    """Fill in what executions of claimed jobs need, and send ``task_started`` for each.

    On a worker the signals go through its signal queue, so a task may begin before a receiver is called.
    """
    batch_owners = read_batch_owners(claimed.row for claimed in jobs)
    has_receivers = is_heard(task_started)
    started: list[tuple[Any, Any]] = []
    for claimed in jobs:
        job = claimed.row
        if job.id in batch_owners:
            claimed.owner = batch_owners[job.id]
        try:
            if not has_receivers and not results.find_task(job.task_path).takes_context:
                continue
            claimed.task_result = results.of(job, attempts=None if job.attempt > 1 else [])
            started.append((type(task_backends[job.backend]), claimed.task_result))
        except (ImportError, ImproperlyConfigured, ValueError):
            continue  # the execution requeues a job of an unknown task, and fails one with damaged arguments
    if has_receivers and started:
        signal_queue.send_later(lambda: _send_task_started(started), jobs=len(started))


def _send_task_started(started: Sequence[tuple[Any, Any]]) -> None:
    for backend, result in started:
        host_code.send(task_started, "task_started", backend, task_result=result)


async def _in_thread(
    threads: DaemonExecutor,
    begin: Callable[[], None],
    run: Execution,
    function: Callable[..., Any],
    args: list[Any],
    kwargs: dict[str, Any],
) -> Any:
    loop = asyncio.get_running_loop()

    def call() -> tuple[Any, BaseException | None]:
        loop.call_soon_threadsafe(begin)
        try:
            return function(*args, **kwargs), None
        except BaseException as exc:  # as a value: a future takes neither StopIteration nor SystemExit well
            # Closed here: what it raised is the error, not also the transaction that it left open.
            with suppress(Exception):
                check_connections()
            return None, exc

    def write_off() -> None:
        if threads.write_off(future):
            job = run.job
            logger.warning("Job %s is over, but %s does not end and keeps a thread.", job.id, job.task_path)

    future = run.call = threads.submit(contextvars.copy_context().run, call)
    try:
        value, exc = await asyncio.wrap_future(future)
    except asyncio.CancelledError:
        # Later: others that are cancelled at the same time, as at a stop, must not get the thread that is free now.
        loop.call_soon(write_off)
        raise
    if exc is not None:
        raise exc
    return value
