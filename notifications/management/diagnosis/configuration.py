"""The check of the settings: the system checks of the app, without those that the project has silenced."""

from __future__ import annotations

from django.core import checks

from notifications.compat import task_backends
from notifications.management.diagnosis.finding import ERROR, OK, WARNING, Finding

#: Checks whose finding another check of doctor has, with what waits because of it.
FOUND_ELSEWHERE = {"notifications.E007", *(f"notifications.W02{digit}" for digit in range(6))}


def check_settings() -> Finding:
    """Run the app's system checks. The first error, or else the first warning, is the finding."""
    try:
        for alias in task_backends.settings:
            task_backends[alias]  # imports it
        messages = checks.run_checks(tags=["notifications"])
    except Exception as exc:  # importing the URLs or a backend of the project may raise anything
        reason = " ".join(f"{type(exc).__name__}: {exc}".split())[:300]
        return Finding(
            check="settings",
            state=ERROR,
            message=f"The settings cannot be checked: {reason}",
            remedy="Correct that, then run manage.py check.",
        )
    found = sorted(
        (
            message
            for message in messages
            if message.level >= checks.WARNING
            and not message.is_silenced()
            and message.id not in FOUND_ELSEWHERE
        ),
        key=lambda message: -message.level,
    )
    if not found:
        return Finding(check="settings", state=OK, message="The settings pass all checks of notifications.")
    first = found[0]
    others = f" manage.py check has {len(found) - 1} more." if len(found) > 1 else ""
    return Finding(
        check="settings",
        state=ERROR if first.level >= checks.ERROR else WARNING,
        message=f"{first.msg} ({first.id}){others}",
        remedy=first.hint or f"See {first.id} in the reference of system checks.",
        figures={"ids": [message.id for message in found]},
    )
