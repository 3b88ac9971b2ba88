"""What a call of a ``JobTask`` returns: Celery's ``AsyncResult``, read from the row of the job."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from uuid import UUID

from celery import states
from celery.exceptions import TaskRevokedError
from celery.exceptions import TimeoutError as CeleryTimeoutError
from celery.result import AsyncResult

from notifications import jobs
from notifications.api import JobInfo, get_job, join
from notifications.contrib.celery.job_arguments import decode
from notifications.db import database
from notifications.exceptions import JobCancelled, JobDoesNotExist, JobFailed

#: The state that tasks give by convention with ``update_state()``.
PROGRESS = "PROGRESS"


class JobResult(AsyncResult):  # type: ignore[misc]
    """The result of a job. ``id`` is that of the job, or what the caller has given as ``task_id``.

    ``job_id``
        The id of the job, a UUID; None if there is no such job.

    ``forget()`` leaves the job, which is pruned. Methods raise ``django.db.OperationalError`` and the like while the
    database is away.
    """

    def __init__(self, id: str | UUID, *, app: Any, job_id: str | None = None) -> None:
        super().__init__(str(id), app=app)
        self._job_id = UUID(job_id) if job_id else None
        self._cache: dict[str, Any] | None = None

    @property
    def job_id(self) -> UUID | None:
        if self._job_id is None:
            self._job_id = _find_job(self.id)
        return self._job_id

    @property
    def supports_native_join(self) -> bool:
        return False  # a group asks each of its results

    def get(self, timeout: float | None = None, propagate: bool = True, **options: Any) -> Any:
        """Wait for the job and return its result. Options that are about a result backend have no effect.

        Raises ``JobFailed`` if it has failed and ``TaskRevokedError`` if it was cancelled, which are returned without
        ``propagate``; ``celery.exceptions.TimeoutError`` and ``JobDoesNotExist``.
        """
        if self.job_id is None:
            raise JobDoesNotExist(self.id)
        try:
            return decode(join(self.job_id, timeout=timeout))
        except TimeoutError as exc:
            raise CeleryTimeoutError(str(exc)) from exc
        except (JobFailed, JobCancelled):
            if self.state not in states.READY_STATES:  # the job that waits here was cancelled
                raise
            if propagate:
                raise self.result from None
            return self.result

    wait = get

    def revoke(self, *args: Any, **options: Any) -> None:
        """Cancel the job. Celery's options, such as ``terminate``, have no effect."""
        if self.job_id is not None:
            jobs.cancel([self.job_id])

    def forget(self) -> None:
        self._cache = None

    def then(self, callback: Callable[..., Any], on_error: Any = None, weak: bool = False) -> Any:
        """Have a callback called when this object has seen the end of the job."""
        return self.on_ready.then(callback, on_error)

    def _on_fulfilled(self, result: Any) -> Any:
        return result

    def __del__(self) -> None:
        """Do not tell the result backend, which knows nothing of it."""

    def _get_task_meta(self) -> dict[str, Any]:
        if self._cache is not None:
            return self._cache
        meta = self._read()
        if meta["status"] in states.READY_STATES:
            self._cache = meta
            self.on_ready(self)
        return meta

    def _read(self) -> dict[str, Any]:
        meta: dict[str, Any] = {"task_id": self.id, "status": states.PENDING, "result": None}
        try:
            job = get_job(self.job_id) if self.job_id else None
        except JobDoesNotExist:
            job = None
        if job is not None:
            status, result = _describe(job)
            meta |= {"status": status, "result": result, "date_done": job.finished_at, "name": job.task_path}
        return meta


def _describe(job: JobInfo) -> tuple[str, Any]:
    """Return the state of a job in the words of Celery, and its result, progress or exception."""
    error = job.error or {}
    if job.state == "queued":
        return (states.RETRY if job.attempt else states.PENDING), None
    if job.state == "succeeded":
        return states.SUCCESS, decode(job.result)
    if job.state == "cancelled" or error.get("type") == "expired":
        return states.REVOKED, TaskRevokedError(error.get("detail") or "The job was cancelled.")
    if job.state == "failed":
        return states.FAILURE, JobFailed(error)
    if job.progress_current is None:
        return states.STARTED, None
    return PROGRESS, {
        "current": job.progress_current,
        "total": job.progress_total,
        "message": job.progress_message,
    }


def _find_job(id: str) -> UUID | None:
    """Return the job with an id, or else with a key that a caller has given."""
    from notifications.models import Job

    rows = Job.objects.using(database())
    try:
        if rows.filter(id=(job_id := UUID(id))).exists():
            return job_id
    except ValueError:
        pass
    # The second condition is that of the index.
    found = rows.filter(idempotency_key=id, idempotency_key__gt="").order_by("-created_at")
    return found.values_list("id", flat=True).first()
