"""Insert what follows from a notification or an outcome, in its transaction: rows of extensions, jobs of own tasks."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from itertools import chain, groupby
from typing import Any

from notifications import streams
from notifications.compat import should_send, task_backends, task_enqueued
from notifications.db import bulk, project_code, signal_queue
from notifications.db.transactions import MAX_ROWS_PER_TRANSACTION, on_commit
from notifications.extension import RecordedTransaction, Rows, hooks
from notifications.jobs import results
from notifications.models import Job, Notification

#: The paths of the tasks whose signals are being sent in this context, the outermost first.
_signaled_tasks: ContextVar[tuple[str, ...]] = ContextVar("notifications_signaled_tasks", default=())


def prepare_hooks() -> None:
    """Let extensions import and read what they need, before a transaction."""
    for prepare in hooks.prepare:
        prepare()


def insert_notifications(rows: Sequence[Notification], tx: RecordedTransaction) -> list[Job]:
    """Insert notifications, prepared by ``inbox.prepare``, and what extensions add to them.

    Returns the jobs among that: ``wake_workers`` follows in the same transaction.
    """
    if not rows:
        return []
    bulk.insert(rows)
    return insert_rows(chain.from_iterable([hook(rows, tx) for hook in hooks.on_created]))


def insert_rows(rows: Rows) -> list[Job]:
    """Insert rows of any models. Returns the jobs among them: ``wake_workers`` follows in the same transaction."""
    jobs: list[Job] = []
    for model, of_model in groupby(rows, type):
        same = list(of_model)
        for start in range(0, len(same), MAX_ROWS_PER_TRANSACTION):
            bulk.insert(same[start : start + MAX_ROWS_PER_TRANSACTION])
        if issubclass(model, Job):
            jobs += same  # type: ignore[arg-type]
    return jobs


def insert_jobs(jobs: Sequence[Job]) -> None:
    """Insert jobs, and have them claimed after the commit."""
    wake_workers(insert_rows(jobs))


def wake_workers(jobs: Sequence[Job]) -> None:
    """Have inserted jobs claimed, or dispatched to their engine, after the commit, as ``enqueue()`` does."""
    if not jobs:
        return
    streams.ring_new_jobs(jobs)
    if any(job.executor == Job.Executor.DISPATCHED for job in jobs):
        hooks.dispatch.send_after_commit(jobs)
    if should_send(task_enqueued, logging.DEBUG):
        on_commit(lambda: signal_queue.send_later(lambda: _send_enqueued(jobs), jobs=len(jobs)))


@contextmanager
def signals_of(task_path: str) -> Iterator[None]:
    """Send the signals of a job of this task inside the block.

    What receivers notify of the job of a handler raises no events, or it would enqueue that job again, without end.
    """
    token = _signaled_tasks.set((*_signaled_tasks.get(), task_path))
    try:
        yield
    finally:
        _signaled_tasks.reset(token)


def signaled_tasks() -> Iterable[str]:
    """Return the paths of the tasks whose signals are being sent in this context."""
    return _signaled_tasks.get()


def _send_enqueued(jobs: Sequence[Any]) -> None:
    for job in jobs:
        backend = type(task_backends[job.backend])
        result = results.task_result(job, attempts=[])
        with signals_of(job.task_path):
            project_code.send(task_enqueued, "task_enqueued", backend, task_result=result)
