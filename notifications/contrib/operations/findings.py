"""Check of alerts."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from django.core.checks import CheckMessage, Error, Info

from notifications.contrib.operations.alerts.conditions import read_limits
from notifications.contrib.operations.alerts.texts import open_alerts
from notifications.management import register


@register("processes", "alerts", "No alert is open.")
def check_alerts(**options: Any) -> Iterator[CheckMessage]:
    """Check whether an alert is open."""
    if read_limits().interval is None:
        yield Info("Off: NOTIFICATIONS['ALERTS'] has no interval.")
    elif alerts := open_alerts():
        yield Error(
            " ".join(f"{alert}. {alert.detail}" for alert in alerts[:5]),
            hint="See the overview in the admin. Limits are in NOTIFICATIONS['ALERTS'].",
            obj={
                "open": [
                    {"kind": alert.kind, "subject": alert.subject, "detail": alert.detail} for alert in alerts
                ]
            },
        )
