"""The row of a Celery worker, which its main process has while no job runs."""

from types import SimpleNamespace

import pytest
from django.db import OperationalError, connection

from notifications.models import Worker
from tests.support.waiting import wait_until

pytest.importorskip("celery", reason="Celery is not installed (pip install celery).")

from notifications.contrib.celery import main_process
from notifications.contrib.celery.engine import CeleryEngine

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def process():
    made = main_process.MainProcess(["jobs", "mail"])
    yield made
    made.stop(20)


def until_rows(count):
    wait_until(lambda: Worker.objects.filter(queues="celery:jobs,celery:mail").count() == count)


def test_the_row_says_that_processes_are_idle_and_which_queues_they_take(process, app):
    engine = CeleryEngine("default", "notifications.contrib.celery")
    assert not engine.has_idle_processes()
    process.wake()
    until_rows(1)
    assert engine.has_idle_processes()
    assert engine.taken_queues() == {"default", "mail"}
    assert Worker.objects.get().concurrency == 0
    process.stop(20)
    assert not Worker.objects.exists()


def test_a_database_that_is_away_when_the_worker_starts(process, monkeypatch, caplog, forgotten_log):
    start, errors = process.lease.start, [OperationalError("away")]

    def start_later():
        if errors:
            raise errors.pop()
        start()

    monkeypatch.setattr(process.lease, "start", start_later)
    process.wake()
    until_rows(1)
    assert "A thread failed, and goes on: notifications-celery-main: away" in caplog.text


def test_a_worker_that_stops_while_it_pauses_after_an_error(process, monkeypatch):
    """It deletes its row, too."""
    start, tries = process.lease.start, []

    def start_and_fail():
        start()
        tries.append(1)
        raise RuntimeError("No.")

    monkeypatch.setattr(process.lease, "start", start_and_fail)
    process.wake()
    wait_until(lambda: len(tries) == 4, what="a pause of almost a second")
    process.stop(20)
    assert not Worker.objects.exists()


def test_prefork_is_refused_on_sqlite(monkeypatch):
    """A child that is forked while a thread is inside SQLite waits for its locks for ever."""
    monkeypatch.setattr(main_process, "_main", None)
    queues = SimpleNamespace(consume_from={"celery": None})
    sender = SimpleNamespace(pool_cls="prefork", app=SimpleNamespace(amqp=SimpleNamespace(queues=queues)))
    if connection.vendor == "sqlite":
        with pytest.raises(SystemExit, match="--pool threads"):
            main_process.prepare(sender)
        assert main_process._main is None
        sender.pool_cls = "threads"
    main_process.prepare(sender)
    assert main_process._main


def test_a_worker_that_stops_deletes_its_row(start_celery):
    worker = start_celery()
    rows = Worker.objects.filter(queues="celery:jobs")
    wait_until(lambda: rows.count() == 1, what="the row of the worker")
    worker.process.popen.terminate()
    wait_until(lambda: not worker.process.running, what="the worker to end")
    assert not rows.exists()
