"""Open and close alerts. ``jobs/announcing.py`` notifies of them."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterable
from datetime import datetime, timedelta

from django.conf import settings
from django.db import IntegrityError
from django.utils import translation

from notifications import times
from notifications.contrib.operations.alerts import texts
from notifications.contrib.operations.alerts.conditions import Condition
from notifications.contrib.operations.models import Alert
from notifications.db.transactions import database, retrying_atomic

logger = logging.getLogger("notifications.alerts")

#: Seconds for which a condition must have been absent before its alert is over.
CLEAR_SECONDS = 60.0
#: The alerts that are open at once at most, of the queues and schedules of a project.
MAX_OPEN_ALERTS = 100
#: The closed alerts that one call deletes at most.
MAX_ALERTS_DELETED = 100


def record_conditions(found: Iterable[Condition], now: datetime) -> None:
    """Open an alert for each new condition, and close those whose condition has been absent long enough.

    Any number of processes may call this at the same time. Details are stored and logged in ``LANGUAGE_CODE``.
    """
    with translation.override(settings.LANGUAGE_CODE):
        _record_conditions(found, now)


def _record_conditions(found: Iterable[Condition], now: datetime) -> None:
    conditions = {(str(condition.kind), condition.subject): condition for condition in found}
    rows = Alert.objects.using(database()).filter(closed_at__isnull=True).order_by("id")[:MAX_OPEN_ALERTS]
    open_alerts = {(alert.kind, alert.subject): alert for alert in rows}
    for key in conditions.keys() & open_alerts.keys():
        _update(open_alerts[key], conditions[key], now)
    new = [condition for key, condition in conditions.items() if key not in open_alerts]
    for condition in new[: MAX_OPEN_ALERTS - len(open_alerts)]:
        _open(condition, now)
    for key, alert in open_alerts.items():
        if key not in conditions and now - alert.seen_at >= timedelta(seconds=CLEAR_SECONDS):
            _close(alert, now)


def open_alerts() -> list[Alert]:
    """Return the open alerts, the oldest first, with their details in the active language."""
    rows = Alert.objects.using(database()).filter(closed_at__isnull=True)
    alerts = list(rows.order_by("opened_at", "id")[:MAX_OPEN_ALERTS])
    for alert in alerts:
        alert.detail = texts.detail_of(alert)
    return alerts


def acknowledge(id: int, *, by: str) -> bool:
    """Store that a user sees to an alert. Return whether it was open and no other user has acknowledged it before."""
    rows = Alert.objects.using(database()).filter(id=id, closed_at__isnull=True, acknowledged_at__isnull=True)
    values = {"acknowledged_at": times.now(), "acknowledged_by": by[:150]}
    return bool(retrying_atomic(lambda: rows.update(**values)))


def delete_old_alerts(before: datetime) -> None:
    """Delete alerts that were closed before a time, a bounded number of them."""
    rows = Alert.objects.using(database())
    old = list(rows.filter(closed_at__lt=before).values_list("id", flat=True)[:MAX_ALERTS_DELETED])
    if old:
        retrying_atomic(lambda: rows.filter(id__in=old).delete())


def _update(alert: Alert, condition: Condition, now: datetime) -> None:
    rows = Alert.objects.using(database()).filter(id=alert.id, closed_at__isnull=True)
    retrying_atomic(lambda: rows.update(seen_at=now, **_texts(condition)))


def _open(condition: Condition, now: datetime) -> None:
    alert = Alert(
        kind=condition.kind,
        subject=condition.subject[:200],
        opened_at=now,
        seen_at=now,
        **_texts(condition),
    )

    def write() -> None:
        alert.pk = None
        alert.save(using=database(), force_insert=True)

    try:
        retrying_atomic(write)
    except IntegrityError:  # another process has opened it
        return
    logger.error("Alert opened: %s. %s", alert, alert.detail)


def _texts(condition: Condition) -> dict[str, str]:
    detail = texts.describe(condition.kind, condition.facts)
    return {"facts": json.dumps(condition.facts), "detail": detail[:500]}


def _close(alert: Alert, now: datetime) -> None:
    rows = Alert.objects.using(database()).filter(id=alert.id, closed_at__isnull=True)
    if retrying_atomic(lambda: rows.update(closed_at=now)):
        logger.info("Alert closed: %s", alert)
