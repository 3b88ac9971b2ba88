"""Batches: jobs that are enqueued together, with one progress and one notification.

A batch is a job itself, which no worker claims: its state is running from the commit until all its jobs are done.
"""

from __future__ import annotations

import logging
from contextvars import Token
from typing import Any, TypedDict

from asgiref.sync import sync_to_async
from django.utils import translation
from django.utils.module_loading import import_string
from django.utils.translation import ngettext

from notifications import times, validators
from notifications.compat import TaskResult, should_send, task_backends, task_enqueued
from notifications.context import open_batch
from notifications.db import bulk
from notifications.db.transactions import chunks, connection, on_commit, retrying_atomic
from notifications.extension import hooks
from notifications.ids import uuid7
from notifications.jobs import limits, results, tags, turns
from notifications.jobs.declaring.own_tasks import first_backend_alias, own_task
from notifications.jobs.declaring.policies import NotifyOption, owner_share
from notifications.jobs.declaring.tasks import wakes_builtin_worker
from notifications.jobs.transitions import batch_completion, recording
from notifications.jobs.transitions.enqueueing import owner_key
from notifications.models import Job
from notifications.streams import rings
from notifications.tracing import spans

MAX_ROWS_PER_INSERT = 500


class BatchCounts(TypedDict):
    """The result of a batch: how many of its jobs ended in each state."""

    succeeded: int
    failed: int
    cancelled: int


class Batch:
    """A batch, of which ``batch()`` and ``abatch()`` of ``notifications.api`` return one to be used once.

    ``id``
        The id of the batch as a job.
    """

    def __init__(
        self,
        *,
        owner: Any = None,
        title: Any = None,
        url: str | None = None,
        notify: NotifyOption = True,
    ) -> None:
        self.id = uuid7()
        self._owner = owner
        self._title = (
            None
            if title is None
            else validators.label("title", title, validators.MAX_TITLE_LENGTH, required=True)
        )
        self._url = validators.link("url", url)
        self._notify = _serialize_notify(notify)
        self._parent: Batch | None = None
        self._token: Token[Batch | None] | None = None
        self._is_closed = False
        #: The jobs, each with its task: those of batches inside this one too.
        self._jobs: list[tuple[Job, Any]] = []
        self._result: TaskResult | None = None

    @property
    def owner(self) -> Any:
        """The primary key of the batch's owner, or None."""
        if self._owner is None and self._parent:
            return self._parent.owner
        return owner_key(self._owner)

    @property
    def result(self) -> TaskResult:
        """The batch as a job: what ``enqueue`` would have returned. Available after the block."""
        if self._result is None:
            raise RuntimeError(
                "The batch is enqueued at the end of its block. Read its result after the block."
            )
        return self._result

    def add(self, job: Job, task: Any) -> TaskResult:
        """Collect a job that is enqueued inside the block. It is inserted at the end of the block."""
        if self._is_closed:
            raise RuntimeError(
                "A job was enqueued after the end of its batch's block. "
                "Await what the block has started before it ends."
            )
        job.created_at = job.queued_at = times.now()
        job.batch = self.id
        owner = self.owner
        if owner is not None and not job.share_name:
            job.share_name = owner_share(owner)
        self._jobs.append((job, task))
        return results.task_result(job, task=task, attempts=[])

    def __enter__(self) -> Batch:
        if self._token or self._is_closed:
            raise RuntimeError("A batch can be entered once. Create a new one.")
        self._parent = open_batch.get()
        self._token = open_batch.set(self)
        return self

    def __exit__(self, exc_type: Any, *exc: Any) -> None:
        if self._close(exc_type):
            self._enqueue()

    async def __aenter__(self) -> Batch:
        return self.__enter__()

    async def __aexit__(self, exc_type: Any, *exc: Any) -> None:
        if self._close(exc_type):
            await sync_to_async(self._enqueue)()

    def _close(self, exc_type: type[BaseException] | None) -> bool:
        """Collect no more jobs. Return whether they are to be enqueued: no exception has ended the block."""
        assert self._token is not None
        open_batch.reset(self._token)
        self._token, self._is_closed = None, True
        return exc_type is None

    def _enqueue(self) -> None:
        job = self._build_job()
        if self._parent:
            self._result = self._parent.add(job, batch)
            self._parent._jobs += self._jobs
            return
        if spans.tracer is None or not self._jobs:
            self._insert(job)
        else:
            with spans.enqueueing_batch([child for child, _ in self._jobs]):
                self._insert(job)

    def _insert(self, job: Job) -> None:
        # The batch is last, because it has the owner: a listener on SQLite may read the newest rows only.
        rows = [*(child for child, _ in self._jobs), job]
        owners = [row.user_id for row in rows if row.user_id is not None]

        def insert() -> None:
            for owner in set(owners):
                limits.raise_if_exceeded(owner, owners.count(owner))
            turns.assign_turns(rows)
            for chunk in chunks(rows, MAX_ROWS_PER_INSERT):
                bulk.insert_rows(chunk)
            tags.insert_tags(rows)
            rings.expect_own_jobs(rows)
            rings.ring_new_jobs(rows, queue=wakes_builtin_worker({row.backend for row in rows}))

        if connection().in_atomic_block:
            insert()
        else:
            retrying_atomic(insert)
        hooks.dispatch.wake_after_commit(child for child, _ in self._jobs)
        if not self._jobs:  # No job will end it.
            on_commit(lambda: recording.finish_batches([self.id]))
        self._result = results.task_result(job, task=batch, attempts=[])
        if should_send(task_enqueued, logging.DEBUG):
            for child, child_task in [*self._jobs, (job, batch)]:
                sender = type(task_backends[child.backend])
                task_enqueued.send_robust(
                    sender, task_result=results.task_result(child, task=child_task, attempts=[])
                )

    def _build_job(self) -> Job:
        children = [child for child, _ in self._jobs if child.batch == self.id]
        title = self._title or ngettext("%(count)d job", "%(count)d jobs", len(children)) % {
            "count": len(children)
        }
        nested = self._parent is not None
        return batch_completion.new_batch(
            id=self.id,
            user_id=None if nested and self._owner is None else self.owner,
            kwargs=validators.json_text("notify", {"notify": self._notify}),
            backend=children[0].backend if children else first_backend_alias("batch()"),
            queue_name=batch.queue_name,
            progress_total=len(children),
            title=title,
            url=self._url,
            language=translation.get_language() or "",
        )


@own_task()
def batch(*, notify: bool | str) -> None:
    """The task of batches as jobs. It is never called: the state of a batch follows from its jobs."""
    raise RuntimeError("A batch cannot be executed. It is done when its jobs are.")


def _serialize_notify(notify: Any) -> bool | str:
    """Return ``notify`` as the row of a batch stores it: a function as its dotted path, for any process to import."""
    if isinstance(notify, bool):
        return notify
    path = f"{getattr(notify, '__module__', '')}.{getattr(notify, '__qualname__', '')}"
    try:
        found = import_string(path) if callable(notify) else None
    except (ImportError, ValueError):
        found = None
    if found is None or found is not notify:
        raise TypeError(
            "notify must be True, False or a function at the top level of a module: another process may call it."
        )
    return path
