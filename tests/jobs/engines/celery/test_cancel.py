"""Canceling and retrying the jobs of observed tasks, and tasks that are called eagerly."""

from pathlib import Path

import pytest

from notifications import times
from notifications.api import requester
from notifications.jobs.transitions import manual
from notifications.models import Job, Worker
from tests.jobs.engines.celery.conftest import bell_of, until_ended, until_row
from tests.support.waiting import wait_until


@pytest.fixture
def tasks(celery_app):
    from tests.jobs.engines.celery import tasks

    return tasks


def test_a_queued_job(worker, tasks, user, user_client):
    result = tasks.export.apply_async((user.pk, 1), countdown=2)
    response = user_client.post(f"/notifications/api/jobs/{result.id}/cancel/")
    assert (response.status_code, response.json()["state"]) == (200, "cancelled")
    worker.process.wait_for_line(
        f"Discarding revoked task: tests.jobs.engines.celery.tasks.export[{result.id}]"
    )
    assert (until_ended(result).attempt, bell_of(user)) == (0, [])


@pytest.mark.parametrize("by_owner", [True, False])
def test_a_running_job(worker, tasks, user, other_user, tmp_path, by_owner):
    path = tmp_path / "gate"
    result = tasks.hold.delay(user.pk, str(path))
    job = until_row(result, state="running")
    wait_until(Path(f"{path}.started").exists, what="the task to run")
    assert manual.cancel([job.id], by=(user if by_owner else other_user).pk) == {job.id: "asked"}
    assert until_ended(result).state == "cancelled"
    assert [body for _, body, _ in bell_of(user)] == ([] if by_owner else ["It was cancelled."])


def test_a_request_that_no_worker_heard_is_repeated(worker, tasks, user, tmp_path, monkeypatch):
    """By the main process of the worker that runs the task."""
    from notifications.jobs import observations

    monkeypatch.setattr(observations, "revoke_tasks", lambda jobs: None)
    path = tmp_path / "gate"
    result = tasks.hold.delay(user.pk, str(path))
    job = until_row(result, state="running")
    wait_until(Path(f"{path}.started").exists, what="the task to run")
    manual.cancel([job.id], by=user.pk)
    assert until_ended(result).state == "cancelled"


def test_it_cannot_be_retried_by_hand(worker, tasks, user, user_client):
    job = until_ended(tasks.fail.delay(user.pk))
    item = user_client.get(f"/notifications/api/jobs/{job.id}/").json()
    assert (item["state"], item["links"]["retry"]) == ("failed", None)
    response = user_client.post(f"/notifications/api/jobs/{job.id}/retry/")
    assert (response.status_code, "Celery task" in response.json()["detail"]) == (409, True)
    assert manual.retry([job.id]) == []
    assert b"Retry" not in user_client.get(f"/notifications/jobs/{job.id}/").content


@pytest.fixture
def eager(celery_app):
    celery_app.conf.task_always_eager = True
    yield
    celery_app.conf.task_always_eager = False


@pytest.mark.django_db
@pytest.mark.usefixtures("eager")
def test_an_eager_task_is_recorded_in_the_transaction_of_its_caller(tasks, user):
    with requester(user):
        result = tasks.add.delay(3, 4)
    job = Job.objects.get(id=result.id)
    assert (job.state, job.result, job.user_id, job.queue_name) == ("succeeded", "7", user.pk, "eager")
    assert bell_of(user) == [("Add 3 and 4", "Succeeded.", "success")]
    failed = tasks.fail.delay(user.pk)
    assert Job.objects.get(id=failed.id).state == "failed"
    assert tasks.plain.delay(1).get() == 1


@pytest.mark.django_db(transaction=True)
@pytest.mark.usefixtures("eager")
def test_an_eager_task_has_a_worker_while_it_runs(tasks, user, monkeypatch):
    """So that its job is ended if the process is killed."""
    found = []

    def find_worker(path):
        job = Job.objects.get(state="running")
        found.append(Worker.objects.filter(id=job.worker, lease_until__gt=times.now()).exists())

    monkeypatch.setattr(tasks, "held", find_worker)
    result = tasks.hold.apply((user.pk, ""))
    assert (result.state, found) == ("SUCCESS", [True])
    assert Job.objects.get(id=result.id).state == "succeeded"
    assert not Worker.objects.filter(queues="engine:eager").exists()
