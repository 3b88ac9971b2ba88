"""Do now what a process does every so often."""

from datetime import timedelta

from django.utils import timezone

from notifications.api import notify
from notifications.extension import Upkeep, Where
from notifications.models import Notification, PendingMark
from tests.support.waiting import wait_until


def run_duty(name, where=Where.WORKER, **options):
    """Do a duty until nothing is left to do, with what it starts on threads for code of the project."""
    process = Upkeep(where, seconds=60, **{"may_reap": lambda: True, **options})
    [duty] = [duty for duty in process.duties if duty.name == name]
    while process.run(duty):
        pass
    process.project_threads.end(60)


def enqueue_deliveries():
    """Enqueue the jobs of all deliveries that are due, on this thread."""
    for duty in Upkeep(Where.WORKER, seconds=60).duties:
        if duty.name.startswith("enqueue deliveries"):
            while ids := duty.subjects.take():
                duty.run(ids)
                duty.subjects.finish(ids)


def leave_work(user):
    """Leave an inbox to be marked as read, and a row to be pruned. Return a function that waits for both."""
    (old,), (unread,) = notify(user, "old"), notify(user, "unread")
    Notification.objects.filter(id=old).update(archived_at=timezone.now() - timedelta(days=40))
    PendingMark.objects.create(user=user, verb="read", moment=timezone.now(), after=0, up_to=2)

    def wait():
        wait_until(lambda: Notification.objects.get(id=unread).read_at, what="the inbox to be marked as read")
        wait_until(lambda: not Notification.objects.filter(id=old).exists(), what="the pruning")

    return wait
