"""What the app does when the host's own rows change."""

from __future__ import annotations

from typing import Any

from django.apps import apps
from django.contrib.auth import get_user_model
from django.contrib.auth.signals import user_logged_out
from django.db import transaction
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.backends.signals import connection_created
from django.db.models.signals import post_delete, post_init, post_save

from notifications import streams
from notifications.db.transactions import connects_with_autocommit, on_commit
from notifications.streams import purging

#: Fields of a user that end sessions when they change.
DECIDES_SESSIONS = {"password", "is_active"}

_REMEMBERED = "_notifications_sessions"


def connect() -> None:
    """Listen to signed out, changed and deleted users; called once, when the app is ready."""
    connection_created.connect(_turn_autocommit_on, dispatch_uid="notifications.autocommit")
    user_logged_out.connect(_signed_out, dispatch_uid="notifications.signed_out")
    # A host's proxies and children of its user model send signals of their own.
    for model in apps.get_models():
        if issubclass(model, get_user_model()):
            post_init.connect(_loaded, sender=model, dispatch_uid="notifications.loaded")
            post_save.connect(_changed, sender=model, dispatch_uid="notifications.changed")
            post_delete.connect(_purge, sender=model, dispatch_uid="notifications.purge")


def _turn_autocommit_on(sender: Any, connection: BaseDatabaseWrapper, **kwargs: Any) -> None:
    """Threads of the app commit what they write, also in a project with ``AUTOCOMMIT = False``."""
    if not connection.settings_dict["AUTOCOMMIT"] and connects_with_autocommit(connection):
        connection.set_autocommit(True)


def _signed_out(sender: Any, user: Any, **kwargs: Any) -> None:
    if user is not None:
        streams.raise_guard(user.pk)


def _changed(
    sender: Any, instance: Any, created: bool, raw: bool = False, update_fields: Any = None, **kwargs: Any
) -> None:
    if update_fields is not None and DECIDES_SESSIONS.isdisjoint(update_fields):
        return
    before, now = instance.__dict__.get(_REMEMBERED), _decides(instance)
    instance.__dict__[_REMEMBERED] = now
    # A host may save a user with each request.
    if not (created or raw) and before != now:
        streams.raise_guard(instance.pk)


def _loaded(sender: Any, instance: Any, **kwargs: Any) -> None:
    instance.__dict__[_REMEMBERED] = _decides(instance)


def _decides(instance: Any) -> tuple[Any, ...]:
    """What of a user ends sessions; a field that was not loaded is not saved either."""
    return tuple(instance.__dict__.get(name) for name in sorted(DECIDES_SESSIONS))


def _purge(sender: Any, instance: Any, using: str, **kwargs: Any) -> None:
    user = instance.pk  # Django forgets it after the signal

    def purge() -> None:
        on_commit(lambda: purging.purge(user))

    # After the commit of the users' database first: it may be another one than ours.
    transaction.on_commit(purge, using=using, robust=True)
