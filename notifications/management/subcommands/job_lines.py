"""A job as ``manage.py notifications jobs`` prints it: as JSON, and as one line."""

from __future__ import annotations

import json
from collections.abc import Collection
from typing import Any
from uuid import UUID

from notifications import serializers
from notifications.extension import hooks
from notifications.jobs.claiming.executors import DISPATCHED, ENGINE_EXECUTORS
from notifications.jobs.listing import read_last_errors
from notifications.models import Job

#: Jobs whose errors one query reads.
MAX_JOBS_PER_QUERY = 1_000


def item(job: Job) -> dict[str, Any]:
    """Return a job as the API serializes it, with user, queue, priority and worker."""
    return {
        **json.loads(serializers.encode_item(job)),
        "user": None if job.user_id is None else str(job.user_id),
        "queue": job.queue_name,
        "priority": job.priority,
        "concurrency_key": job.concurrency_key,
        "worker": job.worker and str(job.worker),
        "engine": hooks.dispatch.label_of(job.backend) if job.executor in ENGINE_EXECUTORS else None,
        "dispatch_count": job.dispatch_count,
        "dispatched_at": serializers.format_time(job.dispatched_at),
        "queued_at": serializers.format_time(job.queued_at),
        "cancel_requested_at": serializers.format_time(job.cancel_requested_at),
    }


def change_line(job: Job, error: str) -> str:
    """Return the state of a job as one line: time, id, state, attempt, title and progress or error."""
    moment = serializers.format_time(job.finished_at or job.started_at or job.queued_at) or ""
    progress = ""
    if job.state == Job.State.RUNNING and job.progress_current is not None:
        total = "" if job.progress_total is None else f" of {job.progress_total}"
        progress = f"{job.progress_current}{total} {job.progress_message}"
    text = " | ".join(filter(None, (job.title, progress.strip(), error)))
    return f"{moment}  {job.id}  {job.state:<9}  {job.attempt}/{job.max_attempts}  {job.queue_name}  {text}"


def runner_of(job: Job) -> str:
    """Return what runs a job: an engine or a worker."""
    return hooks.dispatch.label_of(job.backend) if job.executor in ENGINE_EXECUTORS else "a worker"


def dispatches(job: Job) -> str:
    """Return how often a job was dispatched to its engine, since when it waits there, and when its id is resent."""
    if not job.dispatch_count:
        return ""
    times = "once" if job.dispatch_count == 1 else f"{job.dispatch_count} times"
    if job.executor == DISPATCHED and job.state == Job.State.QUEUED:
        since = f", since {serializers.format_time(job.dispatched_at)}" if job.dispatched_at else ""
        return f"{times}{since}, next {serializers.format_time(job.next_dispatch_at)}"
    return times


def error_detail(job: Job) -> str:
    return (serializers.job_error(job) or {}).get("detail") or ""


def error_texts(jobs: Collection[Job]) -> dict[UUID, str]:
    """Return the errors of jobs, by their ids: what owners are told, or what was raised where that is the id only."""
    texts = {job.id: error_detail(job) for job in jobs}
    unclear = [job for job in jobs if str(job.id) in texts[job.id]]
    for start in range(0, len(unclear), MAX_JOBS_PER_QUERY):
        part = unclear[start : start + MAX_JOBS_PER_QUERY]
        for id, error in read_last_errors(part, with_tracebacks=True).items():
            texts[id] = f"{error.text} ({error.location})" if error.location else error.text
    return texts
