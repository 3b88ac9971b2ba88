"""Receivers of Django's signals about users, about requests that fail, and about the first one in development."""

from __future__ import annotations

import logging
import sys
from typing import Any

from django.apps import apps
from django.conf import settings
from django.contrib.auth import get_user_model
from django.contrib.auth.signals import user_logged_out
from django.core.checks import WARNING, run_checks
from django.core.signals import got_request_exception, request_started
from django.db.models.signals import post_delete, post_init, post_save

from notifications import streams
from notifications.compat import is_management_script, is_test_runner
from notifications.db.project_code import call
from notifications.db.transactions import on_commit, on_commit_merged
from notifications.extension import shipped
from notifications.realtime.checks import find_application_of_django
from notifications.streams import purging

logger = logging.getLogger("notifications")

#: Fields of a user whose change ends sessions.
SESSION_FIELDS = ("is_active", "password")

#: The attribute of a user that holds the values of these fields as they were loaded.
_LOADED_VALUES = "_notifications_sessions"


def connect() -> None:
    """Connect the receivers. Called once, when the app is ready."""
    got_request_exception.connect(_add_note_of_remedy, dispatch_uid="notifications.remedy")
    if settings.DEBUG and not is_test_runner() and not is_management_script(sys.argv[0]):
        request_started.connect(_log_findings, dispatch_uid="notifications.findings")
    user_logged_out.connect(_end_sessions, dispatch_uid="notifications.signed_out")
    # Proxies and subclasses of the user model send signals of their own.
    for model in apps.get_models():
        if issubclass(model, get_user_model()):
            post_init.connect(_store_loaded_values, sender=model, dispatch_uid="notifications.loaded")
            post_save.connect(_end_sessions_on_change, sender=model, dispatch_uid="notifications.changed")
            post_delete.connect(_purge_user, sender=model, dispatch_uid="notifications.purge")


def _add_note_of_remedy(sender: Any, **kwargs: Any) -> None:
    # Django sends the signal while it handles the exception, before it is logged and shown.
    if exc := sys.exc_info()[1]:
        shipped.add_note_of_remedy(exc)


def _log_findings(sender: Any, scope: Any = None, **kwargs: Any) -> None:
    """Log what system checks find, once: a server that is started without manage.py runs none. Not under WSGI."""
    if scope is None or not request_started.disconnect(dispatch_uid="notifications.findings"):
        return
    # They import code of the project, which the request calls too.
    found = call(
        "the system checks", lambda: [*run_checks(tags=["notifications"]), *find_application_of_django()]
    )
    for message in found or ():
        if message.level >= WARNING and not message.is_silenced():
            logger.warning("System check %s: %s %s", message.id, message.msg, message.hint or "")


def _end_sessions(sender: Any, user: Any, **kwargs: Any) -> None:
    if user is not None:
        streams.request_session_check(user.pk)


def _end_sessions_on_change(
    sender: Any, instance: Any, created: bool, raw: bool = False, update_fields: Any = None, **kwargs: Any
) -> None:
    if update_fields is not None and not {*SESSION_FIELDS}.intersection(update_fields):
        return
    before, now = instance.__dict__.get(_LOADED_VALUES), _session_values(instance)
    instance.__dict__[_LOADED_VALUES] = now
    # Compared, because a host may save the user with each request.
    if not (created or raw) and before != now:
        streams.request_session_check(instance.pk)


def _store_loaded_values(sender: Any, instance: Any, **kwargs: Any) -> None:
    instance.__dict__[_LOADED_VALUES] = _session_values(instance)


def _session_values(instance: Any) -> tuple[Any, ...]:
    """Return the values of ``SESSION_FIELDS``. A deferred field is None: it is not saved either."""
    return tuple(instance.__dict__.get(name) for name in SESSION_FIELDS)


def _purge_user(sender: Any, instance: Any, using: str, **kwargs: Any) -> None:
    def purge(users: list[Any]) -> None:
        on_commit(lambda: purging.purge(users))

    # First after the commit of the users' database, which may be another one than the app's. Many are deleted at once.
    on_commit_merged("purges", instance.pk, purge, using=using)
