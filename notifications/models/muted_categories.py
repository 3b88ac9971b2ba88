"""The categories that users have muted."""

from __future__ import annotations

from django.conf import settings
from django.db import models
from django.utils.translation import gettext_lazy as _

from notifications.times import MomentField


class MutedCategory(models.Model):
    """A category of which a user gets notifications as read ones. See ``streams/muting.py``."""

    user = models.ForeignKey(
        settings.AUTH_USER_MODEL, models.DO_NOTHING, db_constraint=False, db_index=False, related_name="+"
    )
    category = models.CharField(_("category"), max_length=100)
    created_at = MomentField(_("created"))

    class Meta:
        default_permissions = ()
        constraints = [
            models.UniqueConstraint(fields=["user", "category"], name="notifications_mutedcategory_key")
        ]

    def __str__(self) -> str:
        return f"{self.user_id}: {self.category}"
