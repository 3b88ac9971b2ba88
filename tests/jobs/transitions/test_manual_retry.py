"""Manual retries of failed and cancelled jobs, and other times for queued ones."""

import uuid
from datetime import timedelta
from zoneinfo import ZoneInfo

import pytest
from django.db import connection, transaction
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from notifications.api import notify
from notifications.exceptions import TooManyJobs
from notifications.jobs import cancel, retry
from notifications.jobs.transitions import manual
from notifications.models import Attempt, Job, Stream
from notifications.testing import run_jobs
from tests.jobs import tasks
from tests.jobs.conftest import notifications_of, until_done
from tests.support.claims import claim_rows
from tests.support.outcomes import record, succeeded
from tests.support.waiting import wait_until

pytestmark = pytest.mark.django_db(transaction=True)


def enqueue(task=tasks.noop, *args, **options):
    """Enqueue a job and return its id."""
    return uuid.UUID(task.using(**options).enqueue(*args).id)


def row(id):
    return Job.objects.get(id=id)


class TestRetry:
    @pytest.mark.parametrize("end", ["failed", "cancelled"])
    def test_a_failed_or_cancelled_job_is_queued_again(self, user, end):
        """It keeps its id and Attempt rows, and gets a new fence, a new version and further attempts."""
        id = enqueue(tasks.fail, owner=user)
        cancel([id], by=user.pk) if end == "cancelled" else run_jobs()
        before = row(id)
        assert retry([id]) == [id]
        job = row(id)
        assert (job.state, job.seq, job.version, job.fence) == (
            "queued",
            0,
            before.version + 1,
            before.fence + 1,
        )
        assert (job.result, job.error, job.finished_at, job.cancel_requested_at) == (None, None, None, None)
        assert (job.run_after, job.worker, job.deadline, job.progress_current) == (None, None, None, None)
        assert (job.attempt, job.max_attempts) == (before.attempt, before.attempt + 3)
        assert job.queued_at > before.queued_at and job.created_at == before.created_at
        assert Attempt.objects.count() == before.attempt
        assert run_jobs() == 1
        job = row(id)
        assert (job.state, job.attempt) == ("failed", before.attempt + 1)

    def test_the_new_notification_archives_the_old_one(self, user):
        id = enqueue(tasks.fail, owner=user)
        run_jobs()
        retry([id])
        run_jobs()
        old, new = notifications_of(user)
        assert old.archived_at is not None and new.archived_at is None
        assert Stream.objects.get(user=user).unread == 1

    @pytest.mark.parametrize("state", ["queued", "running", "succeeded"])
    def test_jobs_in_other_states_do_not_change(self, user, live_worker, state):
        id = enqueue(owner=user)
        if state != "queued":
            (job,) = claim_rows(live_worker(), 1)
        if state == "succeeded":
            assert record(succeeded(job, 1))
        before = Job.objects.filter(id=id).values().get()
        assert retry([id]) == []
        assert Job.objects.filter(id=id).values().get() == before

    def test_a_late_outcome_of_an_older_claim_is_void(self, user, live_worker):
        """A worker that was frozen past its lease has an old fence."""
        id = enqueue(owner=user)
        (job,) = claim_rows(live_worker(), 1)
        Job.objects.filter(id=id).update(state="failed", finished_at=timezone.now())
        retry([id])
        late = succeeded(job, "late")
        record(late)
        assert row(id).state == "queued"
        (retried,) = claim_rows(live_worker(), 1)
        assert retried.fence == job.fence + 2
        record(late)
        assert row(id).state == "running"

    def test_the_limit_of_active_jobs(self, user, settings):
        settings.NOTIFICATIONS = {**settings.NOTIFICATIONS, "ACTIVE_JOBS_PER_USER": 2}
        ids = [enqueue(tasks.fail, owner=user) for _ in range(2)]
        run_jobs()
        enqueue(owner=user)
        with pytest.raises(TooManyJobs, match="There are 2 active jobs already"):
            retry(ids)
        assert {row(id).state for id in ids} == {"failed"}, "No job of the group is queued."
        assert retry(ids[:1]) == ids[:1]

    def test_a_task_that_does_not_exist(self, user):
        """The job is queued nevertheless, because another worker may know its task."""
        id = enqueue(tasks.fail, owner=user)
        run_jobs()
        Job.objects.update(task_path="tests.jobs.tasks.removed")
        assert retry([id]) == [id]

    def test_it_rings_for_the_workers(self, worker, user):
        id = enqueue(tasks.fail, owner=user)
        until_done(tasks.fail.get_result(str(id)))
        retry([id])
        wait_until(lambda: row(id).attempt == 2 and row(id).done, what="the second attempt")

    def test_in_a_transaction_it_is_queued_after_the_commit(self, user):
        id = enqueue(tasks.fail, owner=user)
        run_jobs()
        with transaction.atomic():
            assert retry([id]) == [id]
            assert row(id).state == "failed"
        assert row(id).state == "queued"

    def test_a_scheduled_job_is_due_now(self, user):
        id = enqueue(owner=user, run_after=timezone.now() + timedelta(hours=1))
        cancel([id], by=user.pk)
        retry([id])
        assert run_jobs() == 1


def test_a_job_is_rescheduled_after_the_commit_of_a_caller(user):
    id = enqueue(owner=user)
    run_at = timezone.now() + timedelta(hours=1)
    with transaction.atomic():
        assert manual.reschedule([id], run_at) == [id]
        assert row(id).run_after is None
    assert row(id).run_after == run_at


@pytest.mark.parametrize("change", ["retry", "reschedule"])
def test_workers_are_woken(rings, change):
    id = enqueue(run_after=timezone.now() + timedelta(hours=1))
    if change == "retry":
        cancel([id])
    rings.clear()
    assert getattr(manual, change)([id]) == [id]
    assert True in rings


def test_reschedule(user):
    """A job that is due, or waits for another time, runs at this one. Its version tells clients of it."""
    now = timezone.now()
    ids = [enqueue(owner=user), enqueue(owner=user, run_after=now + timedelta(days=9)), enqueue(owner=user)]
    cancel(ids[2:])
    versions = [row(id).version for id in ids[:2]]
    run_at = (now + timedelta(days=1)).astimezone(ZoneInfo("Asia/Tokyo"))
    assert manual.reschedule(ids, run_at) == sorted(ids[:2])
    assert {row(id).run_after for id in ids[:2]} == {run_at}
    assert [row(id).version for id in ids[:2]] == [version + 1 for version in versions]
    assert run_jobs() == 0
    assert manual.reschedule(ids) == sorted(ids[:2])
    assert run_jobs() == 2


def test_owner_with_one_place_left(user, settings):
    """Of three jobs one is queued, the others are passed over."""
    settings.NOTIFICATIONS = {**settings.NOTIFICATIONS, "ACTIVE_JOBS_PER_USER": 4}
    ids = [enqueue(owner=user) for _ in range(3)]
    cancel(ids)
    for _ in range(3):
        enqueue(owner=user)
    assert len(retry(ids, passes_over_full=True)) == 1


@pytest.mark.parametrize("change", ["retry", "reschedule", "cancel"])
def test_many_jobs_take_as_many_statements_as_few(user, other_user, change):
    """Of several owners and states: one statement counts the active jobs, and one for each state changes them."""
    later = timezone.now() + timedelta(days=1)
    notify([user, other_user], "They have streams")
    ids = [
        enqueue(owner=owner, run_after=later if change == "reschedule" else None)
        for owner in (user, other_user, None)
        for _ in range(20)
    ]
    if change == "retry":
        Job.objects.filter(id__in=ids).update(state="cancelled", seq=1)
        Job.objects.filter(id__in=ids[::2]).update(state="failed", seq=1)
    counts = []
    for some in (ids[::7], [id for id in ids if id not in ids[::7]]):
        with CaptureQueriesContext(connection) as queries:
            assert sorted(getattr(manual, change)(some)) == sorted(some)
        changed = [query["sql"] for query in queries if "UPDATE notifications_job" in query["sql"]]
        counts.append((len(queries), len(changed)))
    assert counts[0] == counts[1] and counts[0][1] <= 2
    state = "cancelled" if change == "cancel" else "queued"
    assert set(Job.objects.values_list("state", "run_after")) == {(state, None)}
