"""Many jobs as one: enqueued together, shown and told as one job.

A batch is a job itself, which no worker claims: it runs from the commit on and is done when all its jobs are.
"""

from __future__ import annotations

from contextvars import ContextVar, Token
from typing import Any, TypedDict

from asgiref.sync import sync_to_async
from django.utils import translation
from django.utils.module_loading import import_string
from django.utils.translation import ngettext

from notifications import streams, times, validators
from notifications.compat import TaskResult, task, task_backends, task_enqueued
from notifications.db.transactions import connection, on_commit, retrying_atomic
from notifications.ids import uuid7
from notifications.jobs import results
from notifications.jobs.enqueueing import active_limit
from notifications.jobs.enqueueing.owners import owner_key
from notifications.jobs.policies import NotifyOption
from notifications.jobs.tasks import has_job_tasks
from notifications.jobs.transitions import batch_completion, finishing
from notifications.models import Job

#: Rows of one INSERT.
MAX_ROWS_PER_INSERT = 500

_open: ContextVar[Batch | None] = ContextVar("notifications_batch", default=None)


class BatchCounts(TypedDict):
    """The result of a batch: how many of its jobs ended in each state."""

    succeeded: int
    failed: int
    cancelled: int


class Batch:
    """See ``notifications.api.batch``."""

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
            None if title is None else validators.text("title", title, validators.TITLE, required=True)
        )
        self._url = validators.link("url", url)
        self._notify = _importable(notify)
        self._outer: Batch | None = None
        self._token: Token[Batch | None] | None = None
        self._is_over = False
        self._collected: list[tuple[Job, Any]] = []
        self._inserted: TaskResult | None = None

    @property
    def owner(self) -> Any:
        """The key of the user for whom its jobs work, or None."""
        if self._owner is None and self._outer:
            return self._outer.owner
        return owner_key(self._owner)

    @property
    def result(self) -> TaskResult:
        """The batch as a job, as ``enqueue`` returns one, from the end of the block on."""
        if self._inserted is None:
            raise RuntimeError(
                "The batch is not enqueued before the end of its block. Ask for its result after it."
            )
        return self._inserted

    def add(self, job: Job, task: Any) -> TaskResult:
        """Take a job that is enqueued inside the block; nothing is inserted yet."""
        if self._is_over:
            raise RuntimeError(
                "The batch is over, and something that was started inside its block still enqueues. "
                "Await it before the block ends."
            )
        job.created_at = job.queued_at = times.now()
        job.batch = self.id
        self._collected.append((job, task))
        return results.of(job, task=task, attempts=[])

    def __enter__(self) -> Batch:
        if self._token or self._is_over:
            raise RuntimeError("A batch is entered once. Make another one.")
        self._outer = _open.get()
        self._token = _open.set(self)
        return self

    def __exit__(self, kind: Any, *error: Any) -> None:
        if self._leave(kind):
            self._enqueue()

    async def __aenter__(self) -> Batch:
        return self.__enter__()

    async def __aexit__(self, kind: Any, *error: Any) -> None:
        if self._leave(kind):
            await sync_to_async(self._enqueue)()

    def _leave(self, error: type[BaseException] | None) -> bool:
        """Collect no more; say whether there is something to enqueue."""
        assert self._token is not None
        _open.reset(self._token)
        self._token, self._is_over = None, True
        return error is None

    def _enqueue(self) -> None:
        job = self._job()
        if self._outer:
            self._inserted = self._outer.add(job, batch)
            self._outer._collected += self._collected
            return
        rows = [job, *(child for child, _ in self._collected)]
        owners = [row.user_id for row in rows if row.user_id is not None]

        def insert() -> None:
            for owner in set(owners):
                active_limit.raise_if_exceeded(owner, owners.count(owner))
            Job.objects.using(connection().alias).bulk_create(rows, batch_size=MAX_ROWS_PER_INSERT)
            streams.ring(owners, queue=True)

        if connection().in_atomic_block:
            insert()
        else:
            retrying_atomic(insert)
        if not self._collected:
            on_commit(lambda: finishing.finish_batches([self.id]))
        self._inserted = results.of(job, task=batch, attempts=[])
        for child, told in [*self._collected, (job, batch)]:
            sender = type(task_backends[child.backend])
            task_enqueued.send_robust(sender, task_result=results.of(child, task=told, attempts=[]))

    def _job(self) -> Job:
        """Return the row of the batch, running from now on."""
        children = [child for child, _ in self._collected if child.batch == self.id]
        title = self._title or ngettext("%(count)d job", "%(count)d jobs", len(children)) % {
            "count": len(children)
        }
        nested = self._outer is not None
        return batch_completion.new_batch(
            id=self.id,
            user_id=None if nested and self._owner is None else self.owner,
            kwargs=validators.json_text("notify", {"notify": self._notify}, validators.ARGUMENTS),
            backend=children[0].backend if children else _backend(),
            queue_name=batch.queue_name,
            progress_total=len(children),
            title=title,
            url=self._url,
            language=translation.get_language() or "",
        )


def collecting() -> Batch | None:
    """Return the batch inside whose block this is called, if there is one."""
    return _open.get()


def _backend() -> str:
    """Return the alias of the first backend in ``TASKS`` that enqueues jobs of this app."""
    return next(alias for alias in task_backends.settings if has_job_tasks(task_backends[alias]))


def _queue() -> str:
    queues = task_backends["default"].queues
    return "default" if not queues or "default" in queues else min(queues)


@task(queue_name=_queue())
def batch(*, notify: bool | str) -> None:
    """What a batch is as a job. Nobody calls it: its row is running from the beginning, and settled, not run."""
    raise RuntimeError("A batch is not run. It is done when its jobs are.")


def _importable(notify: Any) -> bool | str:
    """Return what the row of a batch says about its notify: a function is called by whichever process ends it."""
    if isinstance(notify, bool):
        return notify
    path = f"{getattr(notify, '__module__', '')}.{getattr(notify, '__qualname__', '')}"
    try:
        found = import_string(path) if callable(notify) else None
    except (ImportError, ValueError):
        found = None
    if found is None or found is not notify:
        raise TypeError(
            "notify must be True, False or a function at the top of a module: another process may call it."
        )
    return path
