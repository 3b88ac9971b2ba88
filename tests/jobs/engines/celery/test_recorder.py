"""The recorder runs calls in order, and neither delays a task for long nor gives up at once without the database."""

import threading
import time

import pytest
from django.db import OperationalError, connection

from notifications.jobs.engines.celery import recorder as module
from notifications.jobs.engines.celery.recorder import Recorder
from tests.support.waiting import wait_until

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def recorder():
    recorder = Recorder()
    yield recorder
    recorder.drain(10)


def test_a_call_has_run_when_it_returns(recorder):
    ran = []
    for number in range(5):
        recorder.call(lambda number=number: ran.append(number))
    assert ran == [0, 1, 2, 3, 4]


def test_a_call_is_tried_again_while_the_database_is_away(recorder, caplog):
    tries = []

    def write():
        tries.append(1)
        if len(tries) < 3:
            raise OperationalError("away")

    recorder.call(write)
    assert len(tries) == 3
    assert caplog.text.count("which is tried again") == 1


def test_tasks_do_not_wait_while_the_database_is_away(recorder, monkeypatch):
    monkeypatch.setattr(module, "MAX_WAIT_SECONDS", 0.2)
    is_away, ran = threading.Event(), []
    is_away.set()

    def write(number):
        if is_away.is_set():
            raise OperationalError("away")
        ran.append(number)

    recorder.call(lambda: write(0), wait=0.2)
    started = time.monotonic()
    for number in range(1, 20):
        recorder.call(lambda number=number: write(number))
    assert time.monotonic() - started < 1
    is_away.clear()
    wait_until(lambda: ran == list(range(20)), what="all calls in order")


def test_an_error_loses_only_its_own_call(recorder, caplog):
    ran = []
    recorder.call(lambda: 1 / 0)
    recorder.call(lambda: ran.append(1))
    assert (ran, "ZeroDivisionError" in caplog.text) == ([1], True)


def test_calls_beyond_the_bound_are_dropped(recorder, monkeypatch, caplog):
    monkeypatch.setattr(module, "MAX_QUEUED_CALLS", 3)
    gate, ran = threading.Event(), []
    recorder.call(gate.wait, wait=0)
    wait_until(lambda: recorder._calls.qsize() == 0, what="the first call to run")
    for number in range(5):
        recorder.call(lambda number=number: ran.append(number), wait=0)
    gate.set()
    wait_until(lambda: ran == [0, 1, 2], what="the queued calls")
    assert "Dropped" in caplog.text


def test_progress_is_stored_twice_a_second_and_the_latest_wins(recorder):
    stored = []
    key = object()
    started = time.monotonic()
    for number in range(50):
        recorder.report(key, lambda number=number: stored.append((number, time.monotonic())))
        time.sleep(0.02)
    wait_until(lambda: stored and stored[-1][0] == 49, what="the latest report")
    assert len(stored) <= (time.monotonic() - started) / module.PROGRESS_INTERVAL_SECONDS + 1


def test_a_report_of_a_task_that_has_ended_is_dropped(recorder):
    stored = []
    recorder.report("task", lambda: stored.append(1))
    wait_until(lambda: stored == [1], what="the first report")
    recorder.report("task", lambda: stored.append(2))
    recorder.forget("task")
    recorder.drain(5)
    assert stored == [1]


def test_the_connection_is_kept_for_the_next_call(recorder):
    """As ``CONN_MAX_AGE`` is 0, Django would open one for each."""
    seen = []

    def query():
        connection.ensure_connection()
        seen.append(connection.connection)

    for _ in range(3):
        recorder.call(query)
    assert len({id(raw) for raw in seen}) == 1
