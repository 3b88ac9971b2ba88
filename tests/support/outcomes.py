"""Ends of attempts, and the jobs of observed tasks, as an app makes and reports them that observes tasks."""

import json
import uuid

from notifications import times
from notifications.jobs import ObservedAttempt, Observer, Policy
from notifications.models import Job


def raise_it(attempt, exc):
    raise exc


observer = Observer(raise_it)


def succeeded(job, value=None, policy=Policy()):  # noqa: B008 (it is frozen)
    return observer.succeeded(job, policy, value, observer.encode(value))


def failed(job, exc=None, policy=Policy()):  # noqa: B008
    return observer.failed(job, policy, exc or ValueError("broken"))


def error_type(job):
    """Return the documented type of a job's error, "" without one."""
    return json.loads(job.error or "{}").get("type", "")


def new_row(user=None, **fields):
    """Return the unsaved row of the message of an observed task."""
    now = times.now()
    values = {"task_path": "shop.tasks.export", "title": "Export", "executor": "observed"}
    values |= {"queue_name": "celery", "created_at": now, "queued_at": now, "id": uuid.uuid4()}
    return Job(user=user, **values | fields)


def attempt_at(row, *, number=1, value=None, is_ended=True, **options):
    """Return an attempt at the job of a row, in a worker that has its own copy of it."""
    job = Job(**{field.attname: getattr(row, field.attname) for field in Job._meta.concrete_fields})
    job.state, job.attempt = "running", number
    options = {"worker": uuid.uuid4(), "make_job": lambda: job, "policy": Policy(max_attempts=1)} | options
    attempt = ObservedAttempt(id=job.id, number=number, **options)
    if is_ended:
        end(attempt, value)
    return attempt


def end(attempt, value=None):
    """Have an attempt end with a value."""
    attempt.remake = lambda job: succeeded(job, value, attempt.policy)
    attempt.outcome = attempt.remake(attempt.job)


def guess(job, kind="worker-lost"):
    """Fail a job as a worker does that finds no trace of its task."""
    assert observer.end(observer.failed_as(observer.read(job.id), Policy(max_attempts=1), kind))
    assert Job.objects.get(id=job.id).state == "failed"
