"""Fixtures for tests with workers of Celery."""

from contextlib import closing

import pytest

from tests.jobs.conftest import *  # noqa: F403 (fixtures)
from tests.support.celery_worker import CeleryWorker, require_celery, require_prefork, two_slots


@pytest.fixture(scope="session")
def broker(redis):
    """A Redis server, to which the app of Celery in this process publishes."""
    require_celery()
    with (
        pytest.MonkeyPatch.context() as patch
    ):  # not longer: sites of other tests would run their jobs on Celery
        patch.setenv("CELERY_BROKER_URL", redis.url)
        import tests.contrib.celery.app  # noqa: F401  (it reads the variable)
    return redis


@pytest.fixture
def celery_app(broker, django_db_blocker):
    """The app in this process. What a test leaves in the queue, the workers of the next one would be busy with."""
    from redis import Redis

    from tests.contrib.celery.app import app

    app.set_current()  # the site has an app too
    with django_db_blocker.unblock():  # Celery's part for Django runs the checks of the models
        app.loader.import_default_modules()
    app.finalize()
    yield app
    with closing(Redis.from_url(broker.url)) as client:
        client.delete("celery", "unacked", "unacked_index")


@pytest.fixture
def start_celery(broker, celery_app, tmp_path_factory, transactional_db, request):
    """start_celery(*options) starts a worker that is stopped after the test."""
    workers = []

    def start(*options, **more):
        options = options or two_slots()
        worker = CeleryWorker(tmp_path_factory.mktemp("celery"), broker.url, *options, **more)
        workers.append(worker)
        return worker.start()

    yield start
    for worker in workers:
        worker.stop()
    for worker in workers:
        request.node.add_report_section("teardown", "celery", worker.output)


@pytest.fixture
def prefork():
    """Skip a test of child processes on SQLite, where a worker refuses to start them."""
    require_prefork()


@pytest.fixture
def app(monkeypatch):
    """The app whose tasks are jobs, which becomes the current one, with a broker in this process."""
    from tests.contrib.celery import job_tasks
    from tests.contrib.celery.job_app import app

    monkeypatch.setitem(app.conf, "broker_url", "memory://")
    app.set_current()
    app.finalize()
    job_tasks.seen.clear()
    return app


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
