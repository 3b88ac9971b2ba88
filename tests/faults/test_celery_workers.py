"""Celery's workers under settings and ends that cost messages or processes: each job still ends once."""

import signal
import time

import pytest

from tests.support.faults.celery_site import (
    CelerySite,
    assert_stops,
    send_signal,
    wait_for_worker,
)
from tests.support.processes import child_pids
from tests.support.waiting import wait_until

pytest.importorskip("celery", reason="Celery is not installed (pip install celery).")

PREFORK = ("--pool", "prefork", "--concurrency", "2")
THREADS = ("--pool", "threads", "--concurrency", "2")
#: A job that is longer than any test.
FOREVER_SECONDS = 600


@pytest.fixture
def make_site(postgres_site):
    """Return a function that makes the site with options of CelerySite."""
    made = []

    def make(**options):
        made.append(CelerySite(postgres_site, "celery-workers", **options))
        return made[0]

    yield make
    for celery_site in made:
        celery_site.close()


def start(celery_site, *arguments):
    worker = celery_site.start_celery(*arguments)
    wait_for_worker(worker)
    return worker


def row(celery_site, id):
    (found,) = celery_site.driver.call("rows", ids=[id])
    return found


def wait_until_state(celery_site, ids, state):
    celery_site.wait_until_all_done(ids, state=state)


@pytest.mark.nightly
def test_messages_that_are_delivered_again_have_no_effect(make_site):
    """With a visibility timeout of a second, Redis gives messages that wait in a worker to another one too."""
    celery_site = make_site(celery={"broker_transport_options": {"visibility_timeout": 1}})
    start(celery_site, *PREFORK)
    start(celery_site, *PREFORK)
    ids = celery_site.driver.call("enqueue", task="run_sync", args=[3], count=12)
    wait_until_state(celery_site, ids, "succeeded")
    celery_site.wait_until_done()
    celery_site.assert_invariants()
    assert {row["attempt"] for row in celery_site.driver.call("rows", ids=ids)} == {1}


@pytest.mark.nightly
def test_late_acknowledgments_of_the_project(make_site):
    """The project acknowledges its own tasks late, and has messages of killed processes delivered again."""
    celery_site = make_site(
        celery={
            "task_acks_late": True,
            "task_reject_on_worker_lost": True,
            "broker_transport_options": {"visibility_timeout": 1},
        }
    )
    worker = start(celery_site, *PREFORK)
    ids = celery_site.driver.call("enqueue", task="run_sync", args=[3], count=6)
    celery_site.wait_until_started(ids, 2)
    send_signal(child_pids(worker.pid)[0], signal.SIGKILL)
    wait_until_state(celery_site, ids, "succeeded")
    celery_site.wait_until_done()
    celery_site.assert_invariants()
    attempts = [row["attempt"] for row in celery_site.driver.call("rows", ids=ids)]
    assert sorted(attempts) == [1, 1, 1, 1, 1, 2]


@pytest.mark.nightly
@pytest.mark.parametrize(
    ("task", "count"), [("run_sync", 6), ("run_async", 6), ("join_child", 1), ("join_child_sync", 1)]
)
def test_process_for_each_job(make_site, task, count):
    """A process that has run one job ends. One whose job waits for another one lets it finish first.

    It is not replaced before, so that as many waiting jobs as there are processes would keep all others from running.
    """
    celery_site = make_site(celery={"worker_max_tasks_per_child": 1})
    worker = celery_site.start_celery(*PREFORK)
    ids = celery_site.driver.call("enqueue", task=task, args=[0.5], count=count)
    wait_until_state(celery_site, ids, "succeeded")
    celery_site.wait_until_done()
    celery_site.assert_invariants()
    assert "jobs released: 1" not in worker.output
    assert {row["attempt"] for row in celery_site.driver.call("rows", ids=ids)} == {1}


def test_stuck_process_exits(make_site):
    """Not even the thread of its lease runs. Celery starts another one, and the job is tried again."""
    celery_site = make_site(lease=3)
    worker = start(celery_site, *PREFORK)
    (id,) = celery_site.driver.call("enqueue", task="block_interpreter_once", args=[60])
    started = time.monotonic()
    wait_until_state(celery_site, [id], "succeeded")
    wait_until(lambda: "Timeout (0:00:03)!" in worker.output, what="the process to exit")
    assert time.monotonic() - started < 55
    celery_site.wait_until_done()
    celery_site.assert_invariants()


@pytest.mark.nightly
@pytest.mark.parametrize("pool", [PREFORK, THREADS], ids=["prefork", "threads"])
@pytest.mark.parametrize("task", ["run_sync", "run_async"])
def test_warm_shutdown_releases_jobs(make_site, task, pool):
    """SIGTERM gives running jobs the grace period, then queues them again without counting the attempt."""
    celery_site = make_site()
    celery_site.site.notifications["GRACE"] = 1
    worker = start(celery_site, *pool)
    ids = celery_site.driver.call("enqueue", task=task, args=[FOREVER_SECONDS], count=2)
    celery_site.wait_until_started(ids)
    started = time.monotonic()
    assert_stops(worker)
    assert time.monotonic() - started < 15
    assert [(row["state"], row["attempt"]) for row in celery_site.driver.call("rows", ids=ids)] == [
        ("queued", 0)
    ] * 2


@pytest.mark.nightly_names("*threads]")
@pytest.mark.parametrize("pool", [PREFORK, THREADS], ids=["prefork", "threads"])
def test_warm_shutdown_lets_jobs_finish(make_site, pool):
    celery_site = make_site()
    worker = start(celery_site, *pool)
    ids = celery_site.driver.call("enqueue", task="run_sync", args=[2], count=2)
    celery_site.wait_until_started(ids)
    assert_stops(worker)
    rows = celery_site.driver.call("rows", ids=ids)
    assert [(row["state"], row["attempt"]) for row in rows] == [("succeeded", 1)] * 2


def test_messages_are_sent_before_a_command_ends(make_site):
    """A command that enqueues a job as its last act waits for the broker, so that the job begins at once."""
    celery_site = make_site()
    start(celery_site, *THREADS)
    celery_site.site.python(
        "from tests.support.faults.celery_actions import enqueue; enqueue('run_async', [0])"
    )
    wait_until(lambda: [job.state for job in celery_site.jobs()] == ["succeeded"], what="the job to end")
