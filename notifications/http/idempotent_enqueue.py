"""Enqueue the job of a request once for each ``Idempotency-Key``."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, nullcontext
from typing import Any

from django.db import DEFAULT_DB_ALIAS, connections, transaction
from django.http import HttpRequest

from notifications.compat import TaskResult
from notifications.context import owner_from_request
from notifications.db.transactions import begin_with_write, connection, database
from notifications.db.unavailable import UNAVAILABLE, is_unavailable
from notifications.extension import hooks
from notifications.http.idempotency import IdempotencyKey, IdempotencyKeyTaken, read_idempotency_key
from notifications.http.job_responses import RETRY_AFTER_SECONDS
from notifications.jobs.enqueueing.owners import owner_key
from notifications.jobs.enqueueing.rate_limit import limit_request
from notifications.models import Job
from notifications.problems import Problem, log_database_error

#: Attempts of a request that loses its key to another one, which is rolled back before its job can be read.
MAX_TRIES = 3


def enqueue_once(
    request: HttpRequest, enqueue: Callable[[], TaskResult], values: Mapping[str, Any]
) -> tuple[Job, bool]:
    """Call ``enqueue`` in a transaction; store the key of the request on its job, and what extensions store with it.

    ``values``
        What ``before_accepted()`` of extensions has returned, by their labels.

    Returns the job, and whether it is a replay: the job of an earlier, equal request with the same key. Then
    ``enqueue`` was not called, or was rolled back.
    """
    with owner_from_request(getattr(request, "user", None)), limit_request() as first_jobs:
        owner = owner_key()  # may read the session, so not while SQLite's lock is held
        key = read_idempotency_key(request, owner)
        if key is None:
            return _enqueue(enqueue, first_jobs, owner, None, values)
        for _ in range(MAX_TRIES):
            try:
                return _enqueue(enqueue, first_jobs, owner, key, values)
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
    enqueue: Callable[[], TaskResult],
    first_jobs: dict[Any, Job | None],
    owner: Any,
    key: IdempotencyKey | None,
    values: Mapping[str, Any],
) -> tuple[Job, bool]:
    with transaction.atomic(using=database()), _atomic_on_default_database():
        begin_with_write()
        if key and (earlier_job := key.find_job(owner)):
            return earlier_job, True
        result = enqueue()
        if not isinstance(result, TaskResult):
            raise TypeError(
                f"The function given to accepted() returned {result!r}. It must return what enqueue() returned."
            )
        job = first_jobs.get(owner)
        if job is None or str(job.id) != result.id:
            job = Job.objects.using(database()).get(pk=result.id)
        if key:
            key.store_on(job)
        for label, value in values.items():
            if on_accepted := hooks.on_accepted.get(label):
                on_accepted(value, job)
        return job, False


def _atomic_on_default_database() -> AbstractContextManager[Any]:
    """Return a transaction on the project's own database, if the app's tables are in another one.

    It is committed first, so that no worker runs a job before the project's rows for it are visible. A project whose
    routers name a database for each model may have no default one.
    """
    has_other = database() != DEFAULT_DB_ALIAS and connections[DEFAULT_DB_ALIAS].vendor != "unknown"
    return transaction.atomic() if has_other else nullcontext()


def _find_job_of_other_request(key: IdempotencyKey, owner: Any, exc: Exception) -> Job | None:
    """Return the job of an equal request that was committed while this one failed with ``exc``, or None.

    Raises Problem 503 if only other connections see that job: the snapshot of a caller's transaction is older.
    """
    if is_unavailable(exc) and not _is_retryable(exc):
        return None
    try:
        job = key.find_job(owner)
        if job is None and connection().in_atomic_block and connection().vendor == "postgresql":
            with ThreadPoolExecutor(1) as executor:
                if executor.submit(_exists_for_new_connection, key, owner).result():
                    raise _concurrent_request()
        return job
    except UNAVAILABLE as error:
        log_database_error(error)
        return None


def _exists_for_new_connection(key: IdempotencyKey, owner: Any) -> bool:
    try:
        return key.find_job(owner) is not None
    finally:
        connections.close_all()


def _is_retryable(exc: Exception) -> bool:
    """Return whether ``exc`` is a serialization failure whose transaction is over, so that a new one sees more."""
    return getattr(exc.__cause__, "sqlstate", "") == "40001" and not connection().in_atomic_block


def _concurrent_request() -> Problem:
    return Problem(
        503,
        "Another request with this Idempotency-Key is in progress. Send this one again in a moment.",
        headers={"Retry-After": str(RETRY_AFTER_SECONDS)},
    )
