"""Jobs that hold their concurrency key while they wait: nothing else of the key runs, and each goes on itself."""

import uuid
from datetime import timedelta

import pytest
from django.utils import timezone

from notifications.api import batch
from notifications.db.transactions import retrying_atomic
from notifications.jobs.claiming import queues
from notifications.jobs.outcomes import Outcome
from notifications.jobs.transitions import finishing, manual, queueing, waiting
from notifications.models import Job, Wait
from notifications.streams.retention import Pruning
from notifications.testing import answer_question, clock, run_jobs
from tests.jobs import tasks, wait_tasks
from tests.jobs.conftest import until_done, until_state
from tests.support.claims import claim_rows

pytestmark = [pytest.mark.database_law, pytest.mark.django_db(transaction=True)]

DAY = timedelta(days=1)


@pytest.fixture(autouse=True)
def held_clock(jobs_clock):
    return jobs_clock


def waiting_job(task=wait_tasks.ask_at_desk, **options):
    """Enqueue a job and run it until it waits. Returns its row."""
    result = task.using(**options).enqueue()
    run_jobs()
    job = row(result)
    assert job.state == "waiting"
    return job


def row(result):
    return Job.objects.get(id=result.id)


def claim(limit=100, **options):
    return claim_rows(uuid.uuid4(), limit, **options)


def ids(*jobs):
    return {str(job.id) for job in jobs}


class TestWhileItWaits:
    def test_no_other_job_of_the_key_runs(self, user):
        waiting_job(owner=user)
        blocked = tasks.noop.using(concurrency_key="desk").enqueue()
        free = tasks.noop.using(concurrency_key="other").enqueue()
        assert ids(*claim()) == ids(free)
        assert row(blocked).state == "queued"

    def test_it_goes_on_itself(self, user):
        """A job that waited longer for the key does not start between the answer and the end."""
        job = waiting_job(owner=user)
        blocked = tasks.noop.using(concurrency_key="desk", priority=9).enqueue()
        assert run_jobs() == 0
        answer_question("yes", by=user)
        [resumed] = claim()
        assert (resumed.id, resumed.held_key_limit) == (job.id, None)
        assert claim() == []
        queueing.release([resumed])
        Job.objects.filter(id=job.id).update(priority=10)
        run_jobs()
        assert row(job).result == '"yes"'
        assert row(blocked).state == "succeeded"

    def test_each_of_several_counts(self):
        """Of two desks one is taken by a job that waits, and one is free."""
        first = waiting_job(wait_tasks.pause_at_desks)
        more = [wait_tasks.pause_at_desks.enqueue() for _ in range(2)]
        [second] = claim()
        assert str(second.id) == more[0].id
        assert claim() == []
        queueing.release([second])
        run_jobs()
        assert {row(job).state for job in (first, second)} == {"waiting"}
        assert row(more[1]).state == "queued"
        clock.advance(DAY + timedelta(minutes=1))
        waiting.end_due_waits()
        # Both go on at once. The third has to wait for the end of one of them.
        assert ids(*claim()) == ids(first, second)
        assert claim() == []

    def test_a_wait_that_has_ended_before_the_suspension(self):
        """The job is queued in the transaction that would suspend it, and holds its key."""
        job = waiting_job(wait_tasks.pause_at_desks)
        Job.objects.filter(id=job.id).update(state="running", held_key_limit=None)
        Wait.objects.update(ended_at=timezone.now(), how="due")
        finishing.finish_jobs([Outcome(job=row(job), state="waiting", waits=list(Wait.objects.all()))])
        assert (row(job).state, row(job).held_key_limit) == ("queued", 2)

    def test_without_the_option_or_a_key(self, user):
        wait_tasks.pause_twice.using(concurrency_key="desk").enqueue()
        wait_tasks.ask_at_desk.using(concurrency_key="", owner=user).enqueue()
        run_jobs()
        assert set(Job.objects.values_list("state", "held_key_limit")) == {("waiting", None)}

    def test_the_slot_of_its_queue_is_free(self, user, settings):
        settings.TASKS = {"default": {**settings.TASKS["default"], "OPTIONS": {"limits": {"default": 1}}}}
        waiting_job(owner=user)
        other = tasks.noop.enqueue()
        assert ids(*claim()) == ids(other)
        # It needs a slot again, not its key.
        answer_question("yes", by=user)
        assert claim() == []

    def test_run_now_and_a_paused_queue(self, user):
        job = waiting_job(owner=user)
        answer_question("yes", by=user)
        assert manual.reschedule([job.id]) == [job.id]
        queues.pause("default")
        assert claim() == []
        queues.resume("default")
        assert ids(*claim()) == ids(job)


class TestFreed:
    @pytest.mark.parametrize("state", ["waiting", "queued"])
    def test_by_a_cancellation(self, user, state):
        job = waiting_job(owner=user)
        if state == "queued":
            answer_question("yes", by=user)
        blocked = tasks.noop.using(concurrency_key="desk").enqueue()
        assert row(job).state == state
        manual.cancel([job.id])
        assert ids(*claim()) == ids(blocked)

    def test_by_the_cancellation_of_its_batch(self, user):
        with batch(owner=user) as jobs:
            wait_tasks.pause_at_desks.using(concurrency_key="desk").enqueue()
        run_jobs()
        blocked = tasks.noop.using(concurrency_key="desk").enqueue()
        assert claim() == []
        manual.cancel([jobs.id])
        assert ids(*claim()) == ids(blocked)

    def test_not_by_a_retry(self, user):
        """The retried job needs the key like any other."""
        job = waiting_job(owner=user)
        manual.cancel([job.id])
        blocked = tasks.noop.using(concurrency_key="desk", priority=9).enqueue()
        manual.retry([job.id])
        assert row(job).held_key_limit is None
        assert ids(*claim()) == ids(blocked)

    def test_by_expiry(self, user):
        """The job that expired goes on first, and fails."""
        job = waiting_job(owner=user)
        blocked = tasks.noop.using(concurrency_key="desk").enqueue()
        clock.advance(DAY + timedelta(minutes=1))
        run_jobs()
        assert (row(job).state, row(blocked).state) == ("failed", "succeeded")

    def test_by_pruning(self, user):
        job = waiting_job(owner=user)
        manual.cancel([job.id])
        pruning = Pruning(clock.now() + DAY, run=retrying_atomic)
        while pruning.prune_chunk() is not None:
            pass
        assert not Job.objects.exists()
        blocked = tasks.noop.using(concurrency_key="desk").enqueue()
        assert ids(*claim()) == ids(blocked)


class TestManyKeys:
    @pytest.fixture
    def held(self):
        """300 jobs wait with keys of their own, for each of which two other jobs are queued with a high priority."""
        jobs = []
        for number in range(300):
            fields = {"task_path": "tests.jobs.tasks.noop", "backend": "default", "queue_name": "default"}
            fields |= {"title": "x", "created_at": timezone.now(), "queued_at": timezone.now()}
            fields |= {"concurrency_key": f"key {number}", "executor": "async"}
            jobs.append(Job(**fields, state="waiting", held_key_limit=1))
            jobs += [Job(**fields, priority=5) for _ in range(2)]
        Job.objects.bulk_create(jobs)
        return jobs

    def test_jobs_behind_them_run(self, held):
        free = [tasks.noop.using(concurrency_key=key).enqueue() for key in ("", "free")]
        assert ids(*claim(10)) == ids(*free)

    def test_one_that_is_queued_again_runs(self, held):
        """It is found behind those of the other keys, and of its own."""
        job = held[150]
        assert job.held_key_limit
        Job.objects.filter(id=job.id).update(state="queued", run_after=timezone.now(), priority=-1)
        assert ids(*claim(10)) == ids(job)
        assert claim(10) == []


@pytest.mark.parametrize("wait", ["answered", "cancelled"])
def test_with_a_worker(start_worker, user, wait):
    """Two workers: the second job of the key starts when the first one, which was answered or cancelled, has ended."""
    for _ in range(2):
        start_worker()
    first = wait_tasks.ask_at_desk.using(owner=user).enqueue()
    until_state(first, "waiting")
    second = wait_tasks.ask_at_desk.using(owner=user).enqueue()
    until_done(tasks.noop.enqueue())
    assert row(second).state == "queued"
    if wait == "answered":
        answer_question("yes", by=user)
        [job] = until_done(first)
        assert job.result == '"yes"'
    else:
        manual.cancel([uuid.UUID(first.id)])
    until_state(second, "waiting")
    assert Job.objects.get(state="waiting").held_key_limit == 1
