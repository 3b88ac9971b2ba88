"""Jobs of Celery's tasks with workers and beat of Celery as processes, through Redis."""

from contextlib import closing

import pytest

celery = pytest.importorskip("celery", reason="Celery is not installed (pip install celery).")

from notifications.api import get_job  # noqa: E402
from notifications.models import Job  # noqa: E402
from notifications.testing import run_jobs  # noqa: E402
from tests.contrib.celery import job_tasks as tasks  # noqa: E402
from tests.support.celery_worker import CeleryWorker, two_slots  # noqa: E402
from tests.support.waiting import wait_until  # noqa: E402

APP = "tests.contrib.celery.job_app"
NAME = "tests.contrib.celery.job_tasks"


@pytest.fixture
def app(redis, monkeypatch):
    from tests.contrib.celery.job_app import app

    # An app reads the URL once.
    publisher = celery.Celery("publisher", broker=redis.url, set_as_current=False)
    publisher.conf.task_default_queue = "jobs"
    app.set_current()
    app.finalize()
    tasks.seen.clear()
    yield publisher
    with closing(publisher.connection_for_write()) as connection:
        connection.default_channel.client.delete("jobs", "unacked", "unacked_index")


@pytest.fixture
def start(app, redis, tmp_path_factory, transactional_db, request):
    """start(*options) starts a worker of Celery that is stopped after the test."""
    workers = []

    def start(*options, **more):
        options = options or two_slots()
        worker = CeleryWorker(tmp_path_factory.mktemp("celery"), redis.url, *options, app=APP, **more)
        workers.append(worker)
        return worker.start()

    yield start
    for worker in workers:
        worker.stop()
        request.node.add_report_section("teardown", "celery", worker.output)


def until_state(result, state, timeout=60):
    return wait_until(lambda: result.state == state, timeout=timeout, what=f"{result} to be {state}")


def test_messages(start, app, user):
    """Those that were in the broker before the worker, and the one that is delivered again."""
    sent = app.send_task(f"{NAME}.export", (user.pk, 2026))
    start()
    app.send_task(f"{NAME}.export", (user.pk, 2026), task_id=sent.id)
    other = app.send_task(f"{NAME}.add", (1, 2))
    wait_until(lambda: Job.objects.filter(idempotency_key=other.id).exists(), what="the last message")
    run_jobs()
    assert Job.objects.count() == 2
    assert tasks.export.AsyncResult(sent.id).get() == {"year": 2026}


def test_jobs_run_in_processes_of_celery(start, user):
    """And a retry, with the engine that runs other jobs too."""
    results = [tasks.export.delay(user.pk, 2026), tasks.retry_by_hand.delay(user.pk, 1)]
    start()
    for result in results:
        until_state(result, "SUCCESS")
    assert results[1].get() == 1


def test_task_whose_worker_is_killed_is_not_called_again(start):
    result = tasks.kill_itself.delay()
    start("--pool", "threads", "--concurrency", 2)
    start("--pool", "threads", "--concurrency", 2)
    until_state(result, "FAILURE", timeout=90)
    job = get_job(result.id)
    assert (job.error["type"], job.attempt) == ("worker-lost", 1)


def test_beat(app, redis, tmp_path, transactional_db):
    """Its entries are jobs, without a message."""
    worker = CeleryWorker(tmp_path, redis.url)
    command = ["-m", "celery", "-A", APP, "beat", "--schedule", tmp_path / "schedule", "--pidfile", ""]
    process = worker.site.start("beat", *command)
    try:
        wait_until(lambda: Job.objects.count() > 1, what="two ticks")
    finally:
        process.stop(timeout=20)
        worker.site.close()
    assert set(Job.objects.values_list("args", flat=True)) == {'["tick"]'}
    with closing(app.connection_for_read()) as connection:
        messages = connection.default_channel.client.lrange("jobs", 0, -1)
    assert not [message for message in messages if b"job_tasks.echo" in message]  # others wake workers
