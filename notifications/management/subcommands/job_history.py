"""The steps and attempts of a job, and the calls to programs, for ``jobs show``."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from django.utils import translation

from notifications import serializers
from notifications.db.transactions import database
from notifications.extension import hooks, read_events
from notifications.jobs.step_list import StepList, StoredStep, read_steps
from notifications.models import Attempt, Job


def describe_history(job: Job) -> Iterator[str]:
    """Yield the lines of the steps of a job, the calls to programs, and the attempts."""
    yield from describe_steps(read_steps(job, with_results=True))
    for section in hooks.job_sections:
        yield from section.lines(job)
    yield from describe_calls(job)
    for attempt in _read_attempts(job):
        yield ""
        yield f"Attempt {attempt.number}: {attempt.outcome} {serializers.format_time(attempt.ended_at)}"
        for line in (attempt.traceback.rstrip() or attempt.exception_class_path).splitlines():
            yield f"  {line}"


def history_item(job: Job) -> dict[str, Any]:
    """Return the same for ``--json``."""
    return {
        "steps": [step_item(step) for step in read_steps(job, with_results=True).first],
        "attempts": [attempt_item(attempt) for attempt in _read_attempts(job)],
        "calls": call_items(job),
        **{section.name: item for section in hooks.job_sections if (item := section.item(job)) is not None},
    }


def _read_attempts(job: Job) -> list[Attempt]:
    return list(Attempt.objects.using(database()).filter(job=job.pk).order_by("number"))


def describe_steps(steps: StepList) -> Iterator[str]:
    """Yield the lines of a job's steps, none if it has none."""
    if steps.first:
        yield ""
        yield f"Steps: {steps.count}"
    for step in steps.first:
        took = "waiting" if step.took is None else f"{step.took.total_seconds():.2f} s"
        due = f" until {serializers.format_time(step.due_at)}" if step.took is None and step.due_at else ""
        yield f"{step.name}: attempt {step.attempt}, {took}{due}, {step.result}"


def step_item(step: StoredStep) -> dict[str, Any]:
    """Return a step for ``--json``."""
    return {
        "name": step.name,
        "attempt": step.attempt,
        "started_at": serializers.format_time(step.started_at),
        "seconds": None if step.took is None else step.took.total_seconds(),
        "result": step.result,
    }


def describe_calls(job: Job) -> Iterator[str]:
    """Yield the lines of what extensions know of a job, calls to programs for its events; none if there are none."""
    with translation.override("en"):  # as all output of commands
        events = read_events(job)
    if events:
        yield ""
        yield "Calls to programs"
    for event in events:
        yield " ".join(filter(None, (serializers.format_time(event.at), event.text)))


def call_items(job: Job) -> list[dict[str, Any]]:
    """Return the same for ``--json``."""
    with translation.override("en"):
        return [{"at": serializers.format_time(event.at), "text": event.text} for event in read_events(job)]


def attempt_item(attempt: Attempt) -> dict[str, Any]:
    """Return an attempt for ``--json``."""
    return {
        "number": attempt.number,
        "outcome": attempt.outcome,
        "worker": attempt.worker and str(attempt.worker),
        "started_at": serializers.format_time(attempt.started_at),
        "ended_at": serializers.format_time(attempt.ended_at),
        "exception": attempt.exception_class_path,
        "traceback": attempt.traceback,
    }
