"""Batches on several workers: one worker is killed before it completes the batch, or several share the jobs."""

import json
import signal

import pytest

from tests.support.waiting import wait_until

pytestmark = pytest.mark.nightly_on_postgres

ENQUEUE = """
from django.contrib.auth import get_user_model
from notifications.api import batch
from tests.jobs import tasks
demo = get_user_model().objects.get(username="demo")
with batch(owner=demo, title="Many"):
    for number in range({count}):
        tasks.{task}.enqueue({arguments})
"""
#: A worker that dies when its jobs are stored and their batch is not completed.
DYING_WORKER = """
import os, django
django.setup()
from django.core.management import call_command
from tests.support.statements import preceded
with preceded('"worker" IS NULL AND EXISTS', lambda: os.kill(os.getpid(), 9)):
    call_command("run_jobs")
"""


@pytest.fixture
def workers(site):
    site.environment["EMBEDDED_WORKER"] = "0"
    return site


def wait_for_batch(site, state, timeout=30):
    sql = "SELECT state, result, error FROM notifications_job WHERE batch IS NULL"
    wait_until(lambda: site.rows(sql)[0][0] == state, timeout=timeout, what=f"a {state} batch")
    return site.rows(sql)[0]


def get_notifications(site):
    return site.rows("SELECT title, body, seq FROM notifications_notification")


def test_worker_killed_before_the_batch_is_completed(workers):
    """The next worker completes the batch in its maintenance."""
    workers.python(ENQUEUE.format(count=3, task="noop", arguments=""))
    dying = workers.start("dying", "-c", DYING_WORKER)
    dying.popen.wait(30)
    assert dying.popen.returncode == -signal.SIGKILL
    states = "SELECT batch IS NULL, state FROM notifications_job ORDER BY 1, 2"
    assert (1, "running") in [(int(first), state) for first, state in workers.rows(states)]
    assert get_notifications(workers) == []
    workers.start_worker()
    _, result, _ = wait_for_batch(workers, "succeeded")
    assert json.loads(result) == {"succeeded": 3, "failed": 0, "cancelled": 0}
    wait_until(
        lambda: get_notifications(workers) == [("Many", "All 3 jobs succeeded.", 2)], what="one notification"
    )


@pytest.mark.nightly
def test_two_workers_on_one_batch(workers):
    """Two workers execute a batch and one of them completes it, after a third one was killed."""
    for _ in range(2):
        workers.start_worker("--concurrency", "8")
    victim = workers.start_worker("--concurrency", "8")
    workers.python(ENQUEUE.format(count=600, task="one_in_five_fails", arguments="number"))
    wait_until(
        lambda: workers.rows(
            "SELECT 1 FROM notifications_job WHERE batch IS NOT NULL AND finished_at IS NOT NULL"
        ),
        what="the first job to be done",
    )
    victim.kill()
    _, _, error = wait_for_batch(workers, "failed")
    assert json.loads(error)["detail"] == "480 of 600 done, 120 failed"
    wait_until(
        lambda: len(get_notifications(workers)) == 1 and get_notifications(workers)[0][2],
        what="one notification",
    )
    assert (
        len(
            {
                worker
                for (worker,) in workers.rows("SELECT worker FROM notifications_job WHERE batch IS NOT NULL")
            }
        )
        > 1
    )
