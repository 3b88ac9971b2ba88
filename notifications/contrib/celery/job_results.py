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
from notifications.api import get_job, join
from notifications.contrib.celery.job_arguments import decode
from notifications.db import database
from notifications.exceptions import JobCancelled, JobDoesNotExist, JobFailed

#: The states of Celery for those of jobs. A queued one is RETRY after its first attempt.
STATES = {
    "queued": states.PENDING,
    "running": states.STARTED,
    "waiting": states.STARTED,
    "succeeded": states.SUCCESS,
    "failed": states.FAILURE,
    "cancelled": states.REVOKED,
}
#: The state that tasks give by convention with ``update_state()``.
PROGRESS = "PROGRESS"


class JobResult(AsyncResult):  # type: ignore[misc]
    """The result of a job. ``id`` is that of the job, or what the caller has given as ``task_id``.

    ``job_id``
        The id of the job, a UUID; None if there is no such job.

    ``forget()`` leaves the job, which is pruned. Methods raise ``django.db.OperationalError`` and the like while the
    database is away.
    """

    def __init__(self, id: str, *, app: Any, job_id: str | None = None) -> None:
        super().__init__(id, app=app)
        self._job_id = job_id and UUID(job_id)

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
        if self._cache is None:
            meta = self._read()
            if meta["status"] not in states.READY_STATES:
                return meta
            self._cache = meta
            self.on_ready(self)
        found: dict[str, Any] = self._cache
        return found

    def _read(self) -> dict[str, Any]:
        meta: dict[str, Any] = {"task_id": self.id, "status": states.PENDING, "result": None}
        try:
            job = get_job(self.job_id) if self.job_id else None
        except JobDoesNotExist:
            job = None
        if job is None:
            return meta
        meta |= {"status": STATES[job.state], "date_done": job.finished_at, "name": job.task_path}
        if job.state == "queued" and job.attempt:
            meta["status"] = states.RETRY
        elif job.state == "running" and job.progress_current is not None:
            meta["status"] = PROGRESS
            meta["result"] = {
                "current": job.progress_current,
                "total": job.progress_total,
                "message": job.progress_message,
            }
        elif job.state == "succeeded":
            meta["result"] = decode(job.result)
        elif job.state == "failed" and (job.error or {}).get("type") == "expired":
            meta |= {"status": states.REVOKED, "result": TaskRevokedError("expired")}
        elif job.state == "failed":
            meta["result"] = JobFailed(job.error or {})
        elif job.state == "cancelled":
            meta["result"] = TaskRevokedError(
                str((job.error or {}).get("detail") or "The job was cancelled.")
            )
        return meta


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
