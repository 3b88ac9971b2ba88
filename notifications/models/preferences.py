"""By which channels users are notified of each category, and when."""

from __future__ import annotations

from django.core.validators import MaxValueValidator
from django.db import models
from django.utils.translation import gettext_lazy as _
from django.utils.translation import pgettext_lazy

from notifications.ids import uuid7
from notifications.models.users import UserPrimaryKey, user_key
from notifications.times import MomentField


class Preference(models.Model):
    """What a user has chosen for a category and a channel. Where it is the default, there is no row."""

    class Channel(models.TextChoices):
        #: The bell, toasts and the inbox. What is switched off is kept there as read.
        BELL = "bell", _("in the bell")
        EMAIL = "email", _("by e-mail")
        PUSH = "push", _("by push")

    class Choice(models.TextChoices):
        ON = "on", pgettext_lazy("preference", "each one")
        HOURLY = "hourly", pgettext_lazy("preference", "every hour, together")
        DAILY = "daily", pgettext_lazy("preference", "every day, together")
        WEEKLY = "weekly", pgettext_lazy("preference", "every week, together")
        OFF = "off", pgettext_lazy("preference", "never")

    user = user_key()
    category = models.CharField(_("category"), max_length=100, blank=True)
    channel = models.CharField(_("channel"), max_length=10, choices=Channel)
    choice = models.CharField(_("choice"), max_length=10, choices=Choice)
    #: The choice before the category was muted, or ``"default"``; empty if it was not muted.
    before_mute = models.CharField(max_length=10, blank=True, default="", db_default="")
    #: The same for unsubscribing by the link of an e-mail.
    before_unsubscribe = models.CharField(max_length=10, blank=True, default="", db_default="")
    changed_at = MomentField(_("changed"))

    class Meta:
        verbose_name = _("preference")
        verbose_name_plural = _("preferences")
        default_permissions = ("view",)
        constraints = [
            models.UniqueConstraint(
                fields=["user", "category", "channel"], name="notifications_preference_key"
            )
        ]

    def __str__(self) -> str:
        return f"{self.user_id}: {self.category}, {self.channel}: {self.choice}"


class Reader(models.Model):
    """What a user has chosen for all categories, and the address at which e-mails do not arrive."""

    user = UserPrimaryKey(verbose_name=_("user"))
    #: Until then nothing is sent by channels other than the bell.
    paused_until = MomentField(_("paused until"), null=True, blank=True)
    #: Of daily and weekly digests: the time zone (that of the site if empty), the hour, and the day, 0 is Monday.
    time_zone = models.CharField(_("time zone"), max_length=64, blank=True, default="")
    digest_hour = models.PositiveSmallIntegerField(_("hour"), default=8, validators=[MaxValueValidator(23)])
    digest_day = models.PositiveSmallIntegerField(_("day"), default=0, validators=[MaxValueValidator(6)])
    #: An address that a mail server has refused for good, and what it said.
    dead_address = models.CharField(_("dead address"), max_length=320, blank=True, default="")
    dead_error = models.CharField(_("error"), max_length=500, blank=True, default="")

    class Meta:
        verbose_name = _("reader")
        verbose_name_plural = _("readers")
        default_permissions = ()

    def __str__(self) -> str:
        return str(self.user_id)


class Digest(models.Model):
    """What goes to a user in one e-mail at the end of a window. Its job sends the deliveries that have this job."""

    id = models.UUIDField(_("ID"), primary_key=True, default=uuid7, editable=False)
    user = user_key(verbose_name=None)
    #: The end of its window.
    due_at = MomentField(_("due"))
    job = models.UUIDField(_("job"))
    #: Nothing is added any more: its job has begun to send it.
    is_closed = models.BooleanField(default=False)

    class Meta:
        default_permissions = ()
        constraints = [models.UniqueConstraint(fields=["user", "due_at"], name="notifications_digest_key")]
        indexes = [models.Index(fields=["due_at"], name="notifications_digest_due")]

    def __str__(self) -> str:
        return f"{self.user_id}: {self.due_at:%Y-%m-%d %H:%M}"


class EmailThrottle(models.Model):
    """The window in which e-mails to a user join one message: see ``throttle()`` in ``deliveries/digests.py``."""

    user = UserPrimaryKey()
    #: An e-mail that is due until then joins; the message is sent then, if any has joined.
    ends_at = MomentField()
    #: The delivery before it, which is sent by itself.
    opened_by = models.UUIDField(null=True)
    #: When the first e-mail has joined the message, and the job that sends it. NULL: none has joined.
    joined_since = MomentField(null=True)
    job = models.UUIDField(null=True)

    class Meta:
        default_permissions = ()

    def __str__(self) -> str:
        return f"{self.user_id}: {self.ends_at:%Y-%m-%d %H:%M}"
