"""The task class of the backend: Django's, with more options in ``.using()``.

Type checkers read ``task_types.pyi`` instead.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, fields, replace
from datetime import datetime, timedelta
from typing import Any, ClassVar, NamedTuple, NoReturn

from django.core.exceptions import ImproperlyConfigured
from django.utils.module_loading import import_string

from notifications import times
from notifications.compat import (
    DEFAULT_TASK_BACKEND_ALIAS,
    DummyBackend,
    ImmediateBackend,
    Task,
    task_backends,
)
from notifications.conf import cached_until_changed
from notifications.db.imports import CannotImport, import_path
from notifications.jobs.declaring.moments import validate_expiry, validate_run_after
from notifications.jobs.declaring.policies import SYNONYMS, Policy, change_policy, describe_unknown_option
from notifications.jobs.declaring.tags import validate_tags

#: Options of ``@policy(...)``, which ``@task`` passes to the task class.
POLICY_OPTIONS = tuple(field.name for field in fields(Policy))
#: The options of Django's own ``.using()``.
DJANGO_OPTIONS = ("priority", "queue_name", "run_after", "backend")
#: What other queues call an option of ``.using()``.
OPTION_SYNONYMS = {
    **dict.fromkeys(("user", "users"), "owner"),
    "queue": "queue_name",
    **dict.fromkeys(("countdown", "delay", "eta"), "run_after=60, in seconds"),
    **dict.fromkeys(("ttl", "max_age"), "expires=60, in seconds"),
    **dict.fromkeys(("unique", "unique_key", "debounce", "queueing_lock"), "queued_key"),
    **dict.fromkeys(("idempotency_key", "task_id", "job_id"), "key"),
    "lock": "concurrency_key",
    **dict.fromkeys(("tag", "labels", "meta"), "tags"),
}
#: What to do where the jobs of a project are those of another backend, as in settings of tests.
BACKEND_REMEDY = (
    'Write "BACKEND": "notifications.jobs.backend.JobBackend" in TASKS, also in the settings of tests, which run jobs '
    "by run_jobs() of notifications.testing."
)
#: How tasks of other queues are enqueued.
VERBS_OF_OTHERS = frozenset(
    ("delay", "apply_async", "send", "send_with_options", "schedule", "defer", "perform_async")
)


class JobOptions(NamedTuple):
    """The options of ``.using()`` that Django does not have.

    A dataclass in its place made enqueueing a job 3 % slower.
    """

    owner: Any = None
    title: Any = None
    url: str | None = None
    key: str | None = None
    queued_key: str | None = None
    concurrency_key: str | None = None
    expires: timedelta | datetime | None = None
    tags: tuple[str, ...] = ()
    #: A ``run_after`` that is counted from the call of ``enqueue()``.
    delay: timedelta | None = None
    #: The name of the schedule that enqueues; not for ``.using()``.
    schedule: str = ""
    #: The group of the notification of the end, in the inbox; not for ``.using()``.
    inbox_group: str = ""


@dataclass(frozen=True, kw_only=True, slots=True, init=False)
class BackendTask(Task):
    """A task whose executions are jobs of this app. ``@task`` also takes the options of ``@policy``."""

    options: JobOptions
    #: A template would call what is callable.
    do_not_call_in_templates: ClassVar[bool] = True

    def __init__(self, *, func: Any, options: JobOptions | None = None, **values: Any) -> None:
        policy = {name: values.pop(name) for name in POLICY_OPTIONS if name in values}
        if unknown := values.keys() - _DJANGO_FIELDS:
            name = min(unknown)
            hint = (
                describe_unknown_option(name)
                if name in SYNONYMS
                else "It takes options of Django and of @policy(...)."
            )
            raise TypeError(f"@task takes no {name}. {hint} Options of one job are those of .using(...).")
        if policy:
            change_policy(func, **policy)
        object.__setattr__(self, "options", options or JobOptions())
        Task.__init__(self, func=func, **values)

    def __call__(self, *args: Any, **kwargs: Any) -> NoReturn:
        name = self.func.__name__
        raise TypeError(
            f"{self.module_path} is a task, which is not called: {name}.enqueue(...) has a worker run it, and "
            f"{name}.call(...) runs it here."
        )

    def __getattr__(self, name: str) -> Any:  # called for names that a task does not have
        if name in VERBS_OF_OTHERS:
            raise AttributeError(
                f"A task has no {name}(). Enqueue a job of it by enqueue(...), "
                "for later by using(run_after=...).enqueue(...)."
            )
        raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")

    def __reduce__(self) -> Any:
        # Django 6.1 pickles a bound classmethod, and Twisted, which Daphne imports, changes how methods are pickled.
        changes = {field.name: getattr(self, field.name) for field in fields(self) if field.name != "func"}
        return _unpickle, (self.module_path, changes)

    def using(
        self,
        *,
        owner: Any = None,
        title: Any = None,
        url: str | None = None,
        key: str | None = None,
        queued_key: str | None = None,
        concurrency_key: str | None = None,
        expires: float | timedelta | datetime | None = None,
        tags: Iterable[str] | None = None,
        **changes: Any,
    ) -> BackendTask:
        """Return a copy of this task with other options for the jobs that it enqueues. They add to earlier ones.

        ``owner``
            User or primary key. The owner may see the job and is notified of its end.
        ``title``
            Text of at most 200 characters.
        ``url``
            Where the result is shown: a path that begins with one ``/``, or an http(s) address.
        ``key``
            At most 200 visible ASCII characters. Enqueued again within 24 hours for the same owner, the same key, task
            and arguments stand for the same job. Another task or other arguments raise ``IdempotencyKeyConflict``.
        ``queued_key``
            Like ``key``, for one task and until the job begins. Enqueued again with it, the queued job gets the
            arguments and options of the newest call, ``run_after`` too. A job that has begun is not changed: the next
            call enqueues another one.
        ``concurrency_key``
            At most 200 characters, in place of the policy's. At most ``concurrency`` of the task's policy (1 by
            default) jobs with the same key run at once.
        ``expires``
            When a job fails that has not begun by then, in place of the policy's: an aware datetime, or seconds or a
            timedelta, which are counted from when it is enqueued or due.
        ``tags``
            At most ten texts of at most 100 characters, such as ``import:7``, by which the jobs are found together.
        ``changes``
            Django's own: ``priority``, ``queue_name``, ``run_after``, ``backend``. A ``run_after`` may also be seconds
            or a timedelta, counted from the call of ``enqueue()``.
        """
        if changes.keys() - set(DJANGO_OPTIONS):
            raise TypeError(_describe_unknown(min(changes.keys() - set(DJANGO_OPTIONS))))
        delay = None
        if (run_after := changes.get("run_after")) is not None:
            run_after = validate_run_after(run_after)
            if isinstance(run_after, timedelta):
                if stores_jobs(changes.get("backend") or self.backend):
                    delay = run_after
                    del changes["run_after"]
                else:
                    changes["run_after"] = times.now() + run_after
        given = {
            "owner": owner,
            "title": title,
            "url": url,
            "key": key,
            "queued_key": queued_key,
            "concurrency_key": concurrency_key,
            "expires": None if expires is None else validate_expiry(expires),
            "tags": None if tags is None else validate_tags(tags),
        }
        options = self.options._replace(**{name: value for name, value in given.items() if value is not None})
        if run_after is not None:
            options = options._replace(delay=delay)
        # Not super(): its zero-argument form does not work in a dataclass with slots.
        task = Task.using(self, **changes) if changes else self
        # Not replace(): it would validate the task again, which costs more than everything else here.
        copy = object.__new__(type(self))
        for name in _FIELDS:
            object.__setattr__(copy, name, getattr(task, name))
        object.__setattr__(copy, "options", options)
        return copy


@dataclass(frozen=True, kw_only=True, slots=True, init=False)
class OtherTask(Task):
    """A task of a backend of Django's for tests. Options of this app's tasks raise an error that names the backend."""

    def __init__(self, *, func: Any, backend: str = DEFAULT_TASK_BACKEND_ALIAS, **values: Any) -> None:
        for name in values.keys() & {*POLICY_OPTIONS}:
            refuse_backend(backend, f"@task({name}=...)")
        Task.__init__(self, func=func, backend=backend, **values)

    def using(self, **changes: Any) -> Any:
        """Return a copy of this task with other options of Django. Raises ``ImproperlyConfigured`` for this app's."""
        for name in changes.keys() & _JOB_OPTIONS:
            refuse_backend(self.backend, f"{self.func.__name__}.using({name}=...)")
        return Task.using(self, **changes)


# Of the two with which a project may run its tests, and of their subclasses.
DummyBackend.task_class = ImmediateBackend.task_class = OtherTask  # type: ignore[misc]


def with_options(task: Any, **options: Any) -> BackendTask:
    """Return a task, which may be a plain one of Django, with these ``JobOptions`` and none of its own."""
    names = [field.name for field in fields(task) if field.init and field.name != "options"]
    values = {name: getattr(task, name) for name in names}
    return BackendTask(**values, options=JobOptions(**options))


def _describe_unknown(name: str) -> str:
    if option := OPTION_SYNONYMS.get(name):
        hint = f"Use {option}."
    elif name in POLICY_OPTIONS or name in SYNONYMS:
        hint = "Options of all jobs of a task are those of @policy(...)."
    else:
        private = ("schedule", "delay", "inbox_group")
        own = [name for name in JobOptions._fields if name not in private]
        hint = f"It takes {', '.join([*own, *DJANGO_OPTIONS])}; arguments of the task go to enqueue()."
    return f".using() takes no {name}. {hint}"


def refuse_backend(alias: str, what: str) -> NoReturn:
    """Raise ``ImproperlyConfigured``: ``what``, a call, is not for the backend of ``TASKS`` with an alias."""
    path = task_backends.settings.get(alias, {}).get("BACKEND", "")
    raise ImproperlyConfigured(
        f"{what} needs the backend of notifications, and that of TASKS[{alias!r}] is {path!r}. {BACKEND_REMEDY}"
    )


def has_job_tasks(backend: Any) -> bool:
    """Return whether a backend of ``TASKS``, or its class, is ``JobBackend`` or a subclass of it."""
    return issubclass(getattr(backend, "task_class", Task), BackendTask)


def stores_jobs(alias: str) -> bool:
    """Return whether the backend of ``TASKS`` with an alias stores its jobs in this app."""
    try:
        backend = import_path(task_backends.settings.get(alias, {}).get("BACKEND", ""))
    except CannotImport:  # a check reports it
        return False
    return isinstance(backend, type) and has_job_tasks(backend)


_DJANGO_FIELDS = {field.name for field in fields(Task)}
_FIELDS = [field.name for field in fields(BackendTask)]
_JOB_OPTIONS = set(JobOptions._fields)


def _unpickle(path: str, changes: dict[str, Any]) -> BackendTask:
    task: BackendTask = replace(import_string(path), **changes)
    return task


@cached_until_changed("TASKS")
def has_engine(backend: str) -> bool:
    """Return whether an engine runs the jobs of a backend (alias in ``TASKS``), in place of the built-in worker."""
    return bool(task_backends.settings.get(backend, {}).get("OPTIONS", {}).get("engine"))


def wakes_builtin_worker(backends: Iterable[str]) -> bool:
    """Return whether the built-in worker runs new jobs of one of these backends (aliases in ``TASKS``)."""
    return not all(map(has_engine, backends))


@cached_until_changed("TASKS")
def aliases_with_engines() -> tuple[str, ...]:
    """Return the backends of ``TASKS`` whose jobs engines run."""
    return tuple(filter(has_engine, task_backends.settings))
