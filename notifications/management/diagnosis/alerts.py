"""The check of open alerts, and of whether any process evaluates them."""

from __future__ import annotations

from datetime import timedelta

from notifications.db.transactions import database
from notifications.jobs.transitions.guards import database_now
from notifications.management.diagnosis.finding import ERROR, OK, WARNING, Finding
from notifications.models import AlertState
from notifications.operations.alerts.episodes import open_alerts
from notifications.operations.alerts.limits import read_limits

#: Intervals without an evaluation after which no process seems to evaluate alerts.
MAX_MISSED_INTERVALS = 4


def check_alerts() -> Finding:
    """Check that no alert is open, and that alerts are evaluated."""
    interval = read_limits().interval
    if interval is None:
        return Finding(check="alerts", state=OK, message="Off: NOTIFICATIONS['ALERTS'] has no interval.")
    alerts = open_alerts()
    figures = {
        "open": [{"kind": alert.kind, "subject": alert.subject, "detail": alert.detail} for alert in alerts]
    }
    if alerts:
        return Finding(
            check="alerts",
            state=ERROR,
            message=" ".join(f"{alert}. {alert.detail}" for alert in alerts[:5]),
            remedy="See the overview in the admin. Limits are in NOTIFICATIONS['ALERTS'].",
            figures=figures,
        )
    state = AlertState.objects.using(database()).filter(id=1).first()
    silent = timedelta(seconds=MAX_MISSED_INTERVALS * interval)
    if state is not None and database_now() - state.evaluated_at > silent:
        return Finding(
            check="alerts",
            state=WARNING,
            message=f"Not evaluated since {state.evaluated_at:%Y-%m-%d %H:%M:%S} UTC.",
            remedy="Server processes (ASGI) and workers evaluate alerts. Start one.",
            figures=figures,
        )
    return Finding(check="alerts", state=OK, message="No alert is open.", figures=figures)
