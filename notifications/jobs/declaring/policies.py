"""Policies: what the author of a task decides about its jobs.

No model is imported here: ``notifications.api`` may be imported before the models are ready.
"""

from __future__ import annotations

import inspect
import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from datetime import timedelta
from fnmatch import fnmatchcase
from typing import Any, Never, TypeVar
from uuid import UUID

from notifications import validators
from notifications.compat import task_backends
from notifications.conf import cached_until_changed
from notifications.db.imports import CannotImport, import_path
from notifications.extension import hooks
from notifications.jobs.declaring.moments import validate_expires
from notifications.jobs.declaring.templates import (
    TaskCall,
    format_key,
    format_template,
    refuse_unknown_names,
    storable_key,
)

logger = logging.getLogger("notifications.jobs")

F = TypeVar("F", bound=Callable[..., Any])

_POLICY_ATTRIBUTE = "_notifications_policy"
#: Policies for tasks of other packages, in ``OPTIONS["policies"]`` of a backend in ``TASKS``.
SETTINGS_EXAMPLE = '{"modelsearch.tasks.*": {"retry_on": "django.db.IntegrityError", "max_attempts": 5}}'


@dataclass(frozen=True, kw_only=True, slots=True)
class FinishedJob:
    """What a ``notify`` function of a policy or batch gets: a job that has finished, before its outcome is stored.

    ``state``
        ``"succeeded"``, ``"failed"`` or ``"cancelled"``.
    ``result``
        What the task returned, if it succeeded, else None.
    ``error``
        Why the job failed or was cancelled, a dict with ``type``, ``title`` and ``detail``, else None.
    """

    id: UUID
    title: str
    url: str
    state: str
    result: Any
    error: dict[str, str] | None


#: What ``notify`` of a policy or batch may be.
NotifyOption = bool | Callable[[FinishedJob], Mapping[str, Any] | None]


@dataclass(frozen=True, kw_only=True, slots=True)
class Policy:
    """The options of ``policy()``, validated."""

    title: str = ""
    max_attempts: int = 3
    timeout: float | None = 300.0
    expires: timedelta | None = None
    retry_on: type[Exception] | tuple[type[Exception], ...] = ()
    backoff: float = 2.0
    concurrency_key: str = ""
    concurrency: int = 1
    share: str = ""
    notify: NotifyOption = True
    redact: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for name in ("max_attempts", "concurrency"):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int) or value < 1:
                raise ValueError(f"{name} is {value!r}. It must be an integer of 1 or more.")
        if self.timeout is not None and (
            isinstance(self.timeout, bool)
            or not isinstance(self.timeout, int | float)
            or not 0 < self.timeout < 1e8
        ):
            raise ValueError(
                f"timeout is {self.timeout!r}. It must be a number of seconds above 0, or None for no limit."
            )
        if self.expires is not None:
            object.__setattr__(self, "expires", validate_expires(self.expires))
        if (
            isinstance(self.backoff, bool)
            or not isinstance(self.backoff, int | float)
            or not 0 <= self.backoff <= 3_600
        ):
            raise ValueError(f"backoff is {self.backoff!r}. It must be a number of seconds from 0 to 3,600.")
        for name, example in (("concurrency_key", "report:{owner}"), ("share", "{tenant}")):
            if not isinstance(getattr(self, name), str):
                raise TypeError(f'{name} must be a string, which may name arguments: "{example}".')
        kinds = self.retry_on if isinstance(self.retry_on, tuple | list) else (self.retry_on,)
        if not all(isinstance(kind, type) and issubclass(kind, Exception) for kind in kinds):
            raise TypeError(
                f"retry_on is {self.retry_on!r}. It must be an exception class or a tuple of exception classes: "
                "(OSError,)."
            )
        object.__setattr__(self, "retry_on", tuple(kinds))
        if isinstance(self.redact, str) or not all(isinstance(name, str) for name in self.redact):
            raise TypeError(f'redact is {self.redact!r}. It must be a tuple of names: ("iban",).')
        object.__setattr__(self, "redact", tuple(self.redact))
        if not isinstance(self.notify, bool) and not callable(self.notify):
            raise TypeError(
                "notify must be True, False or a function that takes a FinishedJob and returns a dict or None."
            )


DEFAULT_POLICY = Policy()

#: What options are called in Celery, RQ, huey and others, and what they are here.
SYNONYMS = {
    **dict.fromkeys(("retries", "max_retries", "retry"), "max_attempts, which counts the first attempt too"),
    **dict.fromkeys(("autoretry_for", "retry_for"), "retry_on"),
    **dict.fromkeys(("retry_delay", "default_retry_delay", "retry_backoff"), "backoff"),
    **dict.fromkeys(("time_limit", "soft_time_limit", "job_timeout"), "timeout"),
    **dict.fromkeys(("ttl", "max_age"), "expires"),
}
#: Options that are Django's, of a task or of one job, and those of one job only.
TASK_OPTIONS = {"priority", "queue_name", "backend"}
ONE_JOB_OPTIONS = {"owner", "url", "key", "queued_key", "run_after"}


def title_from_name(name: str) -> str:
    """Return the title of jobs whose task declares none, from the dotted path or name of the task."""
    return name.rpartition(".")[2].strip("_").replace("_", " ").capitalize() or "Job"


def describe_unknown_option(name: str) -> str:
    """Return what to write in place of an option that ``@policy`` does not have."""
    if name in TASK_OPTIONS:
        return f"Use @task({name}=...), or .using({name}=...) for one job."
    if name in ONE_JOB_OPTIONS:
        return f"Use .using({name}=...)."
    if option := SYNONYMS.get(name):
        return f"Use {option}."
    return f"It takes {', '.join(field.name for field in fields(Policy))}."


def policy(
    *,
    title: str = "",
    max_attempts: int = 3,
    timeout: float | None = 300.0,
    expires: float | timedelta | None = None,
    retry_on: type[Exception] | tuple[type[Exception], ...] = (),
    backoff: float = 2.0,
    concurrency_key: str = "",
    concurrency: int = 1,
    share: str = "",
    notify: NotifyOption = True,
    redact: tuple[str, ...] = (),
    **unknown: Never,
) -> Callable[[F], F]:
    """Set how the jobs of a task are executed and announced. Stands below ``@task``.

    ``@task`` takes the same options, which replace those of ``@policy``, if its backend is ``JobBackend``.

    ``title``
        What the owner reads. It may name arguments: ``"Check report {report_id}"``. Shortened to 200 characters. The
        default is the function's name.
    ``max_attempts``
        How often a job is started at most, 1 or more, counting attempts that ended with an exception of ``retry_on``
        and attempts whose worker was lost.
    ``timeout``
        Seconds that one attempt may take, None for no limit. A job without a limit is taken away from its worker only
        when the worker is lost.
    ``expires``
        Seconds, or a timedelta, within which a job must begin, counted from when it is enqueued or due (``run_after``).
        One that has not begun by then fails with an error of the type ``expired``, without an attempt. A job that has
        begun does not expire, also while it waits for another attempt, and neither does one that is retried by hand.
        ``.using(expires=…)`` replaces it for one job. None: jobs do not expire.
    ``retry_on``
        Exception classes after which the job is retried. After any other exception it has failed. Include
        ``TimeoutError`` to retry attempts that timed out. ``DATABASE_UNAVAILABLE`` holds the exceptions of a database
        that is restarted or unreachable.
    ``backoff``
        The pause before the second attempt is a random part of so many seconds, of twice as many before the third, and
        so on, at most an hour. It is at least the ``retry_after`` seconds of the exception, at most a day.
    ``concurrency_key``, ``concurrency``
        At most ``concurrency`` jobs with the same key run at once, over all workers. The key may name arguments and the
        ``owner``: ``"report:{owner}"``. Tasks that share keys should have the same ``concurrency``.
    ``share``
        Who takes turns with others: of the jobs of one queue and priority that wait, those of each share begin in
        turn. It may name arguments and the ``owner``: ``"{tenant}"``. The default is the owner, or the task of a job
        without an owner.
    ``notify``
        True creates the default notification when the job is done, False none. A function is called with the
        ``FinishedJob``, on a thread, before the outcome is stored. It returns a dict with values that replace the
        default ``title``, ``body``, ``level``, ``category``, ``url``, ``data``, ``icon``, ``actor``, ``target`` or
        ``group``, or None for no notification. If it raises or takes longer than 5 seconds, the default notification
        is created.
    ``redact``
        Names of arguments, and of keys inside them, whose values the admin never shows, besides names that contain
        ``password``, ``token``, ``secret``, ``key`` and the like. Results of steps are shown by the same rule, each
        under the name of its step.

    Raises TypeError or ValueError, also if ``title``, ``concurrency_key`` or ``share`` names an argument that the task
    lacks.
    """
    for name in unknown:
        raise TypeError(f"@policy takes no {name}. {describe_unknown_option(name)}")
    options = Policy(
        title=title,
        max_attempts=max_attempts,
        timeout=timeout,
        expires=None if expires is None else validate_expires(expires),
        retry_on=retry_on,
        backoff=backoff,
        concurrency_key=concurrency_key,
        concurrency=concurrency,
        share=share,
        notify=notify,
        redact=redact,
    )

    def attach(function: F) -> F:
        if not inspect.isfunction(function):
            raise TypeError(
                "@policy stands above @task. Write @task first, then @policy(...), then the function."
            )
        _attach(options, function)
        return function

    return attach


def change_policy(function: Callable[..., Any], **options: Any) -> None:
    """Change options of a function's policy, which ``@task`` was given. Raises TypeError and ValueError."""
    _attach(replace(declared_policy(function), **options), function)


def _attach(options: Policy, function: Callable[..., Any]) -> None:
    refuse_unknown_names("title", options.title, function)
    refuse_unknown_names("concurrency_key", options.concurrency_key, function, "owner")
    refuse_unknown_names("share", options.share, function, "owner")
    setattr(function, _POLICY_ATTRIBUTE, options)


def declared_policy(function: Callable[..., Any]) -> Policy:
    """Return the policy that ``@policy`` has declared for a function, the default one without it."""
    declared: Policy = getattr(function, _POLICY_ATTRIBUTE, DEFAULT_POLICY)
    return declared


def has_policy(function: Callable[..., Any]) -> bool:
    """Return whether the author of a task's function, the settings or an extension have declared a policy for it."""
    path = f"{function.__module__}.{function.__qualname__}"
    return hasattr(function, _POLICY_ATTRIBUTE) or any(True for _ in _declared_for(path))


@cached_until_changed("TASKS")
def policy_of(function: Callable[..., Any]) -> Policy:
    """Return the policy of a task's function: its own or the default one, changed by ``policies`` of the settings.

    Options that a system check refuses are logged and ignored.
    """
    found = declared_policy(function)
    path = f"{function.__module__}.{function.__qualname__}"
    try:
        for options in _declared_for(path):
            found = replace(found, **imported(options))
    except (TypeError, ValueError) as exc:
        logger.error("Ignored wrong policies in TASKS: task %s: %s", path, exc)
    return found


def _declared_for(path: str) -> Iterator[Any]:
    """Yield the options for a task as they are declared: those of extensions, then those of the settings.

    The keys are paths of tasks, which may have the wildcards ``*``, ``?`` and ``[…]``.
    """
    settings = [params.get("OPTIONS", {}).get("policies", {}) for params in task_backends.settings.values()]
    for patterns in (hooks.policies, *settings):
        for pattern, options in patterns.items() if isinstance(patterns, dict) else ():
            if isinstance(pattern, str) and fnmatchcase(path, pattern):
                yield options


def imported(options: Any) -> dict[str, Any]:
    """Return options with what ``retry_on`` and ``notify`` name by dotted paths. Settings cannot import all modules.

    Raises TypeError.
    """
    if not isinstance(options, Mapping):
        raise TypeError(f"The options are {options!r}. Write a dict of options of @policy.")
    found = dict(options)
    for name in {"retry_on", "notify"}.intersection(found):
        value = found[name]
        is_several = name == "retry_on" and isinstance(value, tuple | list)
        found[name] = tuple(map(_imported, value)) if is_several else _imported(value)
    return found


def _imported(value: Any) -> Any:
    try:
        return import_path(value) if isinstance(value, str) else value
    except CannotImport as exc:
        raise TypeError(f"{value!r} cannot be imported: {exc.reason}") from exc


def job_title(
    function: Callable[..., Any], takes_context: bool, args: Sequence[Any], kwargs: Mapping[str, Any]
) -> str:
    """Return the title of a job with these arguments: the policy's, or else made from the function's name.

    It is shortened to the limit of titles, because arguments are often what a user typed.
    """
    template = policy_of(function).title
    call = TaskCall(function, takes_context, args, kwargs)
    title = format_template("title", str(template), call) if template else ""
    if not title.strip():
        title = title_from_name(function.__name__)
    return validators.shortened(title, validators.MAX_TITLE_LENGTH)


def job_key(option: str, call: TaskCall) -> str:
    """Return the ``concurrency_key`` or the ``share`` that the policy names for a job, ``""`` if it names none."""
    return format_key(option, getattr(policy_of(call.function), option), call)


def sender_key(user: Any) -> str:
    """Return the concurrency key of what is sent to the webhooks and devices of a user (key)."""
    return storable_key(f"send:{user}")


def owner_share(owner: Any) -> str:
    """Return the share of the jobs of a user (key), unless their policies name another one."""
    return f"user:{owner}"
