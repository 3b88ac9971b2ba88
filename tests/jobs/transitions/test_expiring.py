"""Queued jobs that have not begun in time: which claims take them, and who ends them."""

import json
from datetime import timedelta

import pytest
from django.db import connection, transaction
from django.db.models import Q
from django.utils import timezone

from notifications.api import batch, get_job, join
from notifications.exceptions import JobFailed
from notifications.jobs import JobFilter, retry
from notifications.jobs.transitions import expiring
from notifications.models import Attempt, Job, Notification
from notifications.testing import clock, run_jobs, run_until_idle
from tests.jobs import tasks
from tests.support.claims import claim_rows
from tests.support.duties import run_duty
from tests.support.outcomes import release
from tests.support.threads import run_in_threads

pytestmark = [
    pytest.mark.database_law,
    pytest.mark.django_db(transaction=True),
    pytest.mark.usefixtures("jobs_clock"),
]
DUTY = "end expired jobs"


def row(result):
    return Job.objects.get(id=result.id)


def enqueue(task=tasks.noop, expires=60, **options):
    return task.using(expires=expires, **options).enqueue()


def test_an_expired_job_fails_without_an_attempt(user):
    result = enqueue(owner=user, title="Send the code")
    run_duty(DUTY)
    assert row(result).state == "queued"
    clock.advance(61)
    run_duty(DUTY)
    job = row(result)
    assert (job.state, job.attempt, job.started_at, job.fence) == ("failed", 0, None, 0)
    assert json.loads(job.error) == {
        "type": "expired",
        "title": "Expired",
        "detail": "It was not started in time.",
    }
    assert not Attempt.objects.exists()
    [notification] = Notification.objects.all()
    assert (notification.title, notification.body) == ("Send the code", "It was not started in time.")
    assert notification.seq and job.seq


def test_a_claim_takes_no_expired_job(live_worker):
    expired = [enqueue() for _ in range(3)]
    plain = enqueue(expires=None)
    later = enqueue(expires=3600)
    clock.advance(61)
    assert {str(job.id) for job in claim_rows(live_worker(), 2)} == {plain.id, later.id}
    assert {row(result).state for result in expired} == {"queued"}
    run_duty(DUTY)
    assert {row(result).state for result in expired} == {"failed"}


def test_a_claim_of_some_jobs_takes_no_expired_one_of_them(live_worker):
    expired, plain = enqueue(), enqueue(expires=None)
    clock.advance(61)
    among = Q(id__in=[expired.id, plain.id])
    assert [str(job.id) for job in claim_rows(live_worker(), 2, among=among)] == [plain.id]


def end_expired():
    run_duty(DUTY)


def test_expired_jobs_in_front_hold_up_no_others(live_worker):
    """More of them than a claim reads: the claim passes over them."""
    for _ in range(5):
        enqueue(priority=10)
        enqueue(priority=10, run_after=1)
        enqueue(priority=10, concurrency_key="key")
    plain = [enqueue(expires=None), enqueue(expires=None, concurrency_key="key")]
    clock.advance(100)
    worker = live_worker()
    found = [str(job.id) for _ in plain for job in claim_rows(worker, 1)]
    assert sorted(found) == sorted(result.id for result in plain)
    assert claim_rows(worker, 10) == []
    assert Job.objects.filter(state="queued", attempt=0).count() == 15


@pytest.mark.parametrize("limits", [{}, {"default": 1}])
def test_expired_jobs_take_no_place_under_a_limit(live_worker, settings, limits):
    settings.TASKS = {"default": {**settings.TASKS["default"], "OPTIONS": {"limits": limits}}}
    for _ in range(2):
        enqueue(concurrency_key="key")
    plain = enqueue(expires=None, concurrency_key="key")
    clock.advance(61)
    assert [str(job.id) for job in claim_rows(live_worker(), 1)] == [plain.id]


def test_a_job_that_has_begun_does_not_expire(live_worker):
    """Neither between its attempts, nor when its worker was lost."""
    result = tasks.noop.using(expires=60).enqueue()
    Job.objects.update(max_attempts=3)
    worker = live_worker()
    [job] = claim_rows(worker, 1)
    assert row(result).expires_at is None
    job.expires_at = None  # as when its task is called
    release(job)
    clock.advance(61)
    run_duty(DUTY)
    assert row(result).state == "queued"
    assert [str(job.id) for job in claim_rows(worker, 1)] == [result.id]


def test_a_retry_by_hand_does_not_expire(live_worker):
    result = enqueue()
    clock.advance(61)
    run_duty(DUTY)
    retry([row(result).id])
    job = row(result)
    assert (job.state, job.expires_at) == ("queued", None)
    clock.advance(3600)
    run_duty(DUTY)
    assert len(claim_rows(live_worker(), 1)) == 1


def test_a_time_chosen_by_hand_clears_the_expiry():
    result = enqueue()
    list(JobFilter(search=result.id).change("reschedule", run_at=clock.now() + timedelta(hours=1)))
    assert row(result).expires_at is None


def test_a_call_with_the_queued_key_gives_its_own_expiry():
    result = enqueue(queued_key="page")
    clock.advance(61)
    enqueue(queued_key="page", expires=3600)
    run_duty(DUTY)
    assert (row(result).state, Job.objects.count()) == ("queued", 1)
    enqueue(queued_key="page", expires=None)
    assert row(result).expires_at is None


def test_a_job_that_changes_meanwhile_is_not_ended():
    """Between the read of an expired job and its lock, a call with its queued key gives it another expiry."""
    result = enqueue(queued_key="page")
    clock.advance(61)
    policy_at = expiring.policy_at

    def replace(path):
        enqueue(queued_key="page", expires=3600)
        return policy_at(path)

    expiring.policy_at = replace
    try:
        run_duty(DUTY)
    finally:
        expiring.policy_at = policy_at
    assert row(result).state == "queued"


def test_jobs_are_ended_in_chunks(set_bounds):
    set_bounds(rows=2)
    for _ in range(3):
        enqueue()
    clock.advance(61)
    run_duty(DUTY)
    assert Job.objects.filter(state="failed").count() == 3


def test_locked_jobs_hold_up_no_others():
    if connection.vendor == "sqlite":
        pytest.skip("SQLite locks no rows.")
    results = [enqueue() for _ in range(2)]
    clock.advance(61)
    with transaction.atomic():
        list(Job.objects.select_for_update().filter(id=results[0].id))
        run_in_threads(end_expired)
        assert [row(result).state for result in results] == ["queued", "failed"]
    run_duty(DUTY)
    assert row(results[0]).state == "failed"


def test_several_processes_end_each_job_once(user):
    for _ in range(30):
        enqueue(owner=user)
    clock.advance(61)
    run_in_threads(*[end_expired] * 4)
    run_duty(DUTY)
    assert Job.objects.filter(state="failed", version=2).count() == 30
    assert Notification.objects.count() == 30


def test_the_policy_says_when_jobs_expire_and_who_is_notified(user, settings):
    policies = {"tests.jobs.tasks.noop": {"expires": 60, "notify": False}}
    settings.TASKS = {"default": {**settings.TASKS["default"], "OPTIONS": {"policies": policies}}}
    now = timezone.now()
    silent = tasks.noop.using(owner=user).enqueue()
    later = tasks.noop.using(owner=user, run_after=timedelta(hours=1)).enqueue()
    other = tasks.noop.using(owner=user, expires=now + timedelta(days=1)).enqueue()
    assert timedelta(seconds=60) <= row(silent).expires_at - now < timedelta(seconds=70)
    assert row(later).expires_at == row(later).run_after + timedelta(seconds=60)
    assert row(other).expires_at == now + timedelta(days=1)
    clock.advance(80)
    run_duty(DUTY)
    assert row(silent).state == "failed"
    assert not Notification.objects.exists()


def test_a_paused_queue_and_a_later_job_expire_too():
    result = enqueue(expires=timezone.now() + timedelta(seconds=60), run_after=3600)
    clock.advance(61)
    run_duty(DUTY)
    assert row(result).state == "failed"


def test_who_waits_for_an_expired_job(user):
    """A batch fails, join() raises, and Django's result has failed."""
    with batch(owner=user, title="Numbers") as numbers:
        tasks.echo.using(expires=60).enqueue(1)
        tasks.echo.enqueue(2)
    alone = enqueue()
    clock.advance(61)
    assert run_jobs() == 1
    assert row(numbers.result).state == "failed"
    assert Notification.objects.get().title == "Numbers"
    with pytest.raises(JobFailed, match="It was not started in time") as caught:
        join(alone)
    assert caught.value.error["type"] == "expired"
    result = tasks.noop.get_result(alone.id)
    assert (result.status.name, result.started_at, result.worker_ids) == ("FAILED", None, [])


def test_jobs_expire_by_the_clock_of_the_tests():
    result = enqueue(run_after=30)
    assert run_until_idle() == 1
    late = enqueue(run_after=30, expires=timezone.now() + timedelta(seconds=10))
    assert run_until_idle() == 0
    assert [row(each).state for each in (result, late)] == ["succeeded", "failed"]


def test_a_copy_of_a_job_has_its_expiry_until_it_begins(live_worker):
    result = enqueue()
    assert get_job(result.id).expires_at == row(result).expires_at
    claim_rows(live_worker(), 1)
    assert get_job(result.id).expires_at is None
    other = enqueue()
    clock.advance(61)
    run_duty(DUTY)
    assert row(other).state == "failed"
    assert get_job(other.id).expires_at is None
