"""What ``manage.py notifications jobs`` prints of a job, as JSON and as lines: facts, arguments, steps and calls."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Iterator, Mapping
from itertools import chain
from typing import Any
from uuid import UUID

from django.contrib.auth import get_user_model
from django.utils import translation

from notifications import serializers, times
from notifications.db.transactions import chunks, database
from notifications.extension import Event, hooks
from notifications.extension.installed import read_events
from notifications.jobs.arguments import describe_arguments
from notifications.jobs.claiming.waiting_reasons import WaitReason
from notifications.jobs.declaring.tasks import has_engine
from notifications.jobs.listing import read_last_errors
from notifications.jobs.step_list import StepList, StoredStep, read_steps
from notifications.models import Attempt, Job

#: Jobs whose errors one query reads, and users whose names one reads.
MAX_JOBS_PER_QUERY = 1_000


def item(job: Job, usernames: Mapping[Any, str], reasons: Mapping[UUID, WaitReason]) -> dict[str, Any]:
    """Return a job as the API serializes it, with user, queue, priority, worker, and why it waits.

    See ``read_usernames()`` and ``why_jobs_wait()``.
    """
    return {
        **json.loads(serializers.encode_item(job)),
        "user": None if job.user_id is None else str(job.user_id),
        "username": usernames.get(job.user_id),
        "queue": job.queue_name,
        "priority": job.priority,
        "concurrency_key": job.concurrency_key,
        "worker": job.worker and str(job.worker),
        "engine": hooks.dispatch.label_of(job.backend) if has_engine(job.backend) else None,
        "queued_at": times.format_time(job.queued_at),
        "cancel_requested_at": times.format_time(job.cancel_requested_at),
        "waits": reasons.get(job.pk),
    }


def read_usernames(jobs: Iterable[Job]) -> dict[Any, str]:
    """Return the names by which the owners of jobs log in, by their keys. Users who do not exist are left out."""
    keys = {job.user_id for job in jobs} - {None}
    users = get_user_model()._base_manager
    found = (users.filter(pk__in=part) for part in chunks(list(keys), MAX_JOBS_PER_QUERY))
    return {user.pk: user.get_username() for user in chain.from_iterable(found)}


def change_line(job: Job, error: str, reason: WaitReason | None) -> str:
    """Return the state of a job as one line: time, id, state, attempt, title and progress, error or why it waits."""
    moment = times.format_time(job.finished_at or job.started_at or job.queued_at) or ""
    progress = ""
    if job.state == Job.State.RUNNING and job.progress_current is not None:
        total = "" if job.progress_total is None else f" of {job.progress_total}"
        progress = f"{job.progress_current}{total} {job.progress_message}"
    text = " | ".join(filter(None, (job.title, progress.strip(), error, reason_text(job, reason))))
    return f"{moment}  {job.id}  {job.state:<9}  {job.attempt}/{job.max_attempts}  {job.queue_name}  {text}"


def runner_of(job: Job) -> str:
    return hooks.dispatch.label_of(job.backend) if has_engine(job.backend) else "a worker"


def reason_text(job: Job, reason: WaitReason | None) -> str:
    """Return why a queued job waits, "" if others begin before it."""
    if reason is WaitReason.PAUSED:
        return "its queue is paused"
    if reason is WaitReason.NO_WORKER:
        return f"waiting for {runner_of(job)}"
    if reason is WaitReason.SCHEDULED:
        return f"not before {times.format_time(job.due_at)}"
    return f"waiting for the limit of {job.limit_key}" if reason is WaitReason.LIMITED else ""


def error_detail(job: Job) -> str:
    return (serializers.job_error(job) or {}).get("detail") or ""


def error_texts(jobs: Collection[Job]) -> dict[UUID, str]:
    """Return the errors of jobs, by their ids: what owners are shown, or what was raised where that is the id only."""
    texts = {job.id: error_detail(job) for job in jobs}
    unclear = [job for job in jobs if str(job.id) in texts[job.id]]
    for part in chunks(unclear, MAX_JOBS_PER_QUERY):
        for id, error in read_last_errors(part, with_tracebacks=True).items():
            texts[id] = f"{error.text} ({error.location})" if error.location else error.text
    return texts


def describe_history(job: Job) -> Iterator[str]:
    """Yield the lines of the arguments of a job, its steps, the calls to programs, and the attempts."""
    if arguments := read_arguments(job):
        yield from ("", "Arguments", *arguments)
    yield from describe_steps(read_steps(job, with_results=True))
    for section in hooks.job_sections:
        yield from section.lines(job)
    yield from describe_calls(job)
    for attempt in _read_attempts(job):
        yield ""
        yield f"Attempt {attempt.number}: {attempt.outcome} {times.format_time(attempt.ended_at)}"
        for line in (attempt.traceback.rstrip() or attempt.exception_class_path).splitlines():
            yield f"  {line}"


def history_item(job: Job) -> dict[str, Any]:
    """Return the same for ``--json``."""
    return {
        "arguments": read_arguments(job),
        "steps": [step_item(step) for step in read_steps(job, with_results=True).first],
        "attempts": [attempt_item(attempt) for attempt in _read_attempts(job)],
        "calls": call_items(job),
        **{section.name: item for section in hooks.job_sections if (item := section.item(job)) is not None},
    }


def read_arguments(job: Job) -> list[str]:
    """Return the arguments of a job without secrets, each as ``name = value``."""
    with translation.override("en"):  # as all output of commands
        text = describe_arguments(job, with_values=True)
    return [] if text == "-" else text.split("\n")


def _read_attempts(job: Job) -> list[Attempt]:
    return list(Attempt.objects.using(database()).filter(job=job.pk).order_by("number"))


def describe_steps(steps: StepList) -> Iterator[str]:
    """Yield the lines of a job's steps, none if it has none."""
    if steps.first:
        yield ""
        yield f"Steps: {steps.count}"
    for step in steps.first:
        state = "" if step.state == "returned" else step.state
        took = f"{step.took.total_seconds():.2f} s" if step.took is not None else "waiting" * step.is_wait
        due = f" until {times.format_time(step.due_at)}" if step.took is None and step.due_at else ""
        result = "" if step.result is None else step.result
        yield ", ".join(filter(None, (f"{step.name}: attempt {step.attempt}", state, f"{took}{due}", result)))


def step_item(step: StoredStep) -> dict[str, Any]:
    return {
        "name": step.name,
        "attempt": step.attempt,
        "state": "waiting" if step.is_wait and step.is_open else step.state,
        "started_at": times.format_time(step.started_at),
        "seconds": None if step.took is None else step.took.total_seconds(),
        "result": step.result,
    }


def describe_calls(job: Job) -> Iterator[str]:
    """Yield the lines of what extensions know of a job, calls to programs for its events; none if there are none."""
    if events := _read_calls(job):
        yield ""
        yield "Calls to programs"
    for event in events:
        yield " ".join(filter(None, (times.format_time(event.at), event.text)))


def call_items(job: Job) -> list[dict[str, Any]]:
    """Return the same for ``--json``."""
    return [{"at": times.format_time(event.at), "text": event.text} for event in _read_calls(job)]


def _read_calls(job: Job) -> list[Event]:
    with translation.override("en"):  # as all output of commands
        return [event for event in read_events(job) if event.until is None]


def attempt_item(attempt: Attempt) -> dict[str, Any]:
    return {
        "number": attempt.number,
        "outcome": attempt.outcome,
        "worker": attempt.worker and str(attempt.worker),
        "started_at": times.format_time(attempt.started_at),
        "ended_at": times.format_time(attempt.ended_at),
        "exception": attempt.exception_class_path,
        "traceback": attempt.traceback,
    }
