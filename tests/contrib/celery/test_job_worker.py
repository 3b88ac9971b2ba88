"""Jobs of Celery's tasks with workers and beat of Celery as processes, through Redis."""

from contextlib import closing

import pytest

celery = pytest.importorskip("celery", reason="Celery is not installed (pip install celery).")

from notifications.api import get_job  # noqa: E402
from notifications.models import Job  # noqa: E402
from notifications.testing import run_jobs  # noqa: E402
from tests.contrib.celery import job_tasks as tasks  # noqa: E402
from tests.support.celery_worker import APP, CeleryWorker  # noqa: E402
from tests.support.waiting import wait_until  # noqa: E402

NAME = "tests.contrib.celery.job_tasks"


def until_state(result, state, timeout=60):
    return wait_until(lambda: result.state == state, timeout=timeout, what=f"{result} to be {state}")


def test_messages(start_celery, publisher, user):
    """Those that were in the broker before the worker, and the one that is delivered again."""
    sent = publisher.send_task(f"{NAME}.export", (user.pk, 2026))
    start_celery()
    publisher.send_task(f"{NAME}.export", (user.pk, 2026), task_id=sent.id)
    other = publisher.send_task(f"{NAME}.add", (1, 2))
    wait_until(lambda: Job.objects.filter(idempotency_key=other.id).exists(), what="the last message")
    run_jobs()
    assert Job.objects.count() == 2
    assert tasks.export.AsyncResult(sent.id).get() == {"year": 2026}


def test_jobs_run_in_processes_of_celery(start_celery, user):
    """And a retry, with the engine that runs other jobs too."""
    results = [tasks.export.delay(user.pk, 2026), tasks.retry_by_hand.delay(user.pk, 1)]
    start_celery()
    for result in results:
        until_state(result, "SUCCESS")
    assert results[1].get() == 1


def test_task_whose_worker_is_killed_is_not_called_again(start_celery):
    result = tasks.kill_itself.delay()
    start_celery("--pool", "threads", "--concurrency", 2)
    start_celery("--pool", "threads", "--concurrency", 2)
    until_state(result, "FAILURE", timeout=90)
    job = get_job(result.id)
    assert (job.error["type"], job.attempt) == ("worker-lost", 1)


def test_beat(publisher, redis, tmp_path, transactional_db):
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
    with closing(publisher.connection_for_read()) as connection:
        messages = connection.default_channel.client.lrange("jobs", 0, -1)
    assert not [message for message in messages if b"job_tasks.echo" in message]  # others wake workers
