"""Batches of Celery's groups end when they are closed, or their time is over, and all their jobs are done."""

import uuid
from datetime import timedelta

import pytest

from notifications.engines.observed import batches, changes, recording
from notifications.engines.observed.starts import ObservedAttempt
from notifications.ids import uuid7
from notifications.jobs import outcomes
from notifications.jobs.declaring.policies import Policy
from notifications.jobs.transitions import batch_completion, finishing
from notifications.models import Job, Notification
from notifications.times import now

pytestmark = pytest.mark.django_db(transaction=True)

WORKER = uuid.UUID(int=1)


@pytest.fixture(autouse=True)
def _store_each_progress(monkeypatch):
    monkeypatch.setattr(batch_completion, "PROGRESS_INTERVAL_SECONDS", 0.0)


@pytest.fixture
def batch(user):
    """An open batch with one queued job."""
    batch = batch_completion.new_batch(
        id=uuid7(),
        user_id=user.pk,
        kwargs='{"notify": true}',
        backend="",
        queue_name="celery",
        executor="observed",
        title="Export",
        open_until=now() + timedelta(hours=1),
    )
    recording.insert([batch, member_of(batch)])
    return batch


def member_of(batch):
    moment = now()
    return Job(
        id=uuid7(),
        task_path="shop.tasks.export",
        title="Export",
        queue_name="celery",
        executor="observed",
        batch=batch.id,
        created_at=moment,
        queued_at=moment,
    )


def run(member, *, batch=None, fail=False):
    """Record start and end of a job as a worker that has received its message."""
    member.state, member.attempt = "running", 1
    attempt = ObservedAttempt(
        id=member.id,
        make_job=lambda: member,
        worker=WORKER,
        number=1,
        policy=Policy(),
        make_batch=lambda: batch,
    )
    attempt.outcome = (
        outcomes.failed(member, Policy(), ValueError()) if fail else outcomes.succeeded(member, Policy(), 1)
    )
    recording.record([attempt])
    return attempt


def run_members(batch, *, fail=False):
    for member in Job.objects.filter(batch=batch.id, state="queued"):
        assert run(member, fail=fail).is_ended


def state_of(batch):
    batch.refresh_from_db()
    return batch.state, batch.progress_current, batch.progress_total


def test_a_batch_does_not_end_while_it_is_open(batch):
    run_members(batch)
    finishing.finish_remaining_batches()
    assert state_of(batch)[0] == "running"
    batches.close(batch.id, count=1, total=1, title="Closed")
    assert (state_of(batch), batch.title) == (("succeeded", 1, 1), "Closed")


def test_a_batch_whose_publisher_was_killed_ends_when_its_time_is_over(batch):
    run_members(batch)
    batches.extend(batch.id, now() - timedelta(seconds=1))
    finishing.finish_remaining_batches()
    assert state_of(batch) == ("succeeded", 1, 1)


def test_a_batch_that_is_closed_waits_for_its_jobs(batch):
    batches.close(batch.id, count=1, total=1, title="Closed")
    assert state_of(batch) == ("running", 0, 1)
    run_members(batch, fail=True)
    assert state_of(batch)[0] == "failed"
    assert Notification.objects.get().body.startswith("The job stopped because of an error.")


def test_a_batch_that_ended_too_early_runs_again_until_all_are_done(batch):
    """Its publisher was frozen for longer than it is open."""
    batches.extend(batch.id, now() - timedelta(seconds=1))
    run_members(batch)
    assert state_of(batch)[0] == "succeeded"
    recording.insert([member_of(batch)])
    batches.close(batch.id, count=2, total=2, title="Two")
    assert state_of(batch) == ("running", 1, 2)
    run_members(batch)
    assert state_of(batch) == ("succeeded", 2, 2)
    latest = Notification.objects.order_by("id").last()
    assert (latest.title, latest.body) == ("Two", "All 2 jobs succeeded.")


def test_closing_again_after_the_end_changes_nothing(batch):
    run_members(batch)
    batches.close(batch.id, count=1, total=1, title="Closed")
    version = Job.objects.get(id=batch.id).version
    batches.close(batch.id, count=1, total=1, title="Again")
    assert Job.objects.get(id=batch.id).version == version
    assert Notification.objects.count() == 1


def test_a_job_that_a_worker_inserts_after_the_end_is_counted(batch):
    """Its publisher could not insert it."""
    run_members(batch)
    batches.close(batch.id, count=1, total=1, title="Closed")
    late = member_of(batch)
    start = ObservedAttempt(
        id=late.id, make_job=lambda: late, worker=WORKER, number=1, policy=Policy(), make_batch=lambda: batch
    )
    recording.record([start])
    assert state_of(batch)[0] == "running"
    start.outcome = outcomes.failed(late, Policy(), ValueError())
    recording.record([start])
    assert (state_of(batch)[0], "1 of 2 failed." in batch.error) == ("failed", True)


def test_no_worker_takes_a_batch(batch):
    assert run(Job.objects.get(id=batch.id)).is_void
    assert Job.objects.get(id=batch.id).fence == batch.fence
    assert changes.read(batch.id) is None


def test_progress_that_the_processes_of_the_jobs_did_not_store_is_stored(batch):
    members = [member_of(batch) for _ in range(2)]
    recording.insert(members)
    batches.close(batch.id, count=3, total=3, title="Three")
    Job.objects.filter(id__in=[member.id for member in members]).update(state="succeeded")
    batches.store_progress()
    assert state_of(batch) == ("running", 2, 3)
    version = batch.version
    batches.store_progress()
    batch.refresh_from_db()
    assert batch.version == version
