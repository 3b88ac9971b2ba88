"""Stored schedules: each row is a declaration, made while the site runs. How rounds read them.

Their ticks are those of ``ticks``. What is different: they are not in memory, so due ones are found by an index; they
have an owner, who may be deactivated; and their time zone may be that of the owner, who may choose another one.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from functools import partial
from typing import Any, TypeVar

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
from notifications.db import catching, chunks, database, database_now, lock_query, retrying_atomic
from notifications.extension import Duty, Subjects, hooks

logger = logging.getLogger("notifications.jobs")

T = TypeVar("T")

#: The zone of a schedule whose times are those of its owner.
OWNER_ZONE = "owner"
#: What names of stored schedules begin with. No declared one begins so.
PREFIX = "_"
#: Seconds between two comparisons of time zones with those of the owners.
COMPARE_SECONDS = 60.0
#: Schedules that one comparison reads at most: as many users as one call of the hook may have.
MAX_COMPARED = 1_000
#: How long a schedule is left out that has raised: as long as its tick has been due, within these bounds.
MIN_PUT_OFF, MAX_PUT_OFF = timedelta(seconds=10), timedelta(hours=1)

UNREADABLE = "Could not read a stored schedule: %s"
NOT_ENQUEUED = "Could not enqueue the job of a schedule, which is tried again: %s"


def stored_schedules() -> QuerySet[Schedule]:
    """Return a query of all stored schedules."""
    return Schedule.objects.using(database()).filter(options__isnull=False)


def read_due(until: datetime, now: datetime, limit: int) -> list[Schedule]:
    """Return the stored schedules that are due until then, those that have been due longest first."""
    # One that is put off for longer was by a clock that was wrong.
    is_put_off = Q(put_off_until__range=(now, now + MAX_PUT_OFF))
    due = stored_schedules().filter(~is_put_off, paused_at__isnull=True, next_tick__lte=until)
    return list(due.order_by("next_tick")[:limit])


def seconds_until(row: Schedule, now: datetime) -> float:
    """Return how far ahead the next tick of a schedule is that has one."""
    return (row.next_tick - now).total_seconds()


def find_declaration(row: Schedule) -> ScheduleDeclaration | None:
    """Return what a schedule says, whether it is declared or stored; None if neither, or if that cannot be read."""
    if not row.is_stored:
        return declared_schedules().get(row.name)
    return read_declarations([row]).get(row.name)


def read_declarations(rows: Iterable[Schedule]) -> dict[str, ScheduleDeclaration]:
    """Return what stored schedules say, by name, with their owners.

    One that cannot be read is logged and left out. Those in the time zone of their owner are in the one that their row
    has: rounds call no extension, which may fail or hang.
    """
    rows = list(rows)
    users = _read_users({row.user_id for row in rows if row.user_id is not None})
    found = {row.name: isolate([row.name], partial(_read, row, users), UNREADABLE) for row in rows}
    return {name: declaration for name, declaration in found.items() if declaration}


def _read(row: Schedule, users: Mapping[Any, Any]) -> ScheduleDeclaration:
    options = read_options(row)
    if row.is_in_owner_zone:
        options["timezone"] = Timing.of_text(row.timing).zone
    declaration = make_declaration(row.name, options, users.get(row.user_id))
    if str(declaration.timing) != row.timing:
        raise ValueError(f"Its times are {row.timing!r}, and those of its options {declaration.timing}.")
    return declaration


def isolate(names: Sequence[str], work: Callable[[], T], text: str = NOT_ENQUEUED) -> T | None:
    """Do a step for schedules. An error is logged, so that it does not keep the others from running.

    Raises an error that means that the database is unavailable to all: see ``is_unavailable()``.
    """
    with catching() as caught:
        return work()
    logger.error(text, ", ".join(names), exc_info=caught.error)
    return None


def read_options(row: Schedule) -> dict[str, Any]:
    """Return the options of a stored schedule, as an entry of ``SCHEDULES`` has them."""
    options: dict[str, Any] = json.loads(row.options or "{}")
    if "every" in options:
        options["every"] = timedelta(seconds=options["every"])
    return options


def read_zone(user: Any) -> str:
    """Return the name of the time zone of a user (key), that of the site where none is known.

    Raises what the hook of an extension raises.
    """
    return _read_zones([user])[user]


def is_active(user: Any) -> bool:
    return user is not None and bool(getattr(user, "is_active", True))


def has_owner(row: Schedule, declaration: ScheduleDeclaration) -> bool:
    """Return whether the owner of a schedule is active, or it has none. It calls code of the project."""
    return row.user_id is None or is_active(declaration.user)


def pause_without_owner(names: Iterable[str], now: datetime) -> None:
    """Pause schedules whose owner is not active."""
    for chunk in chunks(names):
        same = stored_schedules().filter(name__in=chunk, paused_at__isnull=True)
        _update(same, paused_at=now, paused_by=Schedule.PausedBy.OWNER)


def put_off(names: Collection[str], now: datetime) -> None:
    """Leave those of these that are stored out for a while: they have raised, and would be the first of each round."""
    if not names:
        return
    for row in stored_schedules().filter(name__in=names, next_tick__isnull=False):
        until = now + min(max(now - row.next_tick, MIN_PUT_OFF), MAX_PUT_OFF)
        _update(stored_schedules().filter(name=row.name), put_off_until=until)


def _update(rows: QuerySet[Schedule], **values: Any) -> None:
    """Update those of these rows that no transaction has locked, which may be that of a caller, and last.

    The next round does it for the others.
    """
    free = lock_query(rows.order_by("name").values("name"))
    retrying_atomic(partial(stored_schedules().filter(name__in=free).update, **values))


def make_duty() -> Duty:
    """Return the duty that compares the time zones of schedules with those of their owners."""
    subjects = Subjects(_find_compared, MAX_COMPARED, calls_project=True)
    return Duty("set next runs of stored schedules", COMPARE_SECONDS, _compare, subjects=subjects)


def _find_compared() -> Iterator[str]:
    """Yield the names of schedules in the time zone of their owner, and those that a wrong clock has timed."""
    for condition in (Q(is_in_owner_zone=True), _is_ahead(database_now())):
        rows = stored_schedules().filter(condition).order_by("name")
        last = ""
        while page := list(rows.filter(name__gt=last).values_list("name", flat=True)[:MAX_COMPARED]):
            yield from page
            last = page[-1]


def _compare(names: Sequence[str]) -> None:
    now = database_now()
    rows = list(stored_schedules().filter(name__in=names))
    ahead = stored_schedules().filter(_is_ahead(now), name__in=names)
    names_ahead = set(ahead.values_list("name", flat=True))
    for name, declaration in read_declarations(row for row in rows if row.name in names_ahead).items():
        next_tick = declaration.timing.next_tick(now)
        _update(ahead.filter(name=name), next_tick=next_tick, timed_at=now, last_tick=None)
    rows = [row for row in rows if row.is_in_owner_zone]
    # What it raises is logged, and the schedules stay in their zones; those of other users are compared again.
    zones = _read_zones([row.user_id for row in rows])
    # Few users change their zone: what the others' schedules say is not read.
    moved = {row.name: row for row in rows if Timing.of_text(row.timing).zone != zones[row.user_id]}
    for name, declaration in read_declarations(moved.values()).items():
        _follow_owner(moved[name], declaration.timing, zones[moved[name].user_id], now)


def _follow_owner(row: Schedule, timing: Timing, zone: str, now: datetime) -> None:
    """Set the next tick of a schedule in the time zone that its owner has now.

    A tick that is due is recorded first, as the one of the zone before.
    """
    if row.next_tick is None or (row.paused_at is None and seconds_until(row, now) <= 0):
        return
    after = replace(timing, zone=zone)
    same = stored_schedules().filter(
        **{field: getattr(row, field) for field in ("name", "user_id", "timing", "next_tick", "options")},
        is_in_owner_zone=True,
    )
    next_tick = after.next_in_zone(row.next_tick, timing, now)
    _update(same, timing=str(after), next_tick=next_tick, timed_at=now)


def _is_ahead(now: datetime) -> Q:
    """Return the condition of schedules whose next tick was computed while a clock was wrong."""
    return Q(timed_at__gt=times.latest_possible(now))


def _read_users(keys: Iterable[Any]) -> dict[Any, Any]:
    # As the core reads recipients: not by a manager of the project, which may hide users, nor from a replica.
    model: Any = get_user_model()
    found = sorted(keys, key=str)
    return QuerySet(model, using=router.db_for_write(model)).in_bulk(found) if found else {}


def _read_zones(users: Sequence[Any]) -> dict[Any, str]:
    """Return the names of the time zones of users, that of the site where none is known."""
    zones: dict[Any, str] = {}
    for chunk in chunks(dict.fromkeys(users), MAX_COMPARED):
        for hook in hooks.time_zones_of:
            zones = {**{user: zone.key for user, zone in hook.raising(chunk).items()}, **zones}
    return {**dict.fromkeys(users, django_settings.TIME_ZONE), **zones}
