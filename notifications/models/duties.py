"""When each duty was last run."""

from __future__ import annotations

from django.db import models

from notifications.times import MomentField


class DutyRun(models.Model):
    """When a process last ran a duty that one does for all. It elects the next one: see ``upkeep.py``."""

    name = models.CharField(primary_key=True, max_length=100)
    last_run_at = MomentField()

    class Meta:
        default_permissions = ()

    def __str__(self) -> str:
        return f"{self.name}: {self.last_run_at}"
