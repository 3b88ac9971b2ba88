"""Signals after a commit: on a thread of their own, in order, bounded, and sent at a stop."""

import asyncio
import threading
import time
from datetime import timedelta
from uuid import UUID

import pytest
from django.db import connection, connections, transaction
from django.utils import timezone

from notifications.jobs import cancel
from notifications.models import Job, Notification
from notifications.signals import job_finished, notification_recorded
from tests.jobs import tasks
from tests.jobs.conftest import notifications_of, until_done
from tests.support.django_tasks import task_finished, task_started
from tests.support.waiting import wait_until

SIGNALS = [task_started, task_finished, job_finished, notification_recorded]


@pytest.fixture
def connect_receiver():
    """connect_receiver(function, *signals) connects a receiver for the length of the test."""
    connected = []

    def connect(function, *signals):
        for signal in signals:
            signal.connect(function)
            connected.append((signal, function))

    yield connect
    for signal, function in connected:
        signal.disconnect(function)


@pytest.mark.nightly_names("*[job_finished]", "*[recorded]", "*[started]")
@pytest.mark.parametrize("signal", SIGNALS, ids=["started", "finished", "job_finished", "recorded"])
def test_a_receiver_that_hangs_delays_no_job(worker, user, connect_receiver, signal, caplog, set_bounds):
    """Jobs are claimed and recorded meanwhile, and the log names the receiver."""
    set_bounds(answers=0.1)
    received = threading.Event()

    def hang(**kwargs):
        received.set()
        tasks.gate.wait(30)

    connect_receiver(hang, signal)
    until_done(tasks.noop.using(owner=user).enqueue(), timeout=20)
    assert received.wait(20)
    for _ in range(3):
        until_done(*(tasks.noop.using(owner=user).enqueue() for _ in range(5)), timeout=20)
    assert len(notifications_of(user)) == 16
    wait_until(
        lambda: until_done(tasks.noop.enqueue()) and "Receiver is slow: " in caplog.text, what="the log"
    )
    assert "test_a_receiver_that_hangs_delays_no_job.<locals>.hang has run for" in caplog.text


def test_the_order_of_signals(worker, user, connect_receiver):
    """Signals are sent in the order of the commits, both those of one job and those of several."""
    received = []
    connect_receiver(
        lambda task_result, **_: received.append((task_result.id, task_result.status)),
        task_started,
        task_finished,
    )
    connect_receiver(lambda job, **_: received.append((str(job.id), "job")), job_finished)
    connect_receiver(
        lambda notification, **_: received.append((str(notification.job), "notification")),
        notification_recorded,
    )
    ids = [until_done(tasks.noop.using(owner=user).enqueue())[0].id for _ in range(3)]
    kinds = ("RUNNING", "SUCCESSFUL", "job", "notification")
    wait_until(lambda: len(received) == 12, what="all signals")
    assert received == [(str(id), kind) for id in ids for kind in kinds]


def leave_atomic_open():
    transaction.atomic().__enter__()


def begin_and_forget():
    connection.cursor().execute("BEGIN")


def close_raw_connection():
    connection.ensure_connection()
    connection.connection.close()


@pytest.mark.parametrize(
    ("error", "leave"),
    [
        (BaseException("no"), None),
        (KeyboardInterrupt(), None),
        (asyncio.CancelledError(), leave_atomic_open),
        (RuntimeError("no"), begin_and_forget),
        (SystemExit(1), close_raw_connection),
    ],
)
def test_a_receiver_that_fails_does_not_affect_the_others(
    worker, user, connect_receiver, error, leave, caplog
):
    received = []

    def hostile(**kwargs):
        if leave:
            leave()
        raise error

    connect_receiver(hostile, *SIGNALS)
    connect_receiver(lambda job, **_: received.append(Job.objects.get(id=job.id).state), job_finished)
    connect_receiver(
        lambda notification, **_: received.append(Notification.objects.get(id=notification.id).title),
        notification_recorded,
    )
    for _ in range(2):
        until_done(tasks.noop.using(owner=user, title="Mine").enqueue())
    wait_until(lambda: received == ["succeeded", "Mine"] * 2, what="the other receivers")
    for name in ("task_started", "task_finished", "job_finished", "notification_recorded"):
        assert f"Host code failed: receiver of {name} tests.worker.test_signal_queue" in caplog.text


def test_a_receiver_that_cancels_a_job(worker, user, connect_receiver, caplog):
    """The signals of the cancelled job are sent during the call, those of the first job continue after it."""
    later = timezone.now() + timedelta(hours=1)
    other = tasks.noop.using(owner=user, run_after=later).enqueue()
    received = []

    def cancel_other(job, **kwargs):
        if str(job.id) != other.id:
            cancel([UUID(other.id)])

    connect_receiver(cancel_other, job_finished)
    connect_receiver(lambda job, **_: received.append(str(job.id)), job_finished)
    job = tasks.noop.using(owner=user).enqueue()
    wait_until(lambda: len(received) == 2, what="the receivers of both", timeout=20)
    assert received == [other.id, job.id]
    assert "Could not send the signals" not in caplog.text


def test_a_receiver_that_reads_leaves_no_transaction_open(worker, connect_receiver, caplog):
    """This includes the first receiver on the thread, which connects to the database."""
    received = []
    connect_receiver(lambda job, **_: received.append(Job.objects.get(id=job.id).state), job_finished)
    tasks.noop.enqueue()
    wait_until(lambda: received == ["succeeded"], what="the receiver")
    until_done(tasks.noop.enqueue())
    wait_until(lambda: len(received) == 2, what="the receiver")
    assert "Host code left a transaction open" not in caplog.text


@pytest.mark.parametrize("ends", [True, False])
def test_signals_at_a_stop(start_worker, user, connect_receiver, caplog, ends):
    """They are sent within the grace period; a warning counts the jobs whose signals are not."""
    received = []

    def receiver(job, **kwargs):
        tasks.gate.wait(30)
        received.append(job.id)

    connect_receiver(receiver, job_finished)
    worker = start_worker()
    until_done(*(tasks.noop.enqueue() for _ in range(5)))
    timer = threading.Timer(1.0, tasks.gate.set)
    if ends:
        timer.start()
    began = time.monotonic()
    worker.stop(grace=20 if ends else 0)
    if ends:
        assert len(received) == 5
    else:
        assert "Signals may be lost, the process ends before they are sent; jobs: " in caplog.text
        assert time.monotonic() - began < 20
    tasks.gate.set()
    wait_until(lambda: len(received) == 5, what="all to be called in the end")


@pytest.fixture(autouse=True)
def close_all():
    yield
    connections.close_all()
