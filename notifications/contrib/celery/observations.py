"""Observations: which Celery tasks have a job for each execution, and what its owner reads.

They are declared with ``@observed`` or in ``NOTIFICATIONS["CELERY"]["tasks"]``. Nothing here imports models.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from datetime import timedelta
from fnmatch import fnmatchcase
from inspect import Signature
from typing import Any
from urllib.parse import quote

from django.conf import settings as django_settings
from django.utils.functional import Promise

from notifications import validators
from notifications.jobs import Policy
from notifications.jobs.declaring.policies import NotifyOption, title_from_name

logger = logging.getLogger("notifications.jobs")


@dataclass(frozen=True, kw_only=True, slots=True)
class Observation:
    """The options of ``observed()``, validated. Raises TypeError."""

    title: Any = ""
    owner: str | Callable[..., Any] | None = None
    url: str | Callable[..., Any] = ""
    notify: NotifyOption = True
    start_within: Any = None
    #: The policy with which the outcomes of the jobs are made.
    policy: Policy = field(init=False)

    def __post_init__(self) -> None:
        if not isinstance(self.title, str | Promise):
            raise TypeError('title must be a string, which may name arguments: "Export {year}".')
        if self.owner is not None and not isinstance(self.owner, str) and not callable(self.owner):
            raise TypeError(
                "owner must be the name of the argument that holds the user or its primary key, "
                "or a function of the task's arguments that returns either."
            )
        if not isinstance(self.url, str) and not callable(self.url):
            raise TypeError(
                'url must be a string, which may name arguments: "/exports/{year}/", or a function of them.'
            )
        if self.start_within is not None:
            object.__setattr__(self, "start_within", _positive_time(self.start_within))
        object.__setattr__(self, "policy", Policy(title=self.title, max_attempts=1, notify=self.notify))


def _positive_time(value: Any) -> timedelta:
    if isinstance(value, int | float) and not isinstance(value, bool):
        value = timedelta(seconds=value)
    if not isinstance(value, timedelta) or value <= timedelta(0):
        raise TypeError("start_within must be a timedelta, or a number of seconds, of more than 0.")
    return value


class TaskCall:
    """The arguments with which an observed task is called.

    ``signature``
        The signature of the task's function, None in a process that does not know the task.
    """

    def __init__(
        self, name: str, signature: Signature | None, args: Sequence[Any], kwargs: Mapping[str, Any]
    ) -> None:
        self.name = name
        self.args, self.kwargs = list(args), dict(kwargs)
        self._named = dict(kwargs)
        if signature is not None:
            try:
                bound = signature.bind(*args, **kwargs)
            except TypeError:  # Celery reports it when the task is called
                return
            bound.apply_defaults()
            self._named |= bound.arguments

    def title(self, observation: Observation) -> str:
        """Return the title of the job, the name of the task if the declared title cannot be formatted."""
        title = self._format("title", str(observation.title)) if observation.title else ""
        title = validators.printable(title) if title.strip() else title_from_name(self.name)
        return validators.shortened(title, validators.MAX_TITLE_LENGTH)

    def url(self, observation: Observation) -> str:
        """Return the link of the job, ``""`` if the declared one is none or cannot be made."""
        try:
            if callable(observation.url):
                return validators.link("url", observation.url(*self.args, **self.kwargs))
            return validators.link("url", self._format("url", observation.url, quoted=True))
        except Exception as exc:  # also whatever the project's function raises: the task must be published
            logger.warning("Could not make the url of a job of Celery task %s: %r", self.name, exc)
            return ""

    def owner(self, observation: Observation) -> Any:
        """Return the user or key that the declaration names, None if there is none."""
        try:
            if callable(observation.owner):
                return observation.owner(*self.args, **self.kwargs)
            return self._named.get(observation.owner) if observation.owner else None
        except Exception as exc:
            logger.warning("Could not find the owner of a job of Celery task %s: %r", self.name, exc)
            return None

    def _format(self, option: str, template: str, *, quoted: bool = False) -> str:
        args, named = self.args, self._named
        if quoted:
            args = [quote(str(value), safe="") for value in args]
            named = {name: quote(str(value), safe="") for name, value in named.items()}
        try:
            return template.format(*args, **named)
        except Exception as exc:
            logger.warning(
                "Could not format the %s %r of Celery task %s: %r", option, template, self.name, exc
            )
            return ""


#: The declarations in the settings, each with the dict that it was made from.
_configured: dict[str, tuple[Any, Observation | None]] = {}


def configured_tasks() -> dict[str, Any]:
    """Return ``NOTIFICATIONS["CELERY"]["tasks"]``, as far as it is a dict."""
    configured = getattr(django_settings, "NOTIFICATIONS", {})
    celery = configured.get("CELERY") if isinstance(configured, dict) else None
    tasks = celery.get("tasks") if isinstance(celery, dict) else None
    return tasks if isinstance(tasks, dict) else {}


def configured_key(name: str) -> str | None:
    """Return the name or pattern in the settings that counts for a task: the first that matches, None if none does."""
    tasks = configured_tasks()
    if name in tasks:
        return name
    return next((pattern for pattern in tasks if fnmatchcase(name, str(pattern))), None)


def from_options(options: Any) -> Observation:
    """Return the observation that a dict in the settings stands for. Raises TypeError."""
    known = [option.name for option in fields(Observation) if option.init]
    if not isinstance(options, Mapping):
        raise TypeError(f"The value is {options!r}. It must be a dict with {', '.join(known)}.")
    if unknown := sorted(set(options) - set(known), key=str):
        raise TypeError(f"It has an unknown key {unknown[0]!r}. Known keys: {', '.join(known)}.")
    return Observation(**options)


def find_configured(name: str) -> Observation | None:
    """Return how the settings say that the task with this name is observed, None if they do not name it."""
    if (key := configured_key(name)) is None:
        return None
    options = configured_tasks()[key]
    made_from, observation = _configured.get(name, (None, None))
    if made_from is not options:
        try:
            observation = from_options(options)
        except TypeError as exc:  # which the system check reports
            logger.error("NOTIFICATIONS['CELERY']['tasks'][%r]: %s", name, exc)
            observation = None
        _configured[name] = options, observation
    return observation
