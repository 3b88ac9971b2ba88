"""Jobs of lost workers, and jobs past their deadline, are requeued or fail."""

import uuid
from datetime import timedelta

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone
from django.utils.module_loading import import_string

from notifications.conf import settings
from notifications.contrib.operations.models import AlertState
from notifications.extension import hooks
from notifications.jobs import retry
from notifications.jobs.transitions import reaping
from notifications.models import Attempt, Job, Worker
from tests.jobs import tasks
from tests.jobs.conftest import notifications_of
from tests.support.claims import claim_rows
from tests.support.statements import preceded

pytestmark = pytest.mark.django_db


def claim_one(worker, **options):
    (job,) = claim_rows(worker, 1, **options)
    return job


def stored(job):
    return Job.objects.get(id=job.id)


class TestReap:
    def test_an_expired_lease(self, live_worker, user):
        tasks.noop.using(owner=user).enqueue()
        Job.objects.update(fail_if_unknown_after=timezone.now())  # another worker did not know the task
        job = claim_one(live_worker(-1))
        assert reaping.reap_jobs() == 1
        row = stored(job)
        assert (row.state, row.worker, row.attempt, row.fence, row.deadline) == ("queued", None, 1, 1, None)
        assert (row.version, row.executor, row.fail_if_unknown_after) == (3, "quarantined", None)
        (attempt,) = Attempt.objects.all()
        assert (attempt.number, attempt.outcome, attempt.worker) == (1, "lost", job.worker)
        assert not Worker.objects.exists()
        assert notifications_of(user) == []

    @pytest.mark.parametrize(
        ("path", "executor"),
        [
            *((path, "async") for path, task in hooks.own_tasks.items() if task.is_harmless),
            ("notifications.contrib.deliveries.sending.deliver", "quarantined"),
            ("notifications.contrib.deliveries.sending.deliver_digest", "quarantined"),
        ],
    )
    def test_tasks_that_call_no_code_of_the_project_are_not_quarantined(self, live_worker, path, executor):
        """Pushes and webhooks run beside each other again. An e-mail calls templates and a backend of the project."""
        import_string(path)  # it exists
        tasks.noop.enqueue()
        job = claim_one(live_worker(-1))
        Job.objects.update(task_path=path)
        assert reaping.reap_jobs() == 1
        assert (stored(job).state, stored(job).executor, stored(job).attempt) == ("queued", executor, 1)

    def test_a_lease_of_a_fast_clock(self, live_worker):
        """One that ends more than ten leases ahead is over; the settings of another deployment may be longer."""
        lease = settings.LEASE
        fast, other = live_worker(11 * lease), live_worker(9 * lease)
        for _ in range(2):
            tasks.noop.enqueue()
        jobs = [claim_one(worker) for worker in (fast, other)]
        assert reaping.reap_jobs() == 1
        assert [stored(job).state for job in jobs] == ["queued", "running"]
        assert Worker.objects.get().id == other

    def test_the_row_of_a_fast_clock_without_jobs(self, live_worker):
        """The duty is due for it."""
        live_worker(11 * settings.LEASE)
        condition, params = reaping.lost_jobs_condition()
        with connection.cursor() as cursor:
            cursor.execute(f"SELECT 1 WHERE {condition}", params)
            assert cursor.fetchone()

    @pytest.mark.django_db(transaction=True)
    def test_workers_are_woken(self, live_worker, rings):
        tasks.noop.enqueue()
        claim_one(live_worker(-1))
        rings.clear()
        assert reaping.reap_jobs() == 1
        assert rings == [True]

    def test_a_valid_lease(self, live_worker):
        tasks.noop.enqueue()
        job = claim_one(live_worker())
        assert reaping.reap_jobs() == 0
        assert stored(job).state == "running"
        assert Worker.objects.count() == 1

    def test_a_worker_without_a_row(self):
        """The worker deleted its row, or another process did."""
        tasks.noop.enqueue()
        claim_one(uuid.uuid4())
        assert reaping.reap_jobs() == 1

    def test_an_expired_deadline(self, live_worker):
        """A worker whose event loop is blocked renews its lease, but cannot keep a job for ever."""
        tasks.noop.enqueue()
        job = claim_one(live_worker())
        Job.objects.update(deadline=timezone.now() - timedelta(seconds=1))
        assert reaping.reap_jobs() == 1
        assert (stored(job).state, stored(job).executor) == (
            "queued",
            "async",
        )  # not a quarantined job: its worker lives
        assert Worker.objects.count() == 1

    def test_dead_workers_only(self, live_worker):
        """With ``expired=False``, as at the start of a worker, neither leases nor deadlines count."""
        for _ in range(3):
            tasks.noop.enqueue()
        expired, dead, other = live_worker(-1), live_worker(), live_worker()
        jobs = [claim_one(worker) for worker in (expired, dead, other)]
        Job.objects.update(deadline=timezone.now() - timedelta(seconds=1))
        assert reaping.reap_jobs([dead], expired=False) == 1
        assert [stored(job).state for job in jobs] == ["running", "queued", "running"]
        assert stored(jobs[1]).executor == "quarantined"
        assert set(Worker.objects.values_list("id", flat=True)) == {expired, dead, other}

    def test_the_row_of_a_dead_worker_is_kept_until_its_lease_is_over(self, live_worker):
        """Its last claim may be committed after its death, or still hold rows locked at the first call."""
        dead = live_worker()
        assert reaping.reap_jobs([dead], expired=False) == 0
        tasks.noop.enqueue()
        job = claim_one(dead)
        assert Worker.objects.filter(id=dead).exists()
        assert reaping.reap_jobs([dead], expired=False) == 1
        assert stored(job).state == "queued"
        Worker.objects.update(lease_until=timezone.now() - timedelta(seconds=1))
        assert reaping.reap_jobs([dead], expired=False) == 0
        assert not Worker.objects.exists()

    def test_a_lease_that_is_renewed_meanwhile_keeps_its_row(self, live_worker):
        """No lost lease is stored for alerts."""
        worker = live_worker(-1)
        AlertState.objects.create()

        def renew():
            Worker.objects.update(lease_until=timezone.now() + timedelta(seconds=20))

        with preceded("DELETE FROM .?notifications_worker", renew) as statements:
            assert reaping.reap_jobs() == 0
        assert statements
        assert Worker.objects.get().id == worker
        assert AlertState.objects.get().lease_lost_at is None

    def test_lost_jobs_are_read_in_the_order_of_their_index(self, live_worker):
        """They are read by worker and id, whatever the order in which they were claimed."""
        for _ in range(6):
            tasks.noop.enqueue()
        workers = [live_worker(-1), live_worker(-1), live_worker(-1)]
        for worker in workers * 2:
            claim_one(worker)
        Job.objects.update(max_attempts=1)
        with CaptureQueriesContext(connection) as queries:
            assert reaping.reap_jobs() == 6
        # The order is asserted in the SQL: SQLite uses the index here with any order.
        select = next(q["sql"] for q in queries if q["sql"].startswith("SELECT") and "ORDER BY" in q["sql"])
        assert 'ORDER BY "notifications_job"."worker" ASC, ' in select

    def test_the_last_attempt(self, live_worker, user):
        """The job fails, and its owner is notified."""
        tasks.noop.using(owner=user).enqueue()
        Job.objects.update(max_attempts=2, attempt=1)
        job = claim_one(live_worker(-1))
        assert reaping.reap_jobs() == 1
        row = stored(job)
        assert (row.state, row.attempt) == ("failed", 2)
        assert row.seq is not None
        (note,) = notifications_of(user)
        assert note.level == "error" and note.body.startswith("The work was interrupted 2 times")
        assert claim_rows(live_worker(), 1) == []

    def test_more_jobs_than_one_transaction_takes(self, live_worker):
        for _ in range(230):
            tasks.noop.enqueue()
        claim_rows(live_worker(-1), 230)
        assert reaping.reap_jobs() == 230
        assert Job.objects.filter(state="queued").count() == 230

    def test_a_task_that_does_not_exist(self, live_worker, user):
        """The notification has the default text."""
        tasks.noop.using(owner=user).enqueue()
        Job.objects.update(max_attempts=1, task_path="tests.jobs.tasks.removed")
        claim_one(live_worker(-1))
        assert reaping.reap_jobs() == 1
        assert len(notifications_of(user)) == 1


class TestAStopOfTheWorker:
    """Of jobs whose tasks were called."""

    @pytest.fixture
    def once(self, live_worker, user):
        """A claimed job that may begin only once."""
        tasks.hold_once.using(owner=user).enqueue()
        [job] = claim_rows(live_worker(), 1)
        return job

    @staticmethod
    def stop(job, *, has_begun=True):
        reaping.release_at_stop([job], {(job.id.int, job.fence)} if has_begun else ())
        return Job.objects.values().get()

    @pytest.mark.parametrize("has_begun", [True, False])
    def test_a_job_that_may_begin_only_once(self, once, has_begun):
        row = self.stop(once, has_begun=has_begun)
        assert (row["state"], row["attempt"]) == (("failed", 1) if has_begun else ("queued", 0))
        assert Attempt.objects.filter(outcome="lost").count() == has_begun

    @pytest.mark.parametrize(
        "change", [{"fence": 2}, {"state": "queued"}, {"state": "failed"}, {"worker": uuid.uuid4()}]
    )
    def test_a_void_claim_changes_nothing(self, once, change):
        Job.objects.update(**change)
        before = Job.objects.values().get()
        assert self.stop(once) == before
        assert not Attempt.objects.exists()

    def test_the_last_of_several_attempts_does_not_count(self, live_worker):
        tasks.hold.enqueue()
        Job.objects.update(attempt=2)
        [job] = claim_rows(live_worker(), 1)
        row = self.stop(job)
        assert (row["state"], row["attempt"], row["max_attempts"]) == ("queued", 2, 3)

    def test_a_retry_by_hand_begins_once_too(self, once, live_worker, django_capture_on_commit_callbacks):
        self.stop(once)
        with django_capture_on_commit_callbacks(execute=True):
            retry([once.id])
        [job] = claim_rows(live_worker(), 1)
        assert (job.attempt, job.max_attempts) == (2, 2)
        assert self.stop(job)["state"] == "failed"

    def test_a_job_that_is_to_be_cancelled_is(self, once):
        Job.objects.update(cancel_requested_at=timezone.now())
        assert self.stop(once)["state"] == "cancelled"
