"""A task class of Celery whose calls are jobs."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from functools import partial
from typing import TYPE_CHECKING, Any
from uuid import UUID

from celery import Task, current_app
from celery.exceptions import Retry
from celery.utils.serialization import raise_with_context

from notifications.api import progress
from notifications.contrib.celery import beat
from notifications.contrib.celery.job_calls import FOLLOWING, enqueue, refuse_options
from notifications.contrib.celery.job_declarations import make_job_task
from notifications.contrib.celery.job_results import JobResult
from notifications.contrib.celery.task_messages import job_or_message, make_strategy, register
from notifications.exceptions import JobCancelled
from notifications.worker import current_execution

if TYPE_CHECKING:
    from django.utils.functional import Promise


#: Tasks with such names stay messages, whatever the class of the app's tasks is: with ``task_cls`` the message that
#: wakes a worker for jobs would be a job itself.
MESSAGE_PREFIXES = ("celery.", "notifications.")


class _JobTaskOf:
    """The Django task that stands for a ``JobTask``. ``find_task()`` reads it of what stands at the path of a job."""

    def __get__(self, task: JobTask | None, cls: type[JobTask]) -> Any:
        if task is None:  # the class of a task with a method run(), which is registered by its name
            task = current_app.tasks.get(cls.name or current_app.gen_task_name(cls.__name__, cls.__module__))
            return task and task.job_task
        if "_job_task" not in vars(task):
            task._job_task = make_job_task(task)
        return task._job_task


class JobTask(Task):  # type: ignore[misc]
    """A task class of Celery whose calls are jobs of this app: rows of the caller's transaction.

    ::

        @shared_task(base=JobTask, bind=True, owner="user_id", title="Export {year}", autoretry_for=(OSError,))
        def export(self, user_id, year): ...

        export.delay(user.pk, 2026)

    It takes Celery's options of tasks, and these:

    ``title``
        What the owner reads. It may name arguments of the task. The default is the function's name.
    ``owner``
        The name of the argument that holds the user or its primary key, or a function of the task's arguments that
        returns either, or None. By default, and where it is None, the user of the request in ``accepted()``, of
        ``requester(user)``, or of the running job.
    ``url``
        Where the result is shown. It may name arguments, which are percent-encoded, or be a function of them.
    ``notify``, ``redact``
        As in ``policy``.

    Other options of ``policy`` stand in ``@policy(...)`` below ``@shared_task``. Calls return an ``AsyncResult`` of
    Celery, which reads the job.
    """

    abstract = True

    title: str | Promise = ""
    owner: str | Callable[..., Any] | None = None
    url: str | Callable[..., Any] = ""
    notify: bool | Callable[..., Any] = True
    redact: tuple[str, ...] = ()

    job_task = _JobTaskOf()
    _job_task: Any

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if (cls.name or "").startswith(MESSAGE_PREFIXES):
            cls.__bases__ = (Task,)

    @classmethod
    def on_bound(cls, app: Any) -> None:
        """Register the task that makes jobs of messages. Celery calls this for each app that has the task."""
        register(app)

    def start_strategy(self, app: Any, consumer: Any, **kwargs: Any) -> Any:
        """Return what a worker of Celery does with messages of the task."""
        return make_strategy(self, app, consumer)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Call the task here, for a job or directly. A call inside the task has a request of its own, as Celery's."""
        request = self.request_stack.top
        if request is None or request.called_directly or request._protected:
            return super().__call__(*args, **kwargs)
        request._protected = 1
        return self.run(*args, **kwargs)

    def apply_async(
        self,
        args: Sequence[Any] | None = None,
        kwargs: Mapping[str, Any] | None = None,
        task_id: str | None = None,
        producer: Any = None,
        link: Any = None,
        link_error: Any = None,
        shadow: str | None = None,
        **options: Any,
    ) -> Any:
        """Enqueue a job, and return its result.

        ``task_id``
            The idempotency key of the job: the same id again stands for the same job. By default the id is the job's.
        ``options``
            ``countdown``, ``eta``, ``expires``, ``queue`` and ``priority``. A job has no ``link``, ``link_error``,
            ``chain`` or ``chord``, and its time limit is that of the task. Others are about messages, and have no
            effect.

        Raises TypeError and ValueError, and as ``enqueue()`` does. With ``task_always_eager`` the task is called here.
        """
        follows = {"link": link, "link_error": link_error}
        # A task that a worker of Celery executes, because another one follows it, goes on by messages until none does.
        is_called_by_worker = bool(options.get("parent_id") or options.get("root_id"))
        is_followed = any({**options, **follows}.get(name) for name in FOLLOWING)
        is_message = "retries" in options or (is_called_by_worker and is_followed)
        if self.app.conf.task_always_eager or is_message:
            return super().apply_async(args, kwargs, task_id, producer, shadow=shadow, **follows, **options)
        if not is_called_by_worker:
            refuse_options(self, {**options, **follows})
        options = {**self._get_exec_options(), **options}
        if dump := getattr(self, "_dump_pydantic_arguments", None):
            args, kwargs = dump(args, kwargs)
        enqueue_job = partial(self.enqueue_job, args, kwargs, task_id, options)
        if not is_called_by_worker:
            return beat.retry_in_beat(enqueue_job)
        return job_or_message(
            enqueue_job,
            partial(super().apply_async, args, kwargs, task_id, producer, shadow=shadow, **options),
        )

    def enqueue_job(
        self,
        args: Sequence[Any] | None,
        kwargs: Mapping[str, Any] | None,
        task_id: str | None,
        options: Mapping[str, Any],
    ) -> Any:
        """Enqueue a job with options of ``apply_async()``, and return its result."""
        names = ("countdown", "eta", "expires", "queue", "priority", "group_id")
        given = {name: options[name] for name in names if options.get(name) is not None}
        job_id = enqueue(self, args or (), kwargs or {}, task_id=task_id, **given)
        return self.AsyncResult(task_id or job_id, job_id=job_id)

    def delay_on_commit(self, *args: Any, **kwargs: Any) -> Any:
        """Enqueue as ``delay()``: the job is a row of the transaction."""
        return self.delay(*args, **kwargs)

    def apply_async_on_commit(self, *args: Any, **kwargs: Any) -> Any:
        """Enqueue as ``apply_async()``: the job is a row of the transaction."""
        return self.apply_async(*args, **kwargs)

    def AsyncResult(self, task_id: str | UUID, job_id: str | None = None, **kwargs: Any) -> Any:
        """Return the result of the job with an id, or for which a caller has given this id."""
        return JobResult(task_id, app=self.app, job_id=job_id)

    def retry(
        self,
        args: Sequence[Any] | None = None,
        kwargs: Mapping[str, Any] | None = None,
        exc: BaseException | None = None,
        throw: bool = True,
        eta: datetime | None = None,
        countdown: float | None = None,
        max_retries: int | None = None,
        **options: Any,
    ) -> Retry:
        """Have the job run again, as Celery's ``retry()``. Attempts whose worker was lost do not count."""
        if (request := self._job_request) is None:
            retry: Retry = super().retry(
                args, kwargs, exc, throw, eta, countdown, max_retries=max_retries, **options
            )
            return retry
        is_same = list(request.args) == list(args if args is not None else request.args)
        if not is_same or dict(request.kwargs) != dict(kwargs if kwargs is not None else request.kwargs):
            raise TypeError(
                f"{self.name} is a job, whose arguments stay the same: enqueue another one by delay(), and return."
            )
        refuse_options(self, options)
        limit = self.max_retries if max_retries is None else max_retries
        if request.has_no_retries_left or (limit is not None and request.retries >= limit):
            request.has_no_retries_left = True
            if exc:
                raise_with_context(exc)
            raise self.MaxRetriesExceededError(
                f"Can't retry {self.name}[{request.id}] args:{request.args} kwargs:{request.kwargs}",
                task_args=request.args,
                task_kwargs=request.kwargs,
            )
        if eta is None and countdown is None:
            countdown = self.default_retry_delay
        request.requested_retry = Retry(exc=exc, when=eta or countdown)
        if throw:
            raise request.requested_retry
        return request.requested_retry

    def replace(self, sig: Any) -> Any:
        """Refuse to replace a job by another task."""
        if self._job_request is None:
            return super().replace(sig)
        raise TypeError(f"{self.name} is a job, which is not replaced: enqueue the other task, and return.")

    def update_state(
        self, task_id: str | None = None, state: str | None = None, meta: Any = None, **kwargs: Any
    ) -> None:
        """Report ``current``, ``total`` and ``message`` of ``meta`` as the progress of the job."""
        request = self._job_request
        if request is None or task_id not in (None, request.id):
            super().update_state(task_id=task_id, state=state, meta=meta, **kwargs)
        elif isinstance(meta, Mapping) and isinstance(meta.get("current"), int | float):
            message = meta.get("message") or meta.get("description") or meta.get("status") or ""
            progress(meta["current"], meta.get("total"), str(message))

    def raise_if_cancelled(self) -> None:
        """Raise ``JobCancelled`` if the job that runs is to be cancelled. A task calls this between its steps."""
        execution = current_execution()
        if execution is not None and execution.is_cancelling:
            raise JobCancelled

    @property
    def _job_request(self) -> Any:
        """The request of the job that runs here, None for other requests of the task."""
        return getattr(self.request_stack.top, "job_request", None)
