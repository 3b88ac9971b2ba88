"""What users were last notified of about alerts and schedules."""

from __future__ import annotations

from django.conf import settings
from django.db import models


class AnnouncedState(models.Model):
    """The state of a topic that a user was last notified of; without a row, that nothing is wrong.

    See ``operations/announcing/``.
    """

    topic = models.CharField(max_length=200)
    user = models.ForeignKey(
        settings.AUTH_USER_MODEL, models.DO_NOTHING, db_constraint=False, related_name="+"
    )
    state = models.CharField(max_length=20)

    class Meta:
        default_permissions = ()
        constraints = [
            models.UniqueConstraint(fields=["topic", "user"], name="notifications_announcedstate_key")
        ]

    def __str__(self) -> str:
        return f"{self.user_id}: {self.topic} {self.state}"
