"""The topics of alerts: operators are notified when one begins, and when it is over."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from functools import partial
from typing import Any

from django.contrib.auth import get_backends
from django.utils.translation import gettext as _

from notifications import paths, validators
from notifications.contrib.operations.alerts.episodes import open_alerts
from notifications.contrib.operations.alerts.links import subject_url
from notifications.contrib.operations.alerts.texts import detail_of, in_words
from notifications.contrib.operations.models import Alert, Overview
from notifications.db.transactions import database
from notifications.extension import Topic, hooks
from notifications.inbox.categories import ALERTS

PREFIX, OPEN = "alert:", "open"
#: The permission of operators, and the users who are notified at most.
PERMISSION = "notifications_operations.receive_alerts"
MAX_RECIPIENTS = 1_000


def find_alert_topics(announced: Collection[str]) -> Iterator[Topic]:
    """Yield the open alerts, and those of which users were last notified that they are open."""
    found = {_key(alert): alert for alert in open_alerts()}
    for key, alert in found.items():
        yield Topic(key=key, state=OPEN, read_readers=read_recipients, describe=partial(_describe, alert))
    for key in announced:
        if key.startswith(PREFIX) and key not in found:
            yield Topic(key=key, state="", read_readers=read_recipients, describe=partial(_describe_end, key))


def read_recipients() -> list[Any]:
    """Return the keys of the active users with the permission, superusers included, at most ``MAX_RECIPIENTS``.

    A backend of ``AUTHENTICATION_BACKENDS`` without Django's method ``with_perm`` knows none.
    """
    keys: dict[Any, None] = {}
    for backend in get_backends():
        with_permission = getattr(backend, "with_perm", None)
        if with_permission is not None and _has_permissions(backend):
            rows = with_permission(PERMISSION, is_active=True, include_superusers=True)
            keys.update(dict.fromkeys(rows.order_by("pk").values_list("pk", flat=True)[:MAX_RECIPIENTS]))
    return list(keys)[:MAX_RECIPIENTS]


def _key(alert: Alert) -> str:
    return f"{PREFIX}{alert.kind}:{alert.subject}"[: validators.MAX_KEY_LENGTH]


def _describe(alert: Alert, before: str) -> dict[str, Any]:
    subject = subject_url(alert, paths.admin_list)
    kind = hooks.alert_kinds.get(alert.kind)
    label = str(kind.model_label) if kind else _("Jobs")
    return {
        "title": validators.shortened(str(alert), validators.MAX_TITLE_LENGTH),
        "body": validators.shortened(detail_of(alert), validators.MAX_BODY_LENGTH),
        "url": paths.admin_list(Overview),
        "level": "error",
        "category": ALERTS,
        "actions": [{"label": label, "url": subject}]
        if 0 < len(subject) <= validators.MAX_URL_LENGTH
        else (),
    }


def _describe_end(key: str, before: str) -> dict[str, Any]:
    kind, _separator, subject = key.removeprefix(PREFIX).partition(":")
    # A key of this length may have been cut.
    lookup = "subject" if len(key) < validators.MAX_KEY_LENGTH else "subject__startswith"
    rows = Alert.objects.using(database()).filter(kind=kind, **{lookup: subject})
    alert = rows.order_by("-id").first()
    text = ""
    if alert:
        seconds = (alert.seen_at - alert.opened_at).total_seconds()
        text = _("It lasted %(time)s.") % {"time": in_words(seconds)}
    title = _("Over: %(alert)s") % {"alert": alert or Alert(kind=kind, subject=subject)}
    return {
        "title": validators.shortened(title, validators.MAX_TITLE_LENGTH),
        "body": text,
        "url": paths.admin_list(Overview),
        "level": "success",
        "category": ALERTS,
    }


def _has_permissions(backend: Any) -> bool:
    """Return whether the user model has the fields that Django's ``ModelBackend.with_perm`` filters by."""
    from django.contrib.auth import get_user_model
    from django.contrib.auth.models import PermissionsMixin

    return issubclass(get_user_model(), PermissionsMixin)
