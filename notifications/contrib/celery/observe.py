"""Receivers of Celery's signals, which move the jobs of observed tasks.

None of them raises, and none waits for the database: the tasks run as they would without this app.

In the process that runs a task, ``ObservedExecution`` knows its job. The other signals come to the main process of the
worker, which knows only the id: revoked tasks, hard time limits, children that were killed.
"""

from __future__ import annotations

import asyncio
import gc
import logging
import sys
from collections.abc import Callable, MutableMapping, Sequence
from dataclasses import replace
from typing import Any
from weakref import WeakValueDictionary

from billiard.einfo import ExceptionWithTraceback
from celery import current_app, states
from celery.exceptions import Retry
from celery.result import AsyncResult

from notifications import times
from notifications.contrib.celery import headers as job_headers
from notifications.contrib.celery import main_process, task_ends
from notifications.contrib.celery.execution import (
    ObservedExecution,
    current_observed,
    policy_of,
)
from notifications.contrib.celery.held_reports import observer
from notifications.contrib.celery.messages import (
    Message,
    build_job,
    calls_project,
    job_id,
    make_header,
    observation_of,
    parse_time,
    published_ids,
    published_message,
    received_header,
    received_message,
)
from notifications.contrib.celery.observations import Observation
from notifications.contrib.celery.recorder import recorder
from notifications.db import connection
from notifications.db.transactions import on_commit
from notifications.jobs import Outcome, Policy
from notifications.models import Job

logger = logging.getLogger("notifications.jobs")

#: What the main process of this worker has received, by the ids of tasks, until Celery forgets it. The signal of a hard
#: time limit has no headers.
_received: MutableMapping[str, Any] = WeakValueDictionary()


def prepare_worker(**kwargs: Any) -> None:
    """Prepare the main process of a worker.

    Its child processes inherit this module. Each would need a second to load it in its first task. What is loaded now
    stays: when thousands of tasks have been recorded, a child would look through all of it for garbage, for 70 ms.
    """
    main_process.prepare(**kwargs)
    gc.freeze()


def add_header(sender: Any = None, headers: Any = None, body: Any = None, **kwargs: Any) -> None:
    """Add the job's header to a message before it is published."""
    name = str(sender)
    if (message := published_message(name, headers, body)) is None:
        return
    for id in published_ids(message.id, body):
        if execution := current_observed(id):
            execution.is_republished = True
            execution.wait_for_start()
    if (observation := observation_of(name)) is None:
        return
    if message.header is None:
        header = make_header(current_app, message, observation)
        headers[job_headers.NAME] = job_headers.encode(header)


def insert_published(
    sender: Any = None, headers: Any = None, body: Any = None, routing_key: Any = "", **kwargs: Any
) -> None:
    """Insert the job of a published message, after the commit inside a caller's transaction.

    Not before the message is published, which may fail, and not inside the transaction: a worker that has the message
    first inserts the same row, and would wait for the end of the transaction.
    """
    name = str(sender)
    if (observation := observation_of(name)) is None:
        return
    message = published_message(name, headers, body, queue=str(routing_key or ""))
    if message is None or headers.get("retries") or current_observed(message.id):
        return  # its job exists
    job = build_job(current_app, message, observation)
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        db = connection()
        # A database that is away is not asked whether it commits by itself.
        if db.in_atomic_block or (db.connection and not db.get_autocommit()):
            on_commit(lambda: recorder.insert([job]))
        else:  # on the recorder's thread: the publisher must not wait for long for a database that is away
            recorder.insert([job])
    else:  # which must not wait
        recorder.insert([job], wait=False)


def remember(request: Any = None, **kwargs: Any) -> None:
    """Remember a message that this worker has received: the end of its task may be reported before it has a row."""
    _received[str(request.id)] = request


def begin(task_id: str = "", task: Any = None, **kwargs: Any) -> None:
    """Record the start of an attempt."""
    if (observation := observation_of(task.name)) is None:
        return
    request = task.request
    message = received_message(task.name, request)
    if request.is_eager:  # nothing was published
        header = make_header(task.app, message, observation)
        message = replace(message, read_header=lambda: header)
    execution = ObservedExecution(
        task.app,
        task_id,
        message,
        observation,
        worker=None if request.is_eager else main_process.worker_id(),
        attempt=(request.retries or 0) + 1,
        acks_late=bool(task.acks_late),
    )
    if received_header(request) is None or calls_project(observation):
        execution.job  # noqa: B018  made of the arguments, which the task may change, and outside of a transaction
    execution.begin()


def end(task_id: str = "", task: Any = None, retval: Any = None, state: Any = None, **kwargs: Any) -> None:
    """Leave the context of an observed task, and record the ends of which Celery sends no signal."""
    if (execution := current_observed(task_id)) is None:
        return
    try:
        if execution.is_ended:
            return
        exc = sys.exception()
        if state == states.IGNORED and not execution.is_republished:
            _finish_ignored(execution, task)
        elif state == states.IGNORED or (state == states.REJECTED and _is_requeued(execution, task, retval)):
            execution.requeue()
        elif state == states.REJECTED:
            _finish_failed(execution, retval)
        elif execution.is_inline and exc is not None:  # Celery raises it to the caller, and sends no signal
            # The caller gets Retry in place of another attempt.
            _finish_failed(execution, exc.exc if isinstance(exc, Retry) and exc.exc else exc)
        elif exc is not None and not isinstance(exc, Exception):
            # This process may end. The main process records how, and should read the row with its start.
            execution.wait_for_start(main_process.DRAIN_SECONDS)
    finally:
        execution.leave()


def succeed(sender: Any = None, result: Any = None, **kwargs: Any) -> None:
    """Record a success.

    The state of ``end()`` is none yet: it is SUCCESS too where the result, or the next task of a chain, was not sent.
    """
    if execution := current_observed(sender.request.id):
        execution.succeed(result)


def fail(
    sender: Any = None, task_id: str = "", exception: Any = None, request: Any = None, **kwargs: Any
) -> None:
    """Record a failure: of a task in this process, or of one whose process was killed or took too long."""
    exc = exception.exc if isinstance(exception, ExceptionWithTraceback) else exception
    if execution := current_observed(task_id):
        if not execution.is_ended:
            _finish_failed(execution, exc)
        return
    if isinstance(request, dict) and request.get("is_eager"):
        return  # end() has recorded it
    message = None
    if received := _received.get(task_id):
        message = received_message(sender.name, received._context)
        message = replace(message, args=received.args or (), kwargs=received.kwargs or {})
    _finish_by_id(sender, task_id, lambda job, policy: task_ends.failed(job, policy, exc), message)


def retry(
    sender: Any = None, request: Any = None, reason: Any = None, einfo: Any = None, **kwargs: Any
) -> None:
    """Record a failed attempt that Celery follows with another one.

    A cold shutdown sends this signal in the main process, also for messages that are acknowledged, which is no report.
    """
    if execution := current_observed(request.id):
        exc = getattr(reason, "exc", None) or reason
        seconds = _seconds_until(getattr(reason, "when", None))
        execution.schedule_retry(observer.retried(execution.job, exc, seconds))
        return


def revoke(
    sender: Any = None, request: Any = None, terminated: bool = False, expired: bool = False, **kwargs: Any
) -> None:
    """Record the end of a task that was revoked, terminated, or not started before it expired."""
    outcome = task_ends.expired if expired else task_ends.revoked
    _finish_by_id(sender, str(request.id), outcome, message=received_message(sender.name, request))


def fail_unknown(id: str = "", name: str = "", message: Any = None, **kwargs: Any) -> None:
    """Record that a worker has refused a message whose task it does not know.

    It has a job if this process knows how the task is observed, or its publisher does, which the header says.
    """
    queue = str(message.delivery_info.get("routing_key") or "")
    published = published_message(name, message.headers, message.payload, queue)
    observation = observation_of(name)
    row = None
    if published and (observation or published.header):
        row = build_job(current_app, published, observation or Observation())
    recorder.call(
        lambda: _finish_row(
            str(id),
            policy_of(observation),
            lambda job, policy: observer.failed_as(job, Policy(), "unknown-task"),
            row,
        ),
        wait=0,
    )


def _finish_by_id(
    task: Any, id: str, make: Callable[[Job, Policy], Outcome], message: Message | None = None
) -> None:
    """Record the end of a task that does not run in this context."""
    observation = observation_of(task.name)
    if observation is None:
        return
    row = build_job(task.app, message, observation) if message else None
    recorder.call(lambda: _finish_row(id, policy_of(observation), make, row), wait=0)


def _finish_row(id: str, policy: Policy, make: Callable[[Job, Policy], Outcome], missing: Job | None) -> bool:
    """Record an end for the job of a task. ``missing`` is inserted if there is no row yet.

    Return False if the row is locked.
    """
    if missing:
        observer.insert([missing])

    def find_end() -> list[Outcome]:
        job = observer.read(job_id(id))
        if job is None:
            return []
        if job.state == Job.State.RUNNING and job.worker != main_process.worker_id():
            return []  # the message was delivered again, to another worker
        end = make(job, policy)
        # Other records do not wait for its notify function.
        return observer.complete_apart(end, lambda ends: recorder.call(lambda: finish(ends), wait=0))

    def finish(ends: Sequence[Outcome]) -> bool:
        while ends:
            [end] = ends
            if not observer.end(end):
                return False
            # The child may have recorded the start after the row was read, which voids the end. Then it is read again.
            ends = find_end() if end.job.state == Job.State.QUEUED else []
        return True

    return finish(find_end())


def _is_requeued(execution: ObservedExecution, task: Any, reject: Any) -> bool:
    """Return whether the broker delivers a rejected message again: not if it was acknowledged before the task ran."""
    return bool(getattr(reject, "requeue", False) and task.acks_late and not execution.is_inline)


def _finish_failed(execution: ObservedExecution, exc: Any) -> None:
    policy = execution.policy
    execution.finish(lambda job: task_ends.failed(job, policy, exc))


def _finish_ignored(execution: ObservedExecution, task: Any) -> None:
    """Record the end of a task that raised ``Ignore``: what it stored in the result backend, else a success."""
    try:
        result = AsyncResult(execution.id, app=task.app)
        state, value = result.state, result.result
    except Exception as exc:
        logger.warning("Could not read the state of Celery task %s: %s", execution.id, exc)
        state, value = states.SUCCESS, None
    if state == states.FAILURE:
        _finish_failed(execution, value)
    else:
        execution.succeed(value if state == states.SUCCESS else None)


def _seconds_until(when: Any) -> float:
    """Return the seconds until a retry: ``when`` is seconds, or a time."""
    if (moment := parse_time(when)) is not None:
        return max((moment - times.now()).total_seconds(), 0.0)
    return float(when) if isinstance(when, int | float) else 0.0
