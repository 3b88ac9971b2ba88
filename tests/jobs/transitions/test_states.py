"""The arrows of a job, each guarded by id, fence and state."""

import threading
import uuid
from dataclasses import replace
from datetime import timedelta
from functools import partial

import pytest
from django.db import connection, connections
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from notifications.jobs.claiming import candidates, queues
from notifications.jobs.claiming.claimed_job import ClaimedJob
from notifications.jobs.policies import DEFAULT_POLICY
from notifications.jobs.transitions import finishing, outcomes, queueing, reaping, recording, running
from notifications.models import Attempt, Job, Notification, Worker
from notifications.signals import rung
from notifications.testing import clock
from tests.jobs import tasks
from tests.jobs.conftest import told
from tests.support.claims import claim_rows

pytestmark = pytest.mark.django_db


def claim_one(worker, **options):
    (job,) = claim_rows(worker, 1, **options)
    return job


def stored(job):
    return Job.objects.get(id=job.id)


def test_claim_writes_what_it_returns(live):
    tasks.noop.enqueue()
    worker = live()
    job = claim_one(worker, timeouts={"tests.jobs.tasks.noop": 5})
    row = stored(job)
    for name in ("state", "worker", "fence", "attempt", "version", "started_at", "deadline"):
        assert getattr(row, name) == getattr(job, name), name
    assert (row.state, row.worker, row.fence, row.attempt, row.version) == ("running", worker, 1, 1, 2)
    assert row.deadline - row.started_at == timedelta(seconds=65)
    assert claim_rows(worker, 10) == []


def test_claim_takes_no_more_than_it_is_asked_for(live):
    for _ in range(5):
        tasks.noop.enqueue()
        tasks.noop.using(run_after=timezone.now() - timedelta(seconds=1)).enqueue()
    assert len(claim_rows(live(), 3)) == 3
    assert Job.objects.filter(state="queued").count() == 7


@pytest.mark.parametrize("queue", ["default", "limited"])
def test_a_low_priority_that_is_due_hides_no_high_one(live, settings, queue):
    """While there are always others to do, it may wait for ever; who is due after it must not wait behind it."""
    settings.TASKS = {"default": {**settings.TASKS["default"], "OPTIONS": {"limits": {"limited": 9}}}}
    ago = timezone.now() - timedelta(hours=1)
    plain = tasks.noop.using(queue_name=queue)
    plain.using(priority=-1, run_after=ago).enqueue()
    high = plain.using(priority=1, run_after=ago + timedelta(minutes=1)).enqueue()
    middle = plain.enqueue()
    worker = live()
    assert [str(claim_one(worker).id) for _ in range(2)] == [high.id, middle.id]


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize(
    ("held_back", "trips"),
    [(None, 1), ("later", 3), ("paused", 3), ("elsewhere", 1), ("limited", 1)],
)
def test_claim_of_plain_jobs_is_one_round_trip(live, settings, held_back, trips):
    """On PostgreSQL, and some more where jobs are held back or were for later; by priority and age in any case."""
    if connection.vendor != "postgresql":
        pytest.skip("SQLite is in the same process.")
    settings.TASKS = {"default": {**settings.TASKS["default"], "OPTIONS": {"limits": {"limited": 9}}}}
    ago = timezone.now() - timedelta(seconds=5)
    late = tasks.noop.using(priority=-1).enqueue()
    other = tasks.noop.using(queue_name="reports", priority=9)
    if held_back in ("paused", "elsewhere"):
        other.enqueue()
    if held_back == "paused":
        queues.pause("reports")
    asked = [
        tasks.noop.using(priority=1, run_after=ago if held_back == "later" else None).enqueue(),
        tasks.noop.enqueue(),
        tasks.noop.enqueue(),
    ]
    worker = live()
    with CaptureQueriesContext(connection) as captured:
        jobs = claim_rows(worker, 3, queues=["default"] if held_back == "elsewhere" else [])
    assert [str(job.id) for job in jobs] == [result.id for result in asked]
    assert len(captured) == trips
    assert Job.objects.get(id=late.id).state == "queued"


@pytest.mark.django_db(transaction=True)
def test_a_claim_rings_for_its_owners(live, demo):
    """They see that it runs."""
    tasks.noop.using(owner=demo).enqueue()
    tasks.noop.enqueue()
    heard = []

    def hear(users, **kwargs):
        heard.extend(users)

    rung.connect(hear)
    assert len(claim_rows(live(), 3)) == 2
    assert heard == [demo.pk]


def test_is_due(live):
    assert not candidates.claimable_queues()
    tasks.noop.using(run_after=timezone.now() + timedelta(hours=1)).enqueue()
    assert not candidates.claimable_queues()
    tasks.noop.using(queue_name="reports").enqueue()
    assert (
        candidates.claimable_queues()
        and candidates.claimable_queues(["reports"])
        and not candidates.claimable_queues(["default"])
    )


def test_what_is_due_by_a_clock_that_was_moved(db, request):
    tasks.noop.using(run_after=timezone.now() + timedelta(hours=1)).enqueue()
    request.addfinalizer(clock.reset)
    clock.advance(3599)
    assert not candidates.claimable_queues()
    clock.advance(2)
    assert candidates.claimable_queues()


@pytest.mark.parametrize("change", [{"fence": 2}, {"state": "queued"}, {"state": "failed"}])
class TestAStaleClaim:
    """Another worker took the job over, or it is over: nothing that the old claim's holder does changes it."""

    @pytest.fixture
    def stale(self, live, demo, change):
        tasks.noop.using(owner=demo).enqueue()
        job = claim_one(live())
        Job.objects.filter(id=job.id).update(**change)
        return job

    @pytest.fixture(autouse=True)
    def nothing_changes(self, stale, demo, change):
        before = Job.objects.filter(id=stale.id).values().get()
        yield
        assert Job.objects.filter(id=stale.id).values().get() == before
        assert told(demo) == []
        assert not Attempt.objects.exists()

    def test_finish(self, stale):
        outcome = outcomes.failed(stale, DEFAULT_POLICY, ValueError())
        assert recording.record_outcomes([outcome]) == ([], [outcome])

    def test_release(self, stale):
        queueing.release([stale])

    def test_postpone(self, stale):
        queueing.requeue_unknown_task(ClaimedJob(stale))

    def test_send_back(self, stale):
        queueing.requeue_without_thread(stale)

    def test_report(self, stale):
        stale.progress_current = 5
        running.store_progress([stale])

    def test_put_off(self, stale):
        running.extend_deadlines([stale], {stale.task_path: 1000})


def test_finish_counts_what_is_stored_and_what_is_void(live, demo):
    """A void one in a group does not disturb its neighbours."""
    for _ in range(3):
        tasks.noop.using(owner=demo).enqueue()
    jobs = claim_rows(live(), 3)
    Job.objects.filter(id=jobs[1].id).update(fence=7)
    group = [outcomes.succeeded(job, DEFAULT_POLICY, None) for job in jobs]
    assert recording.record_outcomes(group) == ([group[0], group[2]], [group[1]])
    assert [stored(job).state for job in jobs] == ["succeeded", "running", "succeeded"]
    assert {note.job for note in told(demo)} == {jobs[0].id, jobs[2].id}
    assert sorted(note.seq for note in told(demo)) + sorted(stored(j).seq for j in jobs[::2]) == [3, 4, 1, 2]


@pytest.mark.parametrize("by_other", [True, False])
def test_one_that_is_to_end_is_not_tried_again(live, demo, by_other):
    """Who wanted it cancelled while its attempt failed has it cancelled, and its owner is told if that is another."""
    tasks.noop.using(owner=demo).enqueue()
    job = claim_one(live())
    job.max_attempts = 2
    outcome = outcomes.failed(job, replace(DEFAULT_POLICY, retry_on=(ValueError,)), ValueError())
    assert outcome.retry_delay is not None
    Job.objects.update(cancel_requested_at=timezone.now(), cancelled_by_other=by_other)
    ((end,), _) = recording.record_outcomes([outcome])
    assert (end.state, end.job.cancelled_by_other) == ("cancelled", by_other)
    assert len(told(demo)) == by_other


def test_a_job_without_an_owner_gets_no_number(live):
    tasks.noop.enqueue()
    job = claim_one(live())
    recording.record_outcomes([outcomes.succeeded(job, DEFAULT_POLICY, 1)])
    assert (stored(job).state, stored(job).seq) == ("succeeded", 0)
    assert not Notification.objects.exists()


class TestReap:
    def test_a_lease_that_is_over(self, live, demo):
        tasks.noop.using(owner=demo).enqueue()
        job = claim_one(live(-1))
        assert reaping.reap_jobs() == 1
        row = stored(job)
        assert (row.state, row.worker, row.attempt, row.fence, row.deadline) == ("queued", None, 1, 1, None)
        assert (row.version, row.lane) == (3, "suspect")
        (attempt,) = Attempt.objects.all()
        assert (attempt.number, attempt.outcome, attempt.worker) == (1, "lost", job.worker)
        assert not Worker.objects.exists()
        assert told(demo) == []

    def test_a_lease_that_holds(self, live):
        tasks.noop.enqueue()
        job = claim_one(live())
        assert reaping.reap_jobs() == 0
        assert stored(job).state == "running"
        assert Worker.objects.count() == 1

    def test_a_worker_without_a_row(self):
        """It deleted its row, or somebody else did."""
        tasks.noop.enqueue()
        claim_one(uuid.uuid4())
        assert reaping.reap_jobs() == 1

    def test_a_deadline_that_is_over(self, live):
        """A wedged event loop renews its lease, but cannot keep a job for ever."""
        tasks.noop.enqueue()
        job = claim_one(live())
        Job.objects.update(deadline=timezone.now() - timedelta(seconds=1))
        assert reaping.reap_jobs() == 1
        assert (stored(job).state, stored(job).lane) == ("queued", "async")  # no suspect: its worker lives
        assert Worker.objects.count() == 1

    def test_only_those_that_are_known_to_be_gone(self, live):
        """Without leases, as at the start of a worker: neither leases nor deadlines count."""
        for _ in range(3):
            tasks.noop.enqueue()
        over, gone, here = live(-1), live(), live()
        jobs = [claim_one(worker) for worker in (over, gone, here)]
        Job.objects.update(deadline=timezone.now() - timedelta(seconds=1))
        assert reaping.reap_jobs([gone], expired=False) == 1
        assert [stored(job).state for job in jobs] == ["running", "queued", "running"]
        assert stored(jobs[1]).lane == "suspect"
        assert set(Worker.objects.values_list("id", flat=True)) == {over, gone, here}

    def test_what_the_dead_had_sent_last(self, live):
        """A claim that the server commits after the death, or whose jobs it still held at the first look."""
        gone = live()
        assert reaping.reap_jobs([gone], expired=False) == 0
        tasks.noop.enqueue()
        job = claim_one(gone)
        assert Worker.objects.filter(id=gone).exists()
        assert reaping.reap_jobs([gone], expired=False) == 1
        assert stored(job).state == "queued"
        Worker.objects.update(lease_until=timezone.now() - timedelta(seconds=1))
        assert reaping.reap_jobs([gone], expired=False) == 0
        assert not Worker.objects.exists()

    def test_lost_jobs_are_taken_in_the_order_of_their_index(self, live, monkeypatch):
        """By worker and id, whatever the order in which they were lost."""
        for _ in range(6):
            tasks.noop.enqueue()
        workers = [live(-1), live(-1), live(-1)]
        jobs = [claim_one(worker) for worker in workers * 2]
        Job.objects.update(max_attempts=1)
        taken, finish_jobs = [], finishing.finish_jobs
        monkeypatch.setattr(finishing, "finish_jobs", lambda group: taken.extend(group) or finish_jobs(group))
        with CaptureQueriesContext(connection) as queries:
            assert reaping.reap_jobs() == 6
        order = [(outcome.job.worker, outcome.job.id) for outcome in taken]
        assert order == sorted((job.worker, job.id) for job in jobs)
        # SQLite takes this index here whether told or not.
        (taking,) = {q["sql"] for q in queries if "state" in q["sql"] and "LIMIT 100" in q["sql"]}
        assert 'ORDER BY "notifications_job"."worker" ASC, "notifications_job"."id" ASC' in taking

    def test_the_last_attempt(self, live, demo):
        """The job has failed, and its owner is told; no attempt follows."""
        tasks.noop.using(owner=demo).enqueue()
        Job.objects.update(max_attempts=2, attempt=1)
        job = claim_one(live(-1))
        assert reaping.reap_jobs() == 1
        row = stored(job)
        assert (row.state, row.attempt) == ("failed", 2)
        assert row.seq is not None
        (note,) = told(demo)
        assert note.level == "error" and note.body.startswith("The work was interrupted 2 times")
        assert claim_rows(live(), 1) == []

    def test_many(self, live):
        """More than fit one transaction."""
        for _ in range(230):
            tasks.noop.enqueue()
        claim_rows(live(-1), 230)
        assert reaping.reap_jobs() == 230
        assert Job.objects.filter(state="queued").count() == 230

    def test_a_task_that_is_gone(self, live, demo):
        """The job ends in the default words."""
        tasks.noop.using(owner=demo).enqueue()
        Job.objects.update(max_attempts=1, task_path="tests.jobs.tasks.gone")
        claim_one(live(-1))
        assert reaping.reap_jobs() == 1
        assert len(told(demo)) == 1


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("round", range(5))
def test_finish_against_reap(live, demo, round):
    """Both at once: each job has one of both ends, wholly, and at most one notification."""
    for _ in range(40):
        tasks.noop.using(owner=demo).enqueue()
    jobs = claim_rows(live(-1), 40)
    outcome_of = {job.id: outcomes.succeeded(job, DEFAULT_POLICY, None) for job in jobs}
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

    in_threads(finish, reap)
    finished = {outcome.job.id for outcome in ended}
    lost = set(Attempt.objects.values_list("job_id", flat=True))
    assert finished | lost == set(outcome_of) and not finished & lost
    assert {note.job for note in told(demo)} == finished
    assert len(told(demo)) == len(finished)
    for job in Job.objects.all():
        assert job.state == ("succeeded" if job.id in finished else "queued")


@pytest.mark.django_db(transaction=True)
def test_claims_at_once(live):
    """Four workers claim at the same time: no job is given to two."""
    for _ in range(100):
        tasks.noop.enqueue()
    claimed = []

    def claim(worker):
        while jobs := claim_rows(worker, 7):
            claimed.extend(job.id for job in jobs)

    in_threads(*(partial(claim, live()) for _ in range(4)))
    assert len(claimed) == len(set(claimed)) == 100


def in_threads(*functions):
    """Run functions at once, each on a connection of its own; raise what one of them raised."""
    errors = []

    def run(function):
        try:
            function()
        except BaseException as exc:
            errors.append(exc)
        finally:
            connections.close_all()

    threads = [threading.Thread(target=run, args=(function,)) for function in functions]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert not any(thread.is_alive() for thread in threads), "It hangs."
    assert not errors, errors
