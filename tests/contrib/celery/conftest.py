"""Fixtures for tests with workers of Celery."""

from contextlib import closing

import pytest

from tests.jobs.conftest import *  # noqa: F403 (fixtures)
from tests.support.celery_worker import CeleryWorker, two_slots


@pytest.fixture
def publisher(app, redis):
    """An app of another service, which has the broker of the workers. An app reads its URL once."""
    from celery import Celery

    publisher = Celery("publisher", broker=redis.url, set_as_current=False)
    publisher.conf.task_default_queue = app.conf.task_default_queue
    yield publisher
    with closing(publisher.connection_for_write()) as connection:
        connection.default_channel.client.delete("jobs", "unacked", "unacked_index")


@pytest.fixture
def app(monkeypatch):
    """The app whose tasks are jobs, which becomes the current one, with a broker in this process."""
    from tests.contrib.celery import job_tasks
    from tests.contrib.celery.job_app import app

    monkeypatch.setitem(app.conf, "broker_url", "memory://")
    monkeypatch.setattr("notifications.contrib.celery.task_messages.PUT_BACK_SECONDS", 0.01)
    app.set_current()
    app.finalize()
    job_tasks.seen.clear()
    return app


@pytest.fixture
def start_celery(publisher, redis, tmp_path_factory, transactional_db, request):
    """start_celery(*options) starts a worker that is stopped after the test."""
    workers = []

    def start(*options):
        folder = tmp_path_factory.mktemp("celery")
        workers.append(CeleryWorker(folder, redis.url, *(options or two_slots())))
        return workers[-1].start()

    yield start
    for worker in workers:
        worker.stop()
        request.node.add_report_section("teardown", "celery", worker.process.output)


def fail_at_first(monkeypatch, error, times):
    """Have the first calls that enqueue a job of a task of Celery raise. Returns a list with an item for each left."""
    from notifications.contrib.celery import JobTask

    left, enqueue_job = [error] * times, JobTask.enqueue_job

    def fail(*args, **kwargs):
        if left:
            raise left.pop()
        return enqueue_job(*args, **kwargs)

    monkeypatch.setattr(JobTask, "enqueue_job", fail)
    return left
