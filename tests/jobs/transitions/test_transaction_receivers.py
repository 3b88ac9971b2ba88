"""Failing receivers of notification_recording: every outcome is stored, and the log names the receiver."""

import asyncio
import time
from collections import Counter

import pytest
from django.db import OperationalError, connection, transaction

from notifications.jobs.transitions import manual, transaction_receivers
from notifications.models import Job
from notifications.signals import job_finished, notification_recording
from notifications.testing import run_jobs
from tests.jobs import tasks
from tests.jobs.conftest import notifications_of, until_done
from tests.support.waiting import wait_until

NAME = "tests.jobs.transitions.test_transaction_receivers.hostile.<locals>.connect.<locals>.receive"


def raises(error):
    def act(job):
        raise error

    act.__name__ = type(error).__name__
    return act


def leave_atomic_open(job):
    transaction.atomic().__enter__()
    transaction.atomic().__enter__()


def roll_back_raw(job):
    connection.connection.rollback()


def roll_back_in_sql(job):
    with connection.cursor() as cursor:
        cursor.execute("ROLLBACK")


def roll_back_and_fail(job):
    roll_back_in_sql(job)
    raise RuntimeError("after a rollback")


def close_connection(job):
    connection.close()


def close_raw_connection(job):
    connection.connection.close()


def terminate_backend(job):
    if connection.vendor != "postgresql":
        return close_raw_connection(job)
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_terminate_backend(pg_backend_pid())")


def swallow_broken_statement(job):
    """PostgreSQL then refuses each statement until the savepoint is rolled back."""
    if connection.vendor != "postgresql":
        raise RuntimeError("SQLite has no broken transactions.")
    try:
        with connection.cursor() as cursor:
            cursor.execute("SELECT no_such_column FROM notifications_job")
    except Exception:
        pass


def change_autocommit(job):
    transaction.set_autocommit(True)


def hang(job):
    tasks.gate.wait(30)


def linger(job):
    time.sleep(1.5)


def hang_in_sql(job):
    if connection.vendor != "postgresql":
        return hang(job)
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_sleep(30)")


def fail_after_commit(job):
    transaction.on_commit(raise_interrupt)


def raise_interrupt():
    raise KeyboardInterrupt


RAISING_ACTS = [
    raises(RuntimeError("no")),
    raises(BaseException("no")),
    raises(KeyboardInterrupt()),
    raises(SystemExit(1)),
    raises(asyncio.CancelledError()),
    raises(GeneratorExit()),
    raises(OperationalError("could not connect to a mail server's database")),
    leave_atomic_open,
    change_autocommit,
    swallow_broken_statement,
]
CONNECTION_LOSING_ACTS = [
    roll_back_raw,
    roll_back_in_sql,
    roll_back_and_fail,
    close_connection,
    close_raw_connection,
    terminate_backend,
]
HANGING_ACTS = [hang, hang_in_sql]


@pytest.fixture
def hostile():
    """hostile(act) connects a receiver that calls ``act`` for jobs titled "Poison" and enqueues a mail for others."""
    connected = []

    def connect(act):
        calls = Counter()

        def receive(sender, notification, job, **kwargs):
            if job.task_path.endswith(".echo"):
                return
            calls[job.title] += 1
            if job.title == "Poison":
                tasks.noop.using(title="never committed").enqueue()
                act(job)
            else:
                tasks.echo.using(title="Mail").enqueue(job.title)

        notification_recording.connect(receive)
        connected.append(receive)
        return calls

    yield connect
    for receiver in connected:
        notification_recording.disconnect(receiver)
    transaction_receivers._losses.clear()


@pytest.fixture
def short_timeout(monkeypatch):
    """Limit receivers to half a second."""
    monkeypatch.setattr(transaction_receivers, "RECEIVER_TIMEOUT_SECONDS", 0.5)


def enqueue_ten(owner, *poison):
    with transaction.atomic():
        titles = [*(f"Job {number}" for number in range(9)), *poison]
        return [tasks.noop_sync.using(owner=owner, title=title).enqueue() for title in titles]


def mails():
    return Job.objects.filter(title="Mail").count()


@pytest.mark.parametrize(
    "act", [*RAISING_ACTS, *CONNECTION_LOSING_ACTS, *HANGING_ACTS], ids=lambda act: act.__name__
)
def test_every_outcome_is_stored(worker, user, hostile, short_timeout, act, caplog):
    """Rows that the receiver wrote for other jobs are stored once, and those that it wrote for this job are not."""
    calls = hostile(act)
    jobs = until_done(*enqueue_ten(user, "Poison"), timeout=20)  # less than the 30 s of a hanging receiver
    assert {job.state for job in jobs} == {"succeeded"}
    assert {job.attempt for job in jobs} == {1}
    assert len(notifications_of(user)) == 10
    # A second mail for a job would be stored by then.
    wait_until(lambda: mails() == 9, what="nine mails")
    assert not Job.objects.filter(title="never committed").exists()
    limit = 1 if act in RAISING_ACTS or act in HANGING_ACTS else transaction_receivers.MAX_LOSSES
    assert calls["Poison"] == limit
    assert NAME in caplog.text, "The log names the receiver."
    if act in HANGING_ACTS:
        # Either the receiver's timeout or the statement's may pass first: both are 0.5 s.
        reasons = ["Host code takes longer than 0.5 s", "canceling statement due to statement timeout"]
        assert any(reason in caplog.text for reason in reasons[: 2 if act is hang_in_sql else 1])
    tasks.gate.set()
    assert until_done(*enqueue_ten(user))[0].state == "succeeded"
    assert worker.thread.is_alive()


def test_two_lost_transactions_of_a_group(worker, user, hostile):
    """The other outcomes of the group are stored."""
    calls = hostile(close_raw_connection)
    jobs = until_done(*enqueue_ten(user, "Poison", "Poison"))
    assert {job.state for job in jobs} == {"succeeded"}
    assert mails() == 9
    assert calls["Poison"] == 2 * transaction_receivers.MAX_LOSSES


def test_a_receiver_that_always_hangs_blocks_few_threads(worker, user, hostile, short_timeout):
    """At MAX_HANGING_CALLS, jobs are recorded without receivers until the hanging calls have returned."""
    calls = hostile(hang)
    until_done(*enqueue_ten(user, *["Poison"] * 6), timeout=20)
    assert calls["Poison"] == transaction_receivers.MAX_HANGING_CALLS
    until_done(*enqueue_ten(user))
    tasks.gate.set()
    wait_until(lambda: not transaction_receivers._hanging, what="the calls to return")
    until_done(*enqueue_ten(user))
    assert mails() >= 9


def test_slow_receivers_of_a_group(worker, user, hostile, monkeypatch):
    """If they exceed the timeout of the group, outcomes are recorded one by one, and no transaction counts as lost."""
    monkeypatch.setattr(transaction_receivers, "GROUP_TIMEOUT_SECONDS", 0.1)
    hostile(lambda job: time.sleep(0.06))
    enqueue_ten(user, *["Poison"] * 5)
    wait_until(lambda: Job.objects.filter(title="never committed").count() == 5, what="all to be recorded")


@pytest.mark.parametrize("error", [RuntimeError("no"), KeyboardInterrupt()], ids=repr)
def test_commit_hooks_of_receivers(worker, user, hostile, error, caplog):
    """They run after the commit. If one raises, later hooks still run and signals are still sent."""
    received = []

    def receive(sender, job, **kwargs):
        received.append(job.title)

    def hook():
        raise error

    hostile(lambda job: transaction.on_commit(hook) or transaction.on_commit(lambda: received.append("hook")))
    job_finished.connect(receive)
    try:
        until_done(*enqueue_ten(user, "Poison"))
        wait_until(lambda: {"hook", "Poison", "Job 0", "Job 8"} <= set(received), what="hooks and signals")
    finally:
        job_finished.disconnect(receive)
    assert "Host code failed: on_commit hook tests.jobs.transitions.test_transaction_receivers" in caplog.text
    assert "is void" not in caplog.text


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize(
    "act", [*RAISING_ACTS, *CONNECTION_LOSING_ACTS, linger], ids=lambda act: act.__name__
)
def test_manual_cancellation(user, hostile, short_timeout, act, caplog):
    """manual.cancel() cancels all jobs too. It waits for a slow receiver."""
    calls = hostile(act)
    ids = [Job.objects.get(id=result.id).id for result in enqueue_ten(user, "Poison")]
    results = manual.cancel(ids)
    assert set(results.values()) == {"cancelled"} and len(results) == 10
    assert len(notifications_of(user)) == 10
    assert mails() == 9
    assert calls["Poison"] <= transaction_receivers.MAX_LOSSES
    assert NAME in caplog.text


@pytest.mark.parametrize("act", RAISING_ACTS, ids=lambda act: act.__name__)
def test_inside_a_test_case(user, hostile, act, caplog):
    hostile(act)
    results = enqueue_ten(user, "Poison")
    run_jobs()
    assert {job.state for job in Job.objects.filter(id__in=[result.id for result in results])} == {
        "succeeded"
    }
    assert mails() == 9
    assert NAME in caplog.text
