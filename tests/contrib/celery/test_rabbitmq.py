"""Observed tasks through RabbitMQ, without a result backend that others can read."""

from pathlib import Path

import pytest

from notifications.models import Attempt
from tests.contrib.celery.conftest import bell_of, until_ended, until_row
from tests.support.celery_worker import CeleryWorker, two_slots
from tests.support.rabbitmq import START_SECONDS, RabbitMQ
from tests.support.waiting import wait_until

pytest.importorskip("celery", reason="Celery is not installed.")

pytestmark = pytest.mark.timeout(START_SECONDS + 300)


@pytest.fixture(scope="module")
def rabbitmq():
    server = RabbitMQ()
    yield server
    server.stop()


@pytest.fixture
def start_celery(rabbitmq, celery_app, tmp_path_factory, transactional_db, request):
    """start_celery() starts a worker that takes tasks from RabbitMQ, and is stopped after the test."""
    workers = []

    def start():
        worker = CeleryWorker(
            tmp_path_factory.mktemp("celery"),
            rabbitmq.url,
            *two_slots(),
            environment={"CELERY_RESULT_BACKEND": "rpc://"},
        )
        workers.append(worker)
        return worker.start()

    yield start
    for worker in workers:
        worker.stop()
        request.node.add_report_section("teardown", "celery", worker.output)


@pytest.fixture
def publish(rabbitmq, celery_app):
    """publish(name, *args, **options) publishes a task of tests/contrib/celery/tasks.py through RabbitMQ."""
    from tests.contrib.celery import tasks

    def publish(name, *args, **options):
        with celery_app.connection_for_write(rabbitmq.url) as connection:
            return getattr(tasks, name).apply_async(args, connection=connection, **options)

    return publish


def test_ends_ring_the_bell_once(start_celery, publish, user):
    start_celery()
    jobs = [until_ended(publish(name, user.pk, 0)) for name in ("export", "fail", "retried")]
    jobs.append(until_ended(publish("export", user.pk, 1, countdown=1.5, expires=0.5)))
    assert [job.state for job in jobs] == ["succeeded", "failed", "succeeded", "failed"]
    assert len(bell_of(user)) == 4


@pytest.mark.usefixtures("prefork")
def test_a_killed_child_rings_the_bell_once(start_celery, publish, user):
    start_celery()
    assert until_ended(publish("kill_itself", user.pk)).state == "failed"
    assert len(bell_of(user)) == 1


def test_a_killed_worker_whose_task_is_delivered_again(start_celery, publish, user, tmp_path):
    path = tmp_path / "gate"
    worker = start_celery()
    result = publish("hold_late", user.pk, str(path))
    until_row(result, state="running")
    wait_until(Path(f"{path}.started").exists, what="the task to run")
    worker.kill()
    path.touch()
    start_celery()
    job = until_ended(result)
    assert (job.state, len(bell_of(user))) == ("succeeded", 1)
    assert [attempt.outcome for attempt in Attempt.objects.filter(job=job)] == ["lost"]
