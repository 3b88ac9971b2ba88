"""Deliveries of notifications, devices, and by which channels users are notified of each category, and when."""

from __future__ import annotations

from django.core.validators import MaxValueValidator
from django.db import models
from django.db.models import Q
from django.utils.translation import gettext_lazy as _
from django.utils.translation import pgettext_lazy

from notifications.contrib.deliveries.categories import Choice as CategoryChoice
from notifications.extension import hooks, require
from notifications.models import user_key, uuid7
from notifications.times import MomentField

require("notifications.contrib.deliveries")

#: Characters of the name of a channel.
MAX_CHANNEL_LENGTH = 30


class Delivery(models.Model):
    """A notification's way to one channel, to be decided when it is due. See ``sending.py``."""

    class State(models.TextChoices):
        #: It is not due yet.
        PENDING = "pending", pgettext_lazy("delivery", "waits")
        #: It has a job.
        QUEUED = "queued", pgettext_lazy("delivery", "is sent")
        SENT = "sent", pgettext_lazy("delivery", "sent")
        SKIPPED = "skipped", pgettext_lazy("delivery", "not sent")
        FAILED = "failed", pgettext_lazy("delivery", "failed")

    class Reason(models.TextChoices):
        """Why it was skipped. A channel may have texts of its own for some: ``describe_reason()``."""

        SEEN = "seen", _("The notification had been seen.")
        READ = "read", _("The notification had been read.")
        ARCHIVED = "archived", _("The notification had been archived or replaced by a newer one.")
        DELETED = "deleted", _("The notification had been deleted.")
        OFF = "off", _("The user had switched it off.")
        INACTIVE = "inactive", _("The user is not active.")
        NO_ADDRESS = "no-address", _("The user has no address for this channel.")
        DEAD_ADDRESS = "dead-address", _("The address had been refused for good.")
        GONE = "gone", _("The address is not one of the user any more.")
        NOT_INSTALLED = "not-installed", _("The app of this channel is not installed any more.")

    id = models.UUIDField(_("ID"), primary_key=True, default=uuid7, editable=False)
    notification = models.UUIDField(_("notification"))
    user = user_key()
    #: The name of one of ``Extension.channels``.
    channel = models.CharField(_("channel"), max_length=MAX_CHANNEL_LENGTH)
    #: One of ``Channel.addresses()``. Empty until it is decided.
    address = models.CharField(_("address"), max_length=320, blank=True, default="")
    language = models.CharField(max_length=35, blank=True, default="")
    state = models.CharField(_("state"), max_length=10, choices=State, default=State.PENDING)
    reason = models.CharField(_("reason"), max_length=20, choices=Reason, blank=True, default="")
    error = models.CharField(_("error"), max_length=500, blank=True, default="")
    job = models.UUIDField(_("job"), null=True, blank=True)
    #: When it is, or was, to be decided.
    due_at = MomentField(_("due"))
    #: Seconds of its step: from when the notification is raised until the delivery is due, unless it is postponed.
    delay_seconds = models.PositiveIntegerField(default=0, db_default=0, editable=False)
    #: The call that created the notification has given this step (``deliver=``).
    is_explicit = models.BooleanField(default=False, db_default=False, editable=False)
    #: When the last attempt to send it began; None if all have certainly sent nothing.
    attempted_at = MomentField(_("attempted"), null=True, blank=True)
    #: When it was sent, skipped, or failed.
    ended_at = MomentField(_("ended"), null=True, blank=True)

    class Meta:
        verbose_name = _("delivery")
        verbose_name_plural = _("deliveries")
        default_permissions = ()
        constraints = [
            models.UniqueConstraint(
                fields=["notification", "channel", "address"], name="notifications_delivery_key"
            )
        ]
        indexes = [
            models.Index(
                fields=["due_at", "id", "channel"],
                condition=Q(state="pending"),
                name="notifications_delivery_pending",
            ),
            models.Index(fields=["job"], condition=Q(state="queued"), name="notifications_delivery_job"),
            models.Index(fields=["user"], name="notifications_delivery_user"),
        ]

    def __str__(self) -> str:
        return f"{self.notification}: {self.channel}"

    @property
    def may_have_arrived(self) -> bool:
        """Whether an attempt was interrupted that may have sent it, although it was not recorded as sent."""
        has_ended_unsent = self.state in (self.State.SKIPPED, self.State.FAILED)
        return has_ended_unsent and self.attempted_at is not None

    def describe_channel(self) -> str:
        return str(hooks.find_channel(self.channel).label or self.channel)

    def describe_reason(self, reason: str = "") -> str:
        """Return a reason not to send it in words, by default its own; empty if there is none."""
        reason = reason or self.reason
        text = hooks.find_channel(self.channel).reasons.get(reason)
        return str(text or self.Reason(reason).label) if reason else ""


class ChannelOutage(models.Model):
    """That the server of a channel does not answer. See ``outages.py``."""

    channel = models.CharField(primary_key=True, max_length=MAX_CHANNEL_LENGTH)
    #: Time-outs since the last answer.
    timeouts = models.PositiveIntegerField(default=0)
    #: Until when nothing is sent; None: fewer messages than it takes have timed out.
    suspended_until = MomentField(null=True, blank=True)

    class Meta:
        default_permissions = ()

    def __str__(self) -> str:
        return f"{self.channel}: {self.timeouts} time-outs"


class PushSubscription(models.Model):
    """A browser that a user has subscribed to push messages. See ``devices.py``."""

    id = models.UUIDField(_("ID"), primary_key=True, default=uuid7, editable=False)
    user = user_key()
    #: The URL of the browser's push service, which is a secret of the browser.
    endpoint = models.CharField(max_length=1000)
    #: Keys of the browser for the encryption: a point of P-256, and 16 random bytes, both in base64url.
    p256dh = models.CharField(max_length=100)
    auth = models.CharField(max_length=30)
    #: Made from the browser, like "Firefox on Linux".
    name = models.CharField(_("name"), max_length=100)
    language = models.CharField(max_length=35, blank=True, default="")
    #: The SHA-256, in hexadecimal, of the public key of the site with which it has subscribed; empty: not known.
    key_hash = models.CharField(max_length=64, blank=True, default="", db_default="", editable=False)
    #: The status by which its push service has refused the last message for good, such as 403; 0: it has not.
    refused_status = models.PositiveSmallIntegerField(default=0, db_default=0, editable=False)
    #: The reason that its answer gave; empty: none. See ``refusals.py``.
    refused_reason = models.CharField(max_length=200, blank=True, default="", db_default="", editable=False)
    created_at = MomentField(_("created"))
    #: When its push service has last accepted a message.
    used_at = MomentField(_("last used"), null=True, blank=True)
    #: When the browser has last confirmed its subscription.
    seen_at = MomentField(_("last seen"))

    class Meta:
        verbose_name = _("device")
        verbose_name_plural = _("devices")
        default_permissions = ()
        constraints = [models.UniqueConstraint(fields=["endpoint"], name="notifications_pushsub_endpoint")]
        indexes = [models.Index(fields=["user", "id"], name="notifications_pushsub_user")]

    def __str__(self) -> str:
        return self.name


class Preference(models.Model):
    """What a user has chosen for a category and a channel. Where it is the default, there is no row."""

    Choice = CategoryChoice

    user = user_key()
    category = models.CharField(_("category"), max_length=100, blank=True)
    channel = models.CharField(_("channel"), max_length=MAX_CHANNEL_LENGTH)
    choice = models.CharField(_("choice"), max_length=10, choices=Choice)
    #: The choice before the category was muted, or ``"default"``; empty if it was not muted.
    before_mute = models.CharField(max_length=10, blank=True, default="", db_default="")
    #: The same for unsubscribing by the link of an e-mail.
    before_unsubscribe = models.CharField(max_length=10, blank=True, default="", db_default="")
    #: Until then it is muted: afterwards ``before_mute`` is in force. NULL: for good.
    off_until = MomentField(_("off until"), null=True, blank=True)
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
    """What a user has chosen for all categories, and the addresses at which nothing arrives."""

    user = user_key(primary_key=True)
    #: Until then nothing is sent by channels other than the bell.
    paused_until = MomentField(_("paused until"), null=True, blank=True)
    #: By weekday from Monday on, ``["22:00", "07:00"]`` or None: see ``quiet_hours.py``. NULL: none at all.
    quiet_hours = models.JSONField(_("quiet hours"), null=True, blank=True)
    #: Of quiet hours, and of daily and weekly digests: the time zone, that of the site if empty. Of digests the hour,
    #: and the day, 0 is Monday.
    time_zone = models.CharField(_("time zone"), max_length=64, blank=True, default="")
    digest_hour = models.PositiveSmallIntegerField(_("hour"), default=8, validators=[MaxValueValidator(23)])
    digest_day = models.PositiveSmallIntegerField(_("day"), default=0, validators=[MaxValueValidator(6)])
    #: The last address that was refused for good, by the name of its channel.
    dead_addresses = models.JSONField(_("dead addresses"), blank=True, default=dict)

    class Meta:
        verbose_name = _("reader")
        verbose_name_plural = _("readers")
        default_permissions = ()

    def __str__(self) -> str:
        return str(self.user_id)


class Throttle(models.Model):
    """The window in which messages to a user by one channel are joined: see ``throttle()`` in ``digests.py``."""

    id = models.UUIDField(_("ID"), primary_key=True, default=uuid7, editable=False)
    user = user_key(verbose_name=None)
    channel = models.CharField(max_length=MAX_CHANNEL_LENGTH)
    #: What is required waits for no other message, so it has a window of its own.
    is_required = models.BooleanField(default=False, db_default=False)
    #: What is due until then joins; the message is sent then, if any has joined.
    ends_at = MomentField()
    #: The delivery before it, which is sent by itself.
    opened_by = models.UUIDField(null=True)
    #: When the first delivery has joined the message, and the job that sends it. NULL: none has joined.
    joined_since = MomentField(null=True)
    job = models.UUIDField(null=True)

    class Meta:
        default_permissions = ()
        constraints = [
            models.UniqueConstraint(
                fields=["user", "channel", "is_required"], name="notifications_throttle_key"
            )
        ]

    def __str__(self) -> str:
        return f"{self.user_id}, {self.channel}: {self.ends_at:%Y-%m-%d %H:%M}"
