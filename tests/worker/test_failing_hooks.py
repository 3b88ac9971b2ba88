"""Hooks of extensions that fail while a worker records: nothing is done twice, and nothing is dropped."""

import asyncio
import json
import time
from datetime import timedelta

import pytest
from django.db import DataError, transaction

from notifications import times
from notifications.extension import WorkerPart
from notifications.models import Attempt, Job, Notification, SeenMark, Worker
from notifications.worker import held_outcomes
from tests.extension import faulty
from tests.jobs import tasks
from tests.jobs.conftest import LocalWorker, until_done
from tests.support.duties import run_duty
from tests.support.statements import refused
from tests.support.waiting import wait_until

pytestmark = pytest.mark.django_db(transaction=True)

#: The statement of an end.
ENDS = "UPDATE notifications_job SET .*finished_at"
#: The hooks of the transactions that record outcomes.
RECORDING = ("prepare", "before_created", "on_created", "on_attempts", "on_ends", "last")


@pytest.fixture(autouse=True)
def short_pauses(monkeypatch, forgotten_log):
    monkeypatch.setattr(held_outcomes, "FIRST_PAUSE_SECONDS", 0.05)
    monkeypatch.setattr(held_outcomes, "MAX_PAUSE_SECONDS", 0.2)


def is_held(worker, hook):
    return worker.worker.state.held.count_by_hook().get(f"faulty.{hook}")


def recorded_once(user, *results):
    """Assert that these jobs were run once, and have one notification each."""
    rows = until_done(*results)
    assert [(job.state, job.fence, job.attempt) for job in rows] == [("succeeded", 1, 1)] * len(rows)
    found = list(Notification.objects.filter(user=user, job__in=[job.id for job in rows]))
    assert len({row.job for row in found}) == len(found) == len(rows)
    assert not Attempt.objects.filter(job__in=rows).exists()


@pytest.mark.parametrize("fault", faulty.FAULTS)
def test_a_hook_that_fails(user, worker, monkeypatch, fault):
    """Whatever it does, the outcome is kept until the hook works, and is then recorded once."""
    for hook in RECORDING:
        with monkeypatch.context() as patch:
            extension = faulty.install(patch, hook, fault=faulty.FAULTS[fault])
            result = tasks.noop.using(owner=user).enqueue()
            wait_until(lambda hook=hook: is_held(worker, hook), what=f"{hook} to hold up the outcome")
            assert Job.objects.get(id=result.id).state == "running"
            extension.fault = None
            recorded_once(user, result)


def test_a_hook_that_returns_nothing(user, worker, monkeypatch):
    """It has no rows."""
    faulty.install(monkeypatch, *RECORDING, fault=faulty.return_none)
    recorded_once(user, tasks.noop.using(owner=user).enqueue())


def test_a_hook_that_takes_long(user, worker, monkeypatch):
    faulty.install(monkeypatch, "on_ends", fault=lambda *args: time.sleep(3))
    recorded_once(user, *[tasks.noop.using(owner=user).enqueue() for _ in range(3)])


def test_many_jobs_that_end_while_a_hook_fails(user, worker, monkeypatch, caplog):
    """As long as it takes: each has run once, and all are recorded."""
    extension = faulty.install(monkeypatch, "on_ends", fault=faulty.raise_error)
    results = [tasks.noop.using(owner=user).enqueue() for _ in range(5)]
    wait_until(lambda: is_held(worker, "on_ends") == 5, what="five outcomes to be held up")
    wait_until(lambda: extension.calls.count("on_ends") > 30, what="more tries")
    assert "Hook failed, outcomes wait until it works: faulty.on_ends" in caplog.text
    assert caplog.text.count("Hook failed, outcomes wait") == 1
    extension.fault = None
    recorded_once(user, *results)
    wait_until(lambda: "Hook works again" in caplog.text, what="the end of it")
    assert not worker.worker.state.held


def test_a_row_at_which_a_hook_fails(user, worker, monkeypatch):
    """It holds up no other."""

    def fail(outcomes, tx):
        if any(outcome.job.title == "Bad" for outcome in outcomes):
            raise RuntimeError("No.")

    extension = faulty.install(monkeypatch, "on_ends", fault=fail)
    bad = tasks.noop.using(owner=user, title="Bad").enqueue()
    recorded_once(user, *[tasks.noop.using(owner=user).enqueue() for _ in range(5)])
    wait_until(lambda: is_held(worker, "on_ends") == 1, what="one outcome to be held up")
    recorded_once(user, *[tasks.noop.using(owner=user).enqueue() for _ in range(5)])
    extension.fault = None
    recorded_once(user, bad)


@pytest.mark.parametrize("hook", ["on_attempts", "on_ends", "on_created"])
def test_rows_that_the_database_refuses(user, worker, monkeypatch, hook):
    """The outcome is not to blame: they are those of a hook, which is named."""

    def make_rows(*args):
        return [SeenMark(user_id=user.pk, up_to=None, at=times.now())]

    extension = faulty.install(monkeypatch, hook, fault=make_rows)
    result = tasks.noop.using(owner=user).enqueue()
    wait_until(lambda: is_held(worker, hook), what="the outcome to be held up")
    extension.fault = None
    recorded_once(user, result)


def test_an_outcome_that_the_database_refuses(user, worker, monkeypatch):
    """It fails that job alone, although a hook fails too at the others."""

    def fail(outcomes, tx):
        if any(outcome.job.title == "Bad" for outcome in outcomes):
            raise RuntimeError("No.")

    extension = faulty.install(monkeypatch, "on_ends", fault=fail)
    with transaction.atomic():
        bad = tasks.noop.using(owner=user, title="Bad").enqueue()
        poison = tasks.echo.using(owner=user).enqueue("poison")
        good = tasks.noop.using(owner=user).enqueue()
    with refused(f"{ENDS}.*poison", error=DataError):
        recorded_once(user, good)
        [row] = until_done(poison)
    assert json.loads(row.error)["type"] == "result-not-storable"
    wait_until(lambda: is_held(worker, "on_ends") == 1, what="one outcome to be held up")
    extension.fault = None
    [row] = until_done(bad)
    assert (row.state, row.fence) == ("succeeded", 1)


def test_the_deadline_of_a_job_whose_outcome_waits(user, worker, monkeypatch):
    """It is extended by the worker, so that no other one reaps the job."""
    extension = faulty.install(monkeypatch, "on_ends", fault=faulty.raise_error)
    result = tasks.noop.using(owner=user).enqueue()
    wait_until(lambda: is_held(worker, "on_ends"), what="the outcome to be held up")
    now = times.now()
    Job.objects.filter(id=result.id).update(deadline=now + timedelta(seconds=1))
    wait_until(
        lambda: Job.objects.get(id=result.id).deadline > now + timedelta(seconds=30),
        what="the deadline to be extended",
    )
    run_duty("take jobs from lost workers")
    assert Job.objects.get(id=result.id).state == "running"
    extension.fault = None
    recorded_once(user, result)


def test_a_worker_that_starts_while_a_hook_fails(user, start_worker, monkeypatch):
    """It starts, and its outcomes wait."""
    extension = faulty.install(monkeypatch, "prepare", fault=faulty.exit_process)
    worker = start_worker()
    result = tasks.noop.using(owner=user).enqueue()
    wait_until(lambda: is_held(worker, "prepare"), what="the outcome to be held up")
    extension.fault = None
    recorded_once(user, result)


class FailingPart(WorkerPart):
    def __init__(self):
        self.is_failing, self.tries = True, 0

    async def run(self):
        raise SystemExit("Out of order.")

    async def before_outcome(self, job):
        self.tries += 1
        if self.is_failing:
            raise SystemExit("Out of order.")


def test_a_part_of_a_worker_that_fails(user, monkeypatch):
    """Outcomes wait for what it does before them."""
    part = FailingPart()
    faulty.install(monkeypatch, "worker_part", fault=lambda state: part)
    worker = LocalWorker()
    try:
        result = tasks.noop.using(owner=user).enqueue()
        wait_until(lambda: is_held(worker, "before_outcome") and part.tries > 1, what="tries")
        part.is_failing = False
        recorded_once(user, result)
    finally:
        worker.stop()


class WaitingPart(WorkerPart):
    """Waits for something that does not come. ``error`` is what it raises then."""

    def __init__(self, error):
        self.error, self.is_waiting = error, False

    async def before_outcome(self, job):
        self.is_waiting = True
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            raise self.error from None


@pytest.mark.parametrize("error", [asyncio.CancelledError(), ValueError("Out of order.")], ids=repr)
def test_a_worker_that_stops_while_a_part_waits(user, monkeypatch, start_worker, error):
    """The task has returned, and is not called again."""
    part = WaitingPart(error)
    with monkeypatch.context() as patch:
        faulty.install(patch, "worker_part", fault=lambda state: part)
        worker = LocalWorker()
        result = tasks.two_a_site.using(owner=user).enqueue("stopping")
        wait_until(lambda: part.is_waiting, what="the task to return")
        worker.stop()
    start_worker()
    [job] = until_done(result)
    assert (job.state, job.attempt, tasks.seen) == ("succeeded", 1, [("stopping", 1)])
    assert Notification.objects.filter(user=user, job=job.id).count() == 1


def test_the_row_of_the_worker(user, monkeypatch, settings):
    """It says which hook fails, for doctor and alerts, until that is over."""
    settings.NOTIFICATIONS = {**settings.NOTIFICATIONS, "LEASE": 2}
    extension = faulty.install(monkeypatch, "on_ends", fault=faulty.raise_error)
    worker = LocalWorker()

    def failing():
        text = Worker.objects.get(id=worker.id).outbound
        return json.loads(text or "{}").get("failing_hooks")

    try:
        result = tasks.noop.using(owner=user).enqueue()
        assert wait_until(failing, what="the row to name the hook") == {"faulty.on_ends": 1}
        extension.fault = None
        recorded_once(user, result)
        wait_until(lambda: not failing(), what="the row to name none")
    finally:
        worker.stop()
