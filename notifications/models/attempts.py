"""The attempts of jobs that did not succeed."""

from __future__ import annotations

from django.db import models
from django.utils.translation import gettext_lazy as _

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
