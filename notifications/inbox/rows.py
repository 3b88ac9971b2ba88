"""What is shown of each notification and group: texts, actions, and why the user got it."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from itertools import groupby, takewhile
from string import Formatter, punctuation
from types import MappingProxyType
from typing import Any, NamedTuple
from urllib.parse import urlsplit
from uuid import UUID

from django.contrib.auth import get_user_model
from django.urls import reverse
from django.utils import timezone
from django.utils.formats import date_format
from django.utils.translation import get_language, gettext, ngettext

from notifications import serializers, times, validators
from notifications.db.transactions import database
from notifications.extension import PageButton, hooks
from notifications.inbox.query import INBOX, InboxQuery
from notifications.jobs.declaring.policies import title_from_name
from notifications.jobs.results import loaded_title_at
from notifications.models import Job, Notification
from notifications.models.streams import NotificationLevel
from notifications.streams.grouping import Group

#: Words that end no name, as those of "Export for" and "From", in the languages that this app is translated to.
CONNECTING_WORDS = re.compile(
    "and|the|for|from|into|with|und|der|die|das|den|für|von|aus|mit|para|por|con|del|los|las|una|pour|par|des|les|"
    "aux|dans|avec|une"
)
#: What is removed from the end of a name. Closing brackets and quotes stay.
SEPARATORS = " :,;-\N{EN DASH}—#.…·|/&+=@*~"
QUOTES, PAIRS = '"“”„', ("()", "[]", "{}", "«»")


@dataclass(frozen=True, kw_only=True, slots=True)
class Action:
    """A link of a notification. Without a script, one that posts leads to a page with a form.

    ``answer``, ``post``
        The address to which a script posts a choice of a question, or the action, without this page.
    ``danger``
        What is lost by it, which is asked first.
    """

    label: str
    href: str
    is_external: bool = False
    answer: str = ""
    post: str = ""
    danger: str = ""


@dataclass(frozen=True, kw_only=True, slots=True)
class Reason:
    """Why the user got a notification: the job of whose end it is, its schedule, or the person who has sent it."""

    job: Job | None = None
    sender: str = ""


@dataclass(frozen=True, kw_only=True, slots=True)
class GroupRow:
    """What is shown of a group: its name with how many notifications of each level it has, and the newest of them.

    ``data``
        That of the newest if a person has caused it, whose face is shown.
    """

    key: str
    url: str
    title: str
    body: str
    total: str
    level: str
    is_unread: bool
    raised_at: datetime | None
    data: str

    def get_level_display(self) -> str:
        return str(NotificationLevel(self.level).label)


@dataclass(frozen=True, kw_only=True, slots=True)
class InboxRow:
    """A notification, and what is shown with it.

    ``buttons``
        Those of extensions.
    ``group``
        Shown in place of the notification, which is the newest of the group.
    """

    notification: Notification
    actions: list[Action]
    reason: Reason | None
    buttons: list[PageButton]
    group: GroupRow | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Day:
    """The notifications of one day on a page."""

    label: str
    rows: list[InboxRow]


def group_by_day(rows: Sequence[Notification], groups: Mapping[UUID, Group], query: InboxQuery) -> list[Day]:
    """Return the notifications of each day in the current time zone, in their order.

    ``groups``
        Those that are shown in place of their newest notifications, by the ids of these.
    """
    today = timezone.localtime(times.now()).date()

    def day_of(item: InboxRow) -> date:
        # A damaged row may have no time.
        raised_at = item.notification.raised_at
        return timezone.localtime(times.as_utc(raised_at)).date() if raised_at else today

    return [
        Day(label=_label_of(day, today), rows=list(items))
        for day, items in groupby(read_rows(rows, groups, query), day_of)
    ]


def read_rows(
    rows: Sequence[Notification],
    groups: Mapping[UUID, Group] = MappingProxyType({}),
    query: InboxQuery = INBOX,
) -> list[InboxRow]:
    """Return notifications in their order with what is shown beside them, in at most four queries."""
    reasons = _read_reasons(rows)
    jobs = {id: reason.job for id, reason in reasons.items()}
    return [
        InboxRow(
            notification=row,
            actions=[_action_of(row, number, action) for number, action in enumerate(read_actions(row))],
            reason=reasons.get(row.pk),
            buttons=[button for hook in hooks.row_buttons for button in hook(row)],
            group=_describe_group(groups[row.pk], row, jobs.get(row.pk), query) if row.pk in groups else None,
        )
        for row in rows
    ]


def _describe_group(group: Group, newest: Notification, job: Job | None, query: InboxQuery) -> GroupRow:
    texts = describe_group(group, newest, job)
    return GroupRow(
        key=group.key,
        url=query.url(group=group.key, after=None, before=None),
        title=texts.title,
        body=texts.body,
        total=f"{group.total}+" if group.has_more else "",
        level=texts.level,
        is_unread=group.is_unread,
        raised_at=newest.raised_at,
        data=newest.data if group.people else "{}",
    )


def read_actions(row: Notification) -> list[dict[str, str]]:
    """Return the actions in the data of a notification, none if it has others than ``notify`` writes."""
    if '"actions"' not in row.data:
        return []
    try:
        return validators.actions(serializers.decode_object(row.data).get("actions", []))
    except (TypeError, ValueError, RecursionError):
        return []


def _read_reasons(rows: Sequence[Notification]) -> dict[UUID, Reason]:
    """Return the reasons of notifications by their ids, in at most one query for jobs and two for senders."""
    job_ids = {
        row.job for row in rows if isinstance(row.job, UUID)
    }  # that of a damaged row may be something else
    own_jobs = Job.objects.using(database()).filter(pk__in=job_ids, user__in={row.user_id for row in rows})
    jobs = {job.pk: job for job in own_jobs.only("id", "title", "schedule", "task_path")} if job_ids else {}
    senders = {id: key for hook in hooks.senders for id, key in hook(rows).items()}
    names = _read_names(set(filter(None, senders.values())))
    reasons: dict[UUID, Reason] = {}
    for row in rows:
        if row.pk in senders:
            reasons[row.pk] = Reason(sender=names.get(senders[row.pk]) or gettext("the staff"))
        elif row.job in jobs:
            reasons[row.pk] = Reason(job=jobs[row.job])
    return reasons


def _read_names(users: set[Any]) -> dict[Any, str]:
    """Return the full names of users by their keys. Their user names may be e-mail addresses, which are not shown."""
    model = get_user_model()
    if not users or not hasattr(model, "get_full_name"):
        return {}
    return {user.pk: str(user.get_full_name()).strip() for user in model._base_manager.filter(pk__in=users)}


def _action_of(row: Notification, number: int, action: dict[str, str]) -> Action:
    label, danger = action["label"], action.get("danger", "")
    if "post" in action:
        if row.open_question:  # whose page is what the notification links to
            return Action(label=label, href=row.url, answer=action["post"])
        href = reverse("notifications:action", args=[row.pk, number])
        return Action(label=label, href=href, post=action["post"], danger=danger)
    return Action(
        label=label, href=action["url"], is_external=bool(urlsplit(action["url"]).netloc), danger=danger
    )


def _label_of(day: date, today: date) -> str:
    if day == today:
        return gettext("Today")
    if day == today - timedelta(days=1):
        return gettext("Yesterday")
    return date_format(day, "M j, Y" if get_language() == "en" else "DATE_FORMAT")


class GroupTexts(NamedTuple):
    """What the row of a group shows. ``level`` is the most severe one among its notifications."""

    title: str
    body: str
    level: str


def describe_group(group: Group, newest: Notification, job: Job | None) -> GroupTexts:
    """Return the texts of a group in the current language, with how many notifications of each level it has.

    ``job``
        The job of the newest notification, if it is of one.
    """
    texts = {
        "success": ngettext("%(count)d succeeded", "%(count)d succeeded", group.counts.get("success", 0)),
        "error": ngettext("%(count)d failed", "%(count)d failed", group.counts.get("error", 0)),
        "warning": ngettext("%(count)d warning", "%(count)d warnings", group.counts.get("warning", 0)),
        "info": ngettext("%(count)d update", "%(count)d updates", group.counts.get("info", 0)),
    }
    counts = [text % {"count": group.counts[level]} for level, text in texts.items() if level in group.counts]
    name = name_group(group, newest, job)
    return GroupTexts(
        # The counts are not those of the newest ones only, which a reader would take for all.
        title=name if group.has_more else f"{name}: {', '.join(counts)}",
        body=newest.body if newest.title == name else newest.title,
        level=group.level,
    )


def name_group(group: Group, newest: Notification, job: Job | None) -> str:
    """Return what a group is called. The order is that of docs/how-to/inbox.md.

    ``job``
        The job of the newest notification, if it is of one.
    """
    if group.name or len(group.titles) == 1:
        return group.name or newest.title
    try:
        return str(serializers.decode_object(newest.data)["target"]["name"])
    except (KeyError, TypeError, ValueError, RecursionError):
        pass
    return (
        (_declared_name(job) if job else "")
        or _shorten(_common_words(group.titles))
        or (title_from_name(job.task_path) if job else newest.title)
    )


def _declared_name(job: Job) -> str:
    """Return the title that the task of a job declares, ``""`` if it names arguments."""
    try:
        parts = list(Formatter().parse(loaded_title_at(job.task_path)))
    except ValueError:  # a translation that is no format string
        return ""
    has_arguments = any(argument is not None for _, argument, *_ in parts)
    return "" if has_arguments else "".join(text for text, *_ in parts).strip()


def _common_words(titles: Iterable[str]) -> list[str]:
    columns = zip(*(title.split() for title in titles), strict=False)
    return [words[0] for words in takewhile(lambda words: len(set(words)) == 1, columns)]


def _shorten(words: list[str]) -> str:
    """Return the longest beginning that can be read as a name, ``""`` if none can: not "Import of" or "Report #"."""
    for count in range(len(words), 0, -1):
        word = words[count - 1].strip(punctuation + QUOTES + SEPARATORS)
        name = " ".join(words[:count]).rstrip(SEPARATORS)
        if len(word) > 2 and not CONNECTING_WORDS.fullmatch(word.lower()) and not _is_open(name):
            return name
    return ""


def _is_open(text: str) -> bool:
    return sum(map(text.count, QUOTES)) % 2 == 1 or any(
        text.count(pair[0]) != text.count(pair[1]) for pair in PAIRS
    )
