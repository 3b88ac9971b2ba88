"""Enqueue the job of a request once for each ``Idempotency-Key``: an equal request gets the same job for 24 hours."""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from hashlib import sha256
from typing import TYPE_CHECKING, Any

from django.db import DEFAULT_DB_ALIAS, IntegrityError, connections, transaction
from django.http import HttpRequest
from django.http.request import RawPostDataException

from notifications.compat import TaskResult
from notifications.context import owner_from_request
from notifications.db.threads import DaemonExecutor
from notifications.db.transactions import begin_with_write, connection, database, dialect
from notifications.db.unavailable import UNAVAILABLE, is_unavailable
from notifications.http.job_responses import RETRY_AFTER_SECONDS
from notifications.http.parsing import body_errors_as_problems
from notifications.jobs.declaring.tasks import refuse_backend, stores_jobs
from notifications.jobs.limits import limit_request
from notifications.jobs.transitions import enqueueing
from notifications.jobs.transitions.enqueueing import owner_key
from notifications.models import Job
from notifications.problems import Problem, log_database_error
from notifications.validators import MAX_KEY_LENGTH

if TYPE_CHECKING:
    from notifications.jobs.declaring.task_types import HasReturnValue

FORM_TYPES = ("application/x-www-form-urlencoded", "multipart/form-data")
#: Attempts of a request that loses its key to another one, which is rolled back before its job can be read.
MAX_TRIES = 3


class IdempotencyKeyTaken(Exception):
    """Another request has stored this key first, on a job of ``owner`` (key)."""

    def __init__(self, owner: Any) -> None:
        super().__init__(owner)
        self.owner = owner


@dataclass(frozen=True, kw_only=True, slots=True)
class IdempotencyKey:
    """The key that ``requester`` (user key) sent, with a hash of the request that came with it."""

    value: str
    request_hash: str
    requester: Any

    def find_job(self, owner: Any) -> Job | None:
        """Return the job of this owner (key) that has the key. Raises Problem 422 if it came with another request."""
        job = enqueueing.job_with_key(owner, self._stored_key(owner))
        if job is not None and job.idempotency_hash != self.request_hash:
            raise Problem(
                422,
                "This Idempotency-Key was used for a different request within the last "
                f"{enqueueing.KEY_LIFETIME_HOURS} hours. "
                "Send that request unchanged to repeat it, or this one with a new key.",
            )
        return job

    def store_on(self, job: Job) -> None:
        """Store the key on a job, unless it has one from ``.using(key=…)``. Raises ``IdempotencyKeyTaken``."""
        try:
            enqueueing.store_key(job, self._stored_key(job.user_id), self.request_hash)
        except IntegrityError as exc:
            raise IdempotencyKeyTaken(job.user_id) from exc

    def _stored_key(self, owner: Any) -> str:
        """Return the key as the job's column holds it.

        The prefix has a space, which keys of ``.using(key=…)`` cannot have, so no header can take such a key. On a job
        of another owner the requester is part of it: two requesters with the same key do not conflict.
        """
        stored = f"http {self.value}" if owner == self.requester else f"http {self.requester} {self.value}"
        return (
            stored if len(stored) <= MAX_KEY_LENGTH else f"http sha256 {sha256(stored.encode()).hexdigest()}"
        )


def read_idempotency_key(request: Any, requester: Any) -> IdempotencyKey | None:
    """Return the key of a request that ``requester`` (user key) sent, None without one.

    ``request`` may be one of Django REST framework. Raises Problem 400 or 413.
    """
    value = request.headers.get("Idempotency-Key")
    if value is None:
        return None
    value = value.strip(" \t")  # not part of a header's value, but some servers leave them
    if not enqueueing.KEY_PATTERN.fullmatch(value):
        raise Problem(
            400,
            f"Idempotency-Key must be 1 to {MAX_KEY_LENGTH} visible ASCII characters without spaces, for example "
            "a UUID.",
        )
    with body_errors_as_problems():
        return IdempotencyKey(value=value, request_hash=_hash_request(request), requester=requester)


def _hash_request(request: Any) -> str:
    django_request: HttpRequest = getattr(request, "_request", request)
    hash = sha256()
    _add_json(hash, [django_request.method, django_request.path, django_request.META.get("QUERY_STRING", "")])
    if django_request.method == "POST" and django_request.content_type in FORM_TYPES:
        # Fields instead of bytes: the CSRF check has parsed the form, and its bytes are gone.
        _add_form(hash, django_request.POST)
        _add_form(hash, django_request.FILES)
        return hash.hexdigest()
    try:
        hash.update(django_request.body)
    except RawPostDataException:  # Django REST framework or the view has read the stream
        _add_parsed(hash, getattr(request, "data", None))
    return hash.hexdigest()


def _add_parsed(hash: Any, data: Any) -> None:
    if hasattr(data, "lists"):
        _add_form(hash, data)
    else:
        _add_json(hash, data)


def _add_form(hash: Any, fields: Any) -> None:
    for name, values in fields.lists():
        if name == "csrfmiddlewaretoken":  # changes with every sign-in
            continue
        _add_json(hash, [name, len(values)])
        for value in values:
            if hasattr(value, "chunks"):
                _add_file(hash, value)
            else:
                _add_json(hash, value)


def _add_file(hash: Any, file: Any) -> None:
    _add_json(hash, [file.name, file.size])
    if file.closed:
        raise ValueError(
            f"The file {file.name!r} was closed before accepted(), which reads it for the Idempotency-Key. "
            "Leave it open: detach a wrapper such as TextIOWrapper after use."
        )
    position = file.tell()
    for chunk in file.chunks():
        hash.update(chunk)
    file.seek(position)


def _add_json(hash: Any, value: Any) -> None:
    hash.update(json.dumps(value, sort_keys=True, default=str).encode() + b"\n")


def enqueue_once(
    request: HttpRequest, enqueue: Callable[[], HasReturnValue[object]], take: Callable[[Job], None]
) -> tuple[Job, bool]:
    """Call ``enqueue`` in a transaction, store the key of the request on its job, and call ``take`` with the job.

    Returns the job, and whether it is a replay: the job of an earlier, equal request with the same key. Then
    ``enqueue`` was not called, or was rolled back.
    """
    with owner_from_request(getattr(request, "user", None)), limit_request() as first_jobs:
        owner = owner_key()  # may read the session, so not while SQLite's lock is held
        key = read_idempotency_key(request, owner)
        if key is None:
            return _enqueue(enqueue, first_jobs, owner, None, take)
        for _ in range(MAX_TRIES):
            try:
                return _enqueue(enqueue, first_jobs, owner, key, take)
            except IdempotencyKeyTaken as exc:
                # None if the other request was rolled back, or if the snapshot of a caller's transaction is older.
                job = key.find_job(exc.owner)
            except Exception as exc:
                # What the other request has written may conflict before its key does: a unique row, a limit.
                job = _find_job_of_other_request(key, owner, exc)
                if job is None and not _is_retryable(exc):
                    raise
            if job:
                return job, True
    raise _concurrent_request()


def _enqueue(
    enqueue: Callable[[], HasReturnValue[object]],
    first_jobs: dict[Any, Job | None],
    owner: Any,
    key: IdempotencyKey | None,
    take: Callable[[Job], None],
) -> tuple[Job, bool]:
    with transaction.atomic(using=database()), _atomic_on_default_database():
        begin_with_write()
        if key and (earlier_job := key.find_job(owner)):
            return earlier_job, True
        result = enqueue()
        # A result of another library has the id of its job beside its own.
        id = result.id if isinstance(result, TaskResult) else getattr(result, "job_id", None)
        if id is None:
            raise TypeError(
                f"The function given to accepted() returned {result!r}. It must return what enqueue() returned."
            )
        job = first_jobs.get(owner)
        if job is None or str(job.id) != str(id):
            if isinstance(result, TaskResult) and not stores_jobs(result.backend):
                refuse_backend(result.backend, "accepted()")
            job = Job.objects.using(database()).get(pk=id)
        if key:
            key.store_on(job)
        take(job)
        return job, False


def _atomic_on_default_database() -> AbstractContextManager[Any]:
    """Return a transaction on the project's own database, if the app's tables are in another one.

    It is committed first, so that no worker runs a job before the project's rows for it are visible. A project whose
    routers name a database for each model may have no default one.
    """
    has_default = connections.settings[DEFAULT_DB_ALIAS]["ENGINE"] != "django.db.backends.dummy"
    has_other = database() != DEFAULT_DB_ALIAS and has_default
    return transaction.atomic() if has_other else nullcontext()


def _find_job_of_other_request(key: IdempotencyKey, owner: Any, exc: Exception) -> Job | None:
    """Return the job of an equal request that was committed while this one failed with ``exc``, or None.

    Raises Problem 503 if only other connections see that job: the snapshot of a caller's transaction is older.
    """
    if is_unavailable(exc) and not _is_retryable(exc):
        return None
    try:
        job = key.find_job(owner)
        if job is None and dialect().has_fixed_snapshot(connection()):
            threads = DaemonExecutor(1, "notifications-idempotency")  # with a connection of its own
            found = threads.submit(key.find_job, owner)
            threads.shutdown()
            if found.result():
                raise _concurrent_request()
        return job
    except UNAVAILABLE as error:
        log_database_error(error)
        return None


def _is_retryable(exc: Exception) -> bool:
    """Return whether ``exc`` is a serialization failure whose transaction is over, so that a new one sees more."""
    return getattr(exc.__cause__, "sqlstate", "") == "40001" and not connection().in_atomic_block


def _concurrent_request() -> Problem:
    return Problem(
        503,
        "Another request with this Idempotency-Key is in progress. Send this one again in a moment.",
        headers={"Retry-After": str(RETRY_AFTER_SECONDS)},
    )
