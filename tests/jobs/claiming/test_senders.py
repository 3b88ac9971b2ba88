"""The app's own senders are claimed in turn by user, and places stay free for those of whom none runs."""

from collections import Counter
from datetime import timedelta

import pytest
from django.utils import timezone

from notifications.api import policy, task
from notifications.jobs import task_backends
from notifications.management import pause_queue
from notifications.models import Job, uuid7
from tests.support.claims import claim_rows

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.database_law]
#: Jobs of one user that run at once.
MAX_PER_USER = 8


@task
@policy(concurrency_key="send", concurrency=MAX_PER_USER)
def send():
    pass


def queue(user, count=1, *, later=False, executor="sender", queue_name="deliveries"):
    """Insert queued jobs that send something to a user, None for jobs without a key."""
    rows = [
        Job(
            task_path=send.module_path,
            backend="default",
            queue_name=queue_name,
            executor=executor,
            title="Send",
            concurrency_key="" if user is None else f"send:{user}",
            run_after=timezone.now() - timedelta(minutes=1) if later else None,
        )
        for _ in range(count)
    ]
    task_backends["default"].insert_all(rows)


def claim(limit=100, **free):
    """Claim jobs as a worker does that has so many places free; return how many of each user."""
    free = free or {"sender": 200}
    claimed = claim_rows(uuid7(), limit, executors=free)
    return Counter(job.concurrency_key.removeprefix("send:") for job in claimed)


def test_one_user_takes_eight_places():
    queue("ada", 20)
    assert claim() == {"ada": MAX_PER_USER}
    assert claim() == {}


@pytest.mark.parametrize("later", [False, True], ids=["ready", "later"])
def test_those_of_whom_none_runs_go_first(later):
    """They are younger than the backlog, of which more jobs are due than there are places."""
    queue("ada", 20, later=later)
    assert claim(limit=2) == {"ada": 2}
    for user in ("bob", "eve"):
        queue(user, 2, later=later)
    assert claim(limit=3, sender=15) == {"bob": 2, "eve": 1}


def test_users_take_turns():
    for user in ("bob", "ada", "eve"):
        queue(user, 2)
    assert claim(limit=2) == {"bob": 1, "ada": 1}
    assert claim(limit=2) == {"eve": 1, "bob": 1}


def test_fifty_users_leave_places_free():
    """A newcomer has three of them at once, whatever the fifty have queued."""
    for number in range(50):
        queue(number, 20)
    taken = Counter()
    while more := claim(sender=200 - taken.total()):
        taken += more
    assert len(taken) == 50 and max(taken.values()) - min(taken.values()) == 1
    free = 200 - taken.total()
    assert free == 36
    queue("newcomer", 5)
    assert claim(sender=free) == {"newcomer": 3}


def test_all_places_are_for_users_of_whom_none_runs():
    for number in range(200 + 10):
        queue(number, 2)
    assert claim(limit=200).total() == 200
    assert Job.objects.filter(state="running").values("concurrency_key").distinct().count() == 200


def test_a_user_has_two_of_four_threads():
    queue("ada", 5, executor="email")
    assert claim(email=4) == {"ada": 2}
    queue("bob", 5, executor="email")
    assert claim(email=2) == {"bob": 1}


def test_jobs_without_a_key_are_a_share():
    queue(None, 5)
    queue("ada", 1)
    assert claim(limit=5, sender=5) == {"": 4, "ada": 1}


def test_paused_queues_and_limits_hold_senders_back(settings):
    settings.TASKS = {"default": {**settings.TASKS["default"], "OPTIONS": {"limits": {"small": 3}}}}
    queue("ada", 2, queue_name="paused")
    queue("bob", 5, queue_name="small")
    pause_queue("paused")
    assert claim() == {"bob": 3}
    pause_queue("paused", is_paused=False)
    assert claim() == {"ada": 2}
