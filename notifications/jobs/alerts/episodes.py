"""Open and close alerts. The row is inserted or closed in the transaction that notifies, so each is notified once."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from datetime import datetime, timedelta
from typing import Any

from django.db import IntegrityError
from django.utils.translation import gettext as _

from notifications import paths
from notifications.db.transactions import database, retrying_atomic
from notifications.jobs import notifying
from notifications.jobs.alerts.conditions import Condition, in_words
from notifications.jobs.alerts.recipients import read_recipients
from notifications.models import Alert

logger = logging.getLogger("notifications.alerts")

#: The alerts that are open at once at most, of the queues and schedules of a project.
MAX_OPEN_ALERTS = 100
#: The closed alerts that one call deletes at most.
MAX_ALERTS_DELETED = 100
CATEGORY = "alert"


def record_conditions(found: Iterable[Condition], now: datetime, *, clear_seconds: float) -> None:
    """Open an alert for each new condition, and close those whose condition has been absent long enough.

    Whichever processes call this at the same time, each episode is notified once when it begins and once when it ends.
    """
    conditions = {(str(condition.kind), condition.subject): condition for condition in found}
    rows = Alert.objects.using(database()).filter(closed_at__isnull=True).order_by("id")[:MAX_OPEN_ALERTS]
    open_alerts = {(alert.kind, alert.subject): alert for alert in rows}
    for key in conditions.keys() & open_alerts.keys():
        _update(open_alerts[key], conditions[key], now)
    new = [condition for key, condition in conditions.items() if key not in open_alerts]
    for condition in new[: MAX_OPEN_ALERTS - len(open_alerts)]:
        _open(condition, now)
    for key, alert in open_alerts.items():
        if key not in conditions and now - alert.seen_at >= timedelta(seconds=clear_seconds):
            _close(alert, now)


def open_alerts() -> list[Alert]:
    """Return the open alerts, the oldest first."""
    rows = Alert.objects.using(database()).filter(closed_at__isnull=True)
    return list(rows.order_by("opened_at", "id")[:MAX_OPEN_ALERTS])


def delete_old_alerts(before: datetime) -> None:
    """Delete alerts that were closed before a time, a bounded number of them."""
    rows = Alert.objects.using(database())
    old = list(rows.filter(closed_at__lt=before).values_list("id", flat=True)[:MAX_ALERTS_DELETED])
    if old:
        retrying_atomic(lambda: rows.filter(id__in=old).delete())


def _update(alert: Alert, condition: Condition, now: datetime) -> None:
    rows = Alert.objects.using(database()).filter(id=alert.id, closed_at__isnull=True)
    retrying_atomic(lambda: rows.update(seen_at=now, detail=condition.detail[:500]))


def _open(condition: Condition, now: datetime) -> None:
    alert = Alert(
        kind=condition.kind,
        subject=condition.subject[:200],
        detail=condition.detail[:500],
        opened_at=now,
        seen_at=now,
    )

    def write() -> bool:
        alert.pk = None
        alert.save(using=database(), force_insert=True)
        return True

    try:
        _write_and_notify(alert, write, str(alert), alert.detail, "error")
    except IntegrityError:  # another process has opened it
        return
    logger.error("Alert opened: %s. %s", alert, alert.detail)


def _close(alert: Alert, now: datetime) -> None:
    rows = Alert.objects.using(database()).filter(id=alert.id, closed_at__isnull=True)
    title = _("Over: %(alert)s") % {"alert": alert}
    detail = _("It lasted %(time)s.") % {"time": in_words((alert.seen_at - alert.opened_at).total_seconds())}

    def write() -> bool:
        return bool(rows.update(closed_at=now))

    if _write_and_notify(alert, write, title, detail, "success"):
        logger.info("Alert closed: %s", alert)


def _write_and_notify(alert: Alert, write: Callable[[], bool], title: str, body: str, level: str) -> bool:
    """Change the row, and if this changed it, notify the recipients in the same transaction."""
    recipients: list[Any] = read_recipients()  # before the transaction: users may be in another database
    key = f"alert:{alert.kind}:{alert.subject}"[:200]

    def write_both() -> bool:
        is_changed = write()
        if is_changed and recipients:
            notifying.notify(
                recipients,
                title[:200],
                body=body,
                url=paths.overview_page(),
                level=level,
                category=CATEGORY,
                key=key,
            )
        return is_changed

    return retrying_atomic(write_both)
