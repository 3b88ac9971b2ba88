"""Jobs of an engine whose process was lost: one of them at a time in a process, as many as there are processes."""

from datetime import timedelta

import pytest
from django.utils import timezone

from notifications.contrib.engines import dispatching, quarantine
from notifications.ids import uuid7
from notifications.jobs import outcomes
from notifications.jobs.declaring.policies import Policy
from notifications.jobs.transitions import claims, queueing, reaping, recording
from notifications.models import Job, Worker
from tests.jobs import tasks

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("with_engine")]


@pytest.fixture
def lost_jobs(live_worker):
    """Return a function that has jobs be lost with the process that ran them, and returns their ids."""

    def lose(count):
        ids = [tasks.noop.enqueue().id for _ in range(count)]
        claims.claim_dispatched_jobs(live_worker(-1), ids)
        assert reaping.reap_jobs() == count
        return sorted(Job.objects.filter(id__in=ids).values_list("id", flat=True))

    return lose


def executors():
    return list(Job.objects.order_by("id").values_list("executor", "state"))


def claim(ids, **options):
    claimed, locked_ids = claims.claim_dispatched_jobs(uuid7(), ids, **options)
    assert not locked_ids
    return [job.row.id for job in claimed]


def test_jobs_of_a_lost_process_are_quarantined(lost_jobs):
    lost_jobs(2)
    assert executors() == [("engine_quarantined", "queued")] * 2
    assert dispatching.dispatch_due_jobs() == []


@pytest.mark.parametrize("run_after", [None, "2026-01-01T00:00:00Z"])
def test_one_is_claimed_at_a_time(lost_jobs, run_after):
    """Beside a job that was never lost. None is claimed in a process that runs one."""
    ids = lost_jobs(2)
    Job.objects.filter(pk=ids[0]).update(run_after=run_after)
    new = Job.objects.get(pk=tasks.noop.enqueue().id)
    assert sorted(claim([*ids, new.pk])) == [ids[0], new.pk]
    assert claim([ids[1]], max_quarantined=0) == []
    assert executors() == [
        ("engine_quarantined", "running"),
        ("engine_quarantined", "queued"),
        ("engine", "running"),
    ]


def test_no_more_are_dispatched_than_there_are_processes(lost_jobs, live_worker):
    ids = lost_jobs(4)
    assert [job.id for job in quarantine.dispatch_quarantined_jobs()] == ids[:1]
    for _ in range(2):
        Worker.objects.filter(id=live_worker()).update(queues="engine:any")
    assert [job.id for job in quarantine.dispatch_quarantined_jobs()] == ids[1:2]
    assert quarantine.dispatch_quarantined_jobs() == []
    claim(ids[:1])
    assert [job.id for job in quarantine.dispatch_quarantined_jobs()] == ids[2:3]


def test_an_id_that_another_quarantined_job_keeps_from_running_is_sent_again_soon(lost_jobs, monkeypatch):
    monkeypatch.setattr(dispatching, "FIRST_REFUSED_SECONDS", 30.0)  # the test itself takes time
    (id,) = lost_jobs(1)
    quarantine.dispatch_quarantined_jobs()
    assert dispatching.take_back([id]) == set()
    assert quarantine.dispatch_quarantined_jobs() == []
    job = Job.objects.get(id=id)
    assert (job.executor, job.state) == ("engine_quarantined", "queued")
    assert job.next_dispatch_at - timezone.now() < timedelta(seconds=38)
    Job.objects.update(next_dispatch_at=timezone.now() - timedelta(seconds=9))
    assert [job.id for job in quarantine.dispatch_quarantined_jobs()] == [id]


def test_one_that_was_refused_is_sent_when_another_has_ended(lost_jobs):
    """Not after its interval, which grows to a minute while the other one runs."""
    ids = lost_jobs(2)
    quarantine.dispatch_quarantined_jobs()
    claim(ids[:1])
    quarantine.dispatch_quarantined_jobs()
    dispatching.take_back(ids[1:])
    assert quarantine.dispatch_quarantined_jobs() == []
    assert [job.id for job in quarantine.dispatch_quarantined_jobs(has_room=True)] == ids[1:]
    # Its id is on its way now.
    assert quarantine.dispatch_quarantined_jobs(has_room=True) == []


def move_to_another_backend(ids):
    Job.objects.filter(id__in=ids).update(backend="other")


def test_a_backend_with_many_does_not_hold_up_another(lost_jobs, settings, monkeypatch):
    settings.TASKS = {**settings.TASKS, "other": settings.TASKS["default"]}
    monkeypatch.setattr(quarantine, "MAX_JOBS_PER_BACKEND", 2)
    ids = lost_jobs(4)
    move_to_another_backend(ids[3:])
    assert sorted(job.id for job in quarantine.dispatch_quarantined_jobs()) == [ids[0], ids[3]]


def test_one_job_tries_an_engine_that_did_not_answer(lost_jobs, live_worker, settings):
    settings.TASKS = {**settings.TASKS, "other": settings.TASKS["default"]}
    for _ in range(3):
        Worker.objects.filter(id=live_worker()).update(queues="engine:any")
    ids = lost_jobs(5)
    move_to_another_backend(ids[3:])
    first = sorted(job.id for job in quarantine.dispatch_quarantined_jobs({"default"}))
    assert first == [ids[0], *ids[3:]]
    assert quarantine.dispatch_quarantined_jobs({"default"}) == []
    assert [job.id for job in quarantine.dispatch_quarantined_jobs()] == ids[1:3]


def test_intervals_grow_while_no_process_takes_a_quarantined_job(lost_jobs, without_jitter):
    """Those after a refusal too: another quarantined job may run for hours, and each id is a message."""
    (id,) = lost_jobs(1)
    for refuse, intervals in ((True, (1, 2, 4, 8)), (False, (60, 60)), (True, (60, 60))):
        for seconds in intervals:
            Job.objects.update(next_dispatch_at=None)
            before = dispatching.database_now()
            assert [job.id for job in quarantine.dispatch_quarantined_jobs()] == [id]
            if refuse:
                dispatching.take_back([id])
            began_at = Job.objects.get(id=id).next_dispatch_at - timedelta(seconds=seconds)
            assert before <= began_at <= dispatching.database_now()


def test_a_released_quarantined_job_stays_quarantined(lost_jobs):
    (id,) = lost_jobs(1)
    claim([id])
    queueing.release([Job.objects.get(id=id)])
    assert executors() == [("engine_quarantined", "queued")]


def test_a_quarantined_job_whose_attempt_ends_is_none_any_more(lost_jobs):
    (id,) = lost_jobs(1)
    claim([id])
    job = Job.objects.get(id=id)
    recording.record_outcomes([outcomes.failed(job, Policy(retry_on=tasks.Busy), tasks.Busy())])
    assert executors() == [("engine", "queued")]
