"""Output: the text that jobs write while they run."""

from __future__ import annotations

from django.db import models
from django.utils.translation import gettext_lazy as _

from notifications.extension import require
from notifications.times import MomentField

require("notifications.contrib.output")


class OutputChunk(models.Model):
    """A part of the output of a job, which stays until the job is pruned.

    The output of a job is one text: ``start`` counts its bytes of UTF-8 over all executions of the job.
    """

    job = models.UUIDField(_("job"))
    start = models.BigIntegerField()
    text = models.TextField(_("text"))
    #: The number of the attempt that wrote it. The fence tells executions of the same attempt apart, as after a wait.
    attempt = models.PositiveIntegerField(_("attempt"))
    fence = models.BigIntegerField()
    created_at = MomentField(_("created"))

    class Meta:
        verbose_name = _("output")
        verbose_name_plural = _("output")
        default_permissions = ()
        constraints = [models.UniqueConstraint(fields=["job", "start"], name="notifications_output_start")]

    def __str__(self) -> str:
        return f"{self.job} {self.start}"
