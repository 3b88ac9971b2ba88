"""What a site's own code asks the engine for, for tests/support/driver.py."""

import time
from datetime import timedelta

from django.contrib.auth import get_user_model
from django.db import InterfaceError, OperationalError, connection, transaction
from django.utils import timezone

from notifications.jobs.transitions import manual
from notifications.models import Job
from tests.faults.support import tasks

User = get_user_model()


def ask(task, count, args, user, at_once):
    """Jobs of one task, so many in one transaction; None as a user asks for nobody."""
    asked = []
    while len(asked) < count:
        try:
            owner = user and User.objects.get_or_create(username=user)[0]
            with transaction.atomic():
                some = [
                    getattr(tasks, task).using(owner=owner).enqueue(*args).id
                    for _ in range(min(at_once, count - len(asked)))
                ]
        except (OperationalError, InterfaceError):
            connection.close()  # the database is away; whether these were committed or not, others are asked for
            time.sleep(0.05)
            continue
        asked += some
        time.sleep(0.002)
    return asked


def ask_among(task, innocent, seconds):
    """A job of one task among so many of `work`, in one transaction; one claim takes all."""
    owner = User.objects.get(username="demo")
    with transaction.atomic():
        some = [tasks.work.using(owner=owner).enqueue(seconds).id for _ in range(innocent // 2)]
        some.append(getattr(tasks, task).using(owner=owner).enqueue().id)
        while len(some) <= innocent:
            some.append(tasks.work.using(owner=owner).enqueue(seconds).id)
    return some


def ask_for_later(seconds, count):
    """Jobs that are due in a while, by the clock of this process."""
    owner = User.objects.get(username="demo")
    when = timezone.now() + timedelta(seconds=seconds)
    return [tasks.work.using(owner=owner, run_after=when).enqueue(0).id for _ in range(count)]


def ask_mixed(users, each, kinds):
    """For each user so many jobs with a number, of the kind that `kinds` names for it (noop unless it does)."""
    for nth in range(users):
        owner = User.objects.get_or_create(username=f"mixed{nth}")[0]
        for start in range(0, each, 50):
            with transaction.atomic():
                for number in range(start, min(start + 50, each)):
                    name = kinds.get(str(nth * each + number), "noop")
                    getattr(tasks, name).using(owner=owner).enqueue(nth * each + number)
            time.sleep(0.002)


def cancel_running(task, by_owner):
    """Cancel what runs of a task; return how many are still to be cancelled."""
    active = Job.objects.filter(task_path__endswith=f".{task}", state__in=["queued", "running"])
    for job in active.filter(state="running", cancel_requested_at=None):
        manual.cancel([job.pk], by=job.user_id if by_owner else None)
    return active.count()


ACTIONS = (ask, ask_among, ask_for_later, ask_mixed, cancel_running)
