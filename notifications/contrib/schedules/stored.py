"""Stored schedules: each row is a declaration, made while the site runs. How rounds read them.

Their ticks are those of ``ticks``. What is different: they are not in memory, so due ones are found by an index; they
have an owner, who may be deactivated; and their time zone may be that of the owner, who may choose another one.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from datetime import datetime, timedelta, tzinfo
from functools import partial
from typing import Any

from django.conf import settings as django_settings
from django.contrib.auth import get_user_model
from django.db import router
from django.db.models import Q, QuerySet

from notifications import times
from notifications.contrib.schedules.declarations import (
    ScheduleDeclaration,
    declared_schedules,
    make_declaration,
)
from notifications.contrib.schedules.models import Schedule
from notifications.contrib.schedules.timing import Timing
from notifications.db import chunks, database, database_now, retrying_atomic
from notifications.extension import Duty, Subjects, hooks

logger = logging.getLogger("notifications.jobs")

#: The zone of a schedule whose times are those of its owner.
OWNER_ZONE = "owner"
#: What names of stored schedules begin with. No declared one begins so.
PREFIX = "_"
#: Seconds between two comparisons of time zones with those of the owners.
COMPARE_SECONDS = 60.0
#: Schedules that one comparison reads at most, as many as a hook may be asked for.
MAX_COMPARED = 1_000
#: How long a schedule is left out that has raised: as long as its tick has been due, within these bounds.
MIN_PUT_OFF, MAX_PUT_OFF = timedelta(seconds=10), timedelta(hours=1)


def stored_schedules() -> QuerySet[Schedule]:
    """Return a query of all stored schedules."""
    return Schedule.objects.using(database()).filter(options__isnull=False)


def read_due(until: datetime, now: datetime, limit: int) -> list[Schedule]:
    """Return the stored schedules that are due until then, those that have been due longest first."""
    is_taken = Q(put_off_until__isnull=True) | Q(put_off_until__lte=now)
    due = stored_schedules().filter(is_taken, paused_at__isnull=True, next_tick__lte=until)
    return list(due.order_by("next_tick")[:limit])


def find_declaration(name: str) -> ScheduleDeclaration | None:
    """Return what a schedule says, whether it is declared or stored; None if neither, or if that cannot be read."""
    if declaration := declared_schedules().get(name):
        return declaration
    return read_declarations(stored_schedules().filter(name=name)).get(name)


def read_declarations(rows: Iterable[Schedule]) -> dict[str, ScheduleDeclaration]:
    """Return what stored schedules say, by name, with their owners, and in their time zones as they are now.

    One that cannot be read is logged and left out. It asks extensions for time zones, so it is called outside of
    transactions.
    """
    rows = list(rows)
    users = _read_users({row.user_id for row in rows if row.user_id is not None})
    zones = _read_zones([row.user_id for row in rows if row.is_in_owner_zone and row.user_id is not None])
    found = {}
    for row in rows:
        try:
            options = read_options(row)
            if row.is_in_owner_zone:
                options["timezone"] = zone_name(zones.get(row.user_id))
            declaration = make_declaration(row.name, options, users.get(row.user_id))
            if str(declaration.timing) != row.timing and not row.is_in_owner_zone:
                raise ValueError(
                    f"Its times are {row.timing!r}, and those of its options {declaration.timing}."
                )
        except (AttributeError, LookupError, TypeError, ValueError):
            logger.exception("Could not read a stored schedule: %s", row.name)
        else:
            found[row.name] = declaration
    return found


def read_options(row: Schedule) -> dict[str, Any]:
    """Return the options of a stored schedule, as an entry of ``SCHEDULES`` has them."""
    options: dict[str, Any] = json.loads(row.options or "{}")
    if "every" in options:
        options["every"] = timedelta(seconds=options["every"])
    return options


def zone_name(zone: tzinfo | None) -> str:
    """Return the name of the time zone of a user, that of the site where none is known."""
    return getattr(zone, "key", "") or django_settings.TIME_ZONE


def read_zone(user: Any) -> str:
    """Return the name of the time zone of a user (key)."""
    return zone_name(_read_zones([user]).get(user))


def is_active(user: Any) -> bool:
    return user is not None and bool(getattr(user, "is_active", True))


def pause_without_owner(
    rows: Iterable[Schedule], declarations: Mapping[str, ScheduleDeclaration], now: datetime
) -> list[Schedule]:
    """Pause those whose owner is not active. Return the others that have a declaration."""
    left: list[Schedule] = []
    paused: list[Schedule] = []
    for row in rows:
        if row.name in declarations:
            has_owner = row.user_id is None or is_active(declarations[row.name].user)
            (left if has_owner else paused).append(row)
    for chunk in chunks(row.name for row in paused):
        same = stored_schedules().filter(name__in=chunk, paused_at__isnull=True)
        retrying_atomic(partial(same.update, paused_at=now, paused_by=Schedule.PausedBy.OWNER))
    return left


def follow_owner(row: Schedule, declaration: ScheduleDeclaration, now: datetime) -> bool:
    """Set the next tick of a schedule in the time zone that its owner has now. Return whether it is another one."""
    timing, before = declaration.timing, row.timing
    if before == str(timing) or row.next_tick is None or not row.is_in_owner_zone:
        return False
    next_tick = timing.next_in_zone(row.next_tick, Timing.of_text(before), now)
    same = stored_schedules().filter(name=row.name, timing=before, next_tick=row.next_tick)
    retrying_atomic(partial(same.update, timing=str(timing), next_tick=next_tick))
    return True


def put_off(names: Collection[str], now: datetime) -> None:
    """Leave those of these that are stored out for a while: they have raised, and would be the first of each round."""
    if not names:
        return
    for row in stored_schedules().filter(name__in=names, next_tick__isnull=False):
        until = now + min(max(now - row.next_tick, MIN_PUT_OFF), MAX_PUT_OFF)
        same = stored_schedules().filter(name=row.name)
        retrying_atomic(partial(same.update, put_off_until=until))


def make_duty() -> Duty:
    """Return the duty that compares the time zones of schedules with those of their owners."""
    subjects = Subjects(_find_compared, MAX_COMPARED, calls_project=True)
    return Duty("set next runs of stored schedules", COMPARE_SECONDS, _compare, subjects=subjects)


def _find_compared() -> Iterator[str]:
    """Yield the names of schedules in the time zone of their owner, and those that a wrong clock has advanced."""
    for condition in (Q(is_in_owner_zone=True), _is_ahead(database_now())):
        rows = stored_schedules().filter(condition, paused_at__isnull=True).order_by("name")
        last = ""
        while page := list(rows.filter(name__gt=last).values_list("name", flat=True)[:MAX_COMPARED]):
            yield from page
            last = page[-1]


def _compare(names: Sequence[str]) -> None:
    now = database_now()
    rows = list(stored_schedules().filter(name__in=names, paused_at__isnull=True))
    ahead = stored_schedules().filter(_is_ahead(now), name__in=names)
    names_ahead = set(ahead.values_list("name", flat=True))
    declarations = read_declarations(rows)
    for row in rows:
        if (declaration := declarations.get(row.name)) is None:
            continue
        follow_owner(row, declaration, now)
        if row.name in names_ahead:
            next_tick = declaration.timing.next_tick(now)
            retrying_atomic(partial(ahead.filter(name=row.name).update, next_tick=next_tick, last_tick=None))


def _is_ahead(now: datetime) -> Q:
    """Return the condition of schedules that were advanced while a clock was wrong."""
    return Q(last_tick__gt=times.latest_possible(now))


def _read_users(keys: Iterable[Any]) -> dict[Any, Any]:
    # As the core reads recipients: not by a manager of the project, which may hide users, nor from a replica.
    model: Any = get_user_model()
    found = sorted(keys, key=str)
    return QuerySet(model, using=router.db_for_write(model)).in_bulk(found) if found else {}


def _read_zones(users: Sequence[Any]) -> dict[Any, tzinfo]:
    zones: dict[Any, tzinfo] = {}
    for chunk in chunks(dict.fromkeys(users), MAX_COMPARED):
        for hook in hooks.time_zones_of:
            zones = {**hook(chunk), **zones}
    return zones
