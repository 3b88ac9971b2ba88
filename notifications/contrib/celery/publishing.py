"""Groups of Celery's while they are published: which batch each message belongs to, and how many jobs it has.

Celery sends no signal at the beginning and at the end of a group's publishing, and no message says how many others
there are. So ``group.apply_async()`` and ``group.apply()`` are wrapped: all that they publish is one batch for each
owner, of nested groups and chords too. The project's ``celery.py`` imports this before Django is ready: nothing here
imports models.
"""

from __future__ import annotations

import functools
import time
import uuid
from collections.abc import Callable, Iterable
from contextlib import suppress
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any

from celery import current_task, group

#: Seconds for which a batch stays open after its publisher has last said that it is publishing. If the publisher is
#: killed, the batch can end after that.
OPEN_SECONDS = 30.0
#: Seconds between two times that the publisher says so.
EXTEND_INTERVAL_SECONDS = 10.0

_NAMESPACE = uuid.UUID("0d6f3c1e-7a52-4c53-9c5b-6f0a5b1d3a47")
_current: ContextVar[GroupPublishing | None] = ContextVar("notifications_group_publishing", default=None)


@dataclass(kw_only=True, slots=True)
class PublishedBatch:
    """The batch of one owner in a group.

    ``count``
        The number of jobs that were published.
    ``followers``
        The ids of tasks that Celery publishes after these: the rest of a chain, and the body of a chord.
    """

    id: str
    count: int = 0
    followers: set[str] = field(default_factory=set)
    task_names: set[str] = field(default_factory=set)
    title: str = ""
    url: str = ""
    extended_at: float = field(default_factory=time.monotonic)

    def add(self, task_name: str, *, title: str, url: str) -> None:
        """Count a job. ``title`` and ``url`` are those of the batch if it stays the only one."""
        if self.count == 0:
            self.title, self.url = title, url
        self.count += 1
        self.task_names.add(task_name)

    @property
    def total(self) -> int:
        """The number of jobs that the batch will have if none fails."""
        return self.count + len(self.followers)


class GroupPublishing:
    """The publishing of one group, with all groups inside it."""

    def __init__(self, id: str, parent_id: str | None) -> None:
        self.id = id
        #: The id of the task that publishes the group, None outside of tasks.
        self.parent_id = parent_id
        self.is_eager = False
        self._batches: dict[str | None, PublishedBatch] = {}

    def batch_of(self, user: str | None) -> PublishedBatch:
        """Return the batch of an owner. That of the first owner has the id of the group, if it is a UUID."""
        if (batch := self._batches.get(user)) is None:
            id = uuid.uuid5(_NAMESPACE, f"{self.id}:{user}")
            if not self._batches:
                with suppress(ValueError):
                    id = uuid.UUID(self.id)
            batch = self._batches[user] = PublishedBatch(id=str(id))
        return batch

    @property
    def batches(self) -> Iterable[PublishedBatch]:
        """The batches with at least one job."""
        return [batch for batch in self._batches.values() if batch.count]


def current_publishing(parent_id: Any = ...) -> GroupPublishing | None:
    """Return the group that is being published in this context, or None.

    ``parent_id`` is the id of the task that has called what asks, by default that which runs now. None is returned in a
    task that the group has called itself (``task_always_eager``): what that publishes is not part of the group.
    """
    publishing = _current.get()
    if publishing is None:
        return None
    caller = _current_task_id() if parent_id is ... else parent_id
    return publishing if caller == publishing.parent_id else None


def wrap_groups(close: Callable[[GroupPublishing], None]) -> None:
    """Have ``close`` called after each group's publishing, also if it has failed. Wraps the methods once."""
    for name in ("apply_async", "apply"):
        original = getattr(group, name)
        if not getattr(original, "_is_wrapped_by_notifications", False):
            setattr(group, name, _wrapped(original, close))


def _wrapped(original: Callable[..., Any], close: Callable[[GroupPublishing], None]) -> Callable[..., Any]:
    @functools.wraps(original, assigned=("__doc__",), updated=())
    def publish(self: Any, *args: Any, **options: Any) -> Any:
        if _current.get() is not None:
            return original(self, *args, **options)
        id = options.get("task_id") or self.options.get("task_id")
        if not id:  # Celery would choose one inside, and takes this one as the id of the group
            id = options["task_id"] = str(uuid.uuid4())
        publishing = GroupPublishing(str(id), _current_task_id())
        token = _current.set(publishing)
        try:
            return original(self, *args, **options)
        finally:
            _current.reset(token)
            close(publishing)

    publish._is_wrapped_by_notifications = True  # type: ignore[attr-defined]
    return publish


def _current_task_id() -> str | None:
    id: str | None = getattr(getattr(current_task, "request", None), "id", None)
    return id
