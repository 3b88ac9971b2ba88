"""The models of webhooks: the endpoints of programs, the attempts to call them, and the URLs of requests."""

from __future__ import annotations

from urllib.parse import urlsplit

from django.db import models
from django.db.models import Q
from django.utils.translation import gettext_lazy as _

from notifications.contrib.webhooks import signing  # noqa: F401 (it says at the start that its package is missing)
from notifications.extension import require
from notifications.models import user_key, uuid7
from notifications.times import MomentField

require("notifications.contrib.webhooks")


class WebhookEndpoint(models.Model):
    """A URL to which events are sent: those of its user, or of all users if it has none."""

    class OffReason(models.TextChoices):
        BY_HAND = "by-hand", _("It was turned off by hand.")
        GONE = "gone", _("It has answered with status 410 (Gone).")
        FAILING = "failing", _("No event has reached it for days.")

    id = models.UUIDField(_("ID"), primary_key=True, default=uuid7, editable=False)
    user = user_key(
        null=True,
        blank=True,
        verbose_name=_("owner"),
        help_text=_("It gets the events of this user. Leave it empty for the events of all users."),
    )
    url = models.CharField(_("URL"), max_length=1000)
    description = models.CharField(_("description"), max_length=200, blank=True, default="")
    #: Names of events, separated by spaces.
    events = models.CharField(_("events"), max_length=200)
    secret = models.CharField(_("secret"), max_length=100, editable=False)
    #: After a rotation it signs too, until ``previous_until``.
    previous_secret = models.CharField(max_length=100, blank=True, default="", editable=False)
    previous_until = MomentField(_("the previous secret signs until"), null=True, blank=True, editable=False)
    #: NULL: it is on.
    off_at = MomentField(_("turned off"), null=True, blank=True, editable=False)
    off_reason = models.CharField(
        _("reason"), max_length=10, choices=OffReason, blank=True, default="", editable=False
    )
    #: The first failed attempt since the last one that succeeded. NULL: the last one succeeded, or there was none.
    failing_since = MomentField(_("failing since"), null=True, blank=True, editable=False)
    created_at = MomentField(_("created"), editable=False)

    class Meta:
        verbose_name = _("webhook")
        verbose_name_plural = _("webhooks")
        permissions = [("view_webhook_secret", _("Can view the secrets of webhooks"))]
        indexes = [
            models.Index(fields=["user"], condition=Q(off_at__isnull=True), name="notifications_webhook_on"),
            models.Index(fields=["user"], name="notifications_webhook_user"),
        ]

    def __str__(self) -> str:
        # The path of a URL is a secret of many receivers.
        return self.description or urlsplit(self.url).netloc or str(self.id)


class WebhookAttempt(models.Model):
    """An attempt to send an event to an endpoint. What the endpoint answered besides a status is not stored.

    An ``Attempt`` of the core would not do: that of the end of a job that succeeds has no row, none has the status of
    an answer, and the log of an endpoint is read by pages in the order of their times, over all of its jobs.
    """

    id = models.UUIDField(_("ID"), primary_key=True, default=uuid7, editable=False)
    endpoint = models.UUIDField(_("webhook"))
    job = models.UUIDField(_("job"))
    event = models.CharField(_("event"), max_length=40)
    started_at = MomentField(_("started"))
    milliseconds = models.PositiveIntegerField(_("milliseconds"))
    #: NULL: there was no answer.
    status = models.PositiveSmallIntegerField(_("status"), null=True)
    #: The class of an error of ``notifications.outbound``.
    error = models.CharField(_("error"), max_length=40, blank=True, default="")

    class Meta:
        verbose_name = _("webhook attempt")
        verbose_name_plural = _("webhook attempts")
        default_permissions = ()
        indexes = [
            models.Index(fields=["endpoint", "started_at"], name="notifications_webhook_log"),
            models.Index(fields=["started_at"], name="notifications_webhook_old"),
            models.Index(fields=["job"], name="notifications_webhook_job"),
        ]

    def __str__(self) -> str:
        return f"{self.event}: {self.status or self.error}"


class JobCallback(models.Model):
    """The URL that is called when a job ends, which the request has sent that enqueued it.

    Its attempts are rows of ``WebhookAttempt`` whose ``endpoint`` is the job that has ended.
    """

    job = models.UUIDField(_("job"), primary_key=True, editable=False)
    url = models.CharField(_("URL"), max_length=1000)

    class Meta:
        verbose_name = _("callback")
        verbose_name_plural = _("callbacks")
        default_permissions = ()

    def __str__(self) -> str:
        return urlsplit(self.url).netloc
