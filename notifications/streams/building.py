"""Make notifications, to be inserted by ``jobs/notifying.py``."""

from __future__ import annotations

import logging
import re
import uuid
from collections.abc import Collection, Sequence
from datetime import date, timedelta
from functools import lru_cache
from hashlib import blake2b
from typing import Any

from django.utils.functional import Promise

from notifications import paths, times, validators
from notifications.db import bulk
from notifications.extension import hooks, shipped
from notifications.ids import uuid7
from notifications.models import Job, Notification, Wait
from notifications.streams import icons

logger = logging.getLogger("notifications")

LEVELS = tuple(Notification.Level.values)
#: What the keys of groups begin with that the project names, and of those that it does not.
NAMED, UNNAMED = "n:", "d:"

#: When a notification is read that is so when it is made: one read at its creation is muted.
AFTER_CREATION = timedelta(microseconds=1)


def build_notification(
    user: Any,
    title: Any,
    *,
    body: Any = "",
    url: str | None = None,
    level: str = "info",
    category: str = "",
    key: str = "",
    data: dict[str, Any] | None = None,
    actions: Sequence[Any] = (),
    icon: str = "",
    actor: Any = None,
    target: Any = None,
    group: str = "",
    deliver: Any = None,
    job: uuid.UUID | None = None,
    task: str = "",
    broadcast: uuid.UUID | None = None,
    wait: Wait | None = None,
) -> Notification:
    """Return an unsaved notification for a user (key), for hooks that return one. Raises TypeError or ValueError.

    Arguments that are not described here are those of ``notify()``.

    ``task``
        The path of the task of its job, whose notifications of one day are a group if they are in no other.
    ``wait``
        The wait of a job that it is about. It has the id of the wait, so a wait has one such notification. When the
        wait ends, it is marked as read, and its actions are removed.
    """
    if level not in LEVELS:
        raise ValueError(f"level is {level!r}. It must be one of {', '.join(LEVELS)}.")
    if data is not None and not isinstance(data, dict):
        raise TypeError(f"data must be a dict, not {type(data).__name__}.")
    own: dict[str, Any] = {}
    if actions:
        own["actions"] = validators.actions(actions)
    if icon:
        if icon not in icons.NOTIFICATION_ICONS:
            raise ValueError(f"icon is {icon!r}. It must be one of {', '.join(icons.NOTIFICATION_ICONS)}.")
        own["icon"] = icon
    if actor:
        own["actor"] = validators.party("actor", actor, "image")
    if target:
        own["target"] = validators.party("target", target, "url")
    for name in own:
        if data and name in data:
            raise ValueError(f"data has the key {name!r} already. Pass it by one of the two.")
    data = {**(data or {}), **own}
    if actor or target:
        title = _fill(title, own)
        url = url or own.get("target", {}).get("url")
    category = validators.text("category", category, validators.MAX_NAME_LENGTH)
    created_at = times.now()
    return bulk.new_row(
        Notification,
        id=wait.id if wait else uuid7(),
        user_id=user,
        title=validators.label("title", title, validators.MAX_TITLE_LENGTH, required=True),
        body=validators.label("body", body, validators.MAX_BODY_LENGTH),
        url=validators.link("url", url),
        level=level,
        category=category,
        key=validators.text("key", key, validators.MAX_KEY_LENGTH),
        data=validators.json_text("data", data, validators.MAX_DATA_BYTES) if data else "{}",
        job=wait.job if wait else job,
        broadcast=broadcast,
        group_key=make_group_key(group, category, own.get("target"), task, created_at.date()),
        created_at=created_at,
        **({} if deliver is None else {"steps": _read_deliver(deliver)}),
    )


def build_end_notification(job: Job, body: str, level: str, key: str) -> Notification:
    """Return the unsaved notification of the end of a job.

    Nothing is checked: the texts of the job were when it was stored, and ``body`` is checked by the caller.
    """
    created_at = times.now()
    return bulk.new_row(
        Notification,
        id=uuid7(),
        user_id=job.user_id,
        title=job.title,
        body=body,
        url=job.url or paths.job_path(job.id),
        level=level,
        category="job",
        key=key,
        job=job.id,
        group_key=make_group_key(job.inbox_group, "job", None, job.task_path, created_at.date()),
        created_at=created_at,
    )


def make_group_key(
    group: Any, category: str, target: dict[str, str] | None, task: str, day: date
) -> str | None:
    """Return the key of the group of a notification, None if it is in none. Raises TypeError or ValueError.

    ``group``
        What the project calls it, ``""`` if it does not.
    ``target``, ``task``
        What it is about, and the path of the task of its job.
    """
    if group:
        return NAMED + validators.text("group", group, validators.MAX_NAME_LENGTH, required=True)
    if category and target:
        return _make_unnamed_key(f"{category}\n{target['name']}\n{target.get('url')}", day)
    return _make_unnamed_key(task, day) if task else None


@lru_cache(maxsize=1_000)
def _make_unnamed_key(subject: str, day: date) -> str:
    return UNNAMED + blake2b(f"{day}\n{subject}".encode(), digest_size=9).hexdigest()


def _read_deliver(value: Any) -> Any:
    """Return the steps of ``deliver``. Raises ``ValueError``."""
    if hooks.channels:
        return hooks.read_delivery_steps(value)
    if value:
        remedy = shipped.describe_remedy(shipped.find_app_of_setting("DELIVERY"))
        raise ValueError(f"deliver is {value!r}, but only the page shows notifications. {remedy}")
    return None


def _fill(title: Any, parties: dict[str, Any]) -> str:
    """Return a title with the names of the actor and the target in the places that it has for them."""
    if isinstance(title, Promise):
        title = str(title)
    if not isinstance(title, str):
        return title  # An error of the title's own check.
    return re.sub(r"\{(actor|target)\}", lambda place: parties.get(place[1], {}).get("name", place[0]), title)


def prepare(rows: Sequence[Notification], *, read: Collection[uuid.UUID] = ()) -> None:
    """Prepare notifications for a transaction that inserts them, also again after one that was rolled back.

    Then they have no numbers, and extensions have changed them. A chunk in a call, before streams are locked.

    ``read``
        The ids of those that are read when they are made.
    """
    for row in rows:
        row.seq, row.raised, row.counted, row.read_at = None, None, False, None
    for hook in hooks.before_created:
        hook(rows)
    for row in rows if read else ():
        if row.id in read and row.read_at is None:
            row.read_at = row.created_at + AFTER_CREATION
