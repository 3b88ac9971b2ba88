"""Outcomes are recorded for valid claims, and void claims change nothing."""

import threading
import uuid
from copy import copy

import pytest
from django.db import OperationalError, connection, transaction
from django.utils import timezone

from notifications.api import notify
from notifications.jobs import Policy
from notifications.jobs.transitions import recording
from notifications.models import Attempt, Job, Notification
from notifications.signals import job_finished
from tests.jobs import tasks
from tests.jobs.conftest import notifications_of
from tests.support.claims import claim_rows
from tests.support.duties import run_duty
from tests.support.outcomes import failed, succeeded
from tests.support.statements import preceded, refused
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
def test_void_claims_change_nothing(live_worker, user, change):
    """Another worker has claimed the job, or the job is done: the worker with the old claim can change nothing.

    After a crash of PostgreSQL lost the first claim, that of the other worker has the same fence.
    """
    tasks.noop.using(owner=user).enqueue()
    job = claim_one(live_worker())
    Job.objects.update(**change)
    before = Job.objects.values().get()
    outcome = failed(job)
    assert recording.record_outcomes([outcome]) == ([], [outcome])
    assert Job.objects.values().get() == before
    assert notifications_of(user) == []
    assert not Attempt.objects.exists()


@pytest.mark.django_db(transaction=True)
def test_a_repeated_transaction_returns_void_outcomes_once(live_worker, user):
    """The database was busy at the first time."""
    for _ in range(2):
        tasks.noop.using(owner=user).enqueue()
    jobs = claim_rows(live_worker(), 2)
    Job.objects.filter(id=jobs[1].id).update(fence=7)
    group = [succeeded(job) for job in jobs]
    is_busy = lambda text: OperationalError("database is locked")  # noqa: E731
    with refused("UPDATE notifications_stream", times=1, error=is_busy) as tries:
        assert recording.record_outcomes(group) == ([group[0]], [group[1]])
    assert (len(tries), len(notifications_of(user))) == (1, 1)


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("has_owner", [True, False])
def test_the_end_of_a_job_without_an_owner_rings_the_queue(live_worker, user, rings, has_owner):
    """The ring of a stream reaches all others who wait for a job."""
    tasks.noop.using(owner=user if has_owner else None).enqueue()
    job = claim_one(live_worker())
    rings.clear()
    recording.record_outcomes([succeeded(job, 1)])
    assert (True in rings) is not has_owner


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
        run_duty("take jobs from lost workers")

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
    """It is in neither list, and tried again."""
    for _ in range(2):
        tasks.noop.enqueue()
    locked, free = claim_rows(live_worker(), 2)
    group = [succeeded(job, 1) for job in (locked, free)]
    found = []

    def write():
        found.append(recording.record_outcomes(group))

    with transaction.atomic():
        Job.objects.select_for_update().get(id=locked.id)
        run_in_threads(write)
    assert found == [([group[1]], [])]
    assert recording.record_outcomes(group[:1]) == ([group[0]], [])


def test_failed_reading_for_a_signal(live_worker, caplog, connect_receiver):
    """Its TaskResult has the attempts, which are read after the commit. The app's own signal is sent all the same."""
    tasks.noop.enqueue()
    job = claim_one(live_worker())

    ended = []
    connect_receiver(job_finished, lambda job, **kwargs: ended.append(job.id))
    with refused('FROM "notifications_attempt"') as refusals:
        recording.finish_jobs([failed(job, ValueError("no"))])
    assert refusals
    assert ended == [job.id]
    assert "Could not send task_finished" in caplog.text


@pytest.mark.django_db(transaction=True)
def test_failed_numbering_of_a_recorded_end(live_worker, user, caplog, connect_receiver):
    """The end is committed: after an error the caller would record it again, and its signals would never be sent."""
    tasks.noop.using(owner=user).enqueue()
    job = claim_one(live_worker())

    notify(user, "It runs.", key=f"job:{job.id}")  # so the end is numbered by a pass
    now = timezone.now()
    Notification.objects.bulk_create(  # more than one pass numbers
        Notification(user=user, title=str(number), created_at=now) for number in range(300)
    )
    ended = []
    connect_receiver(job_finished, lambda job, **kwargs: ended.append(job.id))

    def fail_at_second():
        if len(passes) > 1:
            raise OperationalError("The database is away.")

    with preceded("UPDATE notifications_stream", fail_at_second, times=2) as passes:
        assert recording.finish_jobs([succeeded(job, 1)]) == {(job.id.int, job.fence)}
    assert ended == [job.id]
    assert "Could not number rows" in caplog.text
    run_duty("number pending changes")
    assert stored(job).seq and not Notification.objects.filter(seq=None).exists()


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


def test_a_group_of_different_outcomes(user, live_worker):
    """A retry, a success and a failure are recorded in one transaction."""
    for _ in range(3):
        tasks.noop.using(owner=user).enqueue()
    jobs = claim_rows(live_worker(), 3)
    policy = Policy(retry_on=tasks.Busy)
    group = [
        failed(jobs[0], tasks.Busy(), policy),
        succeeded(jobs[1], 1, policy),
        failed(jobs[2], ValueError(), policy),
    ]
    stored, void = recording.record_outcomes(group)
    assert (len(stored), void) == (3, [])
    rows = {job.id: job for job in Job.objects.all()}
    assert [rows[job.id].state for job in jobs] == ["queued", "succeeded", "failed"]
    assert {note.job for note in notifications_of(user)} == {jobs[1].id, jobs[2].id}
    assert sorted(rows[job.id].seq for job in jobs) + sorted(note.seq for note in notifications_of(user)) == [
        *range(5),
    ]
