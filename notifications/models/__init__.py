"""The models: notifications in this module, all others beside it.

``docs/explanation/delivery.md`` describes what they mean.

No foreign key has a constraint in the database: a host that locks or deletes a user must neither block, nor be blocked
by, the streams of that user. Rows of a deleted user are purged after the commit.

streams  streams, marks that they were seen, rings, the epoch; changes of a whole inbox; what was announced to users
jobs     jobs, their attempts that did not succeed, and what they wait for
workers  workers, server processes, queues and their clocks; when each duty was last run; calls that are owed
tags     tags of jobs
users    keys of users
"""

from __future__ import annotations

from typing import Any

from django.db import models
from django.db.models import Q
from django.db.models.functions import Coalesce
from django.db.models.lookups import IsNull
from django.utils.translation import gettext_lazy as _

from notifications import compat as compat  # first: it names a package that replaces modules of this one
from notifications.ids import parse_id as parse_id
from notifications.ids import uuid7 as uuid7
from notifications.models.jobs import Attempt as Attempt
from notifications.models.jobs import Job as Job
from notifications.models.jobs import Wait as Wait
from notifications.models.streams import AnnouncedState as AnnouncedState
from notifications.models.streams import Epoch as Epoch
from notifications.models.streams import InboxViews as InboxViews
from notifications.models.streams import NotificationLevel as NotificationLevel
from notifications.models.streams import PendingMark as PendingMark
from notifications.models.streams import Ring as Ring
from notifications.models.streams import SeenMark as SeenMark
from notifications.models.streams import Stream as Stream
from notifications.models.tags import JobTag as JobTag
from notifications.models.users import user_key as user_key
from notifications.models.workers import DutyRun as DutyRun
from notifications.models.workers import LimitedQueue as LimitedQueue
from notifications.models.workers import OwedCall as OwedCall
from notifications.models.workers import Queue as Queue
from notifications.models.workers import QueueClock as QueueClock
from notifications.models.workers import ServerProcess as ServerProcess
from notifications.models.workers import Worker as Worker
from notifications.states import ACTIVE as ACTIVE
from notifications.times import MomentField

#: What apps use. Modules of the core use the other models, too.
__all__ = [
    "ACTIVE",
    "Attempt",
    "Job",
    "Notification",
    "NotificationLevel",
    "ServerProcess",
    "Wait",
    "Worker",
    "parse_id",
    "user_key",
    "uuid7",
]


class Notification(models.Model):
    """A durable message to one user. With ``seq`` NULL it has changed and is not numbered yet."""

    Level = NotificationLevel

    id = models.UUIDField(_("ID"), primary_key=True, default=uuid7, editable=False)
    user = user_key()
    seq = models.BigIntegerField(_("position (seq)"), null=True, editable=False)
    raised = models.BigIntegerField(_("first position (raised)"), null=True, editable=False)
    counted = models.BooleanField(default=False, editable=False)
    level = models.CharField(_("level"), max_length=10, choices=Level, default=Level.INFO)
    category = models.CharField(_("category"), max_length=100, blank=True, default="")
    title = models.CharField(_("title"), max_length=200)
    body = models.TextField(_("body"), max_length=2000, blank=True, default="")
    url = models.CharField(_("link"), max_length=1000, blank=True, default="")
    job = models.UUIDField(_("job"), null=True, blank=True)
    data = models.TextField(_("data"), default="{}", editable=False)
    key = models.CharField(_("key"), max_length=200, blank=True, default="")
    #: The broadcast that it was sent with, if any.
    broadcast = models.UUIDField(_("broadcast"), null=True, blank=True, editable=False)
    created_at = MomentField(_("created"), editable=False)
    read_at = MomentField(_("read"), null=True, blank=True, editable=False)
    archived_at = MomentField(_("archived"), null=True, blank=True, editable=False)
    #: The question of a job that it asks, until this has ended. Marks do not change it until then.
    open_question = models.UUIDField(null=True, blank=True, editable=False)
    #: It is archived until then, and raised again. NULL: it is not snoozed.
    snoozed_until = MomentField(null=True, blank=True, editable=False)
    #: When it was last snoozed, and when it was last raised again at the end of a snooze.
    snoozed_at = MomentField(null=True, blank=True, editable=False)
    returned_at = MomentField(null=True, blank=True, editable=False)
    #: The rows that the inbox shows as one: see ``streams/grouping.py``. NULL: it is in no group.
    group_key = models.CharField(max_length=102, null=True, blank=True, editable=False)  # noqa: DJ001
    #: Not stored: what the extension has read from ``deliver=`` of ``notify()``.
    steps: Any = None

    class Meta:
        verbose_name = _("notification")
        verbose_name_plural = _("notifications")
        default_permissions = ("add", "view")
        indexes = [
            models.Index(fields=["user", "seq"], name="notifications_n_seq"),
            models.Index(
                fields=["user", "id"], condition=Q(seq__isnull=True), name="notifications_n_unnumbered"
            ),
            # With COALESCE this is the only index that the queries of streams/numbering.py can use. With plain columns
            # PostgreSQL uses another index while it has no statistics, and reads a whole inbox for each key.
            # The keys of jobs ascend: with the key first a transaction writes one page of it, not one for each user.
            models.Index(
                "key",
                Coalesce("user", "user"),
                condition=Q(IsNull(Coalesce("read_at", "archived_at"), True)) & ~Q(key=""),
                name="notifications_n_open_key",
            ),
            models.Index(
                fields=["archived_at"],
                condition=Q(archived_at__isnull=False),
                name="notifications_n_archived",
            ),
            models.Index(
                fields=["broadcast", "id", "read_at"],
                condition=Q(broadcast__isnull=False),
                name="notifications_n_broadcast",
            ),
            models.Index(
                fields=["user", "raised"],
                condition=Q(open_question__isnull=False),
                name="notifications_n_question",
            ),
            *(
                models.Index(
                    fields=fields,
                    condition=Q(snoozed_until__isnull=False),
                    name=f"notifications_n_{name}",
                )
                for name, fields in (("snoozed", ["user", "raised"]), ("due", ["snoozed_until"]))
            ),
            # Each notification is in one of these partitions: see streams/listing.py.
            *(
                models.Index(
                    fields=["user", "raised"],
                    condition=Q(read_at__isnull=is_unread, archived_at__isnull=in_inbox),
                    name=f"notifications_n_{'inbox' if in_inbox else 'arch'}_{'unread' if is_unread else 'read'}",
                )
                for in_inbox in (True, False)
                for is_unread in (True, False)
            ),
            *(
                models.Index(
                    fields=["user", "group_key", "raised"],
                    condition=Q(read_at__isnull=is_unread, archived_at__isnull=True, group_key__isnull=False),
                    name=f"notifications_n_group_{'unread' if is_unread else 'read'}",
                )
                for is_unread in (True, False)
            ),
        ]

    def __str__(self) -> str:
        return self.title

    @property
    def is_muted(self) -> bool:
        """Whether an extension has marked it as read before it was created: its user had muted its category."""
        return self.read_at is not None and self.read_at == self.created_at

    @property
    def raised_at(self) -> Any:
        """When it was raised: at its creation, or at the end of its last snooze. None in a damaged row."""
        return self.returned_at or self.created_at
