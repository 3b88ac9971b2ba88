"""What a process of a site does whose jobs run on Celery, for tests/support/driver.py."""

import random
import time

from django.contrib.auth import get_user_model
from django.db import transaction

from asyncsite.celery import app
from notifications.api import batch
from notifications.models import Notification
from tests.contrib.engines import actions
from tests.contrib.engines.actions import rows as rows
from tests.support.faults import celery_tasks
from tests.support.faults.engine_actions import enqueue_jobs as enqueue_jobs
from tests.support.faults.engine_actions import open_session as open_session

User = get_user_model()
JOBS_PER_BURST = 5


def enqueue_burst(seed, count, max_seconds=0.3, pause=0.3):
    """Enqueue jobs of all kinds, some in batches, in several transactions with pauses in between."""
    rng = random.Random(seed)
    owner = User.objects.get(username="demo")
    for _ in range(count // JOBS_PER_BURST):
        with transaction.atomic():
            if rng.random() < 0.3:
                with batch(owner=owner, title="A batch"):
                    _enqueue_some(rng, max_seconds)
            else:
                _enqueue_some(rng, max_seconds, owner=owner)
        time.sleep(rng.random() * pause)


def _enqueue_some(rng, max_seconds, **options):
    for task in rng.choices(celery_tasks.KINDS, k=JOBS_PER_BURST):
        task.using(**options).enqueue(rng.random() * max_seconds)


def enqueue(task, args=(), count=1):
    """Enqueue jobs of a task of celery_tasks.py for demo in one transaction, and return their ids."""
    return actions.enqueue(f"support.faults.celery_tasks.{task}", args, owner="demo", count=count)


def enqueue_for_users(users, count, size):
    """Enqueue jobs for each user in turn, `size` in a transaction, and return how many."""
    owners = [User.objects.get(username=user) for user in users]
    for start in range(0, count, size):
        with transaction.atomic():
            for number in range(start, min(start + size, count)):
                task = (celery_tasks.run_async, celery_tasks.run_sync)[number // len(owners) % 2]
                task.using(owner=owners[number % len(owners)]).enqueue(0)
    return count


def send_again(seed, copies=3):
    """Send messages again, as a broker that doubles messages does."""
    for _ in range(5 * copies):
        app.send_task("notifications.wake", args=["default", "default"])


def notifications(user="demo"):
    """Return the ids of a user's notifications in the order in which they were raised."""
    found = Notification.objects.filter(user__username=user).order_by("raised")
    return [str(id) for id in found.values_list("id", flat=True)]
