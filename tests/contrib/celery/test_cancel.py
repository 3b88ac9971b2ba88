"""Cancelling and retrying the jobs of observed tasks."""

from pathlib import Path

import pytest

from notifications.contrib.celery import results
from notifications.jobs import cancel, retry
from tests.contrib.celery.conftest import bell_of, until_ended, until_row
from tests.support.waiting import wait_until


@pytest.fixture
def tasks(celery_app):
    from tests.contrib.celery import tasks

    return tasks


def test_a_queued_job(worker, tasks, user, user_client):
    result = tasks.export.apply_async((user.pk, 1), countdown=2)
    until_row(result)  # a thread that has waited for rows of earlier tasks does not wait for this one
    response = user_client.post(f"/notifications/api/jobs/{result.id}/cancel/")
    assert (response.status_code, response.json()["state"]) == (200, "cancelled")
    worker.process.wait_for_line(f"Discarding revoked task: tests.contrib.celery.tasks.export[{result.id}]")
    assert (until_ended(result).attempt, bell_of(user)) == (0, [])


@pytest.mark.parametrize("by_owner", [True, False])
@pytest.mark.usefixtures("prefork")
def test_a_running_job(worker, tasks, user, other_user, tmp_path, by_owner):
    path = tmp_path / "gate"
    result = tasks.hold.delay(user.pk, str(path))
    job = until_row(result, state="running")
    wait_until(Path(f"{path}.started").exists, what="the task to run")
    assert cancel([job.id], by=(user if by_owner else other_user).pk) == {job.id: "asked"}
    assert until_ended(result).state == "cancelled"
    assert [body for _, body, _ in bell_of(user)] == ([] if by_owner else ["It was cancelled."])


@pytest.mark.usefixtures("prefork")
def test_a_request_that_no_worker_heard_is_repeated(worker, tasks, user, tmp_path, monkeypatch):
    """By the main process of the worker that runs the task."""
    monkeypatch.setattr(results, "revoke_tasks", lambda jobs: None)
    path = tmp_path / "gate"
    result = tasks.hold.delay(user.pk, str(path))
    job = until_row(result, state="running")
    wait_until(Path(f"{path}.started").exists, what="the task to run")
    cancel([job.id], by=user.pk)
    assert until_ended(result).state == "cancelled"


@pytest.mark.usefixtures("prefork")
def test_it_cannot_be_retried_by_hand(worker, tasks, user, user_client):
    job = until_ended(tasks.fail.delay(user.pk))
    item = user_client.get(f"/notifications/api/jobs/{job.id}/").json()
    assert (item["state"], item["links"]["retry"]) == ("failed", None)
    response = user_client.post(f"/notifications/api/jobs/{job.id}/retry/")
    assert (response.status_code, "Celery task" in response.json()["detail"]) == (409, True)
    assert retry([job.id]) == []
    assert b"Retry" not in user_client.get(f"/notifications/jobs/{job.id}/").content
