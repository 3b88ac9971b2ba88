"""Signals after the commit: on a thread of their own, in order, within bounds, and with the grace of a stop."""

import asyncio
import sqlite3
import threading
import time
from datetime import timedelta
from types import SimpleNamespace
from uuid import UUID

import pytest
from django.db import connection, connections, transaction
from django.utils import timezone

from notifications.compat import task_finished, task_started
from notifications.jobs import host_code
from notifications.jobs.transitions import manual, signal_queue
from notifications.jobs.transitions.signal_queue import SignalQueue
from notifications.models import Job, Notification
from notifications.signals import job_finished, notification_recorded
from tests.jobs import tasks
from tests.jobs.conftest import notifications_of, until_done
from tests.support.waiting import wait_until

SIGNALS = [task_started, task_finished, job_finished, notification_recorded]


@pytest.fixture
def receive():
    """receive(function, *signals): for this test."""
    connected = []

    def connect(function, *signals):
        for signal in signals:
            signal.connect(function)
            connected.append((signal, function))

    yield connect
    for signal, function in connected:
        signal.disconnect(function)


@pytest.mark.parametrize("signal", SIGNALS, ids=["started", "finished", "job_finished", "recorded"])
def test_one_that_hangs_stalls_no_job(worker, demo, receive, signal, caplog, monkeypatch):
    """Claiming and recording go on beside it, and the log names it."""
    monkeypatch.setattr(signal_queue, "SLOW_SECONDS", 0.1)
    heard = threading.Event()

    def hang(**kwargs):
        heard.set()
        tasks.gate.wait(30)

    receive(hang, signal)
    until_done(tasks.noop.using(owner=demo).enqueue(), timeout=20)
    assert heard.wait(20)
    for _ in range(3):
        until_done(*(tasks.noop.using(owner=demo).enqueue() for _ in range(5)), timeout=20)
    assert len(notifications_of(demo)) == 16
    wait_until(
        lambda: until_done(tasks.noop.enqueue()) and "Receiver is slow: " in caplog.text, what="the log"
    )
    assert "test_one_that_hangs_stalls_no_job.<locals>.hang has run for" in caplog.text


def test_in_the_order_of_the_commits(worker, demo, receive):
    """Of each job and from one job to the next."""
    heard = []
    receive(
        lambda task_result, **_: heard.append((task_result.id, task_result.status)),
        task_started,
        task_finished,
    )
    receive(lambda job, **_: heard.append((str(job.id), "job")), job_finished)
    receive(lambda notification, **_: heard.append((str(notification.job), "told")), notification_recorded)
    ids = [until_done(tasks.noop.using(owner=demo).enqueue())[0].id for _ in range(3)]
    kinds = ("RUNNING", "SUCCESSFUL", "job", "told")
    wait_until(lambda: len(heard) == 12, what="all signals")
    assert heard == [(str(id), kind) for id in ids for kind in kinds]


def leave_atomic_open():
    transaction.atomic().__enter__()


def begin_and_forget():
    connection.cursor().execute("BEGIN")


def close_raw_connection():
    connection.ensure_connection()
    connection.connection.close()


@pytest.mark.parametrize(
    ("act", "leave"),
    [
        (BaseException("no"), None),
        (KeyboardInterrupt(), None),
        (asyncio.CancelledError(), leave_atomic_open),
        (RuntimeError("no"), begin_and_forget),
        (SystemExit(1), close_raw_connection),
    ],
)
def test_whatever_one_does_the_next_are_called(worker, demo, receive, act, leave, caplog):
    seen = []

    def hostile(**kwargs):
        if leave:
            leave()
        raise act

    receive(hostile, *SIGNALS)
    receive(lambda job, **_: seen.append(Job.objects.get(id=job.id).state), job_finished)
    receive(
        lambda notification, **_: seen.append(Notification.objects.get(id=notification.id).title),
        notification_recorded,
    )
    for _ in range(2):
        until_done(tasks.noop.using(owner=demo, title="Mine").enqueue())
    wait_until(lambda: seen == ["succeeded", "Mine"] * 2, what="the other receivers")
    for what in ("task_started", "task_finished", "job_finished", "notification_recorded"):
        assert f"Host code failed: receiver of {what} tests.jobs.test_signal_queue" in caplog.text


def test_one_may_cancel_a_job(worker, demo, receive, caplog):
    """The signals of the cancelled job are sent inside the call, and the receivers behind it are called."""
    later = timezone.now() + timedelta(hours=1)
    other = tasks.noop.using(owner=demo, run_after=later).enqueue()
    seen = []

    def cancel_other(job, **kwargs):
        if str(job.id) != other.id:
            manual.cancel([UUID(other.id)])

    receive(cancel_other, job_finished)
    receive(lambda job, **_: seen.append(str(job.id)), job_finished)
    job = tasks.noop.using(owner=demo).enqueue()
    wait_until(lambda: len(seen) == 2, what="the receivers of both", timeout=20)
    assert seen == [other.id, job.id]
    assert "Could not send the signals" not in caplog.text


def test_one_that_reads_left_nothing_open(worker, receive, caplog):
    """Also as the first one on its thread, which connects to the database."""
    seen = []
    receive(lambda job, **_: seen.append(Job.objects.get(id=job.id).state), job_finished)
    tasks.noop.enqueue()
    wait_until(lambda: seen == ["succeeded"], what="the receiver")
    until_done(tasks.noop.enqueue())
    wait_until(lambda: len(seen) == 2, what="the receiver")
    assert "Host code left a transaction open" not in caplog.text


def test_connections_of_other_databases_stay_as_they_are(monkeypatch, caplog):
    """A project may have one to MySQL, say, whose driver says nothing of transactions."""
    closed = []
    other = SimpleNamespace(
        alias="other",
        vendor="mysql",
        autocommit=True,
        in_atomic_block=False,
        connection=object(),
        settings_dict={"AUTOCOMMIT": True},
        atomic_blocks=[],
        Database=sqlite3,
        savepoint_ids=[],
        close=lambda: closed.append(1),
    )
    monkeypatch.setattr(connections, "all", lambda initialized_only: [other])
    host_code.call("receiver", lambda: None)
    assert (closed, caplog.text) == ([], "")


@pytest.mark.parametrize("ends", [True, False])
def test_a_stop_gives_them_the_grace(start_worker, demo, receive, caplog, ends):
    """What is not sent within it may be lost, and the log says so."""
    heard = []

    def receiver(job, **kwargs):
        tasks.gate.wait(30)
        heard.append(job.id)

    receive(receiver, job_finished)
    worker = start_worker()
    until_done(*(tasks.noop.enqueue() for _ in range(5)))
    timer = threading.Timer(1.0, tasks.gate.set)
    if ends:
        timer.start()
    began = time.monotonic()
    worker.stop(grace=20 if ends else 0)
    if ends:
        assert len(heard) == 5
    else:
        assert "Signals may be lost, the process ends before they are sent; jobs: " in caplog.text
        assert time.monotonic() - began < 20
    tasks.gate.set()
    wait_until(lambda: len(heard) == 5, what="all to be called in the end")


def test_memory_is_bounded(gate, caplog, monkeypatch):
    """What comes while too much waits is dropped and counted, and it goes on when there is room again."""
    monkeypatch.setattr(signal_queue, "MAX_QUEUED_BYTES", 10 * signal_queue.BYTES_PER_JOB)
    queue, done = SignalQueue(), []
    try:
        queue.put(gate.wait, 1, 0)
        for number in range(20):
            queue.put(lambda number=number: done.append(number), 1, 0)
        queue.put(lambda: done.append("large"), 1, 10**9)
        gate.set()
        wait_until(lambda: done == list(range(9)), what="what had room")
        wait_until(lambda: not queue._queued_jobs, what="it to be empty")
        queue.put(lambda: done.append("later"), 1, 0)
        wait_until(lambda: done[-1] == "later", what="what came later")
    finally:
        queue.end()
    assert "Dropping signals, receivers are too slow; jobs whose signals wait: 10" in caplog.text
    assert "Dropped the signals of 12 jobs" in caplog.text


def test_elsewhere_they_are_sent_at_once():
    """In a request that cancels a job, say."""
    done = []
    signal_queue.send_later(lambda: done.append(threading.current_thread()))
    assert done == [threading.current_thread()]


@pytest.fixture(autouse=True)
def close_all():
    yield
    connections.close_all()
