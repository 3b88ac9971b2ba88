"""The task class of the backend: Django's, whose ``.using()`` knows more names."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import Any

from django.utils.module_loading import import_string

from notifications.compat import Task
from notifications.jobs.policies import Policy

#: What ``@task`` would let through: it belongs into ``@policy(...)`` or ``.using(...)``.
NOT_AN_OPTION_OF_TASK = ("owner", "url", "key", *(field.name for field in fields(Policy)))


@dataclass(frozen=True, kw_only=True, slots=True)
class JobOptions:
    """What ``.using()`` says about one job, beside what Django's own names say."""

    owner: Any = None
    title: Any = None
    url: str | None = None
    key: str | None = None
    concurrency_key: str | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class JobTask(Task):
    """A task whose executions are jobs: rows with an owner, a title and a link."""

    asked: JobOptions = JobOptions()

    def __new__(cls, **fields: Any) -> JobTask:
        if wrong := [name for name in NOT_AN_OPTION_OF_TASK if name in fields]:
            raise TypeError(
                f"@task takes no {wrong[0]}. What holds for all jobs of a task goes into @policy(...) below @task; "
                f"what holds for one job goes into .using(...)."
            )
        return object.__new__(cls)

    def __reduce__(self) -> Any:
        # Django's own way (from 6.1 on) pickles a method, which Twisted, under Daphne, spoils.
        changes = {field.name: getattr(self, field.name) for field in fields(self) if field.name != "func"}
        return _unpickle, (self.module_path, changes)

    def using(
        self,
        *,
        owner: Any = None,
        title: Any = None,
        url: str | None = None,
        key: str | None = None,
        concurrency_key: str | None = None,
        **changes: Any,
    ) -> JobTask:
        """Return this task with other settings for the jobs that it enqueues.

        ``owner``
            User or primary key: who is told and may see the job.
        ``title``
            Text of at most 200 characters.
        ``url``
            Where the result is shown: a path that begins with one ``/``, or an http(s) address.
        ``key``
            At most 200 visible ASCII characters. Enqueued again by the same owner with the same key, task and arguments
            within 24 hours, it is the same job; with others, ``IdempotencyKeyConflict`` is raised.
        ``concurrency_key``
            At most 200 characters, in place of the policy's: of the jobs with the same one only as many run at once as
            the ``concurrency`` of their task's policy says, 1 unless told.
        ``changes``
            Django's own: ``priority``, ``queue_name``, ``run_after``, ``backend``.
        """
        told = {"owner": owner, "title": title, "url": url, "key": key, "concurrency_key": concurrency_key}
        asked = replace(self.asked, **{name: value for name, value in told.items() if value is not None})
        # By name: a slots dataclass has no zero-argument super().
        task = Task.using(self, **changes) if changes else self
        # Not by replace(): what Django has checked before needs no check again, which would cost more than the rest.
        changed = object.__new__(type(self))
        for name in _NAMES:
            object.__setattr__(changed, name, getattr(task, name))
        object.__setattr__(changed, "asked", asked)
        return changed


def has_job_tasks(backend: Any) -> bool:
    """Return whether a backend of ``TASKS`` enqueues jobs of this app: it is ``JobBackend``, or extends it."""
    return issubclass(backend.task_class, JobTask)


_NAMES = [field.name for field in fields(JobTask)]


def _unpickle(path: str, changes: dict[str, Any]) -> JobTask:
    return replace(import_string(path), **changes)
