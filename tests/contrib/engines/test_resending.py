"""Ids that an engine may have lost are sent again, at a bounded rate and not before its backlog."""

from datetime import timedelta

import pytest

from notifications.contrib.engines import dispatching, resending
from notifications.models import Job
from notifications.testing import clock
from tests.contrib.engines.engine_jobs import claim, enqueue, executor_of, finish, make_older

pytestmark = [
    pytest.mark.django_db(transaction=True),
    pytest.mark.usefixtures("with_engine", "jobs_clock", "without_jitter"),
]


def test_lost_id_is_dispatched_again():
    """After 10 s, then after twice that."""
    job = enqueue()
    clock.advance(timedelta(seconds=4))
    assert resending.dispatch_again() == []
    for seconds in (6.5, 20.5):
        clock.advance(timedelta(seconds=seconds))
        assert [row.pk for row in resending.dispatch_again()] == [job.pk]
        assert resending.dispatch_again() == []
    job.refresh_from_db()
    assert job.dispatch_count == 3


def test_interval_is_bounded():
    now = dispatching.database_now()
    assert dispatching.next_dispatch(now, 1_000) - now == timedelta(seconds=dispatching.MAX_INTERVAL_SECONDS)


def test_lost_ids_are_dispatched_at_a_bounded_rate(monkeypatch):
    monkeypatch.setattr(dispatching, "MAX_JOBS_PER_TRANSACTION", 2)
    for _ in range(3):
        enqueue()
    clock.advance(timedelta(seconds=11))
    assert [len(resending.dispatch_again()) for _ in range(3)] == [2, 1, 0]


def test_backlog_of_the_engine_is_not_doubled(monkeypatch):
    """Jobs behind those that run are sent again a few at a time, and those that were overtaken all at once."""
    monkeypatch.setattr(resending, "MAX_JOBS_BEHIND_OTHERS", 1)
    jobs = [enqueue() for _ in range(4)]
    (first,) = claim(jobs[0])
    clock.advance(timedelta(seconds=11))
    assert [[row.pk for row in resending.dispatch_again()] for _ in range(4)] == [
        [jobs[1].pk],
        [jobs[2].pk],
        [jobs[3].pk],
        [],
    ]
    monkeypatch.setattr(resending, "OVERTAKEN_SECONDS", -1)
    clock.advance(timedelta(seconds=21))
    assert [row.pk for row in resending.dispatch_again()] == [job.pk for job in jobs[1:]]
    finish(first)


def test_each_job_of_a_long_backlog_is_looked_at(monkeypatch):
    """What was overtaken is found behind jobs that were not."""
    monkeypatch.setattr(dispatching, "MAX_JOBS_PER_TRANSACTION", 2)
    monkeypatch.setattr(resending, "MAX_JOBS_BEHIND_OTHERS", 0)
    running, *waiting, overtaken = [enqueue() for _ in range(6)]
    claim(running)
    early = dispatching.database_now() - timedelta(seconds=6)
    Job.objects.filter(pk=overtaken.pk).update(dispatched_at=early)
    clock.advance(timedelta(seconds=11))
    cursor = resending.Cursor()
    sent = [[row.pk for row in resending.dispatch_again(cursor=cursor)] for _ in range(4)]
    assert sent == [[], [], [overtaken.pk], []]
    assert len(waiting) == 4


def test_jobs_that_were_sent_before_their_queue_was_drained_are_lost(monkeypatch):
    """However often they were sent: the interval of a job in a long backlog has become minutes. But only once."""
    monkeypatch.setattr(resending, "MAX_JOBS_BEHIND_OTHERS", 0)
    monkeypatch.setattr(dispatching, "FIRST_INTERVAL_SECONDS", 50.0)  # the test itself takes time
    jobs = [enqueue() for _ in range(4)]
    claim(enqueue())  # another process is busy
    Job.objects.filter(pk=jobs[1].pk).update(
        dispatch_count=5, next_dispatch_at=dispatching.database_now() + timedelta(seconds=16 * 50)
    )
    claim(jobs[2])
    other = enqueue(queue_name="other")
    claim(enqueue(queue_name="other"))
    clock.advance(timedelta(seconds=30))
    later = enqueue()
    assert resending.dispatch_again() == []
    drained = {("default", "default"): 20.0}
    sent = {row.pk for row in resending.dispatch_again((), drained)}
    assert sent == {jobs[0].pk, jobs[1].pk, jobs[3].pk}
    assert resending.dispatch_again((), drained) == []
    assert {later.pk, other.pk} == set(
        Job.objects.filter(dispatch_count=1, state="queued").values_list("pk", flat=True)
    )


def test_more_are_sent_again_while_the_engine_has_none_to_run(monkeypatch):
    """A broker that lost a backlog: the engine has just finished the last job that it got, and waits for others.

    It sends as many although the engine runs a job of another queue.
    """
    monkeypatch.setattr(resending, "MAX_JOBS_OF_IDLE", 3)
    jobs = [enqueue() for _ in range(6)]
    finish(*claim(jobs[0]))
    Job.objects.filter(pk=jobs[0].pk).update(finished_at=dispatching.database_now() + timedelta(seconds=11))
    clock.advance(timedelta(seconds=11))
    running, *behind_it = [enqueue(queue_name="slow") for _ in range(4)]
    Job.objects.filter(pk__in=[job.pk for job in behind_it]).update(
        next_dispatch_at=dispatching.database_now()
    )
    claim(running)
    sent = {row.pk for row in resending.dispatch_again()}
    assert sent == {job.pk for job in [*jobs[1:4], behind_it[0]]}


def test_clock_of_the_database_counts(monkeypatch):
    """A server whose clock is behind does not have its jobs dispatched again at once."""
    clock.advance(timedelta(hours=1))
    job = enqueue()
    assert resending.dispatch_again() == []
    clock.advance(timedelta(seconds=10.5))
    assert [row.pk for row in resending.dispatch_again()] == [job.pk]


def test_job_that_was_dispatched_late_is_not_overtaken(monkeypatch):
    """A job for later, or of a retry, was enqueued before the jobs that the engine runs now."""
    monkeypatch.setattr(resending, "MAX_JOBS_BEHIND_OTHERS", 0)
    enqueue(run_after=dispatching.database_now() + timedelta(seconds=60))
    clock.advance(timedelta(seconds=61))
    (late,) = dispatching.dispatch_due_jobs()
    make_older(late, 61)
    claim(enqueue())
    clock.advance(timedelta(seconds=11))
    assert resending.dispatch_again() == []


def test_job_that_a_lower_priority_overtook_is_lost(monkeypatch):
    """One that only jobs of a higher priority overtook may wait behind them."""
    monkeypatch.setattr(resending, "MAX_JOBS_BEHIND_OTHERS", 0)
    job = enqueue(priority=5)
    clock.advance(timedelta(seconds=6))
    claim(enqueue(priority=6))
    clock.advance(timedelta(seconds=5))
    assert resending.dispatch_again() == []
    clock.advance(timedelta(seconds=10))
    claim(enqueue(priority=5))
    clock.advance(timedelta(seconds=10))
    assert [row.pk for row in resending.dispatch_again()] == [job.pk]


def test_job_that_was_overtaken_beside_a_long_one_is_lost(monkeypatch):
    """The newest job that the engine runs counts."""
    monkeypatch.setattr(resending, "MAX_JOBS_BEHIND_OTHERS", 0)
    claim(enqueue())
    job = enqueue()
    clock.advance(timedelta(seconds=6))
    claim(enqueue())
    clock.advance(timedelta(seconds=5))
    assert [row.pk for row in resending.dispatch_again()] == [job.pk]


def test_engine_is_not_overtaken_by_another_one(other_engine, monkeypatch):
    monkeypatch.setattr(resending, "MAX_JOBS_BEHIND_OTHERS", 0)
    first, job = enqueue(), enqueue()
    claim(first)
    clock.advance(timedelta(seconds=6))
    claim(enqueue(backend="other"))
    clock.advance(timedelta(seconds=5))
    assert resending.dispatch_again() == []
    assert executor_of(job) == "dispatched"
