"""Ends of attempts, as a worker makes and records them."""

import copy
import json
from dataclasses import replace

from notifications.jobs import Policy, outcomes
from notifications.jobs.transitions import reaping, recording


def succeeded(job, value=None, policy=Policy()):  # noqa: B008 (it is frozen)
    return outcomes.succeeded(job, policy, value, json.dumps(value))


def failed(job, exc=None, policy=Policy()):  # noqa: B008
    return outcomes.failed(job, policy, exc or ValueError("broken"))


def record(outcome):
    """Record an outcome. Returns whether it is stored or void; if not, its row is locked."""
    return bool(recording.finish_jobs([replace(outcome, job=copy.copy(outcome.job))]))


def schedule_retries(jobs, seconds):
    """Record failed attempts at running jobs, which are made again after this delay."""
    recording.finish_jobs([replace(failed(job), retry_delay=seconds) for job in jobs])


def release(job):
    """Queue a running job again, as a worker does that ends."""
    reaping.release_at_stop([job], ())
