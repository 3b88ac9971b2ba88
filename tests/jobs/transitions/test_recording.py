"""Outcomes are recorded for valid claims, and void claims change nothing."""

import threading
import uuid
from copy import copy

import pytest
from django.db import OperationalError, connection, transaction
from django.utils import timezone

from notifications import streams
from notifications.contrib.output.models import OutputChunk
from notifications.contrib.output.storage import buffer_of, store_output
from notifications.contrib.steps.models import Step
from notifications.contrib.steps.storage import StepWrite, store_steps
from notifications.contrib.webhooks.callback_storage import store_callback
from notifications.exceptions import AttemptEnded
from notifications.jobs import Policy, notifying
from notifications.jobs.transitions import (
    claims,
    conditional_updates,
    queueing,
    reaping,
    recording,
)
from notifications.jobs.transitions.claims import ClaimedJob
from notifications.models import Attempt, Job, Notification
from notifications.signals import job_finished
from tests.jobs import tasks
from tests.jobs.conftest import notifications_of
from tests.support.claims import claim_rows
from tests.support.outcomes import failed, succeeded
from tests.support.threads import run_in_threads

pytestmark = pytest.mark.django_db


def claim_one(worker, **options):
    (job,) = claim_rows(worker, 1, **options)
    return job


def stored(job):
    return Job.objects.get(id=job.id)


@pytest.mark.parametrize(
    "change", [{"fence": 2}, {"state": "queued"}, {"state": "failed"}, {"worker": uuid.uuid4()}]
)
class TestVoidClaim:
    """Another worker has claimed the job, or the job is done: the worker with the old claim can change nothing.

    After a crash of PostgreSQL lost the first claim, that of the other worker has the same fence.
    """

    @pytest.fixture
    def void_claim(self, live_worker, user, change):
        tasks.noop.using(owner=user).enqueue()
        job = claim_one(live_worker())
        Job.objects.filter(id=job.id).update(**change)
        return job

    @pytest.fixture(autouse=True)
    def nothing_changes(self, void_claim, user, change):
        before = Job.objects.filter(id=void_claim.id).values().get()
        yield
        assert Job.objects.filter(id=void_claim.id).values().get() == before
        assert notifications_of(user) == []
        assert not Attempt.objects.exists()

    def test_record_outcomes(self, void_claim):
        outcome = failed(void_claim, ValueError())
        assert recording.record_outcomes([outcome]) == ([], [outcome])

    def test_release(self, void_claim):
        queueing.release([void_claim])

    def test_requeue_unknown_task(self, void_claim):
        queueing.requeue_unknown_task(ClaimedJob(void_claim))

    def test_requeue_without_thread(self, void_claim):
        queueing.requeue_without_thread(void_claim)

    def test_store_progress(self, void_claim):
        void_claim.progress_current = 5
        claims.store_progress([void_claim])

    def test_extend_deadlines(self, void_claim):
        claims.extend_deadlines([void_claim], {void_claim.task_path: 1000})

    def test_store_steps(self, void_claim):
        now = timezone.now()
        write = StepWrite(job=void_claim, name="a", result="1", started_at=now, ended_at=now)
        assert store_steps([write]) == {write: None}
        assert not Step.objects.exists()

    def test_store_output(self, void_claim):
        buffer_of(void_claim).append("text")
        assert store_output([void_claim]) == []
        assert not OutputChunk.objects.exists()

    def test_store_callback(self, void_claim):
        with pytest.raises(AttemptEnded):
            store_callback(void_claim, "bank", "", None)

    def test_update_of_locked_rows(self, void_claim, change):
        if "worker" in change:
            pytest.skip("The rows are locked, and the worker has been compared then.")
        conditional_updates.update_locked_rows((), [((), void_claim)], assignments=("version = version + 1",))


def test_rows_are_changed_in_the_order_of_their_ids(live_worker):
    """Two transactions that change the same rows would wait for each other otherwise."""
    for _ in range(3):
        tasks.noop.enqueue()
    jobs = claim_rows(live_worker(), 3)
    changed = []

    def record(execute, sql, params, many, context):
        if sql.startswith("UPDATE notifications_job"):
            changed.extend(uuid.UUID(str(id)) for *_, id, _, _ in params)
        return execute(sql, params, many, context)

    with connection.execute_wrapper(record):
        queueing.release(jobs[::-1])
    assert changed == sorted(job.id for job in jobs)


@pytest.mark.django_db(transaction=True)
def test_a_repeated_transaction_returns_void_outcomes_once(live_worker, user, monkeypatch):
    """The database was busy at the first time."""
    for _ in range(2):
        tasks.noop.using(owner=user).enqueue()
    jobs = claim_rows(live_worker(), 2)
    Job.objects.filter(id=jobs[1].id).update(fence=7)
    number, tries = streams.number_in_transaction, []

    def fail_at_first(users):
        tries.append(users)
        if len(tries) == 1:
            raise OperationalError("database is locked")
        return number(users)

    monkeypatch.setattr(streams, "number_in_transaction", fail_at_first)
    group = [succeeded(job) for job in jobs]
    assert recording.record_outcomes(group) == ([group[0]], [group[1]])
    assert (len(tries), len(notifications_of(user))) == (2, 1)


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("has_owner", [True, False])
def test_the_end_of_a_job_without_an_owner_rings_the_queue(live_worker, user, rings, has_owner):
    """The ring of a stream reaches all others who wait for a job."""
    tasks.noop.using(owner=user if has_owner else None).enqueue()
    job = claim_one(live_worker())
    rings.clear()
    recording.record_outcomes([succeeded(job, 1)])
    assert (True in rings) is not has_owner


@pytest.mark.django_db(transaction=True)
def test_jobs_that_are_queued_wake_workers(live_worker, rings):
    """New ones, and those that a worker releases at its end."""
    tasks.noop.enqueue()
    assert rings == [True]
    job = claim_one(live_worker())
    rings.clear()
    queueing.release([job])
    assert rings == [True]


def test_void_outcomes_do_not_affect_others_of_their_group(live_worker, user):
    """Stored and void outcomes are returned in separate lists."""
    for _ in range(3):
        tasks.noop.using(owner=user).enqueue()
    jobs = claim_rows(live_worker(), 3)
    Job.objects.filter(id=jobs[1].id).update(fence=7)
    group = [succeeded(job) for job in jobs]
    assert recording.record_outcomes(group) == ([group[0], group[2]], [group[1]])
    assert [stored(job).state for job in jobs] == ["succeeded", "running", "succeeded"]
    assert {note.job for note in notifications_of(user)} == {jobs[0].id, jobs[2].id}
    assert sorted(note.seq for note in notifications_of(user)) + sorted(stored(j).seq for j in jobs[::2]) == [
        3,
        4,
        1,
        2,
    ]


@pytest.mark.parametrize("by_other", [True, False])
def test_a_job_to_be_cancelled_is_not_retried(live_worker, user, by_other):
    """Its failed attempt ends as cancelled, and its owner is notified of a cancellation by another user."""
    tasks.noop.using(owner=user).enqueue()
    job = claim_one(live_worker())
    job.max_attempts = 2
    outcome = failed(job, ValueError(), Policy(retry_on=(ValueError,)))
    assert outcome.retry_delay is not None
    Job.objects.update(cancel_requested_at=timezone.now(), cancelled_by_other=by_other)
    ((end,), _) = recording.record_outcomes([outcome])
    assert (end.state, end.job.cancelled_by_other) == ("cancelled", by_other)
    assert len(notifications_of(user)) == by_other


def test_a_job_without_an_owner_gets_no_number(live_worker):
    tasks.noop.enqueue()
    job = claim_one(live_worker())
    recording.record_outcomes([succeeded(job, 1)])
    assert (stored(job).state, stored(job).seq) == ("succeeded", 0)
    assert not Notification.objects.exists()


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("round", range(5))
def test_concurrent_recording_and_reaping(live_worker, user, round):
    """Each job is either done with one notification, or queued again with a lost attempt."""
    for _ in range(40):
        tasks.noop.using(owner=user).enqueue()
    jobs = claim_rows(live_worker(-1), 40)
    outcome_of = {job.id: succeeded(job) for job in jobs}
    start, ended = threading.Barrier(2), []

    def finish():
        start.wait()
        for number in range(0, 40, 5):
            waiting = [outcome_of[job.id] for job in jobs[number : number + 5]]
            while waiting:
                stored, void = recording.record_outcomes(waiting)
                ended.extend(stored)
                waiting = [outcome for outcome in waiting if outcome not in stored and outcome not in void]

    def reap():
        start.wait()
        while reaping.reap_jobs():
            pass

    run_in_threads(finish, reap)
    finished = {outcome.job.id for outcome in ended}
    lost = set(Attempt.objects.values_list("job_id", flat=True))
    assert finished | lost == set(outcome_of) and not finished & lost
    assert {note.job for note in notifications_of(user)} == finished
    assert len(notifications_of(user)) == len(finished)
    for job in Job.objects.all():
        assert job.state == ("succeeded" if job.id in finished else "queued")


@pytest.mark.skipif(connection.vendor != "postgresql", reason="SQLite locks no rows.")
@pytest.mark.django_db(transaction=True)
def test_an_outcome_whose_row_is_locked_is_not_void(live_worker):
    """It is in neither list, and tried again. So are a step and output of the job."""
    for _ in range(2):
        tasks.noop.enqueue()
    locked, free = claim_rows(live_worker(), 2)
    for job in (locked, free):
        buffer_of(job).append("text")
    steps = [
        StepWrite(job=job, name="a", result="1", started_at=job.started_at, ended_at=job.started_at)
        for job in (locked, free)
    ]
    group = [succeeded(job, 1) for job in (locked, free)]
    found = []

    def write():
        found.extend([store_output([locked, free]), store_steps(steps), recording.record_outcomes(group)])

    with transaction.atomic():
        Job.objects.select_for_update().get(id=locked.id)
        run_in_threads(write)
    assert found == [[locked], {steps[1]: "1"}, ([group[1]], [])]
    assert not buffer_of(locked).is_closed
    assert recording.record_outcomes(group[:1]) == ([group[0]], [])


def test_failed_reading_for_a_signal(live_worker, monkeypatch, caplog, connect_receiver):
    """Its TaskResult has the attempts, which are read after the commit. The app's own signal is sent all the same."""
    tasks.noop.enqueue()
    job = claim_one(live_worker())

    def fail(*args, **kwargs):
        raise OperationalError("the connection is lost")

    ended = []
    monkeypatch.setattr(notifying.results, "task_result", fail)
    connect_receiver(job_finished, lambda job, **kwargs: ended.append(job.id))
    recording.finish_jobs([failed(job, ValueError("no"))])
    assert ended == [job.id]
    assert "Could not send task_finished" in caplog.text


def test_failed_numbering_of_a_recorded_end(live_worker, user, monkeypatch, caplog):
    """The end is committed: after an error the caller would record it again, and its signals would never be sent."""
    tasks.noop.using(owner=user).enqueue()
    job = claim_one(live_worker())

    def fail(users, **kwargs):
        assert users == {user.pk}
        raise OperationalError("database is locked")

    with monkeypatch.context() as patch:
        patch.setattr(streams, "number_new", lambda rows: False)
        patch.setattr(streams, "number_in_transaction", lambda users: True)
        patch.setattr(streams, "number", fail)
        ended = []
        patch.setattr(recording, "send_signals_of_ends", ended.extend)
        assert recording.finish_jobs([succeeded(job, 1)]) == {(job.id, job.fence)}
        assert [outcome.job.id for outcome in ended] == [job.id]
    assert "Could not number rows" in caplog.text
    streams.number_pending()
    assert stored(job).seq


@pytest.mark.parametrize("stale_first", [True, False])
def test_two_claims_of_a_job_in_one_group(live_worker, user, stale_first):
    """A worker that was frozen may claim its own job anew, while its first execution goes on."""
    tasks.noop.using(owner=user).enqueue()
    live = claim_one(live_worker())
    stale = copy(live)
    stale.fence -= 1
    group = [failed(stale, ValueError("late")), succeeded(live, 1)]
    recording.finish_jobs(group if stale_first else group[::-1])
    assert stored(live).state == "succeeded" and not Attempt.objects.exists()
