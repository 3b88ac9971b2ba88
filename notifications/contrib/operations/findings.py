"""Check of alerts."""

from __future__ import annotations

from collections.abc import Iterator

from notifications.contrib.operations.alerts.conditions import read_limits
from notifications.contrib.operations.alerts.texts import open_alerts
from notifications.management import ERROR, OK, Finding


def find_alerts(timeout: float) -> Iterator[Finding]:
    """Yield whether an alert is open."""
    if read_limits().interval is None:
        yield Finding("alerts", OK, "Off: NOTIFICATIONS['ALERTS'] has no interval.")
        return
    alerts = open_alerts()
    figures = {
        "open": [{"kind": alert.kind, "subject": alert.subject, "detail": alert.detail} for alert in alerts]
    }
    if alerts:
        yield Finding(
            "alerts",
            ERROR,
            " ".join(f"{alert}. {alert.detail}" for alert in alerts[:5]),
            "See the overview in the admin. Limits are in NOTIFICATIONS['ALERTS'].",
            figures,
        )
    else:
        yield Finding("alerts", OK, "No alert is open.", figures=figures)
