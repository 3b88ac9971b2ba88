"""The errors that the app raises, each with a message that names the remedy."""

from __future__ import annotations


class NotificationsError(Exception):
    """The base of all errors of this app."""


class JobCancelled(NotificationsError):
    """A job was cancelled before it was done; what Django's Tasks API sees as the error of a cancelled job."""

    def __init__(self, message: str = "The job was cancelled.") -> None:
        super().__init__(message)


class JobFailed(NotificationsError):
    """A joined job failed. ``problem`` is its error: a dict with ``type``, ``title`` and ``detail`` (RFC 9457)."""

    def __init__(self, problem: dict[str, str]) -> None:
        super().__init__(f"{problem['title']}: {problem['detail']}")
        self.problem = problem


class TooManyJobs(NotificationsError):
    """A user has as many active jobs as ``NOTIFICATIONS["ACTIVE_JOBS_PER_USER"]`` allows."""

    def __init__(self, limit: int) -> None:
        super().__init__(f"There are {limit} active jobs already. Wait until some are done, or cancel some.")


class StaleClaim(NotificationsError):
    """Another worker has taken the job over: this one's claim is powerless and must write nothing."""
