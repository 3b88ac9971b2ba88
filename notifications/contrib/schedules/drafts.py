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
from notifications.db import database, database_now, lock_query, retrying_atomic, user_keys_of

#: What ``update_schedule()`` changes: the options of ``schedule()``, but for its key.
CHANGEABLE = (
    "task",
    "args",
    "kwargs",
    "cron",
    "every",
    "zone",
    "owner",
    "title",
    "queue",
    "overlap",
    "grace",
)


def store(values: Mapping[str, Any], key: str) -> Schedule:
    """Store a schedule: see ``schedule()``."""
    draft = ScheduleDraft(values)
    of_key = sha256(f"{draft.owner_key} {validators.text('key', key, validators.MAX_KEY_LENGTH)}".encode())
    return retrying_atomic(
        partial(draft.insert, f"{PREFIX}{of_key.hexdigest()[:32] if key else uuid4().hex}")
    )


def store_again(row: Schedule) -> Schedule:
    """Store a schedule again that was deleted, from its row. Raises as ``schedule()`` does."""
    return retrying_atomic(partial(ScheduleDraft(read_values(row)).insert, row.name))


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

    def insert(self, name: str) -> Schedule:
        """Insert the row, or change the one with this name, inside a transaction."""
        now = database_now()
        if found := lock_query(stored_schedules().filter(name=name), skip_locked=False).first():
            self.fill(found, now)
            found.save(using=database())
            return found
        if self.owner_key is not None:
            of_owner = stored_schedules().filter(user=self.owner_key)
            # Of two transactions that insert at once, the second one waits here and counts the row of the first.
            list(lock_query(of_owner.order_by("name"), skip_locked=False)[:1])
            limit = read_settings().per_user
            if of_owner.count() >= limit:
                raise TooManySchedules(limit)
        row = Schedule(name=name, created_at=now, declared_until=now)
        self.fill(row, now)
        # Another transaction may insert it at the same time.
        inserted = Schedule.objects.using(database()).bulk_create([row], ignore_conflicts=True)[0]
        inserted.refresh_from_db(using=database())
        return inserted

    def replace(self, before: Schedule) -> Schedule | None:
        """Change a row, inside a transaction, unless another transaction has changed it since it was read."""
        same = stored_schedules().filter(name=before.name, options=before.options, user=before.user_id)
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
        row.task_path, row.title, row.user_id = self.declaration.task_path, self.title, self.owner_key
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
    """Return a row as the arguments of ``schedule()``."""
    options = read_options(row)
    zone = OWNER_ZONE if row.is_in_owner_zone else options.get("timezone", "")
    found = {"args": (), "kwargs": {}, "cron": "", "every": None, "queue": "", **options}
    found.pop("timezone", None)
    return {**found, "zone": zone, "owner": row.user_id, "title": row.title}
