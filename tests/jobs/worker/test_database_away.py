"""The database is unavailable, and its answers are lost or late."""

import asyncio
import threading
import time

from django.db import OperationalError, transaction

from notifications.compat import task_started
from notifications.jobs.transitions import claims, reaping
from notifications.jobs.worker.worker import Worker as JobWorker
from notifications.models import Job
from tests.jobs import tasks
from tests.jobs.conftest import notifications_of, until_done
from tests.support.waiting import wait_until


class TestTheDatabaseIsAway:
    def test_nothing_is_lost_and_nothing_runs_twice(self, short_intervals, worker, gate, monkeypatch, demo):
        """Outcomes wait, claims wait, and all is as if nothing had been when it is back."""
        results = [tasks.hold.using(owner=demo).enqueue(number) for number in range(3)]
        wait_until(lambda: len(tasks.held) == 3, what="three jobs to run")
        away = Away(monkeypatch)
        gate.set()
        wait_until(lambda: away.refused > 10, what="the worker to try in vain")
        assert Job.objects.filter(state="running").count() == 3
        away.back()
        assert {job.state for job in until_done(*results)} == {"succeeded"}
        assert len(tasks.held) == 3
        assert len(notifications_of(demo)) == 3
        assert {job.attempt for job in Job.objects.all()} == {1}

    def test_a_worker_starts_before_its_database(self, short_intervals, start_worker, monkeypatch):
        away = Away(monkeypatch)
        threading.Timer(0.5, away.back).start()
        start_worker()
        assert until_done(tasks.noop.enqueue())[0].state == "succeeded"

    async def test_it_can_be_stopped_before_its_database_is_there(
        self, event_loop_database, short_intervals, monkeypatch
    ):
        """As by an ordinary restart: without an error."""
        away = Away(monkeypatch)
        worker = JobWorker()
        running = asyncio.create_task(worker.run())
        await asyncio.to_thread(wait_until, lambda: away.refused, what="the worker to try in vain")
        worker.stop()
        await asyncio.wait_for(running, 20)

    def test_it_goes_away_between_the_first_row_and_the_first_look(
        self, short_intervals, start_worker, monkeypatch
    ):
        """The worker's row is there already when it begins again."""
        reap, calls = reaping.reap_jobs, []

        def fail_once(*args, **kwargs):
            calls.append(1)
            if len(calls) == 1:
                raise OperationalError("gone")
            return reap(*args, **kwargs)

        monkeypatch.setattr(reaping, "reap_jobs", fail_once)
        start_worker()
        assert until_done(tasks.noop.enqueue())[0].state == "succeeded"

    def test_the_answer_to_a_claim_is_lost(self, short_intervals, start_worker, monkeypatch):
        """The jobs are found by comparing, and go back with their attempt."""
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

    def test_the_answer_to_a_claim_takes_long(self, short_intervals, start_worker, receive, caplog):
        """Longer than two looks, for a slow receiver of the host's: what was claimed meanwhile runs here, once."""
        receive(task_started, lambda **_: time.sleep(0.1))
        worker = start_worker()
        with transaction.atomic():
            results = [tasks.noop.enqueue() for _ in range(10)]
        jobs = until_done(*results)
        assert {(job.state, job.attempt, job.fence) for job in jobs} == {("succeeded", 1, 1)}
        wait_until(lambda: not worker.worker._executions, what="the slots to be free")
        assert "Releasing jobs that are claimed" not in caplog.text

    def test_claiming_fails_for_another_reason(self, short_intervals, worker, monkeypatch):
        """It is logged, and begun again; running jobs do not lose their worker."""
        claim, calls = claims.claim_jobs, []

        def fail_once(*args, **kwargs):
            calls.append(1)
            if len(calls) == 1:
                raise RuntimeError("a bug")
            return claim(*args, **kwargs)

        monkeypatch.setattr(claims, "claim_jobs", fail_once)
        assert until_done(tasks.noop.enqueue())[0].state == "succeeded"


class Away:
    """The database is away for the worker: each transaction of its own fails, in any thread but the test's."""

    def __init__(self, monkeypatch):
        self.refused = 0
        self.here = threading.Event()
        atomic, test = transaction.atomic, threading.current_thread()

        def refuse(*args, **kwargs):
            if self.here.is_set() or threading.current_thread() is test:
                return atomic(*args, **kwargs)
            self.refused += 1
            raise OperationalError("could not connect to server")

        monkeypatch.setattr("notifications.db.transactions.transaction.atomic", refuse)

    def back(self):
        self.here.set()
