"""What the app does when the host's own rows change."""

from __future__ import annotations

from django.contrib.auth import get_user_model
from django.db.models.signals import post_delete

from notifications.transactions import after_commit


def connect() -> None:
    """Listen to deleted users; called once, when the app is ready."""
    post_delete.connect(_purge, sender=get_user_model(), dispatch_uid="notifications.purge")


def _purge(sender, instance, **kwargs) -> None:
    from notifications import streams

    user = instance.pk
    after_commit(lambda: streams.purge(user))
