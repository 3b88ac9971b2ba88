"""Check of alerts."""

from __future__ import annotations

from collections.abc import Iterable

from notifications.contrib.operations.alerts.conditions import read_limits
from notifications.contrib.operations.alerts.texts import open_alerts
from notifications.management.diagnosis.finding import ERROR, OK, Finding


def find_alerts(timeout: float) -> Iterable[Finding]:
    """Return the finding of ``check_alerts()``."""
    return [check_alerts()]


def check_alerts() -> Finding:
    """Check that no alert is open, and that alerts are evaluated."""
    interval = read_limits().interval
    if interval is None:
        return Finding("alerts", OK, "Off: NOTIFICATIONS['ALERTS'] has no interval.")
    alerts = open_alerts()
    figures = {
        "open": [{"kind": alert.kind, "subject": alert.subject, "detail": alert.detail} for alert in alerts]
    }
    if alerts:
        return Finding(
            "alerts",
            ERROR,
            " ".join(f"{alert}. {alert.detail}" for alert in alerts[:5]),
            "See the overview in the admin. Limits are in NOTIFICATIONS['ALERTS'].",
            figures,
        )
    return Finding("alerts", OK, "No alert is open.", figures=figures)
