"""The epoch of the database, by which clients notice that a backup was restored."""

from __future__ import annotations

from django.db import models


class Epoch(models.Model):
    """The epoch of the database, in one row. It is replaced after a backup is restored."""

    id = models.SmallIntegerField(primary_key=True, default=1)
    value = models.UUIDField()

    class Meta:
        default_permissions = ()

    def __str__(self) -> str:
        return str(self.value)
