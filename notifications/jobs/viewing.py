"""Which parts of jobs staff may view besides their rows. Nothing else decides it."""

from __future__ import annotations

from typing import Any

#: The permissions that each part needs.
PARTS = {
    # Attempts that have failed, one by one. The overview counts them by class and place, with a permission of its own.
    "attempts": ("notifications.view_attempt",),
    # What exceptions say, which may be anything that the task knows, and the code around them.
    "tracebacks": ("notifications.view_attempt", "notifications.view_traceback"),
    # With what jobs were enqueued, and what they have stored, returned or written.
    "arguments": ("notifications.view_job_arguments",),
}


def can_view(user: Any, part: str) -> bool:
    """Return whether a user of the staff may view a part of jobs: ``attempts``, ``tracebacks`` or ``arguments``."""
    return bool(user.has_perms(PARTS[part]))
