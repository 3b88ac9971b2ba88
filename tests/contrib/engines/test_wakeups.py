"""Which messages are sent to engines, and when."""

import time
from collections import Counter
from contextlib import nullcontext
from datetime import timedelta
from itertools import pairwise

import pytest
from django.db import transaction
from django.utils import timezone

from notifications.contrib.engines import wakeups
from notifications.extension import Where
from notifications.jobs import retry
from notifications.jobs.claiming.sources import Source
from notifications.jobs.transitions.manual import reschedule
from notifications.management import pause_queue
from notifications.models import Job, uuid7
from tests.contrib.engines import recording_engine
from tests.contrib.engines.conftest import wait_long
from tests.data.test_plans_of_claims import insert_queued_jobs
from tests.jobs import tasks
from tests.support.claims import claim_rows
from tests.support.duties import run_duty
from tests.support.outcomes import failed, record, release, schedule_retries
from tests.support.waiting import wait_until

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def messages(with_engine, monkeypatch, set_bounds):
    """The messages that the engine of the backend "default" was sent: backend, queue, count."""
    monkeypatch.setattr(wakeups, "enabled_in_tests", True)
    monkeypatch.setattr(wakeups, "_senders", {})
    yield with_engine.messages
    for sender in wakeups._senders.values():
        sender._thread.stop(60)


def sent(messages):
    """Return how many messages were sent for each queue since the last call."""
    wakeups.wait_for_senders()
    counts = Counter()
    for alias, queue, count in messages:
        counts[alias, queue] += count
    messages.clear()
    return counts


def test_message_follows_the_commit(messages):
    """One group for each queue, and none for later jobs, those of the built-in worker, or after a rollback."""
    with transaction.atomic():
        for _ in range(3):
            tasks.noop.enqueue()
        tasks.noop.using(queue_name="reports").enqueue()
        tasks.noop.using(run_after=timezone.now() + timedelta(hours=1)).enqueue()
        tasks.noop.using(backend="builtin").enqueue()
        wakeups.wait_for_senders()
        assert messages == []
    wait_until(lambda: len(messages) == 2)
    assert sent(messages) == {("default", "default"): 3, ("default", "reports"): 1}
    with transaction.atomic():
        tasks.noop.enqueue()
        transaction.set_rollback(True)
    assert sent(messages) == {}


@pytest.mark.parametrize("in_transaction", [False, True])
def test_messages_follow_the_resumption_of_a_queue(messages, in_transaction):
    """As many as it has jobs that may begin, and none for other queues, nor if it is rolled back."""
    pause_queue("reports")
    with transaction.atomic():
        for _ in range(3):
            tasks.noop.using(queue_name="reports").enqueue()
        tasks.noop.using(queue_name="reports", run_after=timezone.now() + timedelta(hours=1)).enqueue()
        tasks.noop.enqueue()
    sent(messages)
    with transaction.atomic():
        pause_queue("reports", is_paused=False)
        transaction.set_rollback(True)
    pause_queue("default")
    assert sent(messages) == {}
    with transaction.atomic() if in_transaction else nullcontext():
        pause_queue("reports", is_paused=False)
    assert sent(messages) == {("default", "reports"): 3}


@pytest.mark.parametrize(
    "change", ["due", "run now", "retried", "released", "lost", "no delay", "queued key"]
)
def test_message_follows_a_job_that_joins_the_queue(messages, live_worker, change):
    """As it follows a new one: nothing waits until a process looks for jobs that have waited."""
    task = tasks.noop.using(queued_key="k") if change == "queued key" else tasks.noop
    if change in ("due", "run now", "queued key"):
        task = task.using(run_after=timezone.now() + timedelta(hours=1))
    id = task.enqueue().id
    if change in ("due", "run now", "queued key"):
        assert sent(messages) == {}
    else:
        [job] = claim_rows(live_worker(-1), 1, source=Source(backends=("default",)))
        assert sent(messages) == {("default", "default"): 1}
    if change == "due":
        Job.objects.update(due_at=timezone.now())
        run_duty("queue jobs that are due", Where.ENGINE)
    elif change == "run now":
        reschedule([id])
    elif change == "retried":
        record(failed(job))
        retry([id])
    elif change == "released":
        release(job)
    elif change == "lost":
        Job.objects.update(max_attempts=2)
        run_duty("take jobs from lost workers")
    elif change == "no delay":
        with transaction.atomic():
            schedule_retries([job], 0)
    else:
        tasks.noop.using(queued_key="k").enqueue()
    assert sent(messages) == {("default", "default"): 1}


def test_broker_that_is_away(messages, monkeypatch, set_bounds, caplog):
    """Enqueueing does not fail, the log says it once, and the engine is called again only after some seconds.

    Also without another job: however long it was away, the next message for what waits may be a minute off.
    """
    set_bounds(retries=0.2)
    calls = []

    def refuse(self, queue, count, *, expires):
        calls.append(time.monotonic())
        raise ConnectionError("away")

    with monkeypatch.context() as away:
        away.setattr(recording_engine.RecordingEngine, "wake", refuse)
        while len(calls) < 3:
            tasks.noop.enqueue()
            wakeups.wait_for_senders()
    assert min(later - earlier for earlier, later in pairwise(calls)) > 0.18
    assert [record.message for record in caplog.records if "Could not wake" in record.message] == [
        "Could not wake an engine, which is tried again: backend default, queue default: "
        "ConnectionError('away')"
    ]
    wait_until(lambda: messages, what="a message")
    assert sent(messages) == {("default", "default"): 1}
    tasks.noop.enqueue()
    assert sent(messages) == {("default", "default"): 1}


def wake(last_run=None):
    wakeups.wake_for_waiting_jobs(last_run and timezone.now() - timedelta(seconds=last_run))


class TestWaitingJobs:
    def test_fresh_job_is_left_to_its_own_message(self, messages):
        tasks.noop.enqueue()
        sent(messages)
        wake()
        assert sent(messages) == {}
        Job.objects.update(queued_at=timezone.now() - timedelta(seconds=2.5))
        wake(1)
        assert sent(messages) == {("default", "default"): 1}

    def test_a_job_waits_from_when_it_was_due(self, messages):
        """One that was enqueued long ago has not waited for long: its messages are not a minute apart."""
        tasks.noop.using(run_after=timezone.now() + timedelta(hours=1)).enqueue()
        now = timezone.now()
        Job.objects.update(
            queued_at=now - timedelta(hours=2), run_after=now - timedelta(seconds=2.5), due_at=None
        )
        wake(1)
        assert sent(messages) == {("default", "default"): 1}

    def test_as_many_as_are_due(self, messages):
        """At most a hundred, and none for a job for later, of a paused queue, or of a backend without an engine."""
        with transaction.atomic():
            for _ in range(120):
                tasks.noop_sync.enqueue()
            tasks.noop.using(queue_name="paused").enqueue()
            tasks.noop.using(queue_name="later", run_after=timezone.now() + timedelta(hours=1)).enqueue()
            tasks.noop.using(backend="builtin").enqueue()
        pause_queue("paused")
        wait_long()
        sent(messages)
        wake()
        assert sent(messages) == {("default", "default"): 100}

    def test_queue_beside_a_backlog(self, messages):
        """One job gets a message, also beside 10,000 of a queue that the same processes do not take."""
        insert_queued_jobs(10_000, executor="sync", priority=5)
        tasks.noop_sync.using(queue_name="reports").enqueue()
        wait_long()
        sent(messages)
        wake()
        assert sent(messages) == {("default", "held"): 100, ("default", "reports"): 1}

    def test_job_that_has_become_due(self, messages):
        """No message was sent for it."""
        tasks.noop.using(run_after=timezone.now() - timedelta(seconds=3)).enqueue()
        wake()
        assert sent(messages) == {("default", "default"): 1}

    def test_queue_at_its_limit(self, messages, settings):
        settings.TASKS = {
            alias: {**backend, "OPTIONS": {**backend.get("OPTIONS", {}), "limits": {"reports": 1}}}
            for alias, backend in settings.TASKS.items()
        }
        for _ in range(2):
            tasks.noop.using(queue_name="reports").enqueue()
        wait_long()
        first = Job.objects.first()
        Job.objects.filter(id=first.id).update(state="running", worker=first.id)
        sent(messages)
        wake()
        assert sent(messages) == {}

    def test_job_of_a_clock_that_is_ahead(self, messages):
        tasks.noop.enqueue()
        Job.objects.update(queued_at=timezone.now() + timedelta(hours=1))
        sent(messages)
        wake()
        assert sent(messages) == {("default", "default"): 1}


def test_an_hour_without_consumers():
    """Some dozens of messages, twice as late each time, whichever of several processes looks."""
    sent = [(at, wakeups._number_of_messages(100, float(at), 1.0, is_claimed=False)) for at in range(3600)]
    times = [at for at, count in sent if count]
    assert times[:6] == [2, 4, 8, 16, 32, 60]
    assert {later - earlier for earlier, later in pairwise(times[6:])} == {60}
    assert [count for _, count in sent if count][:2] == [100, 1]
    assert sum(count for _, count in sent) < 100 + 70


def test_no_process_was_there_to_send():
    """After a minute without one, jobs that have waited begin at once."""
    assert wakeups._number_of_messages(100, 3600.0, 300.0, is_claimed=False) == 100


def test_queue_from_which_jobs_are_claimed():
    """Idle processes may have lost their messages."""
    assert wakeups._number_of_messages(100, 0.5, 1.0, is_claimed=True) == wakeups.MAX_REPEATED_MESSAGES
    assert wakeups._number_of_messages(3, 0.5, 1.0, is_claimed=True) == 3


def test_messages_of_a_queue_that_has_just_become_quiet():
    """Within the minute so many that one arrives, also of a broker that loses nine of ten."""
    sent = [wakeups._number_of_messages(1, float(at), 1.0, is_claimed=True) for at in range(60)]
    assert 0.9 ** sum(sent) < 0.001 and sum(sent) < 100


def test_claims_are_found(with_engine):
    """Those of running and of finished jobs."""
    tasks.noop.enqueue()
    tasks.noop.using(backend="builtin").enqueue()
    (claimed,) = claim_rows(uuid7(), 1)
    found = wakeups._read_last_claims(timezone.now())
    assert set(found) == {("builtin", "default")}
    Job.objects.filter(id=claimed.id).update(state="succeeded", worker=None, finished_at=timezone.now())
    assert set(wakeups._read_last_claims(timezone.now())) == {("builtin", "default")}
