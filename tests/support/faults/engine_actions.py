"""The jobs that a site's own code enqueues, for tests/support/driver.py."""

import time
from datetime import timedelta

from django.contrib.auth import get_user_model
from django.db import InterfaceError, OperationalError, connection, transaction
from django.utils import timezone

from notifications.jobs import cancel
from notifications.models import Job
from tests.support.faults import tasks
from tests.support.site_actions import sign_in

User = get_user_model()


def enqueue_jobs(task, count, args, user, batch_size):
    """Enqueue jobs of a task, `batch_size` in a transaction; with None as the user they have no owner."""
    ids = []
    while len(ids) < count:
        try:
            owner = user and User.objects.get_or_create(username=user)[0]
            with transaction.atomic():
                batch = [
                    getattr(tasks, task).using(owner=owner).enqueue(*args).id
                    for _ in range(min(batch_size, count - len(ids)))
                ]
        except (OperationalError, InterfaceError):
            connection.close()  # The database is down. These jobs, committed or not, are replaced by others.
            time.sleep(0.05)
            continue
        ids += batch
        time.sleep(0.002)
    return ids


def open_session(user="demo"):
    """Return the key of a user, and of a new session of theirs."""
    found = User.objects.get_or_create(username=user)[0]
    return {"user": found.pk, "session": sign_in(found)}


def enqueue_with_neighbors(task, neighbors, seconds):
    """Enqueue a job of a task among jobs of `work`, in one transaction, so that one claim takes all."""
    owner = User.objects.get(username="demo")
    with transaction.atomic():
        ids = [tasks.work.using(owner=owner).enqueue(seconds).id for _ in range(neighbors // 2)]
        ids.append(getattr(tasks, task).using(owner=owner).enqueue().id)
        while len(ids) <= neighbors:
            ids.append(tasks.work.using(owner=owner).enqueue(seconds).id)
    return ids


def enqueue_for_later(seconds, count, option="run_after"):
    """Enqueue jobs that are due, or with "expires" expire, in some seconds, by the clock of this process."""
    owner = User.objects.get(username="demo")
    moment = timezone.now() + timedelta(seconds=seconds)
    return [tasks.work.using(owner=owner, **{option: moment}).enqueue(0).id for _ in range(count)]


def enqueue_mixed(users, each, kinds):
    """Enqueue `each` numbered jobs for each user. `kinds` maps numbers to tasks other than noop."""
    for index in range(users):
        owner = User.objects.get_or_create(username=f"mixed{index}")[0]
        for start in range(0, each, 50):
            with transaction.atomic():
                for number in range(start, min(start + 50, each)):
                    name = kinds.get(str(index * each + number), "noop")
                    getattr(tasks, name).using(owner=owner).enqueue(index * each + number)
            time.sleep(0.002)


def cancel_running(task, by_owner):
    """Cancel the running jobs of a task; return the number of its active jobs."""
    active = Job.objects.filter(task_path__endswith=f".{task}", state__in=["queued", "running"])
    for job in active.filter(state="running", cancel_requested_at=None):
        cancel([job.pk], by=job.user_id if by_owner else None)
    return active.count()
