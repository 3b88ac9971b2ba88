"""What messages, such as e-mails, show of notifications: a row of each, as the inbox has them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode

from django.db.models import Count, Max, Min
from django.urls import reverse

from notifications.db.transactions import database
from notifications.inbox.actions import Action, describe_actions
from notifications.jobs.group_texts import describe_group, name_people, read_jobs
from notifications.jobs.outcomes import end_key
from notifications.jobs.transitions.batch_completion import is_batch
from notifications.models import Job, Notification
from notifications.models.streams import NotificationLevel
from notifications.paths import absolute
from notifications.serializers import read_data
from notifications.streams.grouping import Group, read_actor_name
from notifications.streams.icons import read_actor, read_initials


@dataclass(frozen=True, kw_only=True, slots=True)
class MessageRow:
    """A notification, or several of a group as one.

    ``notification``
        It, or the newest of the group.
    ``link``
        An absolute URL.
    ``level``
        The most severe one of the group.
    ``initials``, ``image``
        Those of who has caused it, ``""`` if nobody has. The image is an absolute URL.
    ``count``
        How many notifications it stands for.
    """

    notification: Notification
    title: str
    body: str
    link: str
    level: str
    initials: str
    image: str
    count: int = 1

    def actions(self) -> list[Action]:
        """Return what the notification offers: links, and buttons as links to their pages."""
        return [action for action in describe_actions(self.notification) if not action.is_done]

    def read_outcome(self) -> tuple[str, bool] | None:
        """Return the outcome of the job whose end it tells of, in one line, and whether it has failed, in one query.

        None if it is of something else, or the task has another title for its end. A batch has not failed: its outcome
        says how many of its jobs have.
        """
        row = self.notification
        if row.job is None or row.key != end_key(row.job):
            return None
        job = Job.objects.using(database()).only("title", "task_path").filter(pk=row.job).first()
        if job is None or job.title != row.title:
            return None
        has_failed = row.level == NotificationLevel.ERROR and not is_batch(job)
        return row.body.partition("\n")[0].removesuffix("."), has_failed


def read_message_rows(rows: Iterable[Notification], counted: Any = None) -> list[MessageRow]:
    """Return notifications in their order as a message shows them, in the current language.

    ``rows``
        Of one user, the newest first if they are grouped. One of a group stands for all of it.
    ``counted``
        The queryset of what the message tells of, from which groups are counted, in one query. None groups nothing.
    """
    groups = {} if counted is None else _count_groups(counted)
    shown_groups = set()
    shown = []
    for row in rows:
        group = groups.get(row.group_key)
        is_newest = row.group_key not in shown_groups
        if group is None or is_newest:
            shown.append(row)
        shown_groups.add(row.group_key)
        if group is None:
            continue
        if row.level == group.level:
            group.worst = group.worst or row
        name = read_actor_name(row.data) if is_newest or group.people else ""
        if name and name not in group.people:
            group.people.append(name)
    jobs = read_jobs(shown) if groups else {}
    return [
        _describe(row)
        if (group := groups.get(row.group_key)) is None
        else _describe_as_one(group, row, jobs.get(row.job) if row.job else None)
        for row in shown
    ]


def _count_groups(rows: Any) -> dict[str | None, Group]:
    """Return those groups of notifications that are shown as one row, by their keys."""
    groups: dict[str | None, Group] = {}
    counts = rows.exclude(group_key=None).order_by().values_list("group_key", "level")
    for key, level, count, first, last in counts.annotate(Count("id"), Min("title"), Max("title")):
        group = groups.setdefault(key, Group(key=key))
        group.counts[level] = count
        group.total += count
        group.titles |= {first, last}
    return {key: group for key, group in groups.items() if group.is_one_row}


def _describe(row: Notification) -> MessageRow:
    name, image = read_actor(read_data(row).get("actor"))
    return MessageRow(
        notification=row,
        title=row.title,
        body=" ".join(row.body.split()),
        link=absolute(row.url or reverse("notifications:inbox")),
        level=row.level,
        initials=read_initials(name),
        image=absolute(image) if image else "",
    )


def _describe_as_one(group: Group, newest: Notification, job: Job | None) -> MessageRow:
    texts = describe_group(group, newest, job)
    name, image = read_actor(read_data(newest).get("actor")) if group.people else ("", "")
    return MessageRow(
        notification=newest,
        title=name_people(group) or texts.title,
        body=" ".join(texts.body.split()),
        link=absolute(f"{reverse('notifications:inbox')}?{urlencode({'group': group.key})}"),
        level=texts.level,
        initials=read_initials(name),
        image=absolute(image) if image else "",
        count=group.total,
    )
