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


def record(*outcomes):
    """Record outcomes. Returns the claims of those that are stored or void; the rows of the others are locked."""
    return recording.finish_jobs([replace(outcome, job=copy.copy(outcome.job)) for outcome in outcomes])


def schedule_retries(jobs, seconds):
    """Record failed attempts at running jobs, which are made again after this delay."""
    record(*(replace(failed(job), retry_delay=seconds) for job in jobs))


def release(*jobs, called=False):
    """Queue running jobs again, as a worker does that ends, after it has called their tasks or before."""
    reaping.release_at_stop(jobs, {(job.id.int, job.fence) for job in jobs if called})
