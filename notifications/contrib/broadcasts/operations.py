"""What broadcasts give to the overview of operations: messages to the users whom an incident affects."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any
from uuid import UUID

from django.conf import settings as django_settings
from django.contrib.admin.models import ADDITION, LogEntry
from django.db.models import Count
from django.urls import reverse
from django.utils import translation

from notifications import times, validators
from notifications.contrib.broadcasts.audiences import (
    MAX_USERS_COUNTED,
    Audience,
    Kind,
    find_audience,
    offered_languages,
)
from notifications.contrib.broadcasts.models import Broadcast
from notifications.contrib.broadcasts.starting import begin_sending, describe_recipients
from notifications.db import database
from notifications.models import Notification, uuid7

#: Notifications of a broadcast of which it is counted how many were read, the first.
MAX_READ_COUNTED = 10_000


def describe_broadcasts(ids: Iterable[UUID]) -> dict[UUID, dict[str, Any]]:
    """Return how many users each of some broadcasts was sent to, and how many of them have read it.

    One query, and one more for each broadcast, of a bounded number of rows.
    """
    return {
        row.pk: {
            "sent": max(row.sent, row.recipients if row.sent_at is None else 0),
            "read": _count_read(row.pk),
        }
        for row in Broadcast.objects.using(database()).filter(pk__in=set(ids))
    }


def _count_read(broadcast: UUID) -> int:
    rows = Notification.objects.using(database()).filter(broadcast=broadcast).order_by("id")
    counted: int = rows.values("read_at")[:MAX_READ_COUNTED].aggregate(count=Count("read_at"))["count"]
    return counted


def send_message(value: str, sender: Any, current_app: str) -> int:
    """Begin to send the message of an app to the users whom it names, and return how many they are, 0 if it was sent.

    The log of the admin gets an entry, as for a message that was written in the composer.

    Raises ``TooManyJobs``, ``ImproperlyConfigured`` and ``django.db.OperationalError``.
    """
    app_audience, audience = find_audience(value), Audience(kind=str(Kind.AFFECTED), values=(value,))
    recipients = audience.count(MAX_USERS_COUNTED)
    if app_audience is None or not recipients:
        return 0
    messages = {}
    for code in (django_settings.LANGUAGE_CODE, *(code for code, _name in offered_languages())):
        with translation.override(code):
            messages[code] = app_audience.write_message()
    own = messages.pop(django_settings.LANGUAGE_CODE)
    broadcast = Broadcast(
        id=uuid7(),
        sender_id=sender.pk,
        audience_kind=audience.kind,
        audience_values=json.dumps(audience.values),
        audience_text=validators.shortened(audience.describe(), 500),
        recipients=recipients,
        translations=json.dumps(
            {code: {"title": text["title"], "body": text["body"]} for code, text in messages.items()}
        ),
        created_at=times.now(),
        **own,
    )
    name = "admin:notifications_broadcasts_broadcast_change"
    url = reverse(name, args=[broadcast.pk], current_app=current_app)
    if not begin_sending(broadcast, url=url):
        return 0
    LogEntry.objects.log_actions(sender.pk, [broadcast], ADDITION, describe_recipients(broadcast))  # type: ignore[arg-type]
    return recipients
