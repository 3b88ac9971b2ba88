"""Fixtures for tests with workers of Celery."""

from contextlib import closing, suppress

import pytest

from notifications.models import Job, Notification
from tests.jobs.conftest import *  # noqa: F403 (fixtures)
from tests.support.celery_worker import CeleryWorker, require_celery, require_prefork, two_slots
from tests.support.waiting import wait_until


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


@pytest.fixture(scope="module")
def shared_worker(broker, tmp_path_factory, django_db_setup, django_db_blocker):
    """A worker with two slots for all tests of the module."""
    with django_db_blocker.unblock():
        worker = CeleryWorker(tmp_path_factory.mktemp("celery"), broker.url, *two_slots())
    yield worker.start()
    worker.stop()


@pytest.fixture
def worker(shared_worker, celery_app, transactional_db, request):
    """The worker of the module. Its log is shown when the test fails."""
    before = len(shared_worker.output)
    yield shared_worker
    # What is recorded after this test would be rows in the next one.
    active = Job.objects.filter(queue_name="celery", state__in=["queued", "running"])
    with suppress(AssertionError):
        wait_until(lambda: not active.exists(), timeout=10)
    request.node.add_report_section("teardown", "celery", shared_worker.output[before:])
    assert "Could not observe" not in shared_worker.output[before:]


def until_ended(result, timeout=60):
    """Wait until the job of a task is done, and return its row."""
    return wait_until(
        lambda: next((job for job in Job.objects.filter(id=str(result)) if job.done), None),
        timeout=timeout,
        what=f"the job of task {result} to end",
    )


def until_row(result, timeout=60, **conditions):
    """Wait until the row of a task's job meets conditions, and return it."""
    return wait_until(
        lambda: Job.objects.filter(id=str(result), **conditions).first(),
        timeout=timeout,
        what=f"the job of task {result} with {conditions}",
    )


def bell_of(user):
    """Return title, body and level of the user's notifications, oldest first."""
    return [(row.title, row.body, row.level) for row in Notification.objects.filter(user=user).order_by("id")]
