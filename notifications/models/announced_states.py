"""What users were last notified of: the states of what can be wrong."""

from __future__ import annotations

from django.db import models

from notifications.models.users import user_key


class AnnouncedState(models.Model):
    """The state of a topic that a user was last notified of; without a row, that nothing is wrong.

    See ``jobs/announcing.py``.
    """

    topic = models.CharField(max_length=200)
    user = user_key(verbose_name=None, db_index=True)
    state = models.CharField(max_length=20)

    class Meta:
        default_permissions = ()
        constraints = [
            models.UniqueConstraint(fields=["topic", "user"], name="notifications_announcedstate_key")
        ]

    def __str__(self) -> str:
        return f"{self.user_id}: {self.topic} {self.state}"
