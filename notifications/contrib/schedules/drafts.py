"""What a stored schedule is to say: validated, and written in a transaction."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import datetime
from functools import partial
from hashlib import sha256
from typing import Any
from uuid import uuid4

from django.utils import timezone

from notifications import validators
from notifications.contrib.schedules.declarations import (
    ScheduleDeclaration,
    find_wrong_options,
    make_declaration,
)
from notifications.contrib.schedules.errors import ScheduleGone, TooManySchedules
from notifications.contrib.schedules.models import Schedule
from notifications.contrib.schedules.offers import read_settings
from notifications.contrib.schedules.stored import (
    OWNER_ZONE,
    PREFIX,
    read_options,
    read_zone,
    stored_schedules,
)
from notifications.contrib.schedules.tasks import ScheduledTaskError, scheduled_task
from notifications.db import database, database_now, lock_name, lock_query, retrying_atomic, user_keys_of

#: What ``update_schedule()`` changes: the options of ``schedule()``, but for its owner and key.
CHANGEABLE = (
    "task",
    "args",
    "kwargs",
    "cron",
    "every",
    "zone",
    "title",
    "queue",
    "overlap",
    "grace",
)

#: What a new schedule has where nothing else is said.
DEFAULTS: Mapping[str, Any] = {"queue": "", "overlap": "skip", "grace": 3600}


def store(values: Mapping[str, Any], key: str) -> Schedule:
    """Store a schedule: see ``schedule()``."""
    draft = ScheduleDraft(values)
    return retrying_atomic(
        partial(draft.insert, validators.text("key", key, validators.MAX_KEY_LENGTH) or uuid4().hex)
    )


def change(name: str, changes: Mapping[str, Any]) -> Schedule:
    """Change a stored schedule: see ``update_schedule()``."""
    if unknown := sorted(changes.keys() - set(CHANGEABLE)):
        raise TypeError(f"update_schedule() takes no {unknown[0]}. It takes {', '.join(CHANGEABLE)}.")
    if "every" in changes:
        changes = {"cron": "", "zone": "", **changes}
    elif "cron" in changes:
        changes = {"every": None, **changes}
    while True:
        if (before := stored_schedules().filter(name=name).first()) is None:
            raise ScheduleGone
        # Not in the transaction that locks the row: it imports the task, and asks extensions for the zone of the owner.
        draft = ScheduleDraft({**read_values(before), **changes})
        if changed := retrying_atomic(partial(draft.replace, before)):
            return changed


class ScheduleDraft:
    """What a stored schedule is to say, validated as an entry of ``SCHEDULES`` is.

    ``values``
        The arguments of ``schedule()`` but ``key``.

    Raises ``ValueError`` or ``TypeError``.
    """

    def __init__(self, values: Mapping[str, Any]) -> None:
        owner = values["owner"]
        self.owner_key = None if owner is None else user_keys_of(owner)[0]
        self.title = validators.text("title", values["title"], validators.MAX_TITLE_LENGTH)
        self.is_in_owner_zone = values["zone"] == OWNER_ZONE
        task = values["task"]
        path = task if isinstance(task, str) else getattr(task, "module_path", task)
        named = {key: values[key] for key in ("args", "kwargs", "cron", "every", "queue") if values[key]}
        self.options = {"task": path, **named, "overlap": values["overlap"], "grace": values["grace"]}
        zone = values["zone"]
        if self.is_in_owner_zone:
            if self.owner_key is None:
                raise ValueError('zone is "owner", and there is no owner. Pass owner, or the name of a zone.')
            zone = read_zone(self.owner_key)
        # That of the site is stored by its name: the setting may change, and processes may have different ones.
        if zone := zone or (values["cron"] and timezone.get_default_timezone_name()):
            self.options["timezone"] = zone
        for _id, message, hint in find_wrong_options(self.options):
            raise ValueError(f"{message} {hint}")
        self.declaration: ScheduleDeclaration = make_declaration("", self.options)
        _check_task(self.declaration)
        if not self.title:
            self.title = path.rpartition(".")[2].replace("_", " ").capitalize()[: validators.MAX_TITLE_LENGTH]

    def insert(self, key: str) -> Schedule:
        """Insert the row, or change the one of this owner with this key, inside a transaction."""
        name = f"{PREFIX}{sha256(f'{self.owner_key} {key}'.encode()).hexdigest()[:32]}"
        # Of two transactions that insert at once, the second one waits, and finds and counts the row of the first.
        lock_name("schedules", name if self.owner_key is None else self.owner_key)
        now = database_now()
        row = lock_query(stored_schedules().filter(name=name), skip_locked=False).first()
        if row is None:
            limit = read_settings().per_user
            of_owner = stored_schedules().filter(user=self.owner_key)
            if self.owner_key is not None and of_owner.count() >= limit:
                raise TooManySchedules(limit)
            row = Schedule(name=name, user_id=self.owner_key, created_at=now, declared_until=now)
        self.fill(row, now)
        row.save(using=database())
        return row

    def replace(self, before: Schedule) -> Schedule | None:
        """Change a row, inside a transaction, unless another transaction has changed it since it was read."""
        same = stored_schedules().filter(name=before.name, options=before.options)
        row: Schedule | None = lock_query(same, skip_locked=False).first()
        if row is not None:
            self.fill(row, database_now())
            row.save(using=database())
        return row

    def fill(self, row: Schedule, now: datetime) -> None:
        """Set what it says on a row. If its times are other ones, the next tick is the first one from now on."""
        timing = self.declaration.timing
        if row.timing != str(timing):
            row.timing, row.next_tick, row.timed_at = str(timing), timing.next_tick(now), now
        row.task_path, row.title = self.declaration.task_path, self.title
        row.is_in_owner_zone, row.put_off_until = self.is_in_owner_zone, None
        options = dict(self.options)
        if timing.every:
            options["every"] = timing.every.total_seconds()
        options |= {"args": self.declaration.args, "kwargs": self.declaration.kwargs}
        row.options = json.dumps(options)


def _check_task(declaration: ScheduleDeclaration) -> None:
    try:
        scheduled_task(declaration)
    except ScheduledTaskError as exc:
        raise ValueError(f"{exc} {exc.hint}") from exc


def read_values(row: Schedule) -> dict[str, Any]:
    """Return a row as the arguments of ``schedule()``. Raises ``ValueError`` for one that cannot be read."""
    try:
        options = read_options(row)
        zone = OWNER_ZONE if row.is_in_owner_zone else options.get("timezone", "")
    except (AttributeError, OverflowError, RecursionError, TypeError, ValueError) as exc:
        raise ValueError(f"The schedule {row.name} cannot be read. Delete it, and make it anew.") from exc
    found = {
        **DEFAULTS,
        "task": row.task_path,
        "args": (),
        "kwargs": {},
        "cron": "",
        "every": None,
        **options,
    }
    found.pop("timezone", None)
    return {**found, "zone": zone, "owner": row.user_id, "title": row.title}
