"""What a project does with jobs, for a driver (tests/support/driver.py) in a process of its own."""

import logging
from collections import Counter
from datetime import timedelta
from uuid import UUID

from django.contrib.auth import get_user_model
from django.db import connections, transaction
from django.utils import timezone
from django.utils.module_loading import import_string

from notifications import jobs
from notifications.api import batch
from notifications.contrib import questions
from notifications.contrib.engines import wakeups
from notifications.contrib.output.testing import output as read_output
from notifications.management import pause_queue
from notifications.models import Attempt, Job, Notification, Wait
from tests.support.checks import doctor


def enqueue(task, args=(), owner=None, delay=None, count=1, **options):
    """Enqueue jobs in one transaction and return their ids."""
    prepared = _task(task).using(owner=_user(owner), **options)
    if delay is not None:
        prepared = prepared.using(run_after=timezone.now() + timedelta(seconds=delay))
    with transaction.atomic():
        return [prepared.enqueue(*args).id for _ in range(count)]


def enqueue_without_messages(task, count, **options):
    """Enqueue jobs whose messages are lost, and return their ids."""
    send, wakeups.send = wakeups.send, lambda counts: None
    try:
        return enqueue(task, count=count, **options)
    finally:
        wakeups.send = send


def send_messages(count, queue="default"):
    """Send messages that no job needs."""
    wakeups.send(Counter({("default", queue): count}))


def reconnect():
    """Use new connections to the database, which was away."""
    connections.close_all()


def describe_untaken(id):
    """Have a job wait for a minute. Return what `doctor` says about its engine, and what a server logs."""
    Job.objects.filter(id=UUID(id)).update(queued_at=timezone.now() - timedelta(seconds=60))
    logged, handler = [], logging.Handler()
    handler.emit = lambda record: logged.append(record.getMessage())
    logger = logging.getLogger("notifications.jobs")
    logger.addHandler(handler)
    jobs.claiming.unserved.warn_of_unserved_jobs()
    logger.removeHandler(handler)
    return doctor("engine")[0]["message"], "\n".join(logged)


def starts(ids):
    """Return when these jobs were started, in the order of their ids."""
    found = Job.objects.in_bulk([UUID(id) for id in ids])
    return [found[UUID(id)].started_at.isoformat() for id in ids]


def enqueue_end_of_process(neighbors):
    """Enqueue a job that ends its process, and others beside it, in one transaction; return the ids in this order."""
    with transaction.atomic():
        ids = [_task("contrib.engines.tasks.end_process").enqueue().id]
        return ids + [_task("contrib.engines.tasks.wait_beside").enqueue().id for _ in range(neighbors)]


def enqueue_and_roll_back(task):
    """Enqueue a job in a transaction that is rolled back, and return its id."""
    with transaction.atomic():
        id = _task(task).enqueue().id
        transaction.set_rollback(True)
    return id


def enqueue_batch(task, arguments, owner=None):
    """Enqueue a batch with one job for each argument, and return its id."""
    found = _task(task)
    with batch(owner=_user(owner), title="The batch") as jobs:
        for argument in arguments:
            found.enqueue(argument)
    return str(jobs.id)


def cancel(id):
    return jobs.cancel([UUID(id)])[UUID(id)]


def retry(id):
    return [str(queued) for queued in jobs.retry([UUID(id)])]


def pause(queue):
    pause_queue(queue)


def resume(queue):
    pause_queue(queue, is_paused=False)


def rows(ids):
    """Return of each job what a test looks at."""
    columns = ("id", "state", "executor", "attempt", "fence", "result", "error", "progress_current")
    found = Job.objects.filter(id__in=[UUID(id) for id in ids]).order_by("id").values(*columns)
    return [{**row, "id": str(row["id"])} for row in found]


def answer(id, value, user):
    """Answer the open question of a job, as one who was asked."""
    wait = Wait.objects.get(job=UUID(id), ended_at=None)
    questions.answer(id, wait.name, value, user=_user(user))


def written(id):
    """Return the output of a job."""
    return read_output(UUID(id))


def attempts(id):
    """Return the outcomes of the attempts that did not succeed."""
    return list(Attempt.objects.filter(job_id=UUID(id)).order_by("number").values_list("outcome", flat=True))


def titles(owner):
    """Return the titles of a user's notifications that have a number, in their order."""
    found = Notification.objects.filter(user=_user(owner), seq__isnull=False)
    return list(found.order_by("raised").values_list("title", flat=True))


def notified_jobs(owner):
    """Return the jobs of a user's notifications, in their order."""
    found = Notification.objects.filter(user=_user(owner), job__isnull=False)
    return [str(job) for job in found.order_by("id").values_list("job", flat=True)]


def _task(name):
    return import_string(f"tests.{name}" if "." in name else f"tests.jobs.tasks.{name}")


def _user(name):
    return None if name is None else get_user_model().objects.get(username=name)
