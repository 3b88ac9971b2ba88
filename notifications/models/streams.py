"""The stream of each user, and what else is stored of a user's notifications: marks, hints, levels; the epoch of all.

By the epoch clients notice that a backup was restored.
"""

from __future__ import annotations

from django.db import models
from django.utils.translation import gettext_lazy as _

from notifications.ids import uuid7
from notifications.models.users import user_key
from notifications.times import MomentField


class NotificationLevel(models.TextChoices):
    """The level of a notification, ``Notification.Level``."""

    INFO = "info", _("Info")
    SUCCESS = "success", _("Success")
    WARNING = "warning", _("Warning")
    ERROR = "error", _("Error")


class Stream(models.Model):
    """The ordered sequence of changes for one user, up to ``head``. Only modules of ``streams/`` lock or write it."""

    user = user_key(primary_key=True)
    head = models.BigIntegerField(default=0)
    floor = models.BigIntegerField(default=0)
    unread = models.BigIntegerField(default=0)
    #: The user was shown what was raised up to here; ``unseen`` counts the unread above it. Both have defaults in the
    #: database: numbering inserts rows without them.
    seen = models.BigIntegerField(default=0, db_default=0)
    unseen = models.BigIntegerField(default=0, db_default=0)
    guard = models.BigIntegerField(default=0)

    class Meta:
        verbose_name = _("stream")
        verbose_name_plural = _("streams")
        default_permissions = ("view",)

    def __str__(self) -> str:
        return f"{self.user_id}: {self.head}"


class SeenMark(models.Model):
    """When, and in which browser, a user was shown what was raised up to a position."""

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    user = user_key(verbose_name=None)
    up_to = models.BigIntegerField()
    at = MomentField()
    #: The name of the browser of the request, empty if code of the project marked them.
    browser = models.CharField(max_length=100, blank=True, default="")
    #: When its page has received and shown them: see ``streams/marking_seen.py``. NULL: not known.
    receipts = models.TextField(null=True, blank=True, editable=False)  # noqa: DJ001

    class Meta:
        default_permissions = ()
        indexes = [
            models.Index(fields=["user", "up_to"], name="notifications_seenmark_user"),
            models.Index(fields=["at"], name="notifications_seenmark_old"),
        ]

    def __str__(self) -> str:
        return f"{self.user_id}: {self.up_to}"


class Ring(models.Model):
    """SQLite only: a hint to other processes that a stream has changed. With user NULL, the job queue."""

    id = models.BigAutoField(primary_key=True)
    user = user_key(null=True)
    #: The process that rang (``ids.process_number``), which does not read its own rings.
    origin = models.BigIntegerField(null=True)
    #: Seconds since 1970.
    rung_at = models.BigIntegerField(default=0, db_default=0)
    #: What has changed (``streams.carrying``). NULL: it must be read.
    change = models.TextField(null=True)  # noqa: DJ001

    class Meta:
        default_permissions = ()

    def __str__(self) -> str:
        return f"{self.user_id}"


class Epoch(models.Model):
    """The epoch of the database, in one row. It is replaced after a backup is restored."""

    id = models.SmallIntegerField(primary_key=True, default=1)
    value = models.UUIDField()

    class Meta:
        default_permissions = ()

    def __str__(self) -> str:
        return str(self.value)


class PendingMark(models.Model):
    """What is left of a change of many notifications of one user. See ``streams/marking_all.py``.

    It is deleted when the last of them is changed.
    """

    user = user_key(verbose_name=None)
    verb = models.CharField(max_length=10)
    #: The time that the verb sets; of a verb that clears a time, the time that it clears.
    moment = MomentField()
    #: Notifications of this category only; NULL: of all categories.
    category = models.CharField(max_length=100, null=True)  # noqa: DJ001
    #: Notifications of this level only; empty: of all levels.
    level = models.CharField(max_length=10, blank=True, default="")
    #: Notifications of this group only; NULL: of all groups.
    group = models.CharField(max_length=102, null=True)  # noqa: DJ001
    #: What was raised above the first and up to the second is still to be changed.
    after = models.BigIntegerField()
    up_to = models.BigIntegerField()

    class Meta:
        default_permissions = ()
        indexes = [models.Index(fields=["user"], name="notifications_pendingmark_user")]

    def __str__(self) -> str:
        return f"{self.user_id}: {self.verb} up to {self.up_to}"


class InboxViews(models.Model):
    """The views of the inbox that a user has saved: see ``inbox/saved_views.py``."""

    user = user_key(primary_key=True)
    #: JSON: a list of names with query strings.
    views = models.TextField(default="[]")

    class Meta:
        default_permissions = ()

    def __str__(self) -> str:
        return str(self.user_id)


class AnnouncedState(models.Model):
    """The state of a topic that a user was last notified of; without a row, that nothing is wrong.

    See ``jobs/announcing.py``.
    """

    topic = models.CharField(max_length=200)
    user = user_key(verbose_name=None, db_index=True)
    state = models.CharField(max_length=20)

    class Meta:
        default_permissions = ()
        constraints = [
            models.UniqueConstraint(fields=["topic", "user"], name="notifications_announcedstate_key")
        ]

    def __str__(self) -> str:
        return f"{self.user_id}: {self.topic} {self.state}"
