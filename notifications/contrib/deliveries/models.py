"""The ways of notifications to channels besides the page."""

from __future__ import annotations

from django.db import models
from django.db.models import Q
from django.utils.translation import gettext_lazy as _
from django.utils.translation import pgettext_lazy

from notifications.ids import uuid7
from notifications.models.users import user_key
from notifications.times import MomentField


class Delivery(models.Model):
    """A notification's way to one channel, to be decided when it is due. See ``deliveries/sending.py``."""

    class Channel(models.TextChoices):
        EMAIL = "email", _("e-mail")
        PUSH = "push", _("push")

    class State(models.TextChoices):
        #: It is not due yet.
        PENDING = "pending", pgettext_lazy("delivery", "waits")
        #: It has a job.
        QUEUED = "queued", pgettext_lazy("delivery", "is sent")
        SENT = "sent", pgettext_lazy("delivery", "sent")
        SKIPPED = "skipped", pgettext_lazy("delivery", "not sent")
        FAILED = "failed", pgettext_lazy("delivery", "failed")

    class Reason(models.TextChoices):
        """Why it was skipped."""

        SEEN = "seen", _("The notification had been seen.")
        READ = "read", _("The notification had been read.")
        ARCHIVED = "archived", _("The notification had been archived or replaced by a newer one.")
        DELETED = "deleted", _("The notification had been deleted.")
        OFF = "off", _("The user had switched it off.")
        INACTIVE = "inactive", _("The user is not active.")
        NO_ADDRESS = "no-address", _("The user has no valid e-mail address.")
        DEAD_ADDRESS = "dead-address", _("A mail server had refused the address for good.")
        NO_DEVICE = "no-device", _("The user has no device for push.")
        GONE = "gone", _("The device is not subscribed any more.")

    id = models.UUIDField(_("ID"), primary_key=True, default=uuid7, editable=False)
    notification = models.UUIDField(_("notification"))
    user = user_key()
    channel = models.CharField(_("channel"), max_length=10, choices=Channel)
    #: An e-mail address, or the id of a device. Empty until it is decided.
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


class ChannelOutage(models.Model):
    """That the server of a channel does not answer. See ``deliveries/outages.py``."""

    channel = models.CharField(primary_key=True, max_length=10)
    #: Time-outs since the last answer.
    timeouts = models.PositiveIntegerField(default=0)
    #: Until when nothing is sent; None: fewer messages than it takes have timed out.
    rests_until = MomentField(null=True, blank=True)

    class Meta:
        default_permissions = ()

    def __str__(self) -> str:
        return f"{self.channel}: {self.timeouts} time-outs"


class PushSubscription(models.Model):
    """A browser that a user has subscribed to push messages. See ``deliveries/devices.py``."""

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
