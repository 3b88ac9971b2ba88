"""The table of django-notifications-hq 1.8.3, or of its unreleased version 2, under the name that it gets here.

Its own models cannot be imported beside this app, which has the same label, nor at all on Django 5.1 and newer.
"""

from __future__ import annotations

from django.conf import settings
from django.contrib.contenttypes.fields import GenericForeignKey
from django.contrib.contenttypes.models import ContentType
from django.db import models

from notifications.extension import require

require("notifications.contrib.hq")


def _content_type() -> models.ForeignKey[ContentType | None]:
    return models.ForeignKey(ContentType, models.DO_NOTHING, null=True, db_constraint=False, related_name="+")


class HqNotification(models.Model):
    """A notification of the other app. ``level`` is text in version 1 and a number in version 2."""

    recipient = models.ForeignKey(
        settings.AUTH_USER_MODEL, models.DO_NOTHING, db_constraint=False, related_name="+"
    )
    level = models.TextField()
    unread = models.BooleanField()
    actor_content_type = _content_type()
    actor_object_id = models.CharField(max_length=255)
    actor = GenericForeignKey("actor_content_type", "actor_object_id")
    verb = models.CharField(max_length=255)
    description = models.TextField(null=True)  # noqa: DJ001
    target_content_type = _content_type()
    target_object_id = models.CharField(max_length=255, null=True)  # noqa: DJ001
    target = GenericForeignKey("target_content_type", "target_object_id")
    action_object_content_type = _content_type()
    action_object_object_id = models.CharField(max_length=255, null=True)  # noqa: DJ001
    action_object = GenericForeignKey("action_object_content_type", "action_object_object_id")
    timestamp = models.DateTimeField()
    deleted = models.BooleanField()
    #: JSON, as text or as the database has it.
    data = models.TextField(null=True)  # noqa: DJ001

    class Meta:
        managed = False
        db_table = "hq_notification"
        default_permissions = ()

    def __str__(self) -> str:
        return self.verb
