"""The exceptions of the app. Each message names the remedy."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from uuid import UUID

from django.core.exceptions import ObjectDoesNotExist
from django.utils.translation import gettext


class NotificationsError(Exception):
    """The base class of the app's exceptions."""


class JobCancelled(NotificationsError):
    """The job was cancelled. Django's Tasks API shows it as the error of a cancelled job."""

    def __init__(self, message: str = "The job was cancelled.") -> None:
        super().__init__(message)


class AttemptEnded(BaseException):
    """The attempt that calls ``step()`` is over: its job has ended, or another worker has claimed it.

    It is not an ``Exception``, so that the code of a task does not handle it by accident.
    """

    def __init__(
        self, message: str = "This attempt is over. Its job has ended, or another worker runs it."
    ) -> None:
        super().__init__(message)


class JobSuspended(BaseException):
    """The job waits, as for ``pause()``, so this execution of its task ends. Another one begins after the wait.

    It is not an ``Exception``, so that the code of a task does not handle it by accident. A job whose task handles it
    and returns fails.
    """


class JobError(NotificationsError):
    """Raise it, or a subclass, in a task to fail with a message for the job's owner."""

    #: The owner is shown the message of any exception with this attribute, of whatever class, or the text that it is.
    tell_owner = True


class JobFailed(NotificationsError):
    """The awaited job has failed. ``error`` says why: a dict with ``type``, ``title`` and ``detail``."""

    def __init__(self, error: Mapping[str, Any]) -> None:
        super().__init__(error.get("detail") or "The job failed.")
        self.error = dict(error)

    def __reduce__(self) -> Any:
        return type(self), (self.error,)


class JobDoesNotExist(NotificationsError, ObjectDoesNotExist):
    """No job has this id. It may not be committed yet, or pruned already."""

    def __init__(self, id: object) -> None:
        try:
            UUID(str(id))
        except ValueError:
            reason = ": that is no id of a job, which is a UUID. Pass what enqueue() returned as id."
        else:
            reason = ". It may not be committed yet, or pruned already."
        super().__init__(f"There is no job {id}{reason}")


class IdempotencyKeyConflict(NotificationsError, ValueError):
    """The ``key`` was used within the last 24 hours for another task or other arguments."""

    def __init__(self, key: str) -> None:
        super().__init__(
            f"The key {key!r} was used for another task or other arguments. Use another key for this job."
        )
        self.key = key

    def __reduce__(self) -> Any:
        return type(self), (self.key,)


class TooManyJobs(NotificationsError):
    """The user has as many active jobs as ``NOTIFICATIONS["ACTIVE_JOBS_PER_USER"]`` allows."""

    def __init__(self, limit: int) -> None:
        text = gettext("There are {limit} active jobs already. Wait until some are done, or cancel some.")
        super().__init__(text.format(limit=limit))

    #: Seconds after which the client may try again.
    retry_after = 10


class JobRateExceeded(TooManyJobs):
    """``NOTIFICATIONS["JOBS_PER_MINUTE"]`` jobs of the user were enqueued, or retried by hand, within a minute.

    Another one is allowed after ``retry_after`` seconds.
    """

    def __init__(self, limit: int, retry_after: int) -> None:
        text = gettext("{limit} jobs were enqueued within a minute. Try again in {seconds} s.")
        NotificationsError.__init__(self, text.format(limit=limit, seconds=retry_after))
        self.limit, self.retry_after = limit, retry_after

    def __reduce__(self) -> Any:
        return type(self), (self.limit, self.retry_after)


class WaitDoesNotExist(NotificationsError, ObjectDoesNotExist):
    """The job has no such wait. It may not have come to it yet, or was deleted."""

    def __init__(self, job: object, name: object) -> None:
        super().__init__(
            f"The job {job} has no wait {name!r} of this kind. It may not have come to it yet, or was deleted."
        )
        self.job, self.name = job, name

    def __reduce__(self) -> Any:
        return type(self), (self.job, self.name)


class WaitEnded(NotificationsError):
    """The wait has ended before. ``how`` is the word of the kind, or ``"due"``, ``"expired"`` or ``"cancelled"``."""

    def __init__(self, name: str, how: str) -> None:
        super().__init__(f"The wait {name!r} has ended before: {how}.")
        self.name, self.how = name, how

    def __reduce__(self) -> Any:
        return type(self), (self.name, self.how)


class CallbackExpired(NotificationsError):
    """The URL of a ``callback()`` was not called in time."""

    def __init__(self, name: str) -> None:
        super().__init__(f"The callback {name!r} was not called in time.")
        self.name = name

    @property
    def tell_owner(self) -> str:
        """What the owner of the job reads, in the active language."""
        return gettext("No reply from “{name}” in time.").format(name=self.name)

    def __reduce__(self) -> Any:
        return type(self), (self.name,)


class QuestionExpired(NotificationsError):
    """Nobody has answered a ``question()`` in time, and it has no default."""

    def __init__(self, name: str, title: str = "") -> None:
        super().__init__(f"The question {name!r} was not answered in time.")
        self.name, self.title = name, title

    @property
    def tell_owner(self) -> str:
        """What the owner of the job reads, in the active language."""
        return gettext("No answer to “{question}” in time.").format(question=self.title or self.name)

    def __reduce__(self) -> Any:
        return type(self), (self.name, self.title)


class QuestionDoesNotExist(NotificationsError, ObjectDoesNotExist):
    """The job has no such question. It may not have asked it yet, or was deleted."""

    def __init__(self, job: object, name: object) -> None:
        super().__init__(
            f"The job {job} has no question {name!r}. It may not have asked it yet, or was deleted."
        )
        self.job, self.name = job, name

    def __reduce__(self) -> Any:
        return type(self), (self.job, self.name)


class QuestionEnded(NotificationsError):
    """The question cannot be answered any more. The message says how it ended, as "Ada answered Ship, 14:05.".

    ``how`` is ``"answered"``, ``"expired"`` or ``"cancelled"``, with its job.
    """

    def __init__(self, message: str, how: str) -> None:
        super().__init__(message)
        self.how = how

    def __reduce__(self) -> Any:
        return type(self), (str(self), self.how)


class InvalidWebhook(NotificationsError):
    """What a request brings is no webhook that was signed with the secret: see ``verify_webhook()``. Answer 400."""
