"""Tasks whose jobs an extension holds back: they are queued, and no worker claims them until it releases them.

Their executor says what they wait for, so the index of queued jobs has those that wait for the same in the order of
priority and turn. See ``jobs/transitions/releasing.py``.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from typing import Any

from notifications.jobs.declaring.policies import storable_key
from notifications.jobs.declaring.templates import format_template, refuse_unknown_names

#: How the executors of held jobs begin, and after which text, in each collation, all of them come first.
HELD, AFTER_HELD = "held", "heldz"
#: Hex digits of the name of a key: the name of an executor has at most 20 characters.
MAX_NAME_LENGTH = 16

#: The attribute of the functions of such tasks, and of no other: the `Hold` and the template of its key.
HOLD = "_notifications_hold"
#: The dotted paths of those that this process has imported.
held_tasks: set[str] = set()


class Hold:
    """What an extension holds jobs back for. ``notifications.jobs.HeldJobs`` finds and releases them.

    ``label``
        The label of its app, so that equal keys of two apps are two.
    ``option``
        What errors call the key: ``"rate"``.

    It imports no model, so the module with a decorator for tasks may make one.
    """

    def __init__(self, label: str, option: str) -> None:
        self.label, self.option = label, option

    def attach(self, function: Callable[..., Any], key: str) -> None:
        """Hold back the jobs of the task with this function, from when they are queued or queued again.

        ``key``
            What a job waits for. It may name arguments of the task, and ``{owner}``: ``"partner:{account}"``. A key
            that cannot be made is what stands before its colon.

        Call it when the module of the task is imported. Raises ValueError if ``key`` names something else.
        """
        refuse_unknown_names(self.option, key, function, "owner")
        setattr(function, HOLD, (self, key))
        held_tasks.add(f"{function.__module__}.{function.__qualname__}")

    def name_of(self, key: str) -> str:
        """Return the ``name`` of the ``HeldJobs`` of a key."""
        text = f"{self.label}\0{self.option}\0{key}"
        return hashlib.sha256(text.encode(errors="replace")).hexdigest()[:MAX_NAME_LENGTH]

    def key_of(self, job: Any) -> str:
        """Return the key of a job: "" if its task is not known in this process, or is not held back for this.

        Makes no query. Of the job it reads ``task_path``, ``user_id``, and ``args`` and ``kwargs``, which are JSON.
        """
        from notifications.jobs.results import find_task  # it imports models

        try:
            function = find_task(job.task_path).func
        except ImportError:
            return ""
        return key_of(function, job) if getattr(function, HOLD, (None,))[0] is self else ""


def name_of(function: Callable[..., Any], job: Any) -> str:
    """Return the name by which the executor of a job of a task with this function, which is held, says for what."""
    hold: Hold = getattr(function, HOLD)[0]
    return hold.name_of(key_of(function, job))


def key_of(function: Callable[..., Any], job: Any) -> str:
    """Return the key of a job of a task with this function, which is held back."""
    hold, template = getattr(function, HOLD)
    if "{" not in template:
        return str(template)
    from notifications.jobs.results import find_task  # it imports models

    owner = "" if job.user_id is None else str(job.user_id)
    try:
        takes_context = find_task(job.task_path).takes_context
        args, kwargs = json.loads(job.args), json.loads(job.kwargs)
        return storable_key(
            format_template(hold.option, template, function, takes_context, args, kwargs, owner=owner)
        )
    except (ImportError, TypeError, ValueError):
        return str(template.partition(":")[0])


def is_held(executor: str) -> bool:
    """Return whether jobs that are stored with this executor are held."""
    return executor.startswith(HELD)
