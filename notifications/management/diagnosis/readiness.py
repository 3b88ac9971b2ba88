"""The check of ``notifications doctor --live``: whether the site can work, without a job and without counting rows."""

from __future__ import annotations

from django.db import DatabaseError, InterfaceError

from notifications.db.deadlines import limit_answers
from notifications.management.diagnosis.finding import ERROR, OK, Finding
from notifications.operations.readiness import Missing, find_missing, worker_advice

REMEDIES = {
    Missing.DATABASE: "Check DATABASES, and whether the database server runs.",
    Missing.MIGRATIONS: "Run manage.py migrate.",
    Missing.SETTINGS: "Correct TASKS or NOTIFICATIONS, then run manage.py check.",
}


def check_readiness() -> Finding:
    """Check that the database answers, that the migrations are applied, and that a worker is alive."""
    try:
        with limit_answers():
            found = find_missing()
    except (DatabaseError, InterfaceError):
        raise
    except Exception as exc:  # a wrong TASKS or NOTIFICATIONS may raise anything
        found = Missing.SETTINGS, " ".join(f"{type(exc).__name__}: {exc}".split())[:300]
    if found:
        missing, reason = found
        return Finding(
            check="ready",
            state=ERROR,
            message=f"Not ready because of the {missing}: {reason}.",
            remedy=worker_advice() if missing == Missing.WORKER else REMEDIES[missing],
            figures={"missing": missing},
        )
    message = "The database answers, the migrations are applied, and no worker is known to be missing."
    return Finding(check="ready", state=OK, message=message)
