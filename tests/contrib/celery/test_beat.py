"""Ticks of Celery's beat whose tasks are jobs."""

import threading
from datetime import timedelta

import pytest
from django.db import OperationalError
from django.utils import timezone

celery = pytest.importorskip("celery", reason="Celery is not installed (pip install celery).")

from notifications.contrib.celery import beat  # noqa: E402
from notifications.models import Job  # noqa: E402
from tests.contrib.celery import job_tasks as tasks  # noqa: E402
from tests.contrib.celery.conftest import fail_at_first  # noqa: E402

NAME = "tests.contrib.celery.job_tasks"


class Service:
    """What beat_init has as its sender."""

    def __init__(self):
        self._is_shutdown = threading.Event()


@pytest.fixture
def scheduler(app, transactional_db):
    """The scheduler of beat on this thread."""
    from celery import signals
    from celery.beat import Scheduler

    signals.beat_init.send(sender=Service())
    yield Scheduler(app, lazy=True)
    beat._services.clear()


def tick(scheduler):
    scheduler.setup_schedule()
    (entry,) = [entry for entry in scheduler.schedule.values() if entry.name == "known"]
    return scheduler.apply_entry(entry)


def test_tick_is_a_job(scheduler):
    tick(scheduler)
    job = Job.objects.get()
    assert (job.task_path, job.args) == (f"{NAME}.echo", '["tick"]')


def test_tick_expires(scheduler):
    now = timezone.now()
    tick(scheduler)
    assert timedelta(minutes=59) < Job.objects.get().expires_at - now < timedelta(minutes=61)


def test_tick_is_tried_again(scheduler, monkeypatch, set_bounds, caplog):
    set_bounds(retries=0.01)
    fail_at_first(monkeypatch, OperationalError("the database is away"), times=3)
    tick(scheduler)
    assert Job.objects.count() == 1
    assert caplog.text.count("Could not write what must not be lost") == 1


def test_other_threads_do_not_wait(app, db, monkeypatch):
    fail_at_first(monkeypatch, OperationalError("the database is away"), times=1)
    with pytest.raises(OperationalError):
        tasks.add.delay(1, 2)
