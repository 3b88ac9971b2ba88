"""The worker: claiming, running side by side, recording in groups, giving back, outliving what goes wrong."""

import asyncio
import importlib
import json
import threading
import time
import uuid
from datetime import timedelta

import pytest
from django.db import DataError, OperationalError, connection, connections, transaction
from django.utils import timezone

from notifications.compat import task_started
from notifications.exceptions import TooManyJobs
from notifications.jobs.transitions import claims, reaping, recording, running
from notifications.jobs.worker.progress_loop import PROGRESS_INTERVAL_SECONDS
from notifications.jobs.worker.worker import Worker as JobWorker
from notifications.models import Attempt, Job, Notification, Stream, Worker
from notifications.signals import job_finished, notification_recorded, notification_recording
from tests.jobs import tasks
from tests.jobs.conftest import told, until_done, until_state
from tests.support.claims import claim_rows
from tests.support.waiting import wait_until


@pytest.fixture
def receive():
    """receive(signal, function): for this test."""
    connected = []

    def connect(signal, function):
        signal.connect(function)
        connected.append((signal, function))

    yield connect
    for signal, function in connected:
        signal.disconnect(function)


@pytest.fixture
def quickly(monkeypatch):
    """Steps that the worker takes every few seconds are taken ten times a second."""
    for name in (
        "cancel_loop.POLL_INTERVAL_SECONDS",
        "claim_check_loop.CLAIM_CHECK_INTERVAL_SECONDS",
        "claim_loop.POLL_INTERVAL_SECONDS",
        "loops.RETRY_INTERVAL_SECONDS",
        "maintenance.ROUND_INTERVAL_SECONDS",
    ):
        monkeypatch.setattr(f"notifications.jobs.worker.{name}", 0.1)


def test_a_job_from_asking_to_telling(worker, demo):
    """Outcome, notification and both numbers: the job first, then what its owner is told."""
    result = tasks.add.using(owner=demo, title="Sum", url="/sum/").enqueue(40, 2)
    (job,) = until_done(result)
    (note,) = told(demo)
    assert (job.state, job.result, job.error, job.attempt) == ("succeeded", "42", None, 1)
    assert (job.worker, job.fence) == (worker.id, 1)
    assert job.created_at <= job.started_at <= job.finished_at < job.deadline
    assert {job.seq, note.seq} == {1, 2}
    assert (note.raised, note.counted, note.job) == (note.seq, True, job.id)
    stream = Stream.objects.get(user=demo)
    assert (stream.head, stream.unread) == (2, 1)


def test_a_claimed_job_says_so(worker, demo, gate):
    result = tasks.hold.using(owner=demo).enqueue()
    job = until_state(result, "running")
    assert (job.attempt, job.fence, job.version, job.seq, job.worker) == (1, 1, 2, 0, worker.id)
    assert 360 <= (job.deadline - job.started_at).total_seconds() < 365
    gate.set()
    assert until_done(result)[0].version == 3


def test_the_deadline_is_that_of_the_task(worker, gate):
    """Claim, time that the task may take, and a minute; also for a task that the worker meets for the first time."""
    for _ in range(2):
        (job,) = until_done(tasks.slow.enqueue())
        assert abs((job.deadline - job.started_at).total_seconds() - 60.2) < 30


def test_async_tasks_run_side_by_side_up_to_the_concurrency(start_worker, gate):
    start_worker(concurrency=5)
    results = [tasks.hold.enqueue(number) for number in range(8)]
    wait_until(lambda: len(tasks.held) == 5, what="five jobs to run")
    assert Job.objects.filter(state="running").count() == 5
    gate.set()
    assert {job.state for job in until_done(*results)} == {"succeeded"}
    assert len(tasks.held) == 8


def test_a_slot_that_gets_free_while_jobs_are_claimed(start_worker, demo, gate, monkeypatch):
    """The look found no slot, and what was freed before its answer came is not forgotten until the next one."""
    if connection.vendor != "postgresql":
        pytest.skip("Nothing is recorded during a claim on SQLite: one thread does both.")
    monkeypatch.setattr("notifications.jobs.worker.claim_loop.POLL_INTERVAL_SECONDS", 600)
    worker = start_worker(concurrency=1).worker
    holding = tasks.hold.using(owner=demo).enqueue()
    wait_until(lambda: tasks.held, what="the slot to be taken")
    claim_loop = worker._claim_loop
    claim, claimed, go_on = claim_loop._claim, threading.Event(), threading.Event()

    def claim_slowly():
        result = claim()
        claimed.set()
        assert go_on.wait(60)
        return result

    wait_until(lambda: claim_loop._exhausted_lanes, what="the next claim")
    # As if that claim had found a slot and no job, and a job that waits for another one had taken the slot since.
    claim_loop._exhausted_lanes = set()
    monkeypatch.setattr(claim_loop, "_claim", claim_slowly)
    waiting = tasks.noop.using(owner=demo).enqueue()
    assert claimed.wait(60)
    gate.set()
    until_done(holding)
    wait_until(lambda: not worker._executions, what="the slot to be free")
    go_on.set()
    until_done(waiting)


@pytest.mark.parametrize("pool", [None, True])
def test_of_a_pool_it_keeps_one_connection_less(pool, monkeypatch):
    """One thread claims and records there, as on SQLite: a pool may be small, and serves requests and jobs too."""
    monkeypatch.setitem(connection.settings_dict["OPTIONS"], "pool", pool)
    worker = JobWorker()
    together = pool or connection.vendor == "sqlite"
    assert (worker._claim_writer is worker._writer) == bool(together)


def test_only_its_queues(start_worker):
    start_worker(queues=["reports"])
    other, mine = tasks.noop.enqueue(), tasks.noop.using(queue_name="reports").enqueue()
    until_done(mine)
    assert Job.objects.get(id=other.id).state == "queued"
    assert Worker.objects.get().queues == "reports"


def test_a_job_for_later_is_run_when_it_is_due(worker):
    result = tasks.noop.using(run_after=timezone.now() + timedelta(seconds=0.3)).enqueue()
    (job,) = until_done(result)
    assert job.started_at >= job.run_after


def test_500_jobs_of_which_some_fail(worker, demo, settings):
    """Each is done once, and told once; all are numbered without a hole; nothing is left running."""
    settings.NOTIFICATIONS = {**settings.NOTIFICATIONS, "ACTIVE_JOBS_PER_USER": 500}
    with transaction.atomic():
        for number in range(500):
            tasks.one_in_five_fails.using(owner=demo).enqueue(number)
        with pytest.raises(TooManyJobs):
            tasks.noop.using(owner=demo).enqueue()
    wait_until(
        lambda: not Job.objects.filter(state__in=["queued", "running"]).exists(), what="all to be done"
    )
    for job in Job.objects.all():
        (number,) = json.loads(job.args)
        assert job.state == ("failed" if number % 5 == 0 else "succeeded"), number
        assert job.attempt == 1
    assert Attempt.objects.count() == 100
    wait_until(lambda: not Job.objects.filter(seq=None).exists(), what="all to be numbered")
    notes = told(demo)
    assert len(notes) == len({note.job for note in notes}) == 500
    assert [note.level for note in notes].count("error") == 100
    seqs = sorted([note.seq for note in notes] + list(Job.objects.values_list("seq", flat=True)))
    assert seqs == list(range(1, 1001))
    stream = Stream.objects.get(user=demo)
    assert (stream.head, stream.unread) == (1000, 500)


def test_two_workers_never_run_one_job_at_once(start_worker, receive):
    """Each of 200 jobs is claimed once, by one of them."""
    workers = [start_worker(concurrency=20) for _ in range(2)]
    with transaction.atomic():
        results = [tasks.noop.enqueue() for _ in range(200)]
    jobs = until_done(*results)
    assert {job.fence for job in jobs} == {1}
    assert {job.worker for job in jobs} == {worker.id for worker in workers}


def test_progress(worker, demo, gate):
    """It is written while the job runs, with a new version, and its last word with the outcome."""
    result = tasks.report_and_hold.using(owner=demo).enqueue()
    job = wait_until(lambda: Job.objects.filter(progress_current=1).first(), what="progress")
    assert (job.state, job.progress_total, job.progress_message, job.version) == ("running", 2, "half", 3)
    gate.set()
    (job,) = until_done(result)
    assert (job.progress_current, job.progress_message, job.version) == (2, "all", 4)


def test_progress_is_written_when_the_database_is_back(worker, monkeypatch, gate):
    """Also where the task says no more."""
    tries = iter([OperationalError("away"), OperationalError("away")])
    report = running.store_progress

    def away(*args):
        for error in tries:
            raise error
        return report(*args)

    monkeypatch.setattr(running, "store_progress", away)
    tasks.report_and_hold.enqueue()
    job = wait_until(lambda: Job.objects.filter(progress_current=1).first(), what="progress")
    assert job.state == "running"
    gate.set()


def test_progress_costs_one_write_however_often_it_is_said(worker):
    (job,) = until_done(tasks.count.enqueue(5_000))
    assert (job.progress_current, job.progress_total, job.progress_message) == (5000, 5000, "counting")
    # Three of its states, and not more often than every REPORT seconds.
    assert job.version <= 4 + (job.finished_at - job.started_at).total_seconds() / PROGRESS_INTERVAL_SECONDS


class TestReceivers:
    def test_what_a_receiver_enqueues_is_part_of_the_transaction(self, worker, demo, receive):
        """The notification is there before its number, and the receiver's job is committed with both."""

        def enqueue(sender, notification, job, **kwargs):
            if job.task_path.endswith(".add"):
                assert connection.in_atomic_block or connections["default"].in_atomic_block
                tasks.echo.enqueue(f"mail for {notification.title}")

        receive(notification_recording, enqueue)
        until_done(tasks.add.using(owner=demo, title="Sum").enqueue(1, 2))
        mail = wait_until(lambda: Job.objects.filter(task_path__endswith=".echo", state="succeeded").first())
        assert json.loads(mail.result) == "mail for Sum"

    @pytest.mark.parametrize("error", [RuntimeError("no"), SystemExit(1)])
    def test_one_that_raises_undoes_only_its_own_work(self, worker, demo, receive, error):
        """The outcome and the notification are recorded, those of its neighbours too."""

        def break_off(sender, notification, job, **kwargs):
            tasks.noop.using(title="never committed").enqueue()
            raise error

        receive(notification_recording, break_off)
        with transaction.atomic():
            results = [tasks.add.using(owner=demo).enqueue(1, number) for number in range(5)]
        assert {job.state for job in until_done(*results)} == {"succeeded"}
        assert len(told(demo)) == 5
        assert not Job.objects.filter(title="never committed").exists()

    def test_after_the_commit(self, worker, demo, receive):
        """job_finished and notification_recorded see what is committed."""
        seen = []
        receive(job_finished, lambda sender, job, **_: seen.append(("job", Job.objects.get(id=job.id).state)))
        receive(
            notification_recorded,
            lambda sender, notification, **_: seen.append(
                ("notification", Notification.objects.get(id=notification.id).seq)
            ),
        )
        until_done(tasks.noop.using(owner=demo).enqueue())
        wait_until(lambda: len(seen) == 2, what="both signals")
        assert [kind for kind, _ in seen] == ["job", "notification"]
        assert seen[0][1] == "succeeded" and seen[1][1] is not None


class TestTheDatabaseRefuses:
    def test_an_outcome_hurts_only_its_own_job(self, worker, demo, monkeypatch):
        """The group is recorded one by one; the one that is refused becomes a failure that says so."""
        finish = recording.record_outcomes

        def refuse(group):
            if any(outcome.result == '"poison"' for outcome in group):
                raise DataError("the database does not like it")
            return finish(group)

        monkeypatch.setattr(recording, "record_outcomes", refuse)
        with transaction.atomic():
            poison = tasks.echo.using(owner=demo).enqueue("poison")
            others = [tasks.echo.using(owner=demo).enqueue(number) for number in range(20)]
        jobs = until_done(poison, *others)
        assert json.loads(jobs[0].error)["type"] == "result-not-storable"
        assert {job.state for job in jobs[1:]} == {"succeeded"}
        assert len(told(demo)) == 21

    def test_even_the_failure_is_refused(self, quickly, worker, monkeypatch):
        """Then the job waits for its deadline; it is not run again and again, and others go on."""
        finish = recording.record_outcomes

        def refuse(group):
            if any(outcome.job.title == "Poison" for outcome in group):
                raise DataError("the database does not like it")
            return finish(group)

        monkeypatch.setattr(recording, "record_outcomes", refuse)
        poison = tasks.noop.using(title="Poison").enqueue()
        wait_until(lambda: worker.worker._record_loop.unstorable, what="the worker to give it up")
        until_done(*(tasks.noop.enqueue() for _ in range(3)))
        looks = []
        held = running.read_claims
        monkeypatch.setattr(running, "read_claims", lambda worker: looks.append(1) or held(worker))
        wait_until(lambda: len(looks) > 4, what="several looks at the claims")
        job = Job.objects.get(id=poison.id)
        assert (job.state, job.attempt, job.fence) == ("running", 1, 1)


def test_an_outcome_whose_row_is_locked_holds_up_nobody(worker, monkeypatch):
    """Others, at the same time and later, are recorded at once; it is tried again with the next."""
    monkeypatch.setattr("notifications.jobs.worker.record_loop.MAX_RECORD_BATCH", 1)
    monkeypatch.setattr("notifications.jobs.worker.loops.RETRY_INTERVAL_SECONDS", 60)
    finish, tries = recording.record_outcomes, []

    def skip(group):
        if locked and any(outcome.job.title == "Locked" for outcome in group):
            tries.append(1)
            return [], []
        return finish(group)

    locked = True
    monkeypatch.setattr(recording, "record_outcomes", skip)
    result = tasks.noop.using(title="Locked").enqueue()
    wait_until(lambda: tries, what="the outcome to be skipped")
    for _ in range(3):
        until_done(*(tasks.noop.enqueue() for _ in range(3)), timeout=40)
    assert len(tries) < 20
    assert Job.objects.get(id=result.id).state == "running"
    locked = False
    until_done(result, tasks.noop.enqueue(), timeout=40)


class TestTheDatabaseIsAway:
    def test_nothing_is_lost_and_nothing_runs_twice(self, quickly, worker, gate, monkeypatch, demo):
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
        assert len(told(demo)) == 3
        assert {job.attempt for job in Job.objects.all()} == {1}

    def test_a_worker_starts_before_its_database(self, quickly, start_worker, monkeypatch):
        away = Away(monkeypatch)
        threading.Timer(0.5, away.back).start()
        start_worker()
        assert until_done(tasks.noop.enqueue())[0].state == "succeeded"

    async def test_it_can_be_stopped_before_its_database_is_there(
        self, event_loop_database, quickly, monkeypatch
    ):
        """As by an ordinary restart: without an error."""
        away = Away(monkeypatch)
        worker = JobWorker()
        running = asyncio.create_task(worker.run())
        await asyncio.to_thread(wait_until, lambda: away.refused, what="the worker to try in vain")
        worker.stop()
        await asyncio.wait_for(running, 20)

    def test_it_goes_away_between_the_first_row_and_the_first_look(self, quickly, start_worker, monkeypatch):
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

    def test_the_answer_to_a_claim_is_lost(self, quickly, start_worker, monkeypatch):
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

    def test_the_answer_to_a_claim_takes_long(self, quickly, start_worker, receive, caplog):
        """Longer than two looks, for a slow receiver of the host's: what was claimed meanwhile runs here, once."""
        receive(task_started, lambda **_: time.sleep(0.1))
        worker = start_worker()
        with transaction.atomic():
            results = [tasks.noop.enqueue() for _ in range(10)]
        jobs = until_done(*results)
        assert {(job.state, job.attempt, job.fence) for job in jobs} == {("succeeded", 1, 1)}
        wait_until(lambda: not worker.worker._executions, what="the slots to be free")
        assert "Releasing jobs that are claimed" not in caplog.text

    def test_claiming_fails_for_another_reason(self, quickly, worker, monkeypatch):
        """It is logged, and begun again; running jobs do not lose their worker."""
        claim, calls = claims.claim_jobs, []

        def fail_once(*args, **kwargs):
            calls.append(1)
            if len(calls) == 1:
                raise RuntimeError("a bug")
            return claim(*args, **kwargs)

        monkeypatch.setattr(claims, "claim_jobs", fail_once)
        assert until_done(tasks.noop.enqueue())[0].state == "succeeded"


class TestUnknownTasks:
    def test_one_goes_back_without_an_attempt(self, worker, demo):
        """It is offered again in half a minute: a newer program may know it. Its neighbours run."""
        before, later = timezone.now(), timezone.now() + timedelta(hours=1)
        result = tasks.noop.using(owner=demo, run_after=later).enqueue()
        Job.objects.update(task_path="tests.jobs.tasks.of_tomorrow", run_after=None)
        job = wait_until(lambda: Job.objects.filter(run_after__isnull=False).first(), what="it to be put off")
        assert (job.state, job.attempt, job.worker) == ("queued", 0, None)
        assert before < job.run_after - timedelta(seconds=30) < timezone.now()
        assert told(demo) == []
        Job.objects.filter(id=result.id).update(task_path="tests.jobs.tasks.noop", run_after=timezone.now())
        assert until_done(result)[0].attempt == 1

    def test_one_fails_a_day_after_a_worker_met_it(self, worker, demo):
        """However long it has waited before that: a job for later has its day too."""
        before, long_ago = timezone.now(), timezone.now() - timedelta(hours=49)
        later = timezone.now() + timedelta(hours=1)
        result = tasks.noop.using(owner=demo, run_after=later).enqueue()
        Job.objects.update(
            task_path="tests.jobs.tasks.of_yesterday", created_at=long_ago, queued_at=long_ago, run_after=None
        )
        job = wait_until(lambda: Job.objects.filter(run_after__gt=timezone.now()).first(), what="a delay")
        assert (job.state, job.attempt) == ("queued", 0)
        assert before < job.deadline - timedelta(days=1) < timezone.now()
        Job.objects.update(run_after=timezone.now() - timedelta(seconds=1))
        again = wait_until(lambda: Job.objects.filter(run_after__gt=timezone.now()).first(), what="a delay")
        assert (again.deadline, again.fence) == (job.deadline, 2)
        Job.objects.update(
            deadline=timezone.now() - timedelta(seconds=1), run_after=timezone.now() - timedelta(seconds=1)
        )
        (job,) = until_done(result)
        assert json.loads(job.error)["type"] == "unknown-task"
        assert told(demo)[0].body == "No worker knows how to do this."

    def test_one_that_is_known_later_has_its_own_timeout(self, start_worker, gate, tmp_path, monkeypatch):
        """Its module could not be imported at first: the database was away, say."""
        import tests.jobs

        monkeypatch.setattr(tests.jobs, "__path__", [*tests.jobs.__path__, str(tmp_path)])
        start_worker()
        with transaction.atomic():
            result = tasks.noop.enqueue()
            Job.objects.filter(id=result.id).update(task_path="tests.jobs.late_module.patient")
        wait_until(lambda: Job.objects.filter(run_after__isnull=False).exists(), what="it to be put off")
        (tmp_path / "late_module.py").write_text(
            "from notifications.api import policy, task\n"
            "from tests.jobs import tasks\n"
            "@task\n@policy(timeout=5000)\nasync def patient():\n    return await tasks.hold.func(1)\n"
        )
        importlib.invalidate_caches()
        Job.objects.update(run_after=None)
        wait_until(lambda: tasks.held, what="it to run")
        job = Job.objects.get()
        assert abs((job.deadline - job.started_at).total_seconds() - 5060) < 20

    @pytest.mark.parametrize(
        "path",
        [
            "nodots",
            "tests.jobs.tasks.words",
            "tests.jobs.broken_module.task",
            "tests.jobs.exiting_module.task",
        ],
    )
    def test_what_is_no_task_or_cannot_be_imported(self, worker, path, tmp_path, monkeypatch):
        """A module that raises, or exits, when it is imported ends neither the worker nor the job."""
        import tests.jobs

        (tmp_path / "broken_module.py").write_text("raise RuntimeError('at import')")
        (tmp_path / "exiting_module.py").write_text("raise SystemExit(1)")
        monkeypatch.setattr(tests.jobs, "__path__", [*tests.jobs.__path__, str(tmp_path)])
        with transaction.atomic():
            result = tasks.noop.enqueue()
            Job.objects.filter(id=result.id).update(task_path=path)
        job = wait_until(lambda: Job.objects.filter(run_after__isnull=False).first(), what="it to be put off")
        assert (job.state, job.attempt) == ("queued", 0)
        assert until_done(tasks.noop.enqueue())[0].state == "succeeded"

    def test_a_queue_that_left_the_settings(self, worker, settings):
        """The job runs all the same."""
        with transaction.atomic():
            result = tasks.context_sync.using(queue_name="gone").enqueue()
            settings.TASKS = {"default": {**settings.TASKS["default"], "QUEUES": ["default"]}}
        assert until_done(result)[0].state == "succeeded"


class TestStopping:
    def test_running_jobs_may_finish(self, worker, gate):
        """Within the grace; nothing new is begun."""
        result = tasks.hold.enqueue("first")
        wait_until(lambda: tasks.held, what="the job to run")
        worker.worker.stop(grace=20)
        worker.call(worker.worker._writer.run(int))  # a claim that was under way is over
        left = tasks.noop.enqueue()
        threading.Timer(0.3, gate.set).start()
        worker.thread.join(60)
        assert not worker.thread.is_alive()
        assert Job.objects.get(id=result.id).state == "succeeded"
        assert Job.objects.get(id=left.id).state == "queued"
        assert not Worker.objects.exists()

    def test_the_rest_goes_back_with_its_attempt(self, start_worker, demo, gate):
        """Async ones are cancelled, sync ones left; each is queued again, as if never begun, and runs elsewhere."""
        first = start_worker()
        results = [tasks.hold.using(owner=demo).enqueue("a"), tasks.hold_sync.using(owner=demo).enqueue("b")]
        wait_until(lambda: len(tasks.held) == 2, what="both to run")
        first.stop(grace=0.1)
        for result in results:
            job = Job.objects.get(id=result.id)
            assert (job.state, job.attempt, job.worker, job.fence) == ("queued", 0, None, 1)
        assert "cancelled a" in tasks.seen
        assert not Attempt.objects.exists()
        gate.set()
        start_worker()
        assert [(job.state, job.attempt, job.fence) for job in until_done(*results)] == [
            ("succeeded", 1, 2)
        ] * 2
        assert len(told(demo)) == 2

    def test_the_grace_is_kept_while_the_database_is_busy(self, quickly, worker, gate, monkeypatch):
        """Claiming fails as the stop comes; running jobs may finish nevertheless."""
        result = tasks.hold.enqueue()
        wait_until(lambda: tasks.held, what="the job to run")
        monkeypatch.setattr(claims, "claim_jobs", _raise_away)
        worker.worker._loop.call_soon_threadsafe(worker.worker._claim_loop.wake)
        worker.worker.stop(grace=10)
        threading.Timer(0.3, gate.set).start()
        worker.thread.join(60)
        assert Job.objects.get(id=result.id).state == "succeeded"

    def test_no_thread_is_left(self, start_worker, gate):
        before = set(threading.enumerate())
        worker = start_worker()
        until_done(*(task.enqueue() for task in (tasks.noop, tasks.noop_sync, tasks.thread_name)))
        worker.stop()

        def left():
            return [
                thread.name
                for thread in set(threading.enumerate()) - before
                if thread.name.startswith("notifications-") and "doorbell" not in thread.name
            ]

        wait_until(lambda: not left(), what="all threads to end")

    def test_a_worker_that_breaks_gives_no_attempt_back(self, start_worker, gate):
        """What ended the loop may be one of its jobs: the attempt counts, or it could go on for ever."""
        worker = start_worker()
        result = tasks.hold.enqueue()
        wait_until(lambda: tasks.held, what="the job to run")

        def end():
            raise SystemExit(1)

        worker.worker._loop.call_soon_threadsafe(end)
        worker.thread.join(60)
        assert isinstance(worker.error, SystemExit)
        worker.error = None
        job = Job.objects.get(id=result.id)
        assert (job.state, job.attempt) == ("running", 1)
        gate.set()
        start_worker()  # at its beginning, or within a second, it takes over what nobody holds any more
        reaping.reap_jobs()
        assert until_done(result)[0].attempt == 2


class TestTakingOver:
    def test_a_task_whose_job_was_taken_over_is_cancelled(self, quickly, worker, gate):
        """Its slot is free again, and what it does changes nothing."""
        result = tasks.hold.using(title="Taken").enqueue("taken")
        until_state(result, "running")
        other = uuid.uuid4()
        Job.objects.filter(id=result.id).update(fence=9, worker=other)
        wait_until(lambda: "cancelled taken" in tasks.seen, what="the task to be cancelled")
        wait_until(lambda: not worker.worker._executions, what="the slot to be free")
        job = Job.objects.get(id=result.id)
        assert (job.state, job.fence, job.worker) == ("running", 9, other)

    def test_a_late_outcome_is_void(self, worker, gate, demo):
        result = tasks.hold_sync.using(owner=demo).enqueue()
        until_state(result, "running")
        Job.objects.filter(id=result.id).update(fence=9, version=50)
        gate.set()
        wait_until(lambda: not worker.worker._executions, what="the outcome to be void")
        job = Job.objects.get(id=result.id)
        assert (job.state, job.version, job.result) == ("running", 50, None)
        assert told(demo) == []

    def test_a_job_that_comes_back_to_the_same_worker(self, quickly, worker, gate, settings, caplog):
        """Past its deadline it was taken from a task that refuses to end. Each claim's end frees its own slot."""
        settings.NOTIFICATIONS = {**settings.NOTIFICATIONS, "LEASE": 0.4}
        result = tasks.stubborn.enqueue()
        wait_until(lambda: "refused" in tasks.seen, what="the task to refuse its timeout")
        Job.objects.filter(id=result.id).update(deadline=timezone.now() - timedelta(seconds=1))
        wait_until(lambda: tasks.held.count("stubborn") == 2, what="the job to be begun again")
        until_state(result, "running")
        tasks.seen.append("let go")
        wait_until(lambda: "is void" in caplog.text, what="the outcome of the first claim to be void")
        wait_until(lambda: worker.worker._record_loop.is_empty, what="its end to be settled")
        assert len(worker.worker._executions) == 1
        gate.set()
        (job,) = until_done(result)
        assert (job.state, job.attempt, job.fence) == ("succeeded", 2, 2)
        wait_until(lambda: not worker.worker._executions, what="both slots to be free")

    def test_the_end_of_a_lost_job_is_told_to_listeners(self, start_worker, demo, receive, quickly, settings):
        """Lost for the last time: failed, its owner told, and the signals sent as for any other end."""
        finished = []
        receive(job_finished, lambda sender, job, **_: finished.append((str(job.id), job.state)))
        settings.NOTIFICATIONS = {**settings.NOTIFICATIONS, "LEASE": 0.4}
        result = tasks.noop.using(owner=demo, queue_name="elsewhere").enqueue()
        claim_rows(uuid.uuid4(), 1)
        Job.objects.update(max_attempts=1)
        start_worker(queues=["default"])
        (job,) = until_done(result)
        assert json.loads(job.error)["type"] == "worker-lost"
        assert told(demo)[0].body == "The work was interrupted 1 times and is not tried again."
        assert Attempt.objects.get().outcome == "lost"
        wait_until(lambda: finished == [(result.id, "failed")], what="the signal")


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


def _raise_away(*args):
    raise OperationalError("database is locked")
