"""Executors: sync jobs are claimed when threads are free, async ones when slots are free; neither blocks the other."""

import uuid
from collections import Counter
from datetime import timedelta

import pytest
from django.db import transaction
from django.utils import timezone

from notifications.jobs import retry
from notifications.jobs.claiming.executors import executor_at
from notifications.management import pause_queue
from notifications.models import Job, Worker
from tests.jobs import tasks
from tests.jobs.conftest import until_done
from tests.support.claims import claim_rows
from tests.support.duties import run_duty
from tests.support.waiting import wait_until

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.nightly_on_postgres]


@pytest.fixture
def two_threads(monkeypatch):
    monkeypatch.setattr("notifications.worker.state.MAX_SYNC_THREADS", 2)


def enqueue(task, count, *args):
    with transaction.atomic():
        return [task.enqueue(*args) for _ in range(count)]


def running():
    return Job.objects.filter(state="running")


def claim(limit, **executors):
    return claim_rows(uuid.uuid4(), limit, executors=executors)


class TestWorkers:
    def test_two_workers_share_sync_jobs(self, start_worker):
        """Each claims as many as it has threads; the other jobs stay in the queue."""
        workers = [start_worker(), start_worker()]
        jobs = enqueue(tasks.hold_sync, 70)
        wait_until(lambda: len(tasks.held) == 64, what="64 threads to be taken")
        assert Counter(running().values_list("worker", flat=True)) == {worker.id: 32 for worker in workers}
        assert Job.objects.filter(state="queued").count() == 6
        tasks.gate.set()
        assert {job.attempt for job in until_done(*jobs)} == {1}

    def test_a_sync_job_of_higher_priority_runs_first(self, start_worker, one_sync_thread):
        start_worker()
        jobs = [tasks.hold_sync.enqueue("first")]
        wait_until(lambda: tasks.held, what="the thread to be taken")
        jobs += [tasks.hold_sync.enqueue("low") for _ in range(3)]
        jobs.append(tasks.hold_sync.using(priority=9).enqueue("high"))
        tasks.gate.set()
        until_done(*jobs)
        assert tasks.held == ["first", "high", "low", "low", "low"]

    def test_async_jobs_run_despite_a_backlog_of_sync_jobs(self, start_worker):
        """Sync jobs occupy no more slots than there are threads."""
        start_worker()
        backlog = enqueue(tasks.hold_sync, 1_000)
        wait_until(lambda: len(tasks.held) == 32, what="all threads to be taken")
        for _ in range(5):
            until_done(tasks.noop.enqueue())
        assert len(tasks.held) == running().count() == 32
        Job.objects.filter(state="queued").delete()
        tasks.gate.set()
        until_done(*backlog[:32])

    def test_sync_jobs_run_despite_a_backlog_of_async_jobs(self, start_worker):
        """Slots go to both kinds by turns, although they become free one by one; higher priority gets the next slot."""
        start_worker(concurrency=4)
        backlog = enqueue(tasks.hold, 400)
        wait_until(lambda: len(tasks.held) == 4, what="all slots to be taken")
        last, first = tasks.noop_sync.enqueue(), tasks.noop_sync.using(priority=1).enqueue()
        tasks.gate.set()
        (job,) = until_done(first)
        assert Job.objects.filter(finished_at__lt=job.started_at).count() < 100
        late, *_ = until_done(last, *backlog)
        assert late.started_at >= job.started_at
        assert Job.objects.filter(finished_at__lt=late.started_at).count() < 200

    @pytest.mark.parametrize("executor", ["sync", "quarantined"])
    def test_async_jobs_that_are_stored_in_another_executor(self, start_worker, two_threads, executor):
        """As after an update that changes a task. The worker goes by the task's function, not by what is stored."""
        jobs = enqueue(tasks.hold if executor == "sync" else tasks.noop, 30)
        Job.objects.update(executor=executor)
        start_worker()
        if executor == "sync":
            wait_until(lambda: len(tasks.held) == 30, what="all of them to run concurrently")
            tasks.gate.set()
        until_done(*jobs)

    def test_sync_jobs_that_are_stored_in_the_async_executor(self, start_worker, two_threads):
        """They queue for a thread in the worker, which claims no jobs of the sync executor meanwhile."""
        jobs = enqueue(tasks.hold_sync, 10)
        Job.objects.update(executor="async")
        start_worker()
        wait_until(lambda: running().count() == 10, what="all to be claimed")
        late = tasks.noop_sync.enqueue()
        until_done(tasks.noop.enqueue())
        assert Job.objects.get(id=late.id).state == "queued"
        tasks.gate.set()
        until_done(late, *jobs)

    def test_sync_jobs_that_join_other_sync_jobs(self, start_worker, two_threads):
        """While they wait, their threads execute other jobs, so that they cannot block themselves."""
        start_worker()
        parents = [tasks.parent_sync_of_sync.enqueue(number) for number in range(20)]
        assert {job.state for job in until_done(*parents)} == {"succeeded"}


class TestClaims:
    def test_by_priority_and_age(self):
        """The order is over all executors, within the limit of each."""
        enqueued = [
            (tasks.noop_sync if number % 3 else tasks.noop).using(priority=priority).enqueue()
            for priority in (0, 1)
            for number in range(6)
        ]
        jobs = claim(5, **{"async": 5, "sync": 3})
        assert [str(job.id) for job in jobs] == [enqueued[number].id for number in (6, 7, 8, 9, 10)][:5]
        assert Counter(job.executor for job in jobs) == {"async": 2, "sync": 3}
        assert [job.executor for job in claim(5, **{"async": 5})] == ["async", "async"]
        assert [job.executor for job in claim(9, sync=9)] == ["sync"] * 5

    @pytest.mark.parametrize("restriction", ["none", "queue", "key", "run_after", "limit"])
    def test_within_limits(self, settings, restriction):
        """With several queues, keys and limits, each executor is claimed up to its limit and no further."""
        if restriction == "limit":
            settings.TASKS = {"default": {**settings.TASKS["default"], "OPTIONS": {"limits": {"default": 1}}}}
        options = {"concurrency_key": "k"} if restriction == "key" else {}
        if restriction == "run_after":
            options["run_after"] = timezone.now()
        with transaction.atomic():
            for queue in ("default", "reports"):
                for _ in range(50):
                    tasks.noop_sync.using(queue_name=queue, priority=1, **options).enqueue()
                for _ in range(50):
                    tasks.noop.using(queue_name=queue, **options).enqueue()
                    options.pop("concurrency_key", None)
        if restriction == "queue":
            pause_queue("reports")
        jobs = claim(20, **{"async": 20, "sync": 3, "quarantined": 1})
        assert Counter(job.executor for job in jobs) == {"sync": 3, "async": 17}
        assert (
            max(Counter(job.concurrency_key for job in jobs if job.concurrency_key).values(), default=0) <= 1
        )
        if restriction == "limit":
            assert Counter(job.queue_name for job in jobs)["default"] == 1

    def test_a_manual_retry(self):
        """It moves the job to the executor of its task, also when the job was quarantined."""
        result = tasks.noop.enqueue()
        for executor in ("sync", "quarantined"):
            Job.objects.update(executor=executor, state="failed")
            retry([uuid.UUID(result.id)])
            assert Job.objects.get(id=result.id).executor == "async"

    def test_an_unknown_task_is_in_the_sync_executor(self):
        assert executor_at("no.such.task") == "sync"

    def test_jobs_of_a_batch_are_in_the_executors_of_their_tasks(self):
        from notifications.api import batch

        with batch():
            tasks.noop.enqueue()
            tasks.noop_sync.enqueue()
        assert Counter(job.executor for job in claim(9, **{"async": 9})) == {"async": 1}
        assert Counter(job.executor for job in claim(9, sync=9)) == {"sync": 1}


class TestQuarantined:
    """Jobs whose worker was lost while it ran them: each may be what ended it."""

    @pytest.fixture
    def lose(self, live_worker):
        """lose(task, count) enqueues jobs, has a worker claim them, and declares that worker lost."""

        def lose(task, count, *args):
            jobs = enqueue(task, count, *args)
            assert len(claim_rows(live_worker(-1), count)) == count
            run_duty("take jobs from lost workers")
            return jobs

        return lose

    @pytest.mark.parametrize("task", [tasks.hold, tasks.hold_sync])
    def test_each_worker_runs_one_quarantined_job_at_a_time(self, lose, start_worker, caplog, task):
        """Other jobs run beside them."""
        quarantined = lose(task, 50)
        workers = [start_worker(), start_worker()]
        wait_until(lambda: len(tasks.held) == 2, what="a quarantined job in each worker")
        until_done(*enqueue(tasks.noop, 100), *enqueue(tasks.noop_sync, 100))
        assert Counter(running().values_list("worker", flat=True)) == {worker.id: 1 for worker in workers}
        assert caplog.text.count("Running a quarantined job apart from others") == 2
        tasks.gate.set()
        assert {(job.state, job.attempt) for job in until_done(*quarantined)} == {("succeeded", 2)}

    def test_quarantined_jobs_that_join_quarantined_jobs(self, start_worker, live_worker):
        """While a quarantined job waits in join(), the worker starts the next one."""
        lost_worker = live_worker(600)
        parents = [tasks.parent_sync_of_sync.enqueue(number) for number in range(5)]
        assert len(claim_rows(lost_worker, 5)) == 5
        Worker.objects.update(lease_until=timezone.now() - timedelta(seconds=1))
        run_duty("take jobs from lost workers")
        start_worker(concurrency=2)
        assert {job.state for job in until_done(*parents)} == {"succeeded"}
        assert {job.executor for job in Job.objects.filter(id__in=[parent.id for parent in parents])} == {
            "quarantined"
        }

    def test_claims_of_quarantined_jobs(self, lose):
        """They are claimed in the order of age among other jobs, up to the limit."""
        quarantined = lose(tasks.noop, 3)
        others = enqueue(tasks.noop, 3)
        executors = {"async": 9, "sync": 9, "quarantined": 1}
        assert [str(job.id) for job in claim(9, **executors)] == [
            quarantined[0].id,
            *(job.id for job in others),
        ]
        assert claim(9, **{"async": 9}) == []
        assert [str(job.id) for job in claim(9, **executors)] == [quarantined[1].id]
