"""Evaluate alerts: open, update and close their rows. One process at a time does it for all."""

from __future__ import annotations

import json
import logging
from asyncio import CancelledError
from collections.abc import Collection, Iterable, Sequence
from datetime import datetime, timedelta
from inspect import iscoroutine
from typing import TYPE_CHECKING, Any

from django.conf import settings as django_settings
from django.db import IntegrityError
from django.utils import translation

from notifications import times
from notifications.conf import settings
from notifications.contrib.operations.alerts import conditions
from notifications.contrib.operations.alerts.texts import MAX_OPEN_ALERTS
from notifications.contrib.operations.models import Alert, AlertState
from notifications.db import database, retrying_atomic
from notifications.extension import Finding
from notifications.management import Examination

if TYPE_CHECKING:
    from notifications.extension import RecordedTransaction

logger = logging.getLogger("notifications.alerts")

#: Seconds for which a condition must have been absent before its alert is over.
CLEAR_SECONDS = 60.0
#: The closed alerts that one call deletes at most.
MAX_ALERTS_DELETED = 100


def evaluate(previous: datetime | None = None) -> None:
    """Open an alert for what is wrong now, and close those whose condition is over. Several at once do no harm.

    ``previous`` is when any process did so last. Raises ``django.db.Error``, and ``ImproperlyConfigured`` for a wrong
    limit.
    """
    conditions.read_limits()
    examination = Examination(is_for_alerts=True)
    _update_state(examination.now, previous)
    found: list[tuple[str, Finding]] = []
    failed: set[str] = set()
    for id, check in Examination.alert_checks().items():
        try:
            findings = getattr(check, "of", check).find(examination)
            if iscoroutine(findings):
                findings.close()
                raise TypeError("find() is async.")
            found += [(id, finding) for finding in findings if isinstance(finding, Finding)]
        except (Exception, CancelledError, SystemExit):
            failed.add(id)
            logger.exception("Could not evaluate a check, whose alerts stay as they are: %s", id)
    record_findings(found, examination.now, failed)
    delete_old_alerts(examination.now - settings.RETENTION)


def record_lost_workers(change: str, workers: Sequence[Any], tx: RecordedTransaction) -> tuple[()]:
    """Store that the leases of workers were lost. See ``Extension.on_change()``."""
    if change == "lost":
        name = ", ".join(sorted({str(worker) for worker in workers}))
        AlertState.objects.using(database()).update(lease_lost_at=tx.now, lost_worker=name[:511])
    return ()


def _update_state(now: datetime, previous: datetime | None) -> None:
    """Store since when no worker is alive, when that changes."""
    rows = AlertState.objects.using(database())
    state = rows.filter(id=1).first()
    if state is None:
        retrying_atomic(lambda: rows.bulk_create([AlertState()], ignore_conflicts=True))
        state, previous = rows.get(id=1), None
    # If there is none now, the previous evaluation was the last one that saw one.
    absent_since = min(state.no_worker_since or previous or now, now)
    since = None if conditions.has_live_worker(now) else absent_since
    if since != state.no_worker_since:
        retrying_atomic(lambda: rows.filter(id=1).update(no_worker_since=since))


def record_findings(
    found: Iterable[tuple[str, Finding]], now: datetime, failed: Collection[str] = ()
) -> None:
    """Open an alert for each new finding of a check (id), and close those that have been absent long enough.

    Alerts of ``failed`` checks (ids) stay as they are: what these would find is not known.

    Any number of processes may call this at the same time. Details are stored and logged in ``LANGUAGE_CODE``.
    """
    with translation.override(django_settings.LANGUAGE_CODE):
        findings = {(kind, finding.subject[:200]): finding for kind, finding in found}
        rows = Alert.objects.using(database()).filter(closed_at__isnull=True).order_by("id")[:MAX_OPEN_ALERTS]
        open_alerts = {(alert.kind, alert.subject): alert for alert in rows}
        for key in findings.keys() & open_alerts.keys():
            _update(open_alerts[key], findings[key], now)
        new = [
            Alert(kind=kind, subject=subject)
            for kind, subject in findings
            if (kind, subject) not in open_alerts
        ]
        for alert in new[: MAX_OPEN_ALERTS - len(open_alerts)]:
            _open(alert, findings[alert.kind, alert.subject], now)
        for key, alert in open_alerts.items():
            is_absent = key not in findings and alert.kind not in failed
            if is_absent and now - alert.seen_at >= timedelta(seconds=CLEAR_SECONDS):
                _close(alert, now)


def acknowledge(id: int, *, by: str) -> bool:
    """Store that a user sees to an alert. Return whether it was open and no other user has acknowledged it before."""
    rows = Alert.objects.using(database()).filter(id=id, closed_at__isnull=True, acknowledged_at__isnull=True)
    values = {"acknowledged_at": times.now(), "acknowledged_by": by[:150]}
    return bool(retrying_atomic(lambda: rows.update(**values)))


def delete_old_alerts(before: datetime) -> None:
    rows = Alert.objects.using(database())
    old = list(rows.filter(closed_at__lt=before).values_list("id", flat=True)[:MAX_ALERTS_DELETED])
    if old:
        retrying_atomic(lambda: rows.filter(id__in=old).delete())


def _update(alert: Alert, finding: Finding, now: datetime) -> None:
    rows = Alert.objects.using(database()).filter(id=alert.id, closed_at__isnull=True)
    retrying_atomic(lambda: rows.update(seen_at=now, **_texts(alert.kind, finding)))


def _open(alert: Alert, finding: Finding, now: datetime) -> None:
    alert.opened_at = alert.seen_at = now
    for name, text in _texts(alert.kind, finding).items():
        setattr(alert, name, text)

    def write() -> None:
        alert.pk = None
        alert.save(using=database(), force_insert=True)

    try:
        retrying_atomic(write)
    except IntegrityError:  # another process has opened it
        return
    logger.error("Alert opened: %s. %s", alert, alert.detail)


def _texts(kind: str, finding: Finding) -> dict[str, str]:
    detail = finding.msg or Examination.alert_checks()[kind].describe(finding.obj)
    return {"facts": json.dumps(finding.obj), "detail": detail[:500]}


def _close(alert: Alert, now: datetime) -> None:
    rows = Alert.objects.using(database()).filter(id=alert.id, closed_at__isnull=True)
    if retrying_atomic(lambda: rows.update(closed_at=now)):
        logger.info("Alert closed: %s", alert)
