"""Handing jobs over to engines: which ids are sent when, and when jobs are taken back."""

import threading
from datetime import timedelta

import pytest
from django.db import connection, transaction
from django.utils import timezone

from notifications.contrib.engines import dispatching, resending
from notifications.contrib.engines.interface import dispatched_job
from notifications.db.bulk import lock_number
from notifications.db.clock import database_now
from notifications.ids import uuid7
from notifications.jobs import outcomes
from notifications.jobs.claiming import candidates, queues
from notifications.jobs.declaring.policies import DEFAULT_POLICY, policy_of
from notifications.jobs.transitions import claims, manual, queueing, recording
from notifications.models import Job
from notifications.testing import clock
from tests.contrib.engines import tasks as engine_tasks
from tests.contrib.engines.engine_jobs import claim, enqueue, executor_of, finish
from tests.jobs import tasks
from tests.support.claims import claim_rows

pytestmark = [
    pytest.mark.django_db(transaction=True),
    pytest.mark.usefixtures("with_engine", "jobs_clock", "without_jitter"),
]


def test_new_job_is_dispatched_at_its_commit():
    """It needs no second statement, and no built-in worker claims it."""
    job = enqueue()
    assert (job.executor, job.dispatch_count) == ("dispatched", 1)
    assert claim_rows(uuid7(), 10) == []
    assert [row.pk for row in claim(job)] == [job.pk]
    job.refresh_from_db()
    assert (job.state, job.executor, job.next_dispatch_at) == ("running", "engine", None)


def test_job_of_another_backend_is_not_dispatched():
    job = enqueue(backend="builtin")
    assert (job.executor, job.dispatch_count) == ("async", 0)
    assert [row.pk for row in claim_rows(uuid7(), 10)] == [job.pk]


def test_doubled_id_has_no_effect():
    """Whether the job runs or is done."""
    job = enqueue()
    (running,) = claim(job)
    assert claim(job) == []
    finish(running)
    assert claim(job) == []
    job.refresh_from_db()
    assert (job.state, job.fence) == ("succeeded", 1)


def test_doubled_id_does_not_start_a_retry_early():
    """The job waits for its delay, whatever messages come, also while another job of its queue is due."""
    job, _ = enqueue(), enqueue()
    (running,) = claim(job)
    running.max_attempts = 2
    outcome = outcomes.failed(running, policy_of(tasks.busy_sync.func), tasks.Busy())
    assert outcome.retry_delay
    recording.record_outcomes([outcome])
    assert claim(job) == []
    clock.advance(timedelta(hours=1))
    assert [row.pk for row in claim(job)] == [job.pk]


def test_failed_dispatch_does_not_count():
    """However long the engine is away, an id is tried again about every 10 s, and counts as not in the engine."""
    job = enqueue()
    for _ in range(8):
        dispatching.postpone_unsent([dispatched_job(job)])
        job.refresh_from_db()
        assert (job.dispatch_count, job.dispatched_at) == (0, None)
        assert resending.dispatch_again() == []
        clock.advance(timedelta(seconds=10.5))
        assert [row.pk for row in resending.dispatch_again()] == [job.pk]
    job.refresh_from_db()
    assert (job.dispatch_count, job.dispatched_at is None) == (1, False)


def test_failed_dispatch_of_an_earlier_attempt_changes_nothing():
    job = enqueue()
    sent = dispatched_job(job)
    (running,) = claim(job)
    queueing.release([running])
    dispatching.dispatch_due_jobs()
    dispatching.postpone_unsent([sent])
    job.refresh_from_db()
    assert job.dispatch_count == 2


def test_engine_that_is_away_is_tried_with_one_job(other_engine):
    """The others wait without a further message, and jobs of other engines are sent."""
    away = [enqueue() for _ in range(5)]
    present = enqueue(backend="other")
    clock.advance(timedelta(seconds=11))
    sent = {row.pk for row in resending.dispatch_again({"default"})}
    assert present.pk in sent
    assert len(sent & {job.pk for job in away}) == 1
    assert resending.dispatch_again() == []
    clock.advance(timedelta(seconds=11))
    assert len(resending.dispatch_again()) == 4  # the engine is back, and one of them has its second interval


def test_job_shows_since_when_it_is_dispatched():
    """A repetition does not change that; the time begins anew when it was taken back."""
    job = enqueue()
    since = job.dispatched_at
    clock.advance(timedelta(seconds=11))
    resending.dispatch_again()
    job.refresh_from_db()
    assert job.dispatched_at == since
    dispatching.take_back([job.pk])
    job.refresh_from_db()
    assert job.dispatched_at is None
    dispatching.dispatch_due_jobs()
    job.refresh_from_db()
    assert job.dispatched_at - since >= timedelta(seconds=11)


def test_job_for_later_waits_in_the_database():
    job = enqueue(run_after=dispatching.database_now() + timedelta(seconds=60))
    assert job.executor == "engine"
    assert dispatching.dispatch_due_jobs() == []
    clock.advance(timedelta(seconds=61))
    assert [row.pk for row in dispatching.dispatch_due_jobs()] == [job.pk]
    assert executor_of(job) == "dispatched"


def test_jobs_of_a_key_are_dispatched_one_by_one():
    first, second = enqueue(engine_tasks.one_at_a_time), enqueue(engine_tasks.one_at_a_time)
    assert [row.pk for row in dispatching.dispatch_due_jobs()] == [first.pk]
    assert dispatching.dispatch_due_jobs() == []
    (running,) = claim(first)
    assert dispatching.dispatch_due_jobs() == []
    finish(running)
    assert [row.pk for row in dispatching.dispatch_due_jobs()] == [second.pk]


def test_stalled_engine_does_not_use_up_a_limit_of_others(other_engine):
    """Neither one of another engine, nor one of the built-in worker."""
    stalled = enqueue(engine_tasks.one_at_a_time)
    assert [row.pk for row in dispatching.dispatch_due_jobs()] == [stalled.pk]
    waiting = enqueue(engine_tasks.one_at_a_time)
    other = enqueue(engine_tasks.one_at_a_time, backend="other")
    assert dispatching.dispatch_due_jobs() == []
    clock.advance(timedelta(seconds=16))
    resending.dispatch_again()
    fresh = enqueue(engine_tasks.one_at_a_time, backend="other", concurrency_key="another")
    Job.objects.filter(pk=fresh.pk).update(executor="dispatched", dispatched_at=database_now())
    assert [row.pk for row in dispatching.dispatch_due_jobs()] == [other.pk]
    assert executor_of(waiting) == "engine"
    builtin = enqueue(engine_tasks.one_at_a_time, backend="builtin")
    assert [row.pk for row in claim_rows(uuid7(), 10)] == [builtin.pk]


def test_busy_engine_keeps_its_part_of_a_limit():
    """It comes to the job after those that it runs. Another message would only be refused."""
    first = enqueue(engine_tasks.one_at_a_time)
    dispatching.dispatch_due_jobs()
    claim(enqueue())
    enqueue(engine_tasks.one_at_a_time)
    clock.advance(timedelta(seconds=16))
    assert dispatching.dispatch_due_jobs() == []
    assert executor_of(first) == "dispatched"


@pytest.mark.skipif(connection.vendor != "postgresql", reason="SQLite locks the whole database.")
def test_claim_beside_another_one_of_the_same_limit_is_tried_again(settings):
    """The lock is held for milliseconds, and a message that is refused costs a second."""
    options = settings.TASKS["default"]["OPTIONS"] | {"limits": {"default": 2}}
    settings.TASKS = {"default": settings.TASKS["default"] | {"OPTIONS": options}}
    job = enqueue()
    dispatching.dispatch_due_jobs()
    is_locked, is_seen = threading.Event(), threading.Event()

    def hold_limit():
        try:
            with transaction.atomic(), connection.cursor() as cursor:
                cursor.execute("SELECT pg_advisory_xact_lock(%s)", [lock_number("queue", "default")])
                is_locked.set()
                is_seen.wait(30)
        finally:
            connection.close()

    thread = threading.Thread(target=hold_limit)
    thread.start()
    is_locked.wait()
    assert claims.claim_dispatched_jobs(uuid7(), [job.pk]) == ([], {job.pk})
    is_seen.set()
    thread.join()
    assert [row.pk for row in claim(job)] == [job.pk]


def test_limit_of_a_queue_holds(settings):
    options = settings.TASKS["default"]["OPTIONS"] | {"limits": {"default": 2}}
    settings.TASKS = {"default": settings.TASKS["default"] | {"OPTIONS": options}}
    jobs = [enqueue() for _ in range(3)]
    dispatched = dispatching.dispatch_due_jobs()
    assert [row.pk for row in dispatched] == [job.pk for job in jobs[:2]]
    assert len(claim(*jobs)) == 2
    assert dispatching.dispatch_due_jobs() == []


def test_queue_that_is_paused_between_the_query_and_the_lock(monkeypatch):
    job = enqueue()
    names = candidates.claimable_queues((), ("dispatched",))
    assert set(names) == {"default"}
    queues.pause("default")
    monkeypatch.setattr(candidates, "claimable_queues", lambda queues, executors: names)
    assert claim(job) == []


def test_job_of_a_queue_that_was_paused_is_taken_back():
    """It is dispatched again when the queue is resumed."""
    job = enqueue()
    queues.pause("default")
    assert claim(job) == []
    dispatching.take_back([job.pk])
    assert executor_of(job) == "engine"
    assert dispatching.dispatch_due_jobs() == []
    queues.resume("default")
    assert [row.pk for row in dispatching.dispatch_due_jobs()] == [job.pk]


def test_dispatched_job_that_is_rescheduled():
    """Its engine gets its id again when it is due: the one that it has is of no use before."""
    job = enqueue()
    assert executor_of(job) == "dispatched"
    manual.reschedule([job.pk], timezone.now() + timedelta(days=1))
    assert claim(job) == []
    dispatching.take_back([job.pk])
    assert executor_of(job) == "engine"
    assert dispatching.dispatch_due_jobs() == []
    manual.reschedule([job.pk])
    assert [row.pk for row in dispatching.dispatch_due_jobs()] == [job.pk]
    assert len(claim(job)) == 1


@pytest.mark.skipif(connection.vendor != "postgresql", reason="SQLite locks no rows.")
def test_locked_job_is_not_waited_for():
    """A wait on the writer's thread would delay all outcomes. The caller tries again."""
    job = enqueue()
    is_locked, is_seen = threading.Event(), threading.Event()

    def hold_row():
        try:
            with transaction.atomic():
                list(Job.objects.select_for_update(no_key=True).filter(pk=job.pk))
                is_locked.set()
                is_seen.wait(30)
        finally:
            connection.close()

    thread = threading.Thread(target=hold_row)
    thread.start()
    is_locked.wait()
    assert claim(job) == []
    assert dispatching.take_back([job.pk]) == {job.pk}
    is_seen.set()
    thread.join()
    assert dispatching.take_back([job.pk]) == set()
    assert executor_of(job) == "engine"


def test_backlog_of_a_removed_backend_moves(settings, rings):
    """To the built-in worker, which runs jobs of any backend, and which is woken."""
    job = enqueue()
    rings.clear()
    settings.TASKS = {"builtin": settings.TASKS["builtin"]}
    assert queueing.move_to_configured_executors() == 1
    assert executor_of(job) == "async"
    assert True in rings


def test_running_job_is_not_taken_back():
    job = enqueue()
    claim(job)
    dispatching.take_back([job.pk])
    job.refresh_from_db()
    assert job.state == "running"


def requeue_released(row):
    queueing.release([row])


def requeue_failed(row):
    row.max_attempts = 2
    Job.objects.filter(pk=row.pk).update(max_attempts=2)
    outcome = outcomes.failed(row, policy_of(tasks.busy_sync.func), tasks.Busy())
    recording.record_outcomes([outcome])
    clock.advance(timedelta(hours=1))


def requeue_by_hand(row):
    finish_as_failed = outcomes.failed(row, DEFAULT_POLICY, ValueError("broken"))
    recording.record_outcomes([finish_as_failed])
    manual.retry([row.pk])


@pytest.mark.parametrize("requeue", [requeue_released, requeue_failed, requeue_by_hand])
def test_job_that_is_queued_again_is_dispatched_again(requeue):
    job = enqueue()
    (running,) = claim(job)
    requeue(running)
    assert executor_of(job) == "engine"
    assert [row.pk for row in dispatching.dispatch_due_jobs()] == [job.pk]
    assert [row.pk for row in claim(job)] == [job.pk]


def test_backlog_moves_when_the_engine_is_configured(without_engine):
    """In both directions; a job that runs stays where it is."""
    builtin, dispatched = enqueue(backend="builtin"), enqueue()
    Job.objects.filter(pk=builtin.pk).update(backend="default")
    assert queueing.move_to_configured_executors() == 1
    assert executor_of(builtin) == "engine"
    (running,) = claim(dispatched)
    without_engine()
    assert queueing.move_to_configured_executors() == 1
    assert executor_of(builtin) == "async"
    assert executor_of(dispatched) == "engine"
    assert [row.pk for row in claim_rows(uuid7(), 10)] == [builtin.pk]
    finish(running)
