"""What the app does when the host's own rows change."""

from __future__ import annotations

from typing import Any

from django.apps import apps
from django.contrib.auth import get_user_model
from django.contrib.auth.signals import user_logged_out
from django.db.models.signals import post_delete, post_save

from notifications import streams
from notifications.transactions import after_commit

#: Fields of a user that end sessions when they change.
DECIDES_SESSIONS = {"password", "is_active"}


def connect() -> None:
    """Listen to signed out, changed and deleted users; called once, when the app is ready."""
    user_logged_out.connect(_signed_out, dispatch_uid="notifications.signed_out")
    # A host's proxies and children of its user model send signals of their own.
    for model in apps.get_models():
        if issubclass(model, get_user_model()):
            post_save.connect(_changed, sender=model, dispatch_uid="notifications.changed")
            post_delete.connect(_purge, sender=model, dispatch_uid="notifications.purge")


def _signed_out(sender: Any, user: Any, **kwargs: Any) -> None:
    if user is not None:
        streams.raise_guard(user.pk)


def _changed(
    sender: Any, instance: Any, created: bool, raw: bool = False, update_fields: Any = None, **kwargs: Any
) -> None:
    if created or raw or (update_fields is not None and DECIDES_SESSIONS.isdisjoint(update_fields)):
        return
    streams.raise_guard(instance.pk)


def _purge(sender: Any, instance: Any, **kwargs: Any) -> None:
    user = instance.pk  # Django forgets it after the signal
    after_commit(lambda: streams.purge(user))
