"""The execution of jobs of Celery's tasks."""

import inspect
from datetime import timedelta

import pytest
from django.utils import timezone

from tests.support.outcomes import release

celery = pytest.importorskip("celery", reason="Celery is not installed (pip install celery).")

from notifications.api import get_job  # noqa: E402
from notifications.extension import Where  # noqa: E402
from notifications.jobs import find_project_task, retry  # noqa: E402
from notifications.models import Attempt, Job  # noqa: E402
from notifications.testing import clock, run_jobs, run_until_idle  # noqa: E402
from tests.contrib.celery import job_tasks as tasks  # noqa: E402
from tests.support.claims import claim_rows  # noqa: E402
from tests.support.duties import run_duty  # noqa: E402
from tests.support.waiting import wait_until  # noqa: E402

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def forget_seen():
    tasks.seen.clear()
    yield
    clock.reset()


def test_retry_is_the_same_job(user):
    result = tasks.retry_by_hand.delay(user.pk, 2)
    run_jobs()
    assert tasks.seen == [0, 1, 2]
    assert result.get() == 2
    job = Job.objects.get()
    assert (job.attempt, job.retries) == (3, 2)
    assert set(Attempt.objects.values_list("outcome", "exception_class_path")) == {
        ("failed", "builtins.OSError")
    }


def test_max_retries_bounds_retries(user):
    result = tasks.retry_by_hand.delay(user.pk, 5)
    run_jobs()
    assert tasks.seen == [0, 1, 2]
    assert result.failed()


def test_state_between_attempts(user):
    result = tasks.retry_by_hand.delay(user.pk, 1, countdown=3600)
    run_jobs()
    assert result.state == "RETRY"
    assert run_until_idle() == 1
    assert result.get() == 1


def test_retry_without_a_limit():
    """throw=False lets the task go on, and max_retries=None has no end."""
    result = tasks.retry_for_ever.delay(12)
    run_jobs()
    assert result.get() == 12


def test_autoretry_and_backoff():
    tasks.autoretried.delay()
    run_jobs()
    delays = []
    while (job := Job.objects.get()).state == "queued":
        due = job.run_after or job.due_at
        delays.append(round((due - clock.now()).total_seconds()))
        clock.advance(delays[-1] + 1)
        run_jobs()
    assert delays == [10, 20]
    assert (tasks.seen, job.state) == ([0, 1, 2], "failed")


def test_limit_of_the_call_wins_over_that_of_the_task():
    tasks.retry_once.delay()
    run_jobs()
    assert tasks.seen == [0, 1]


def test_naive_time_of_a_retry():
    tasks.retry_naive.delay()
    run_jobs()
    job = Job.objects.get()
    assert timedelta(minutes=59) < (job.run_after or job.due_at) - timezone.now() < timedelta(minutes=61)


def test_retry_with_other_arguments_is_refused():
    result = tasks.retry_with.delay(1)
    with pytest.raises(TypeError, match="whose arguments stay the same"):
        run_jobs(raise_errors=True)
    assert result.failed()


def test_replace_is_refused():
    tasks.replaced.delay()
    with pytest.raises(TypeError, match="which is not replaced"):
        run_jobs(raise_errors=True)


def test_call_of_itself_is_in_place():
    result = tasks.count_down.delay(2)
    run_jobs()
    assert [number for number, *_ in tasks.seen] == [2, 1, 0]
    assert (tasks.seen[0][1:], result.get()) == ((result.id, False), [2, 1, 0])
    assert Job.objects.count() == 1


def test_retry_inside_a_call_of_itself():
    """It is a retry of the job, where Celery passes the request on to such a call, and else fails."""
    is_passed_on = "self.request.__dict__" in inspect.getsource(celery.Task.push_request)
    result = tasks.retry_inside.delay()
    run_jobs()
    assert (tasks.seen, result.state) == (([0, 1], "SUCCESS") if is_passed_on else ([0], "FAILURE"))


def test_progress():
    result = tasks.reports.delay()
    run_jobs()
    assert tasks.seen == [result.job_id]
    Job.objects.update(state="running", progress_current=3, progress_total=10, progress_message="third")
    assert (result.state, result.info) == ("PROGRESS", {"current": 3, "total": 10, "message": "third"})


def test_ignore_succeeds():
    result = tasks.ignore.delay()
    run_jobs()
    assert (result.state, result.get()) == ("SUCCESS", None)


def test_results_that_celery_would_not_store(caplog):
    """Without a result backend Celery stores none."""
    results = [tasks.return_object.delay(), tasks.return_ignored.delay()]
    run_jobs()
    assert [result.get() for result in results] == [None, None]
    assert "Stored no result" in caplog.text


@pytest.fixture
def lose_worker(live_worker):
    """lose_worker() has a worker claim the next job, and loses it."""

    def lose():
        run_duty("queue jobs that are due", Where.SERVER)
        assert claim_rows(live_worker(-60), 1)
        run_duty("take jobs from lost workers")

    return lose


def test_lost_worker_ends_the_job(lose_worker):
    """Celery has acknowledged the message before it called the task."""
    result = tasks.add.delay(1, 2)
    lose_worker()
    assert get_job(result.id).error["type"] == "worker-lost"


def test_lost_worker_with_acks_late(lose_worker):
    result = tasks.late.delay()
    lose_worker()
    assert result.state == "RETRY"
    run_jobs()
    assert result.successful()


def test_worker_that_stops_calls_no_task_twice(user, live_worker):
    """But with acks_late; also in an attempt that the task has requested."""
    tasks.retry_by_hand.delay(user.pk, 1, countdown=3600)
    run_jobs()
    clock.advance(3601)
    results = [tasks.add.delay(1, 2), tasks.late.delay()]
    run_duty("queue jobs that are due", Where.SERVER)
    jobs = claim_rows(live_worker(), 3)
    release(*jobs, called=True)
    assert [result.state for result in results] == ["FAILURE", "PENDING"]
    retried = Job.objects.get(task_path=tasks.retry_by_hand.name)
    assert (retried.attempt, "worker-lost" in retried.error) == (2, True)


def test_lost_workers_with_acks_late_are_bounded(lose_worker):
    """A job that kills its workers has an end, after the attempts of its policy."""
    result = tasks.late.delay()
    for _ in range(3):
        assert not result.ready()
        lose_worker()
    assert get_job(result.id).error["type"] == "worker-lost"


def test_retries_and_lost_workers_are_counted_apart(user, lose_worker):
    """A retry takes none of what a lost worker may cost, and none of the retries is a lost worker."""
    tasks.retry_by_hand.delay(user.pk, 1, countdown=3600)
    run_jobs()
    assert Job.objects.get().retries == 1
    clock.advance(3601)
    lose_worker()
    job = Job.objects.get()
    assert (job.state, job.error and "worker-lost" in job.error) == ("failed", True)


def test_lost_worker_is_no_retry(lose_worker):
    result = tasks.late.delay()
    lose_worker()
    assert Job.objects.get().retries == 0
    run_jobs()
    assert result.successful()


def test_retry_by_hand_counts_anew(user, django_capture_on_commit_callbacks):
    result = tasks.retry_by_hand.delay(user.pk, 5)
    run_jobs()
    with django_capture_on_commit_callbacks(execute=True):
        retry([result.job_id])
    tasks.seen.clear()
    run_jobs()
    assert tasks.seen == [0, 1, 2]
    assert get_job(result.id).state == "failed"


def test_no_limit_is_no_limit():
    assert find_project_task(tasks.add.job_task.module_path).func._notifications_policy.timeout is None
    assert find_project_task(tasks.limited.job_task.module_path).func._notifications_policy.timeout == 5


def test_task_ends_itself_when_cancelled(worker):
    result = tasks.cancellable.delay()
    wait_until(lambda: result.state == "REVOKED", what="the job to be cancelled")
