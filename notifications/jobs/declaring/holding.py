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

#: The attribute of the function of such a task: what ``hold()`` was given.
NAME_OF = "_notifications_name_of_hold"
#: The dotted paths of those that this process has imported.
held_tasks: set[str] = set()


def hold(function: Callable[..., Any], name_of: Callable[[Any], str]) -> None:
    """Hold back the jobs of the task with this function, from when they are queued or queued again.

    ``name_of``
        Returns the name of what a job waits for, at most ``MAX_NAME_LENGTH`` hex digits. Called in transactions that
        queue jobs, on any thread: no query, no code of the project, and it raises nothing. Of the job it reads
        ``task_path``, ``backend``, ``user_id``, and ``args`` and ``kwargs``, which are JSON.
    """
    setattr(function, NAME_OF, name_of)
    held_tasks.add(f"{function.__module__}.{function.__qualname__}")


def is_held(executor: str) -> bool:
    """Return whether jobs that are stored with this executor are held."""
    return executor.startswith(HELD)
