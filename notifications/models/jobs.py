"""What belongs to jobs: their attempts that did not succeed, and what they wait for."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from django.db import models
from django.db.models import Q
from django.utils.translation import gettext_lazy as _

from notifications.ids import uuid7
from notifications.models.users import user_key
from notifications.times import MomentField


class Attempt(models.Model):
    """An attempt at a job that did not succeed. The current attempt is stored on the job."""

    class Outcome(models.TextChoices):
        FAILED = "failed", _("Failed")
        CANCELLED = "cancelled", _("Cancelled")
        LOST = "lost", _("Worker lost")
        TIMED_OUT = "timed_out", _("Timed out")

    job = models.ForeignKey(
        "notifications.Job", models.DO_NOTHING, db_constraint=False, related_name="attempts"
    )
    number = models.PositiveIntegerField()
    worker = models.UUIDField(null=True)
    started_at = MomentField(null=True)
    ended_at = MomentField()
    outcome = models.CharField(max_length=10, choices=Outcome)
    exception_class_path = models.CharField(max_length=500, blank=True, default="")
    #: The innermost frame in code of the project, such as "shop/tasks.py:12 in report".
    location = models.CharField(_("location"), max_length=300, blank=True, default="", db_default="")
    traceback = models.TextField(blank=True, default="")

    class Meta:
        verbose_name = _("attempt")
        verbose_name_plural = _("attempts")
        default_permissions = ("view",)

    def __str__(self) -> str:
        return f"{self.job_id} #{self.number}"


class Wait(models.Model):
    """Something that a job waits for, ended once. It stays until the job is pruned, or retried from its start.

    A job that is retried by hand waits anew for what was cancelled or has expired, so those are deleted.
    """

    class How(models.TextChoices):
        """How a wait ended."""

        DUE = "due", _("Due")
        ANSWERED = "answered", _("Answered")
        CALLED_BACK = "called_back", _("Called back")
        EXPIRED = "expired", _("Expired")
        CANCELLED = "cancelled", _("Cancelled")

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    #: Not a foreign key: the module of the model of jobs imports this one.
    job = models.UUIDField(_("job"))
    name = models.CharField(_("name"), max_length=200)
    #: That of a ``WaitKind`` of the core or of an extension.
    kind = models.CharField(_("kind"), max_length=50)
    #: The job is suspended until it has ended. Others may end while the job runs.
    is_awaited = models.BooleanField(default=False)
    title = models.CharField(_("title"), max_length=200, blank=True, default="")
    #: JSON: what a kind needs besides, as the choices of a question.
    details = models.TextField(default="{}")
    #: The number of the attempt that has stored it.
    attempt = models.PositiveIntegerField(_("attempt"))
    created_at = MomentField(_("created"))
    #: When it ends by itself. NULL: never.
    due_at = MomentField(_("due"), null=True, blank=True)
    #: When those who were asked a question are notified again. NULL: not any more.
    remind_at = MomentField(_("next reminder"), null=True, blank=True)
    ended_at = MomentField(_("ended"), null=True, blank=True)
    how = models.CharField(max_length=12, choices=How, blank=True, default="")
    #: JSON: the answer; NULL without one.
    value = models.TextField(_("value"), null=True, blank=True)  # noqa: DJ001
    #: Who has ended it, and in which browser or by which command.
    ended_by = user_key(null=True, blank=True, verbose_name=_("ended by"))
    ended_with = models.CharField(max_length=100, blank=True, default="")
    #: Not stored: how long it lasts from when it is stored, if it ends by itself.
    lasts: Any = None
    #: Not stored: the name of who has ended it now.
    ended_by_name = ""

    class Meta:
        verbose_name = _("wait")
        verbose_name_plural = _("waits")
        default_permissions = ()
        constraints = [models.UniqueConstraint(fields=["job", "name"], name="notifications_wait_name")]
        indexes = [
            models.Index(
                fields=["due_at"], condition=Q(ended_at__isnull=True), name="notifications_wait_due"
            ),
            models.Index(
                fields=["kind", "created_at"],
                condition=Q(ended_at__isnull=True),
                name="notifications_wait_open",
            ),
            models.Index(
                fields=["ended_by"], condition=Q(ended_by__isnull=False), name="notifications_wait_ended_by"
            ),
            models.Index(
                fields=["remind_at"],
                condition=Q(ended_at__isnull=True, remind_at__isnull=False),
                name="notifications_wait_remind",
            ),
        ]

    def __str__(self) -> str:
        return self.name

    def begin(self, now: datetime) -> None:
        """Set the times of a new wait, which a job that is suspended now waits for."""
        self.created_at, self.is_awaited = now, True
        self.due_at = now + self.lasts if self.lasts is not None else None
