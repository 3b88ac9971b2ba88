"""The backend for Django's Tasks. No model is imported at the top: ``@task`` may run before the models are there."""

from __future__ import annotations

import logging
import uuid
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from asgiref.sync import sync_to_async
from django.utils import translation

from notifications import times, traces, validators
from notifications.compat import (
    BaseTaskBackend,
    TaskResult,
    TaskResultDoesNotExist,
    is_heard,
    normalize_json,
    task_enqueued,
)
from notifications.jobs.enqueueing.owners import owner_key
from notifications.jobs.policies import job_concurrency_key, job_title, policy_of
from notifications.jobs.tasks import JobOptions, JobTask


class JobBackend(BaseTaskBackend):
    """Keeps jobs as rows beside the project's own data.

    Enqueueing is one INSERT in the caller's transaction: a rollback leaves nothing behind.
    """

    task_class = JobTask
    supports_defer = True
    supports_async_task = True
    supports_get_result = True
    supports_priority = True

    def enqueue(self, task: Any, args: Sequence[Any], kwargs: Mapping[str, Any]) -> TaskResult:
        """Insert the job and return its result, READY; with a key that is there already, the result of that job.

        Raises TypeError or ValueError for arguments that are not JSON or texts out of bounds, ``InvalidTask``, and
        ``TooManyJobs`` or ``IdempotencyKeyConflict`` of ``notifications.exceptions``.
        """
        from notifications.db import bulk
        from notifications.jobs import batches, results
        from notifications.jobs.claiming.lanes import lane_of
        from notifications.jobs.enqueueing.unique import call_hash, validated_key
        from notifications.jobs.transitions import queueing
        from notifications.models import Job

        self.validate_task(task)
        asked = getattr(task, "asked", JobOptions())  # a task declared for another backend is a plain one
        args, kwargs = normalize_json(list(args)), normalize_json(dict(kwargs))
        batch = batches.collecting()
        owner = batch.owner if batch and asked.owner is None else owner_key(asked.owner)
        title = asked.title
        if title is None:
            title = job_title(task.func, task.takes_context, args, kwargs)
        concurrency_key = asked.concurrency_key
        if concurrency_key is None:
            concurrency_key = job_concurrency_key(task.func, task.takes_context, args, kwargs, owner)
        key = validated_key(asked.key)
        job = bulk.new(
            Job,
            user_id=owner,
            task_path=task.module_path,
            args=validators.json_text("The arguments", args, validators.ARGUMENTS),
            kwargs=validators.json_text("The keyword arguments", kwargs, validators.ARGUMENTS),
            backend=self.alias,
            queue_name=validators.text("queue_name", task.queue_name, validators.QUEUE, required=True),
            lane=lane_of(task.func),
            priority=int(task.priority),
            run_after=task.run_after and times.aware(task.run_after),
            max_attempts=policy_of(task.func).max_attempts,
            title=validators.text("title", title, validators.TITLE, required=True),
            url=validators.link("url", asked.url),
            language=translation.get_language() or "",
            trace=traces.as_text(),
            concurrency_key=validators.text("concurrency_key", concurrency_key, validators.KEY),
            idempotency_key=key,
            idempotency_hash=call_hash(task.module_path, args, kwargs) if key else "",
        )
        if batch:
            if key:
                raise ValueError(
                    "A job of a batch takes no key. Ask for the batch once, or enqueue the job outside it."
                )
            if asked.owner is None:
                job.user_id = None  # told with the batch, and counted as one job
            return batch.add(job, task)
        stored = queueing.enqueue(job)
        if stored is not job:
            return results.of(stored, task=task)
        result = results.ready(job, task, args, kwargs)
        if is_heard(task_enqueued, logging.DEBUG):
            task_enqueued.send_robust(type(self), task_result=result)
        return result

    def get_result(self, result_id: str) -> TaskResult:
        """Return the state of a job as Django's TaskResult. Raises ``TaskResultDoesNotExist``."""
        from notifications.db.transactions import database
        from notifications.jobs import results
        from notifications.models import Job

        try:
            job = Job.objects.using(database()).get(pk=uuid.UUID(str(result_id)), backend=self.alias)
            return results.of(job)
        except (ValueError, ImportError, Job.DoesNotExist) as exc:
            raise TaskResultDoesNotExist(result_id) from exc

    async def aget_result(self, result_id: str) -> TaskResult:
        """See get_result()."""
        return await sync_to_async(self.get_result)(result_id)

    def check(self, **kwargs: Any) -> Iterable[Any]:
        return []  # what is wrong is told by the app's checks, which run on Django 5.2 as well
