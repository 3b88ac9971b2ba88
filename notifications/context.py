"""For whom and in which job this code runs: the user of the request, the owner, the attempt and the execution.

The owner of a job that is enqueued here is the first of these that is set: ``.using(owner=…)``, the user of the request
given to ``accepted``, ``with requester(user)``, the owner of the job that enqueues it. Otherwise the job has no owner.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from functools import partial
from typing import TYPE_CHECKING, Any
from uuid import UUID

from django.core.exceptions import SynchronousOnlyOperation

if TYPE_CHECKING:  # imported by ``@task`` before the models are ready
    from notifications.models import Job, Wait

_request_user: ContextVar[Any] = ContextVar("notifications_request_user", default=None)
_requester: ContextVar[Any] = ContextVar("notifications_requester", default=None)
#: The key of the owner of the job that runs in this context.
_job_owner: ContextVar[Any] = ContextVar("notifications_job_owner", default=None)
#: The batch in whose ``with`` block this code runs (``jobs/batches.py``), or None.
open_batch: ContextVar[Any] = ContextVar("notifications_batch", default=None)


class RunningAttempt:
    """The attempt that runs in a context: the id of its job, and how often it has sent each outbound request.

    ``is_over``
        It has ended. Its task may go on, on a thread, or in asyncio tasks that it has started.
    ``sender_key``
        For whom it sends, if it is one of the app's own senders: the concurrency key of its job. Else None.
    """

    def __init__(self, job_id: UUID) -> None:
        self.job_id = job_id
        self.request_counts: dict[str, int] = defaultdict(int)
        self.is_over = False
        self.sender_key: str | None = None
        self._waits: set[Callable[[], object]] = set()

    @contextmanager
    def ending_wait(self) -> Iterator[None]:
        """Cancel the current asyncio task, of whatever loop and thread, if the attempt ends inside the block."""
        task = asyncio.current_task()
        assert task
        cancel = partial(asyncio.get_running_loop().call_soon_threadsafe, task.cancel)
        self._waits.add(cancel)
        try:
            if self.is_over:  # since the caller looked
                cancel()
            yield
        finally:
            self._waits.discard(cancel)

    def end_waits(self) -> None:
        """Cancel what waits in the attempt, which has ended or is cancelled."""
        for cancel in list(self._waits):
            with suppress(RuntimeError):  # its loop is closed
                cancel()


_running_attempt: ContextVar[RunningAttempt | None] = ContextVar(
    "notifications_running_attempt", default=None
)


class RunningStep:
    """The step that runs in a context, and how many outbound requests with a generated key it has made."""

    def __init__(self, job_id: UUID, name: str) -> None:
        self.job_id, self.name = job_id, name
        self.requests = 0


_running_step: ContextVar[RunningStep | None] = ContextVar("notifications_running_step", default=None)


class ExecutionSteps:
    """The steps and waits of an execution: the names that its task has used, those that are stored, and writes.

    ``stored_kinds``
        What is stored by name: "step", or the kind of a wait. None while they have not been read.
    ``writes``
        Futures of results that are being stored.
    ``text``
        What the notification of a success says unless the task does, in the language of the job; "" for the default.
    """

    def __init__(self) -> None:
        self.used_names: set[str] = set()
        self.stored_kinds: dict[str, str] | None = None
        self.writes: set[Future[str]] = set()
        self.text = ""


class CurrentExecution:
    """What code below a task may know of its execution.

    ``may_give_back_slot``
        Returns whether others may need the slot of this job, and it is tried again if its task raises the exception;
        from any thread.
    ``parts``
        What extensions have in its worker (``extension.WorkerPart``), by their labels.
    ``steps``
        None until the task uses the first step or wait.
    ``waits``
        What the task has been suspended for, nothing of which is stored before its execution has ended.
    """

    job: Job
    is_cancelling: bool
    is_over: bool
    is_stopping: bool
    on_progress: Callable[[Any], None]
    parts: Mapping[str, Any]
    steps: ExecutionSteps | None
    waits: Sequence[Wait]
    run_inline: Callable[[Any], None] | None
    job_threads: Any
    may_give_back_slot: Callable[[Exception], bool]


_execution: ContextVar[CurrentExecution | None] = ContextVar("notifications_execution", default=None)


@contextmanager
def requester(user: Any) -> Iterator[None]:
    """Make ``user`` (or a primary key) the owner of the jobs that are enqueued inside the ``with`` block."""
    token = _requester.set(user)
    try:
        yield
    finally:
        _requester.reset(token)


@contextmanager
def owner_from_request(user: Any) -> Iterator[None]:
    """Make the user of a request the owner of the jobs that are enqueued inside the ``with`` block."""
    token = _request_user.set(user)
    try:
        yield
    finally:
        _request_user.reset(token)


def owners() -> tuple[Any, Any, Any]:
    """Return the user of the request, that of ``requester()``, and the key of the owner of the job that runs here.

    The first one that is not None owns the jobs that are enqueued in this context.
    """
    return _request_user.get(), _requester.get(), _job_owner.get()


def caller_key() -> Any:
    """Return the primary key of the user for whom this context runs, or None. For grouping only: it is not checked."""
    for user in (_request_user.get(), _requester.get()):
        if user is not None:
            try:
                return getattr(user, "pk", user)
            except SynchronousOnlyOperation:  # request.user is lazy and not yet loaded, on the event loop.
                return None
    return _job_owner.get()


def enter_attempt(owner_id: Any, job_id: UUID | None = None) -> RunningAttempt | None:
    """Make ``owner_id`` the owner of the jobs that this context enqueues; users set by the caller no longer count.

    Returns the attempt that runs from now on, if ``job_id`` is that of its job.
    """
    _request_user.set(None)
    _requester.set(None)
    _job_owner.set(owner_id)
    attempt = RunningAttempt(job_id) if job_id else None
    _running_attempt.set(attempt)
    return attempt


def running_attempt() -> RunningAttempt | None:
    """Return the attempt that runs in this context, or that started this asyncio task, or None."""
    return _running_attempt.get()


@contextmanager
def entered_step(job_id: UUID, name: str) -> Iterator[None]:
    """Make a step the one that runs in this context, inside the ``with`` block."""
    token = _running_step.set(RunningStep(job_id, name))
    try:
        yield
    finally:
        _running_step.reset(token)


def running_step() -> RunningStep | None:
    """Return the innermost step that runs in this context, or None."""
    return _running_step.get()


def current_execution() -> CurrentExecution | None:
    """Return the execution of the job that calls this, or None outside a job."""
    return _execution.get()


def set_current_execution(execution: CurrentExecution | None) -> None:
    """Make an execution, or none, the current one of this context."""
    _execution.set(execution)


def is_inside_job() -> bool:
    return _execution.get() is not None
