"""By which channels users are notified of each category: ``docs/how-to/preferences.md``.

A category whose bell is switched off is muted: its notifications are recorded as read ones, so they are neither counted
nor shown as toasts. Other channels are decided when their deliveries are due.
"""

from __future__ import annotations

import sys
from collections.abc import Collection, Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from functools import cache, partial
from typing import Any
from uuid import UUID
from zoneinfo import ZoneInfo

from django.db.models import Case, Q, When

from notifications import times
from notifications.contrib.deliveries.categories import Choice, find_category
from notifications.contrib.deliveries.channels import BELL, list_channels
from notifications.contrib.deliveries.models import Delivery, Preference, Reader
from notifications.contrib.deliveries.quiet_hours import check_quiet_hours, zone_names, zone_of
from notifications.db import (
    connection,
    database,
    database_now,
    database_now_sql,
    fair_atomic,
    lock_query,
    retrying_atomic,
    user_from_db,
    user_to_db,
    where_in,
)
from notifications.db.clock import is_in_force
from notifications.inbox import load_categories
from notifications.models import Notification

#: Categories, besides declared ones, for which one user can have preferences.
MAX_CATEGORIES = 100
#: What is stored of a muted category in place of an earlier choice, if there was none.
DEFAULT = "default"
#: For how long a user can pause.
MAX_PAUSE = timedelta(days=366)
#: Deliveries that one transaction moves to another end of a pause.
MAX_MOVED_AT_ONCE = 100

#: What users have chosen, by user (key), category and channel.
Choices = Mapping[tuple[Any, str, str], str]


class TooManyPreferences(Exception):
    """The user has preferences for ``MAX_CATEGORIES`` categories."""


def mark_muted(rows: Sequence[Notification]) -> None:
    """Mark those of these unwritten notifications as read whose users have muted their categories.

    One query for all of them, none if they have no category. Call it for a chunk, before streams are locked.
    """
    categorized = [row for row in rows if row.category]
    if not categorized:
        return
    # Without a queryset, which prepares each user anew and made the recording of outcomes a tenth slower.
    of_users, users = where_in(
        Preference, "user_id", sorted({user_to_db(row.user_id) for row in categorized})
    )
    now_sql, now = database_now_sql()
    of_categories, keys = where_in(Preference, "category", sorted({row.category for row in categorized}))
    with connection().cursor() as cursor:
        cursor.execute(
            f"SELECT user_id, category, CASE WHEN off_until <= {now_sql} THEN before_mute ELSE choice END "
            f"FROM {Preference._meta.db_table} WHERE {of_users} AND {of_categories} AND channel = 'bell'",
            [now, *users, *keys],
        )
        chosen = {
            (user_from_db(user), category): choice
            for user, category, choice in cursor.fetchall()
            if choice not in ("", DEFAULT)
        }

    @cache  # most users have chosen nothing
    def is_off(category: str, choice: str | None) -> bool:
        return find_category(category).choice(BELL, choice) == Choice.OFF

    for row in categorized:
        is_muted = is_off(row.category, chosen.get((row.user_id, row.category)))
        row.read_at = row.created_at if is_muted else None


def read_choices(users: Iterable[Any], categories: Iterable[str] | None = None) -> Choices:
    """Return what users (keys) have chosen, of some categories or of all; what was off for a time is as before."""
    rows = Preference.objects.using(database()).filter(user__in=list(users))
    if categories is not None:
        rows = rows.filter(category__in=list(categories))
    in_force = Case(When(off_until__lte=times.now(), then="before_mute"), default="choice")
    return {
        (user, category, channel): choice
        for user, category, channel, choice in rows.values_list("user_id", "category", "channel", in_force)
        if choice not in ("", DEFAULT)
    }


def choice_in_force(choices: Choices, user: Any, category: str, channel: str) -> str:
    """Return the choice of a user (key) for a category and a channel, or its default."""
    return find_category(category).choice(channel, choices.get((user, category, channel)))


def read_off_until(user: Any) -> dict[str, datetime]:
    """Return until when the categories that a user (key) has switched off for a time are off."""
    rows = Preference.objects.using(database()).filter(
        user=user, off_until__gt=times.now(), choice=Choice.OFF
    )
    return dict(rows.values_list("category", "off_until"))


def check_choices(changes: Mapping[tuple[str, str], str | None]) -> None:
    """Raise ``ValueError`` for a channel or choice that does not exist, or a category that is required."""
    for (key, channel), choice in changes.items():
        if channel not in list_channels() or choice not in (None, *Choice.of_channel(channel)):
            raise ValueError(f"{choice!r} cannot be chosen for the channel {channel!r}.")
        if find_category(key).is_required and choice not in (None, Choice.ON):
            raise ValueError(f"The category {key!r} cannot be switched off.")


def choose(
    user: Any,
    changes: Mapping[tuple[str, str], str | None],
    *,
    max_categories: int = MAX_CATEGORIES,
    keep_before: str = "",
    off_until: datetime | None = None,
) -> None:
    """Store what a user (key) chooses for categories and channels, None is the default. In its own transaction.

    ``keep_before``
        The column that keeps the earlier choices: ``before_mute`` or ``before_unsubscribe``.
    ``off_until``
        When those of ``before_mute`` are in force again.

    Raises ``TooManyPreferences``, and as ``check_choices()`` does.
    """
    check_choices(changes)
    now = times.now()
    inserted = []

    def is_chosen(row: Preference) -> bool:
        return bool(row.choice != find_category(row.category).choice(row.channel, None))

    for (key, channel), choice in changes.items():
        if choice is not None:
            row = Preference(
                user_id=user,
                category=key,
                channel=channel,
                choice=choice,
                off_until=off_until,
                changed_at=now,
            )
            if keep_before or is_chosen(row):
                inserted.append(row)
    changed = Q()
    for category_key, channel in changes:
        changed |= Q(category=category_key, channel=channel)

    def store() -> None:
        rows, new = Preference.objects.using(database()).filter(user=user), inserted
        if keep_before:
            before = {
                (row.category, row.channel): getattr(row, keep_before) or row.choice
                for row in rows.filter(changed)
            }
            for row in new:
                setattr(row, keep_before, before.get((row.category, row.channel), DEFAULT))
            # The default has a row only if something else was chosen before.
            new = [row for row in new if getattr(row, keep_before) != DEFAULT or is_chosen(row)]
        rows.filter(changed).delete()
        if new:
            kept = set(rows.values_list("category", flat=True)) | {row.category for row in new}
            if len(kept - {*load_categories().declared, ""}) > max_categories:
                raise TooManyPreferences
            # Two requests at once may both have deleted what they insert.
            Preference.objects.using(database()).bulk_create(
                new,
                update_conflicts=True,
                unique_fields=["user", "category", "channel"],
                update_fields=["choice", "before_mute", "before_unsubscribe", "off_until", "changed_at"],
            )

    if changes:
        retrying_atomic(store)


def mute(user: Any, category: str, *, until: datetime | None = None) -> None:
    """Switch a category off for a user (key) by all channels, from the next notification on, for good or until a time.

    Raises ``TooManyPreferences``, and ``ValueError`` if the category is required.
    """
    off = dict.fromkeys(((category, channel) for channel in list_channels()), str(Choice.OFF))
    choose(user, off, keep_before="before_mute", off_until=until)


def unmute(user: Any, category: str) -> None:
    """Undo ``mute()``. Notifications that the category has had meanwhile stay read."""
    rows = Preference.objects.using(database()).filter(user=user, category=category)
    before = dict(rows.exclude(before_mute__in=("", DEFAULT)).values_list("channel", "before_mute"))
    switch_on(user, category, list_channels(), before)


def switch_on(
    user: Any, category: str, channels: Iterable[str], before: Mapping[str, str] | None = None
) -> None:
    """Store for a user (key) the default of each of these channels for a category, or ``on`` where that is off.

    ``before``
        What was chosen before, by channel, which is chosen again.
    """
    declared, before = find_category(category), before or {}
    choose(
        user,
        {
            (category, channel): before.get(channel)
            or (str(Choice.ON) if declared.choice(channel, None) == Choice.OFF else None)
            for channel in channels
        },
        max_categories=sys.maxsize,
    )


def switch_off(user: Any, keys: Collection[str] | None, channel: str) -> None:
    """Switch categories off for a user (key) by one channel; without any all whose choice is a digest.

    The earlier choices are kept for ``restore()``. A category that is required stays on. However many preferences the
    user has, it is stored.
    """
    if keys is None:
        choices = read_choices([user])
        known = {*load_categories().declared, *(key for _, key, _ in choices)}
        keys = [
            key
            for key in known
            if choice_in_force(choices, user, key, channel) not in (Choice.ON, Choice.OFF)
        ]
    optional = [key for key in keys if not find_category(key).is_required]
    off = dict.fromkeys(((key, channel) for key in optional), str(Choice.OFF))
    choose(user, off, max_categories=sys.maxsize, keep_before="before_unsubscribe")


def restore(user: Any, category: str, channel: str) -> None:
    """Undo ``switch_off()`` of a category."""
    rows = Preference.objects.using(database()).filter(user=user, category=category, channel=channel)
    kept = rows.exclude(before_unsubscribe__in=("", DEFAULT, Choice.OFF))
    switch_on(user, category, [channel], dict(kept.values_list("channel", "before_unsubscribe")))


def read_reader(user: Any) -> Reader:
    """Return what a user (key) has chosen for all categories, a row with the defaults if there is none."""
    return Reader.objects.using(database()).filter(user=user).first() or Reader(user_id=user)


def remember_dead_address(user: Any, channel: str, address: str | None) -> None:
    """Store the address of a user (key) at which nothing arrives by a channel; None has it tried again."""
    rows = Reader.objects.using(database())

    def change() -> None:
        reader = lock_query(rows.filter(user=user), skip_locked=False).first()
        others = {
            name: each for name, each in (reader.dead_addresses if reader else {}).items() if name != channel
        }
        dead = others if address is None else {**others, channel: address}
        rows.update_or_create(user_id=user, defaults={"dead_addresses": dead})

    retrying_atomic(change)


def read_time_zones(users: Sequence[Any]) -> dict[Any, ZoneInfo]:
    """Return the time zones that users (keys) have chosen, by their keys."""
    readers = Reader.objects.using(database()).filter(user__in=users).exclude(time_zone="")
    return {reader.user_id: zone_of(reader) for reader in readers}


def paused_until(reader: Reader, now: datetime) -> datetime | None:
    """Return the end of the last pause, None without one and for one that a wrong clock made longer than can be."""
    until: datetime | None = reader.paused_until
    return until if until and until <= times.latest_possible(now, MAX_PAUSE) else None


def is_paused(reader: Reader, now: datetime) -> bool:
    """Return whether a reader has paused everything now."""
    return is_in_force(reader.paused_until, now, MAX_PAUSE)


def check_reader(values: Mapping[str, Any]) -> None:
    """Raise ``ValueError`` for values of ``change_reader()`` that cannot be stored."""
    hour, day = values.get("digest_hour", 0), values.get("digest_day", 0)
    if type(hour) is not int or not 0 <= hour <= 23:
        raise ValueError(f"The hour is {hour!r}. It must be an integer from 0 to 23.")
    if type(day) is not int or not 0 <= day <= 6:
        raise ValueError(f"The day is {day!r}. It must be an integer from 0 (Monday) to 6 (Sunday).")
    zone = values.get("time_zone", "")
    if zone and zone not in zone_names():
        raise ValueError(f"There is no time zone {str(zone)[:100]!r}. Choose one like 'Europe/Paris'.")
    check_quiet_hours(values.get("quiet_hours"))
    until = values.get("paused_until")
    if until is not None and (not isinstance(until, datetime) or until > times.now() + MAX_PAUSE):
        raise ValueError(f"A pause ends at a time in at most {MAX_PAUSE.days} days.")


def change_reader(user: Any, **values: Any) -> None:
    """Store what a user (key) chooses for all categories. Raises ``ValueError``. In its own transactions.

    With ``paused_until``, deliveries that wait for the end of the pause wait for the new one, a chunk in a transaction.
    Those that a killed process leaves are decided at the previous end.
    """
    check_reader(values)
    rows = Reader.objects.using(database())

    def change() -> datetime | None:
        before = lock_query(rows.filter(user=user), skip_locked=False).first()
        rows.update_or_create(user_id=user, defaults=values)
        return before.paused_until if before and "paused_until" in values else None

    if (previous_end := retrying_atomic(change)) is None:
        return
    last: UUID | None = None
    while True:
        chunk = partial(_move_waiting, user, previous_end, last)
        last = fair_atomic(chunk)
        if last is None:
            return


def _move_waiting(user: Any, previous_end: datetime, after: UUID | None) -> UUID | None:
    """Move a chunk of deliveries that wait for the previous end of a pause to the end that is stored now.

    Returns the id of the last one, None if no more follow.
    """
    reader = lock_query(Reader.objects.using(database()).filter(user=user), skip_locked=False).first()
    until = (reader and reader.paused_until) or database_now()
    if until == previous_end:  # another request has restored it
        return None
    waiting = Delivery.objects.using(database()).filter(user=user, state="pending", due_at=previous_end)
    if after is not None:
        waiting = waiting.filter(id__gt=after)
    ids = list(waiting.order_by("id").values_list("id", flat=True)[:MAX_MOVED_AT_ONCE])
    # Those that are locked are being decided, which waits for the row of the reader and reads the new end.
    locked = lock_query(waiting.filter(id__in=ids).order_by("id")).values_list("id", flat=True)
    Delivery.objects.using(database()).filter(id__in=list(locked)).update(due_at=until)
    return ids[-1] if len(ids) == MAX_MOVED_AT_ONCE else None
