"""Tasks of Celery whose calls are jobs, and a project's calls of them, for tests/support/driver.py."""

import random
import time
import uuid
from types import SimpleNamespace

from celery import group, shared_task
from django.contrib.auth import get_user_model
from django.db import InterfaceError, OperationalError, connection, transaction

from notifications.api import policy
from notifications.contrib.celery import JobTask
from notifications.worker import current_execution
from tests.support.faults.tasks import write_effect

#: How often ``retried`` requests another attempt.
RETRIES = 2


@shared_task(base=JobTask, owner="user_id")
def once(user_id, seconds):
    _work(seconds)


@shared_task(base=JobTask, owner="user_id", acks_late=True)
@policy(max_attempts=20)  # more than processes are killed
def late(user_id, seconds):
    _work(seconds)


@shared_task(base=JobTask, owner="user_id", bind=True, default_retry_delay=0)
def retried(self, user_id, seconds):
    if self.request.retries < RETRIES:
        _write("started")
        raise self.retry()
    _work(seconds)


@shared_task(base=JobTask, owner="user_id")
def tick(user_id):
    """Is enqueued by beat."""
    _work(0)


def _work(seconds):
    _write("started")
    time.sleep(seconds)
    _write("done")


def _write(event):
    job = current_execution().job
    write_effect(SimpleNamespace(task_result=job, attempt=job.attempt), event)


def call_tasks(seed, count, pause):
    """Make calls until this many are committed, and return the ids of their jobs."""
    rng = random.Random(seed)
    user_id = get_user_model().objects.get(username="demo").pk
    accepted = []
    for _ in range(count):
        accepted += _commit(rng, user_id)
        time.sleep(rng.random() * 2 * pause)
    return accepted


def _commit(rng, user_id):
    """Make a call, again while the database is away."""
    while True:
        try:
            with transaction.atomic():
                return [str(result.job_id) for result in rng.choice(WAYS)(rng, user_id)]
        except (OperationalError, InterfaceError):
            connection.close()
            time.sleep(0.1)


def _delay(rng, user_id):
    return [rng.choice((once, late, retried)).delay(user_id, rng.random() / 4)]


def _group(rng, user_id):
    return group(task.s(user_id, 0.1) for task in (once, late))()


def _repeat(rng, user_id):
    """The same call twice, as by a client that has no answer to the first."""
    arguments, id = (user_id, rng.random() / 4), str(uuid.UUID(int=rng.getrandbits(128)))
    return [once.apply_async(arguments, task_id=id) for _ in range(2)]


WAYS = (_delay, _delay, _group, _repeat)
