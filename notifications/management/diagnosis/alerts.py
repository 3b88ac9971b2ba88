"""The checks of open alerts, and of the duties that some process must do every so often."""

from __future__ import annotations

from notifications.management.diagnosis.finding import ERROR, OK, Finding
from notifications.operations.alerts.episodes import open_alerts
from notifications.operations.alerts.limits import read_limits
from notifications.upkeep import DutyAge, read_ages


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
    return Finding(check="alerts", state=OK, message="No alert is open.", figures=figures)


def check_duties() -> Finding:
    """Check that processes do the duties that one does for all, and list them with when each was last done."""
    ages = read_ages()
    figures = {age.name: None if age.seconds is None else round(age.seconds, 1) for age in ages}
    overdue = [_describe_age(age) for age in ages if age.is_overdue]
    if overdue:
        return Finding(
            check="duties",
            state=ERROR,
            message=f"No process did in time: {'; '.join(overdue)}.",
            remedy="Start a worker (manage.py run_jobs, or a Celery worker), or serve the site by ASGI; see its log.",
            figures=figures,
        )
    done = [_describe_age(age) for age in ages if age.seconds is not None]
    message = f"{'; '.join(done)}." if done else "No process has begun to do them yet."
    return Finding(check="duties", state=OK, message=message, figures=figures)


def _describe_age(age: DutyAge) -> str:
    if age.seconds is None:
        return f"{age.name} never"
    if age.seconds < 0:
        return f"{age.name} at a time that lies ahead"
    return f"{age.name} {age.seconds:.0f} s ago (every {age.every:.0f} s)"
