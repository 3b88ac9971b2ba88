"""Tags of jobs."""

from __future__ import annotations

from django.db import models


class JobTag(models.Model):
    """A tag of a job, which is deleted with it."""

    job = models.UUIDField()
    tag = models.CharField(max_length=100)

    class Meta:
        default_permissions = ()
        constraints = [models.UniqueConstraint(fields=["tag", "job"], name="notifications_tag_jobs")]
        indexes = [models.Index(fields=["job"], name="notifications_tag_job")]

    def __str__(self) -> str:
        return self.tag
