"""The check of the settings: the system checks of the app, without those that the project has silenced."""

from __future__ import annotations

from django.core import checks

from notifications.compat import task_backends
from notifications.management.diagnosis.finding import ERROR, OK, WARNING, Finding

#: Checks of single declarations that are ignored: limits of queues, observed tasks, policies and handlers.
IGNORED_DECLARATIONS = {f"notifications.{id}" for id in ("W009", "W010", "W011", "W026", "W027", "W028")}
#: Checks whose finding another check of doctor has, with what waits because of it.
FOUND_ELSEWHERE = {
    "notifications.E007",
    *IGNORED_DECLARATIONS,
    *(f"notifications.W02{digit}" for digit in range(6)),
}


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
    return _finding("settings", found, ERROR if found[0].level >= checks.ERROR else WARNING)


def check_declarations() -> Finding:
    """Check that no limit, observed task, policy or handler in the settings is ignored, because it is wrong."""
    messages = checks.run_checks(tags=["notifications"])
    found = [
        message for message in messages if message.id in IGNORED_DECLARATIONS and not message.is_silenced()
    ]
    if not found:
        message = "Limits, observed tasks, policies and handlers are declared correctly."
        return Finding(check="options", state=OK, message=message)
    return _finding("options", found, ERROR)


def _finding(check: str, messages: list[checks.CheckMessage], state: str) -> Finding:
    """Return the finding of a check that has found these: the first one, and how many there are."""
    first = messages[0]
    others = f" manage.py check has {len(messages) - 1} more." if len(messages) > 1 else ""
    return Finding(
        check=check,
        state=state,
        message=f"{first.msg} ({first.id}){others}",
        remedy=first.hint or f"See {first.id} in the reference of system checks.",
        figures={"ids": [message.id for message in messages]},
    )
