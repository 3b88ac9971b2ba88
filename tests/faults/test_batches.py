"""Batches over workers in processes of their own: killed between the last job and the end, and side by side."""

import json
import signal

import pytest

from tests.support.waiting import wait_until

ASK = """
from django.contrib.auth import get_user_model
from notifications.api import batch
from tests.jobs import tasks
demo = get_user_model().objects.get(username="demo")
with batch(owner=demo, title="Many"):
    for number in range({count}):
        tasks.{task}.enqueue({arguments})
"""
#: A worker that dies where its jobs are stored and their batch is not settled.
DYING = """
import os, django
django.setup()
from django.core.management import call_command
from notifications.jobs.transitions import batch_completion
batch_completion.collect_outcomes = lambda batches: os.kill(os.getpid(), 9)
call_command("run_jobs")
"""


@pytest.fixture
def workers(site):
    site.environment["EMBEDDED_WORKER"] = "0"
    return site


def until_batch(site, state, timeout=30):
    sql = "SELECT state, result, error FROM notifications_job WHERE batch IS NULL"
    wait_until(lambda: site.rows(sql)[0][0] == state, timeout=timeout, what=f"a {state} batch")
    return site.rows(sql)[0]


def told(site):
    return site.rows("SELECT title, body, seq FROM notifications_notification")


def test_killed_between_the_last_job_and_the_end_of_the_batch(workers):
    """Nobody else would ever end it; the next worker does when it keeps house."""
    workers.python(ASK.format(count=3, task="noop", arguments=""))
    dying = workers.start("dying", "-c", DYING)
    dying.popen.wait(30)
    assert dying.popen.returncode == -signal.SIGKILL
    states = "SELECT batch IS NULL, state FROM notifications_job ORDER BY 1, 2"
    assert (1, "running") in [(int(first), state) for first, state in workers.rows(states)]
    assert told(workers) == []
    workers.start_worker()
    _, result, _ = until_batch(workers, "succeeded")
    assert json.loads(result) == {"succeeded": 3, "failed": 0, "cancelled": 0}
    wait_until(lambda: told(workers) == [("Many", "All 3 jobs succeeded.", 2)], what="one notification")


def test_two_workers_on_one_batch(workers):
    """Each finishes a part; one of them ends it. A worker that is killed meanwhile changes nothing."""
    for _ in range(2):
        workers.start_worker("--concurrency", "8")
    victim = workers.start_worker("--concurrency", "8")
    workers.python(ASK.format(count=600, task="one_in_five_fails", arguments="number"))
    wait_until(
        lambda: workers.rows(
            "SELECT 1 FROM notifications_job WHERE batch IS NOT NULL AND finished_at IS NOT NULL"
        ),
        what="the first to be done",
    )
    victim.kill()
    _, _, error = until_batch(workers, "failed")
    assert json.loads(error)["detail"] == "120 of 600 failed."
    wait_until(lambda: len(told(workers)) == 1 and told(workers)[0][2], what="one notification")
    assert (
        len(
            {
                worker
                for (worker,) in workers.rows("SELECT worker FROM notifications_job WHERE batch IS NOT NULL")
            }
        )
        > 1
    )
