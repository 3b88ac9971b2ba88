"""The backend for Django's Tasks.

No model is imported at the top: ``@task`` may be executed before the models are ready.
"""

from __future__ import annotations

import logging
import uuid
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any

from asgiref.sync import sync_to_async
from django.conf import settings
from django.utils import translation

from notifications import times, validators
from notifications.compat import (
    BaseTaskBackend,
    InvalidTask,
    TaskResult,
    TaskResultDoesNotExist,
    TaskResultStatus,
    normalize_json,
    should_send,
    task_enqueued,
)
from notifications.context import open_batch
from notifications.db import bulk
from notifications.db.async_twins import names_async_twin
from notifications.db.imports import CannotImport, import_path
from notifications.db.transactions import database, on_commit
from notifications.extension import hooks
from notifications.jobs.declaring.moments import find_moments
from notifications.jobs.declaring.policies import job_key, job_title, policy_of
from notifications.jobs.declaring.signatures import bind_arguments
from notifications.jobs.declaring.tasks import BackendTask, JobOptions, has_engine, with_options
from notifications.jobs.declaring.templates import TaskCall, has_limit_key, limit_key
from notifications.tracing import spans, trace_context

if TYPE_CHECKING:
    from notifications.models import Job


_NO_OPTIONS = JobOptions()


class JobBackend(BaseTaskBackend):
    """Stores jobs as rows of the project's database.

    Enqueueing is one INSERT in the caller's transaction, so a rollback removes the job.
    """

    task_class = BackendTask
    supports_defer = True
    supports_async_task = True
    supports_get_result = True
    supports_priority = True

    def validate_task(self, task: Any) -> None:
        """Raise ``InvalidTask`` for a task, or options of one job, that Django or this app refuses."""
        if isinstance(task.priority, bool) or not isinstance(task.priority, int):
            raise InvalidTask(
                f"priority must be a whole number between -100 and 100, not {task.priority!r}. Jobs with a higher one "
                "begin first."
            )
        super().validate_task(task)

    @names_async_twin
    def enqueue(self, task: Any, args: Sequence[Any], kwargs: Mapping[str, Any]) -> TaskResult:
        """Insert a job and return its result, or that of the existing job with the same key.

        Raises TypeError or ValueError for arguments that the task does not take or that are not JSON, and for invalid
        options, ``InvalidTask``, and
        ``TooManyJobs`` or ``IdempotencyKeyConflict`` of ``notifications.exceptions``; ``ImproperlyConfigured`` if the
        backend has an engine that cannot run jobs.
        """
        if spans.tracer is None:
            return self._enqueue(task, args, kwargs)
        is_in_batch = open_batch.get() is not None
        with spans.enqueueing(task.queue_name, task.module_path, is_in_batch=is_in_batch) as span:
            result = self._enqueue(task, args, kwargs)
            spans.set_job(span, result.id)
        return result

    def _enqueue(self, task: Any, args: Sequence[Any], kwargs: Mapping[str, Any]) -> TaskResult:
        job, args, kwargs = self.prepare(task, args, kwargs)
        if batch := open_batch.get():
            if job.idempotency_key:
                raise ValueError(
                    "A job of a batch takes no key. Enqueue the job outside the batch, or without a key."
                )
            if getattr(task, "options", _NO_OPTIONS).owner is None:
                job.user_id = None  # The owner is notified of the batch, which counts as one active job.
            return batch.add(job, task)
        stored_job = self.insert(job)
        if stored_job is not job:
            from notifications.jobs import results

            return results.task_result(stored_job, task=task)
        result = _ready_task_result(job, task, args, kwargs)
        if should_send(task_enqueued, logging.DEBUG):
            task_enqueued.send_robust(type(self), task_result=result)
        return result

    def prepare(
        self, task: Any, args: Sequence[Any], kwargs: Mapping[str, Any]
    ) -> tuple[Job, Sequence[Any], Mapping[str, Any]]:
        """Return a job that is not inserted yet, with its arguments as JSON has them. Calls the task's policy.

        Raises as ``enqueue()`` does, but for limits and keys.
        """
        from notifications.jobs.claiming.executors import executor_of
        from notifications.jobs.transitions.enqueueing import owner_key, stored_key
        from notifications.models import Job

        self.validate_task(task)
        bind_arguments(task, args, kwargs)
        # A task that was declared for another backend is a plain Task of Django.
        options = getattr(task, "options", _NO_OPTIONS)
        try:
            args, kwargs = normalize_json(list(args)), normalize_json(dict(kwargs))
        except TypeError as exc:
            raise TypeError(
                f"{exc}. The arguments of {task.name} are stored as JSON: pass ids, numbers, strings, lists and dicts."
            ) from exc
        batch = open_batch.get()
        owner = batch.owner if batch and options.owner is None else owner_key(options.owner)
        title = options.title
        if title is None:
            title = job_title(task.func, task.takes_context, args, kwargs)
        call = TaskCall(task.func, task.takes_context, args, kwargs, owner)
        concurrency_key = options.concurrency_key
        if concurrency_key is None:
            concurrency_key = job_key("concurrency_key", call)
        share = job_key("share", call)
        key, key_hash = stored_key(
            task.module_path, args, kwargs, key=options.key, queued_key=options.queued_key
        )
        policy = policy_of(task.func)
        run_after = expires_at = None
        delay = task.run_after if options.delay is None else options.delay
        expires = policy.expires if options.expires is None else options.expires
        if delay is not None or expires is not None:
            run_after, expires_at = find_moments(delay, expires)
        kwargs_json = "{}"  # as in most calls
        if kwargs:
            kwargs_json = validators.json_text("The keyword arguments", kwargs, is_plural=True)
        job = bulk.new_row(
            Job,
            user_id=owner,
            task_path=task.module_path,
            args=validators.json_text("The arguments", args, is_plural=True),
            kwargs=kwargs_json,
            backend=self.alias,
            executor=executor_of(task.func),
            queue_name=validators.text(
                "queue_name", task.queue_name, validators.MAX_NAME_LENGTH, required=True
            ),
            priority=int(task.priority),
            run_after=run_after,
            expires_at=expires_at,
            max_attempts=policy.max_attempts,
            title=validators.label("title", title, validators.MAX_TITLE_LENGTH, required=True),
            url=validators.link("url", options.url),
            language=translation.get_language() or "",
            trace=trace_context.serialize_trace(),
            concurrency_key=validators.text("concurrency_key", concurrency_key, validators.MAX_KEY_LENGTH),
            share_name=share and validators.text("share", share, validators.MAX_KEY_LENGTH),
            schedule=options.schedule,
            inbox_group=options.inbox_group,
            idempotency_key=key,
            idempotency_hash=key_hash,
        )
        if options.tags:
            job.tags = options.tags
        if has_limit_key(task.func):
            job.limit_key = limit_key(call)
        if has_engine(self.alias):
            hooks.dispatch.require(self.alias)
        return job, args, kwargs

    def insert(self, job: Job) -> Job:
        """Insert a prepared job and return it, or the existing one with the same key. Calls no code of the project.

        Raises ``TooManyJobs`` and ``IdempotencyKeyConflict``.
        """
        from notifications.jobs.transitions import enqueueing

        stored_job = enqueueing.enqueue(job)
        if stored_job is job and has_engine(self.alias):
            hooks.dispatch.wake_after_commit([job])
        return stored_job

    def insert_all(self, jobs: Sequence[Job]) -> None:
        """Insert jobs that ``prepare()`` has returned, in one statement, and have them claimed after the commit.

        Inside ``retrying_atomic()``. Neither keys nor limits of owners are looked at: for jobs of an app's own tasks.
        """
        from notifications.jobs import notifying

        for job in jobs:
            job.created_at = job.queued_at = times.now()
        notifying.insert_jobs(jobs)

    def texts_of(self, task: Any, args: Sequence[Any]) -> tuple[str, str, str]:
        """Return title, concurrency key and limit key of a job without an owner, as its task declares them.

        Raises ValueError, also if one of them is too long.
        """
        call = TaskCall(task.func, task.takes_context, args, {}, None)
        title = job_title(task.func, task.takes_context, args, {})
        key = job_key("concurrency_key", call)
        return (
            validators.text("title", title, validators.MAX_TITLE_LENGTH, required=True),
            validators.text("concurrency_key", key, validators.MAX_KEY_LENGTH),
            limit_key(call),
        )

    def expiry_of(self, task: Any) -> datetime | None:
        """Return when a job of a task expires that is enqueued now, as its policy says."""
        return find_moments(task.run_after, policy_of(task.func).expires)[1]

    def check_arguments(self, task: Any, args: Sequence[Any], kwargs: Mapping[str, Any]) -> None:
        """Raise a ``TypeError``, which names the task and its signature, if it cannot be called with the arguments.

        ``args`` are without the context of a task that takes one.
        """
        bind_arguments(task, args, kwargs)

    def prepare_with(self, task: Any, args: Sequence[Any], **options: Any) -> Job:
        """Return a job of a task, which may be a plain one of Django, as ``prepare()`` does.

        ``options``
            As those of ``.using()``, such as ``title``. Of the task's own only ``url`` counts.
        """
        options["url"] = getattr(task, "options", _NO_OPTIONS).url
        return self.prepare(with_options(task, **options), args, {})[0]

    def enqueue_prepared(self, task: Any, job: Job) -> Job:
        """Insert a job that ``prepare()`` has returned, inside a transaction: in its span, as ``enqueue()`` does.

        Sends ``task_enqueued`` after the commit. Returns and raises as ``insert()`` does.
        """
        if spans.tracer is None:
            stored_job = self.insert(job)
        else:
            with spans.enqueueing(job.queue_name, job.task_path, is_in_batch=False) as span:
                job.trace = trace_context.serialize_trace()
                stored_job = self.insert(job)
                spans.set_job(span, stored_job.id)
        if stored_job is job and should_send(task_enqueued, logging.DEBUG):
            from notifications.jobs import results

            result = results.task_result(job, task=task, attempts=[])
            on_commit(lambda: task_enqueued.send_robust(type(self), task_result=result))
        return stored_job

    def get_result(self, result_id: str) -> TaskResult:
        """Return a job as Django's TaskResult. Raises ``TaskResultDoesNotExist``."""
        from notifications.jobs import results
        from notifications.models import Job

        try:
            job = Job.objects.using(database()).get(pk=uuid.UUID(str(result_id)), backend=self.alias)
            return results.task_result(job)
        except (ValueError, ImportError, Job.DoesNotExist) as exc:
            raise TaskResultDoesNotExist(result_id) from exc

    async def aget_result(self, result_id: str) -> TaskResult:
        """See get_result()."""
        return await sync_to_async(self.get_result)(result_id)

    def check(self, **kwargs: Any) -> Iterable[Any]:
        return []  # The app has system checks of its own, which also run on Django 5.2.


def _ready_task_result(job: Job, task: Any, args: Any, kwargs: Any) -> TaskResult:
    return TaskResult(
        task=task,
        id=str(job.id),
        status=TaskResultStatus.READY,
        enqueued_at=job.created_at,
        started_at=None,
        finished_at=None,
        last_attempted_at=None,
        args=args,
        kwargs=kwargs,
        backend=job.backend,
        errors=[],
        worker_ids=[],
    )


def find_job_backends() -> dict[str, dict[str, Any]]:
    """Return the backends in ``TASKS`` that are this one or a subclass, by alias, without making them."""
    return {alias: params for alias, params in _configured_backends() if not find_other_backend(params)}


def describe_other_backends() -> str:
    """Return which backends in ``TASKS`` are not this one, as the end of a sentence; "" if there is none."""
    others = [(alias, find_other_backend(params)) for alias, params in _configured_backends()]
    named = "; ".join(f"{alias!r} is {other}" for alias, other in others if other)
    return f": {named}" if named else ""


def find_other_backend(params: Any) -> str:
    """Return what a backend in ``TASKS`` is, "" if it is ``JobBackend`` or a subclass."""
    path = params.get("BACKEND", "") if isinstance(params, dict) else ""
    try:
        found = import_path(path)
    except CannotImport as exc:
        return f"{path!r}, which cannot be imported: {exc.reason}"
    return "" if isinstance(found, type) and issubclass(found, JobBackend) else repr(path)


def _configured_backends() -> Iterable[tuple[str, Any]]:
    tasks = getattr(settings, "TASKS", {})
    return tasks.items() if isinstance(tasks, dict) else ()
