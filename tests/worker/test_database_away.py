"""The worker while the database is unavailable, or its responses are lost or late."""

import asyncio
import threading
import time

from django.db import OperationalError, transaction

from notifications.jobs.transitions import claims
from notifications.models import Job
from notifications.worker import JobWorker
from tests.jobs import tasks
from tests.jobs.conftest import notifications_of, until_done
from tests.support.django_tasks import task_started
from tests.support.statements import refused
from tests.support.waiting import wait_until

#: The statement of a claim.
CLAIM = r"attempt ?= ?attempt ?\+ ?1"


class TestDatabaseAway:
    def test_outcomes_are_kept(self, short_intervals, worker, gate, monkeypatch, user):
        """Outcomes are recorded when the database is back, and no job runs twice."""
        results = [tasks.hold.using(owner=user).enqueue(number) for number in range(3)]
        wait_until(lambda: len(tasks.held) == 3, what="three jobs to run")
        database = UnavailableDatabase(monkeypatch)
        gate.set()
        wait_until(lambda: database.refused > 10, what="the worker to be refused")
        assert Job.objects.filter(state="running").count() == 3
        database.restore()
        assert {job.state for job in until_done(*results)} == {"succeeded"}
        assert len(tasks.held) == 3
        assert len(notifications_of(user)) == 3
        assert {job.attempt for job in Job.objects.all()} == {1}

    def test_a_worker_that_starts_before_the_database(self, short_intervals, start_worker, monkeypatch):
        database = UnavailableDatabase(monkeypatch)
        threading.Timer(0.5, database.restore).start()
        start_worker()
        assert until_done(tasks.noop.enqueue())[0].state == "succeeded"

    async def test_a_worker_that_is_stopped_before_the_database_starts(
        self, event_loop_database, short_intervals, monkeypatch
    ):
        """It ends without an error."""
        database = UnavailableDatabase(monkeypatch)
        worker = JobWorker()
        running = asyncio.create_task(worker.run())
        await asyncio.to_thread(wait_until, lambda: database.refused, what="the worker to be refused")
        worker.stop()
        await asyncio.wait_for(running, 20)

    def test_it_goes_away_after_the_worker_has_inserted_its_row(self, short_intervals, start_worker):
        """The worker starts again with the row that exists."""
        with refused('SELECT .* FROM "notifications_worker"', times=1) as statements:
            start_worker()
            assert until_done(tasks.noop.enqueue())[0].state == "succeeded"
        assert statements

    def test_the_answer_to_a_claim_is_lost(self, short_intervals, start_worker, monkeypatch):
        """The check of claims finds the jobs and releases them; no attempt counts."""
        claim, lost = claims.claim_jobs, []

        def lose(*args, **kwargs):
            jobs = claim(*args, **kwargs)
            if jobs and not lost:
                lost.extend(jobs)
                raise OperationalError("server closed the connection unexpectedly")
            return jobs

        monkeypatch.setattr(claims, "claim_jobs", lose)
        start_worker()
        with transaction.atomic():
            results = [tasks.noop.enqueue() for _ in range(3)]
        jobs = until_done(*results)
        assert len(lost) == 3
        assert {(job.state, job.attempt, job.fence) for job in jobs} == {("succeeded", 1, 2)}

    def test_a_slow_claim(self, short_intervals, start_worker, connect_receiver, caplog):
        """A slow receiver makes a claim last longer than two checks of claims. The claimed jobs run once."""
        connect_receiver(task_started, lambda **_: time.sleep(0.1))
        worker = start_worker()
        with transaction.atomic():
            results = [tasks.noop.enqueue() for _ in range(10)]
        jobs = until_done(*results)
        assert {(job.state, job.attempt, job.fence) for job in jobs} == {("succeeded", 1, 1)}
        wait_until(lambda: not worker.worker.state.executions, what="the slots to be free")
        assert "Releasing jobs that are claimed" not in caplog.text

    def test_a_claim_that_raises_another_error(self, short_intervals, worker):
        """It is tried again, and running jobs do not lose their worker."""
        with refused(CLAIM, times=1, error=RuntimeError) as calls:
            assert until_done(tasks.noop.enqueue())[0].state == "succeeded"
        assert calls


class UnavailableDatabase:
    """Makes each transaction fail that begins on a thread other than the test's, until ``restore()``."""

    def __init__(self, monkeypatch):
        self.refused = 0
        self._is_available = threading.Event()
        atomic, test = transaction.atomic, threading.current_thread()

        def refuse(*args, **kwargs):
            if self._is_available.is_set() or threading.current_thread() is test:
                return atomic(*args, **kwargs)
            self.refused += 1
            raise OperationalError("could not connect to server")

        monkeypatch.setattr(transaction, "atomic", refuse)

    def restore(self):
        self._is_available.set()
