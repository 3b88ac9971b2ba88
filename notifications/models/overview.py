"""The models of server processes and alerts, which the overview shows."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from django.db import models
from django.db.models import Q
from django.utils.translation import gettext_lazy as _

from notifications.ids import uuid7
from notifications.times import MomentField


class ServerProcess(models.Model):
    """An ASGI server process, which renews its row while it serves. See ``realtime/server_process.py``."""

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    host = models.CharField(_("host"), max_length=255)
    pid = models.PositiveBigIntegerField(_("process id"))
    started_at = MomentField(_("started"))
    lease_until = MomentField(_("lease until"))
    sockets = models.PositiveIntegerField(_("sockets"), default=0)
    users = models.PositiveIntegerField(_("users"), default=0)

    class Meta:
        verbose_name = _("server process")
        verbose_name_plural = _("server processes")
        default_permissions = ()

    def __str__(self) -> str:
        return f"{self.host} {self.pid}"


#: The labels of the kinds of alerts that extensions add. ``NotificationsConfig.ready()`` sets them.
labels_of_extensions: Mapping[str, Any] = {}


def alert_kinds() -> list[tuple[str, Any]]:
    """Return the kinds of alerts, those of extensions too, and their labels."""
    return [*Alert.Kind.choices, *labels_of_extensions.items()]


class Alert(models.Model):
    """An episode in which something needs an operator. It is open until ``closed_at``. See ``operations/alerts/``."""

    class Kind(models.TextChoices):
        STALLED = "stalled", _("Queue finishes nothing")
        WAIT = "wait", _("Jobs wait too long")
        FAILURES = "failures", _("Many jobs fail")
        NO_WORKER = "no_worker", _("No worker")
        LEASE = "lease", _("Worker lost")
        QUESTION = "question", _("Question unanswered")

    kind = models.CharField(_("kind"), max_length=20, choices=alert_kinds)
    #: The queue, or schedule for example; "" for an alert about the whole project.
    subject = models.CharField(_("subject"), max_length=200, blank=True, default="")
    #: In ``LANGUAGE_CODE``. People read the text that ``operations/alerts/texts.py`` makes of the facts (JSON).
    detail = models.CharField(_("detail"), max_length=500, blank=True, default="")
    facts = models.TextField(default="{}", db_default="{}", editable=False)
    opened_at = MomentField(_("opened"))
    #: When the condition was last found true.
    seen_at = MomentField(_("last seen"))
    closed_at = MomentField(_("closed"), null=True, blank=True)
    #: When a user said that they see to it, and the name of that user.
    acknowledged_at = MomentField(_("acknowledged"), null=True, blank=True)
    acknowledged_by = models.CharField(
        _("acknowledged by"), max_length=150, blank=True, default="", db_default=""
    )

    class Meta:
        verbose_name = _("alert")
        verbose_name_plural = _("alerts")
        default_permissions = ("view", "change")
        permissions = (("receive_alerts", "Can receive alerts"),)
        # Several processes may find the same condition: the first inserts the row.
        constraints = [
            models.UniqueConstraint(
                fields=["kind", "subject"],
                condition=Q(closed_at__isnull=True),
                name="notifications_alert_open",
            )
        ]

    def __str__(self) -> str:
        return f"{self.get_kind_display()}: {self.subject}" if self.subject else self.get_kind_display()


class AlertState(models.Model):
    """What alerts are evaluated from besides the other tables, in one row."""

    id = models.SmallIntegerField(primary_key=True, default=1)
    #: When a live worker was last seen; NULL while one is.
    no_worker_since = MomentField(null=True)
    #: When the lease of a worker was last found to be over, and the host and process of that worker.
    lease_lost_at = MomentField(null=True)
    lost_worker = models.CharField(max_length=511, default="", blank=True)

    class Meta:
        default_permissions = ()

    def __str__(self) -> str:
        return str(self.no_worker_since or "")


class Overview(Alert):
    """No rows of its own: the overview page of the admin, and the permission to view it."""

    class Meta:
        proxy = True
        verbose_name = _("overview")
        verbose_name_plural = _("overview")
        default_permissions = ("view",)
