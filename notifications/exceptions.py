"""The errors that the app raises, each with a message that names the remedy."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from django.core.exceptions import ObjectDoesNotExist


class NotificationsError(Exception):
    """The base of all errors of this app."""


class JobCancelled(NotificationsError):
    """A job was cancelled before it was done; what Django's Tasks API sees as the error of a cancelled job."""

    def __init__(self, message: str = "The job was cancelled.") -> None:
        super().__init__(message)


class JobError(NotificationsError):
    """Raise it, or a subclass, from a task to fail with a message that the job's owner reads."""

    #: Errors with this attribute, of whatever class, are told to the owner in their own words.
    tell_owner = True


class JobFailed(NotificationsError):
    """A job that was waited for has failed. ``error`` is why: a dict with ``type``, ``title`` and ``detail``."""

    def __init__(self, error: Mapping[str, Any]) -> None:
        super().__init__(error.get("detail") or "The job failed.")
        self.error = dict(error)

    def __reduce__(self) -> Any:
        return type(self), (self.error,)


class JobDoesNotExist(NotificationsError, ObjectDoesNotExist):
    """There is no job with this id: it was not committed yet, or is pruned already."""

    def __init__(self, id: object) -> None:
        super().__init__(f"There is no job {id}. It may not be committed yet, or pruned already.")


class IdempotencyKeyConflict(NotificationsError, ValueError):
    """A ``key`` was used within the last 24 hours for another task, or with other arguments."""

    def __init__(self, key: str) -> None:
        super().__init__(
            f"The key {key!r} stands for another task or other arguments. Use another key for this job."
        )
        self.key = key

    def __reduce__(self) -> Any:
        return type(self), (self.key,)


class TooManyJobs(NotificationsError):
    """A user has as many active jobs as ``NOTIFICATIONS["ACTIVE_JOBS_PER_USER"]`` allows."""

    def __init__(self, limit: int) -> None:
        super().__init__(f"There are {limit} active jobs already. Wait until some are done, or cancel some.")

    #: Seconds after which it may be tried again.
    retry_after = 10


class JobRateExceeded(TooManyJobs):
    """A user has got as many jobs within a minute as ``NOTIFICATIONS["JOBS_PER_MINUTE"]`` lets them ask for.

    One may be asked for ``retry_after`` seconds later.
    """

    def __init__(self, limit: int, retry_after: int) -> None:
        NotificationsError.__init__(
            self,
            f"{limit} jobs were asked for within a minute. Ask again in {retry_after} s.",
        )
        self.limit, self.retry_after = limit, retry_after

    def __reduce__(self) -> Any:
        return type(self), (self.limit, self.retry_after)
