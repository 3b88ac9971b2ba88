"""Changes of a whole inbox that continue in the background."""

from __future__ import annotations

from django.db import models

from notifications.models.users import user_key
from notifications.times import MomentField


class PendingMark(models.Model):
    """What is left of a change of many notifications of one user. See ``streams/marking_all.py``.

    It is deleted when the last of them is changed.
    """

    user = user_key(verbose_name=None)
    verb = models.CharField(max_length=10)
    #: The time that the verb sets; of a verb that clears a time, the time that it clears.
    moment = MomentField()
    #: Notifications of this category only; NULL: of all categories.
    category = models.CharField(max_length=100, null=True)  # noqa: DJ001
    #: Notifications of this level only; empty: of all levels.
    level = models.CharField(max_length=10, blank=True, default="")
    #: Notifications of this group only; NULL: of all groups.
    group = models.CharField(max_length=102, null=True)  # noqa: DJ001
    #: What was raised above the first and up to the second is still to be changed.
    after = models.BigIntegerField()
    up_to = models.BigIntegerField()

    class Meta:
        default_permissions = ()
        indexes = [models.Index(fields=["user"], name="notifications_pendingmark_user")]

    def __str__(self) -> str:
        return f"{self.user_id}: {self.verb} up to {self.up_to}"
