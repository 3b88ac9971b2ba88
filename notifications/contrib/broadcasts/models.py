"""The model of notifications that staff send to many users."""

from __future__ import annotations

from django.db import models
from django.utils.translation import gettext_lazy as _

from notifications.extension import require
from notifications.models import NotificationLevel, user_key, uuid7
from notifications.times import MomentField

require("notifications.contrib.broadcasts")


class Broadcast(models.Model):
    """A notification that staff have sent to an audience. Each recipient has a ``Notification`` with its id.

    Its jobs send and withdraw it, with their progress, cancelling and retrying. What they have done is stored here:
    jobs are deleted after ``RETENTION``, while a broadcast can be withdrawn for as long as it is there, and its
    position moves in the transaction of each chunk, as no column of a job does.
    """

    class AudienceKind(models.TextChoices):
        USERS = "users", _("Users")
        GROUPS = "groups", _("Members of groups")
        PERMISSION = "permission", _("Holders of a permission")
        STAFF = "staff", _("All staff")
        EVERYBODY = "everybody", _("Everybody")
        #: The users that an app names: see ``audiences.py``.
        AFFECTED = "affected", _("Those affected by a failure")

    class State(models.TextChoices):
        SENDING = "sending", _("Sending")
        SENT = "sent", _("Sent")
        WITHDRAWING = "withdrawing", _("Withdrawing")
        WITHDRAWN = "withdrawn", _("Withdrawn")

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    sender = user_key(null=True, verbose_name=_("sender"))
    level = models.CharField(_("level"), max_length=10, choices=NotificationLevel)
    category = models.CharField(_("category"), max_length=100, blank=True, default="")
    title = models.CharField(_("title"), max_length=200)
    body = models.TextField(_("body"), max_length=2000, blank=True, default="")
    url = models.CharField(_("link"), max_length=1000, blank=True, default="")
    #: JSON: title and body by the code of each other language.
    translations = models.TextField(db_default="{}", default="{}")
    audience_kind = models.CharField(_("audience"), max_length=20, choices=AudienceKind)
    #: JSON: keys of users or groups as strings, the name of a permission, or what names the users of an app.
    audience_values = models.TextField(default="[]")
    #: The audience as it was described to the sender, whose groups may have been renamed since.
    audience_text = models.CharField(_("to"), max_length=500)
    #: How many recipients there were when the sender confirmed.
    recipients = models.PositiveBigIntegerField(_("recipients"))
    state = models.CharField(_("state"), max_length=20, choices=State, default=State.SENDING)
    #: The key of the last recipient as text, in the order of keys. "" before the first one.
    position = models.TextField(blank=True, default="")
    sent = models.PositiveBigIntegerField(_("sent"), default=0)
    withdrawn = models.PositiveBigIntegerField(_("withdrawn"), default=0)
    #: The job that sends it, and the one that withdraws it.
    job = models.UUIDField(_("job"), null=True)
    withdrawal_job = models.UUIDField(_("job of the withdrawal"), null=True)
    created_at = MomentField(_("created"))
    #: When it is to be sent; None for at once.
    send_at = MomentField(_("to be sent at"), null=True)
    sent_at = MomentField(_("sent at"), null=True)
    withdrawn_at = MomentField(_("withdrawn at"), null=True)

    class Meta:
        verbose_name = _("broadcast")
        verbose_name_plural = _("broadcasts")
        default_permissions = ("view",)
        permissions = [("withdraw_broadcast", "Can withdraw broadcasts")]

    def __str__(self) -> str:
        return self.title
