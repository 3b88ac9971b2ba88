"""``notify`` functions run on threads of their own, before the transaction, and for a limited time."""

import asyncio
import gc
import threading
import time
from dataclasses import replace
from datetime import timedelta
from uuid import UUID

import pytest
from django.contrib.auth import get_user_model
from django.db import connection
from django.utils import timezone

from notifications.api import batch, policy, task
from notifications.jobs import Policy, cancel
from notifications.jobs.transitions import notify_functions
from notifications.models import Job, uuid7
from notifications.testing import run_jobs
from notifications.worker import DaemonExecutor, NoThread, SignalQueue
from tests.jobs import tasks
from tests.jobs.conftest import notifications_of, until_done
from tests.support.duties import run_duty
from tests.support.outcomes import succeeded
from tests.support.threads import run_in_threads
from tests.support.waiting import wait_until

pytestmark = pytest.mark.nightly_on_postgres

NAME = "tests.jobs.transitions.test_notify_functions"

#: What a function saw: its thread, whether a transaction was open there, and how many users it read.
calls = []
gate = threading.Event()


def watch(job):
    calls.append(
        (threading.current_thread().name, connection.in_atomic_block, get_user_model().objects.count())
    )
    return {"title": f"{job.state} as described"}


def hang(job):
    calls.append(job.title)
    gate.wait(30)
    return {"title": "too late"}


def fail(job):
    raise ValueError("no title")


def raise_no_thread(*args):
    raise NoThread("no memory")


@task
@policy(notify=watch)
async def watched():
    pass


@task
@policy(notify=hang)
async def hanging():
    pass


@task
@policy(notify=watch, retry_on=(ValueError,))
def fail_when_cancelled():
    tasks.held.append("running")
    tasks.gate.wait(30)
    raise ValueError("after the request to cancel it")


@task
@policy(notify=hang, max_attempts=1)
def lost():
    pass


@pytest.fixture(autouse=True)
def open_gate():
    calls.clear()
    gate.clear()
    yield
    gate.set()
    wait_until(lambda: not (notify_functions.open_records() or running()), what="calls to return")


@pytest.fixture
def set_timeout(monkeypatch):
    """Set after how many seconds a function is given up."""
    return lambda seconds: monkeypatch.setattr(notify_functions, "TIMEOUT_SECONDS", seconds)


@pytest.fixture
def short_timeout(set_timeout):
    set_timeout(0.5)


@pytest.fixture
def long_timeout(set_timeout):
    set_timeout(60)


def running():
    return notify_functions._threads.calls._open


@pytest.fixture
def threads(monkeypatch):
    """The threads of another process."""
    threads = notify_functions._Threads()
    monkeypatch.setattr(notify_functions, "_threads", threads)
    yield threads
    gate.set()
    threads.calls.shutdown()
    threads.records.shutdown()


def outcome_with(notify):
    job = Job(task_path="shop.pay", title="Pay", user_id=1, fence=1)
    return succeeded(job, policy=Policy(notify=notify))


def assert_neighbors_end(user):
    """Other jobs of the same worker end while a function hangs."""
    until_done(*[tasks.noop.using(owner=user).enqueue() for _ in range(20)])


def titles(user):
    return [note.title for note in notifications_of(user)]


def test_thread(worker, user):
    """It may use the database, and holds nothing that others wait for."""
    until_done(watched.using(owner=user).enqueue())
    [(thread, is_in_transaction, users)] = calls
    assert thread.startswith("notifications-notify")
    assert (is_in_transaction, users) == (False, 1)
    assert titles(user) == ["succeeded as described"]


def test_slow_function_delays_no_neighbor(worker, user, long_timeout):
    result = hanging.using(owner=user, title="Slow").enqueue()
    wait_until(lambda: calls, what="the function to be called")
    assert_neighbors_end(user)
    assert Job.objects.get(id=result.id).state == "running"
    gate.set()
    until_done(result)
    assert "too late" in titles(user)


def test_slow_function_is_given_up(worker, user, short_timeout, caplog):
    result = hanging.using(owner=user, title="Slow").enqueue()
    until_done(result)
    assert titles(user) == ["Slow"], "The default notification."
    assert f"Host code failed: notify function {NAME}.hang of job {result.id}" in caplog.text
    assert "It takes longer than 0.5 s." in caplog.text


def test_slow_function_of_a_batch_delays_no_neighbor(worker, user, long_timeout):
    with batch(owner=user, title="Slow", notify=hang) as b:
        tasks.noop.enqueue()
    wait_until(lambda: calls, what="the function to be called")
    assert_neighbors_end(user)
    assert Job.objects.get(id=b.id).state == "running"
    gate.set()
    until_done(b.result)
    assert "too late" in titles(user)
    assert len(calls) == 1, "Rounds of the worker do not call it again."


def test_slow_function_of_a_batch_is_given_up(worker, user, short_timeout, caplog):
    with batch(owner=user, title="Slow", notify=hang) as b:
        tasks.noop.enqueue()
    until_done(b.result)
    assert "Slow" in titles(user)
    assert len(calls) == 1, "Rounds of the worker do not call it again."
    assert f"notify function {NAME}.hang" in caplog.text


@pytest.fixture
def short_lease(settings):
    """A worker looks for lost jobs when it has held its lease for the time of one, 15 s by default."""
    settings.NOTIFICATIONS = {**settings.NOTIFICATIONS, "LEASE": 5}


def test_slow_function_of_a_lost_job_delays_no_neighbor(short_lease, worker, user, long_timeout):
    rows = [hanging.using(owner=user, title=f"Lost {n}").enqueue().id for n in range(2)]
    wait_until(lambda: len(calls) == 2, what="the jobs to run")
    # As if the process of another worker had ended.
    Job.objects.filter(id__in=rows).update(worker=uuid7(), fence=9, attempt=3)
    wait_until(lambda: len(calls) == 4, what="another call for each")
    assert_neighbors_end(user)
    gate.set()
    wait_until(lambda: not Job.objects.filter(id__in=rows, seq=0).exists(), what="the jobs to fail")
    assert set(Job.objects.filter(id__in=rows).values_list("state", flat=True)) == {"failed"}
    assert len(calls) == 4, "The function is called once for each end."
    assert titles(user).count("too late") == 2


def test_hanging_calls_are_few(worker, user, set_timeout, monkeypatch, caplog):
    set_timeout(0.5)
    monkeypatch.setattr(notify_functions, "MAX_HANGING_CALLS", 2)
    until_done(*[hanging.using(owner=user).enqueue() for _ in range(2)])
    until_done(*[hanging.using(owner=user).enqueue() for _ in range(3)])
    assert len(calls) == 2
    assert "2 other calls take too long." in caplog.text
    gate.set()
    threads = notify_functions._threads.calls
    wait_until(lambda: not threads.stuck_calls, what="the calls to return")
    set_timeout(60)
    until_done(hanging.using(owner=user).enqueue())
    assert titles(user)[-1] == "too late"


def test_stop_of_the_worker(start_worker, user):
    """A job whose task has ended is not executed again: it is recorded with the default notification."""
    worker = start_worker()
    result = hanging.using(owner=user, title="Done").enqueue()
    wait_until(lambda: calls, what="the function to be called")
    worker.stop(grace=0)
    assert Job.objects.get(id=result.id).state == "succeeded"
    assert titles(user) == ["Done"]


def test_cancellation_by_another_user(worker, user, gate):
    """Of a queued job, and of one that fails after the request."""
    running = fail_when_cancelled.using(owner=user).enqueue()
    wait_until(lambda: tasks.held, what="the task to run")
    later = timezone.now() + timedelta(hours=1)
    queued = watched.using(owner=user, run_after=later).enqueue()
    cancel([UUID(queued.id), UUID(running.id)], by=uuid7())
    executions = worker.worker.state.executions
    wait_until(lambda: all(each.is_cancelling for each in executions.values()), what="the request")
    assert len(calls) == 1  # that of the running job is called at its end
    gate.set()
    until_done(running, queued)
    assert titles(user) == ["cancelled as described"] * 2
    assert len(calls) == 2


@pytest.mark.django_db(transaction=True)
def test_reaping_outside_a_worker(user):
    """A thread that may wait for the project waits."""
    gate.set()
    Job.objects.filter(id=lost.using(owner=user).enqueue().id).update(
        state="running", worker=uuid7(), fence=1, attempt=1
    )
    run_duty("take jobs from lost workers")
    assert titles(user) == ["too late"]


def test_inside_a_test_case(db, user):
    """It is called on the thread of the test, whose rows no other thread sees."""
    watched.using(owner=user).enqueue()
    run_jobs()
    assert calls == [(threading.current_thread().name, True, 1)]
    assert titles(user) == ["succeeded as described"]
    notify_functions.call_all([outcome_with(watch)])
    assert calls[0] == calls[1]


@pytest.mark.django_db(transaction=True)
def test_rows_are_not_locked_while_a_function_runs(user, monkeypatch):
    """A manual cancellation calls it before its transaction."""
    result = hanging.using(owner=user).enqueue()
    canceller = threading.Thread(target=lambda: (cancel([UUID(result.id)], by=uuid7()), connection.close()))
    canceller.start()
    try:
        wait_until(lambda: calls, what="the function to be called")
        Job.objects.filter(id=result.id).update(title="Changed meanwhile")  # would wait for the lock
        assert canceller.is_alive()
    finally:
        gate.set()
        canceller.join()
    assert titles(user) == ["too late"]


def test_function_that_raises(threads, monkeypatch, caplog):
    """asyncio does not log the error a second time."""
    monkeypatch.setattr(notify_functions.logger, "disabled", True)  # a log record would keep the error
    for _ in range(2):  # the thread keeps the last call
        outcome = asyncio.run(notify_functions.acall(outcome_with(fail)))
    gc.collect()
    assert (outcome.notify, outcome.notification.title) == (None, "Pay")
    assert caplog.text == ""


@pytest.mark.parametrize("reason", ["all are occupied", "none can be started"])
def test_call_without_a_thread(threads, monkeypatch, set_bounds, caplog, reason):
    """The default notification is recorded."""
    if reason == "all are occupied":
        set_bounds(answers=0.1)
        threads.calls = DaemonExecutor(1, "notifications-notify")
        notify_functions._Call(outcome_with(hang))
        wait_until(lambda: calls, what="the function to be called")
    else:
        monkeypatch.setattr(threads.calls, "submit", raise_no_thread)
    outcome = notify_functions._Call(outcome_with(watch)).wait()
    assert (outcome.notify, outcome.notification.title) == (None, "Pay")
    assert ("It had no thread for" if reason == "all are occupied" else "NoThread: no memory") in caplog.text


def test_record_without_a_thread(threads, monkeypatch, caplog):
    """The outcome is not lost: it is tried again."""
    monkeypatch.setattr(threads.records, "submit", raise_no_thread)
    silent, loud = replace(outcome_with(watch), notify=None), outcome_with(watch)

    def find():
        SignalQueue().use_on_this_thread()
        assert notify_functions.record_apart([silent, loud], calls.append) == [silent]

    run_in_threads(find)
    assert "which is tried again: no memory" in caplog.text
    assert not calls and notify_functions.claims_recorded_apart() == set()


def test_defect_of_a_call(worker, user, monkeypatch, caplog):
    """The finished task does not run again, and frees its slot."""

    def fail(call):
        raise RuntimeError("a defect")

    monkeypatch.setattr(notify_functions._Call, "_result", fail)
    [job] = until_done(watched.using(owner=user, title="Done").enqueue(), timeout=4)
    assert (job.state, job.attempt, titles(user)) == ("succeeded", 1, ["Done"])
    assert "RuntimeError: a defect" in caplog.text
    wait_until(lambda: not worker.worker.state.executions, what="the slot to be free")


@pytest.mark.django_db(transaction=True)
def test_end_that_two_threads_find(threads, monkeypatch):
    """It is recorded once."""
    outcome, submit, recorded = outcome_with(hang), threads.records.submit, []
    monkeypatch.setattr(threads.records, "submit", lambda call: time.sleep(0.2) or submit(call))

    def find():
        SignalQueue().use_on_this_thread()
        assert notify_functions.record_apart([outcome], recorded.append) == []

    run_in_threads(find, find)
    gate.set()
    wait_until(lambda: not notify_functions.open_records(), what="the end to be recorded")
    assert (len(recorded), calls) == (1, ["Pay"])
