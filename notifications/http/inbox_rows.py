"""What the inbox page shows of a notification besides its text: actions, and why the user got it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import date, timedelta
from itertools import groupby
from typing import Any
from urllib.parse import urlsplit

from django.urls import reverse
from django.utils import timezone
from django.utils.formats import date_format
from django.utils.translation import get_language, gettext

from notifications import serializers, times, validators
from notifications.models import Notification


@dataclass(frozen=True, kw_only=True, slots=True)
class Action:
    """A link of a notification. One that posts leads to a page that asks for confirmation."""

    label: str
    href: str
    is_external: bool = False


@dataclass(frozen=True, kw_only=True, slots=True)
class InboxRow:
    """A notification, and what is shown with it."""

    notification: Notification
    actions: list[Action] = field(default_factory=list)


@dataclass(frozen=True, kw_only=True, slots=True)
class Day:
    """The notifications of one day on a page."""

    label: str
    rows: list[InboxRow]


def group_by_day(rows: Iterable[Notification]) -> list[Day]:
    """Return notifications in groups of one day in the current time zone, in their order."""
    today = timezone.localtime(times.now()).date()

    def day_of(row: Notification) -> date:
        return timezone.localtime(times.as_utc(row.created_at)).date()

    return [
        Day(
            label=_label_of(day, today),
            rows=[InboxRow(notification=row, actions=_actions_of(row)) for row in group],
        )
        for day, group in groupby(rows, day_of)
    ]


def read_actions(row: Notification) -> list[dict[str, str]]:
    """Return the actions in the data of a notification, none if it has others than ``notify`` writes."""
    if '"actions"' not in row.data:
        return []
    try:
        return validators.actions(serializers.decode_object(row.data).get("actions", []))
    except (TypeError, ValueError, RecursionError):
        return []


def _actions_of(row: Notification) -> list[Action]:
    return [_action_of(row, number, action) for number, action in enumerate(read_actions(row))]


def _action_of(row: Notification, number: int, action: dict[str, str]) -> Action:
    if "post" in action:
        return Action(label=action["label"], href=reverse("notifications:action", args=[row.pk, number]))
    return Action(
        label=action["label"], href=action["url"], is_external=bool(urlsplit(action["url"]).netloc)
    )


def _label_of(day: date, today: date) -> str:
    if day == today:
        return gettext("Today")
    if day == today - timedelta(days=1):
        return gettext("Yesterday")
    return date_format(day, "M j, Y" if get_language() == "en" else "DATE_FORMAT")
