"""What is shown of each notification and group, such as why the user got it."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import groupby
from types import MappingProxyType
from typing import Any
from uuid import UUID

from django.utils import timezone
from django.utils.formats import date_format
from django.utils.translation import gettext

from notifications import times
from notifications.db.transactions import database
from notifications.extension import Fact, PageButton, hooks
from notifications.inbox.actions import Action, describe_actions
from notifications.inbox.query import INBOX, InboxQuery
from notifications.jobs.group_texts import describe_group, name_people
from notifications.models import Job, Notification
from notifications.models.streams import NotificationLevel
from notifications.streams.grouping import Group


@dataclass(frozen=True, kw_only=True, slots=True)
class Reason:
    """Why the user got a notification: the job of whose end it is, its schedule, or what an extension says."""

    job: Job | None = None
    text: str = ""


@dataclass(frozen=True, kw_only=True, slots=True)
class GroupRow:
    """What is shown of a group: its name with how many notifications of each level it has, and one of them.

    ``count``, ``has_more``
        How many there are, such as ``"106"``, or ``"1000+"`` if there are more than are counted.
    ``named``
        The one: the newest of the most severe level, whose texts are in ``body``.
    ``data``
        That of the newest if a person has caused it, whose face is shown.
    """

    key: str
    named: UUID
    url: str
    title: str
    body: str
    count: str
    has_more: bool
    level: str
    is_unread: bool
    raised_at: datetime | None
    data: str

    def get_level_display(self) -> str:
        return str(NotificationLevel(self.level).label)


@dataclass(frozen=True, kw_only=True, slots=True)
class InboxRow:
    """A notification, and what is shown with it.

    ``facts``, ``buttons``
        Those of extensions.
    ``group``
        Shown in place of the notification, which is the newest of the group.
    """

    notification: Notification
    actions: list[Action]
    reason: Reason | None
    facts: list[Fact]
    buttons: list[PageButton]
    group: GroupRow | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Section:
    """The notifications of a page below one heading: those that wait or have failed, or those of a day, week or month.

    ``is_first``
        Whether they are above those that are newer.
    ``is_day``
        Whether the heading says the day, so that the rows have the time of day only.
    """

    label: str
    rows: list[InboxRow]
    is_first: bool = False
    is_waiting: bool = False
    is_day: bool = False


def make_sections(
    reader: Any,
    rows: Sequence[Notification],
    groups: Mapping[UUID, Group],
    query: InboxQuery,
    waiting: Sequence[Notification] = (),
    failed: Sequence[Notification] = (),
) -> list[Section]:
    """Return what waits for the user or has failed, and the others of each period in the current time zone.

    ``groups``
        Those that are shown in place of their newest notifications, by the ids of these.
    """
    today = timezone.localtime(times.now()).date()
    first = waiting or failed
    ids = {row.pk for row in first}
    items = read_rows(reader, [*first, *(row for row in rows if row.pk not in ids)], groups, query)

    def label_of(item: InboxRow) -> str:
        # A damaged row may have no time.
        raised_at = item.notification.raised_at
        day = timezone.localtime(times.as_utc(raised_at)).date() if raised_at else today
        if day == today:
            return gettext("Today")
        if day == today - timedelta(days=1):
            return gettext("Yesterday")
        if day > today - timedelta(days=7):
            return gettext("Last 7 days")
        return date_format(day, "YEAR_MONTH_FORMAT")

    label = gettext("Waiting for you") if waiting else gettext("Failed")
    above = Section(label=label, rows=items[: len(first)], is_first=True, is_waiting=bool(waiting))
    yesterday = gettext("Yesterday")
    periods = groupby(items[len(first) :], label_of)
    return [
        *([above] if first else []),
        *(Section(label=label, rows=list(rows), is_day=label == yesterday) for label, rows in periods),
    ]


def read_rows(
    reader: Any,
    rows: Sequence[Notification],
    groups: Mapping[UUID, Group] = MappingProxyType({}),
    query: InboxQuery = INBOX,
    place: str = "list",
) -> list[InboxRow]:
    """Return notifications in their order with what is shown beside them, in few queries.

    ``reader``
        Their user, an instance of the model.
    ``place``
        See ``Extension.parts_of()``.
    """
    parts: dict[UUID, list[Any]] = defaultdict(list)
    for hook in hooks.parts_of:
        for id, shown in hook(rows, reader, place).items():
            parts[id] += shown
    facts = {row.pk: [part for part in parts[row.pk] if isinstance(part, Fact)] for row in rows}
    # Facts say which job asks.
    reasons = _read_reasons([row for row in rows if not facts[row.pk]], parts)
    jobs = {id: reason.job for id, reason in reasons.items()}
    return [
        InboxRow(
            notification=row,
            actions=describe_actions(row) if '"actions"' in row.data else [],
            reason=reasons.get(row.pk),
            facts=facts[row.pk],
            buttons=[part for part in parts[row.pk] if isinstance(part, PageButton)],
            group=_describe_group(groups[row.pk], row, jobs.get(row.pk), query) if row.pk in groups else None,
        )
        for row in rows
    ]


def _describe_group(group: Group, newest: Notification, job: Job | None, query: InboxQuery) -> GroupRow:
    texts = describe_group(group, newest, job)
    return GroupRow(
        key=group.key,
        named=(group.worst or newest).pk,
        url=query.url(group=group.key, after=None, before=None),
        title=name_people(group) or texts.title,
        body=texts.body,
        count=f"{group.total}{'+' * group.has_more}",
        has_more=group.has_more,
        level=texts.level,
        is_unread=group.is_unread,
        raised_at=newest.raised_at,
        data=newest.data if group.people else "{}",
    )


def _read_reasons(rows: Sequence[Notification], parts: Mapping[UUID, Sequence[Any]]) -> dict[UUID, Reason]:
    """Return the reasons of notifications by their ids, in at most one query."""
    # That of a damaged row may be something else.
    job_ids = {row.job for row in rows if isinstance(row.job, UUID)}
    own_jobs = Job.objects.using(database()).filter(pk__in=job_ids, user__in={row.user_id for row in rows})
    jobs = {job.pk: job for job in own_jobs.only("id", "title", "schedule", "task_path")} if job_ids else {}
    reasons: dict[UUID, Reason] = {}
    for row in rows:
        if texts := [part for part in parts[row.pk] if isinstance(part, str)]:
            reasons[row.pk] = Reason(text=texts[0])
        elif row.job in jobs:
            reasons[row.pk] = Reason(job=jobs[row.job])
    return reasons
