"""Tasks whose jobs an extension holds back: they are queued, and no worker claims them until it releases them.

Their executor says what they wait for, so the index of queued jobs has those that wait for the same in the order of
priority and turn. See ``jobs/transitions/releasing.py``.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

#: How the executors of held jobs begin, and after which text, in each collation, all of them come first.
HELD, AFTER_HELD = "held", "heldz"
#: Characters of the name of what a job waits for, hex digits: the name of an executor has at most 20.
MAX_NAME_LENGTH = 16

_ATTRIBUTE = "_notifications_held"
_has_held_tasks = False

#: Returns the name of what a job waits for, at most ``MAX_NAME_LENGTH`` hex digits.
NameOf = Callable[[Any], str]


def hold(function: Callable[..., Any], name_of: NameOf) -> None:
    """Hold back the jobs of the task with this function, from when they are queued or queued again.

    ``name_of``
        Called in transactions that queue jobs, on any thread: no query, no code of the project, and it raises nothing.
        Of the job it reads ``task_path``, ``backend``, ``user_id``, and ``args`` and ``kwargs``, which are JSON.
    """
    global _has_held_tasks
    _has_held_tasks = True
    setattr(function, _ATTRIBUTE, name_of)


def has_held_tasks() -> bool:
    """Return whether this process has imported a task that is held back."""
    return _has_held_tasks


def is_held(executor: str) -> bool:
    """Return whether jobs that are stored with this executor are held."""
    return executor.startswith(HELD)


def is_task_held(function: Callable[..., Any]) -> bool:
    """Return whether the jobs of the task with this function are held back."""
    return hasattr(function, _ATTRIBUTE)


def held_executor(function: Callable[..., Any], job: Any) -> str:
    """Return the executor with which a job of a task is queued that is held back, "" for any other task."""
    name_of: NameOf | None = getattr(function, _ATTRIBUTE, None)
    return "" if name_of is None else HELD + name_of(job)
