"""Hooks of extensions that fail while a worker records: nothing waits for them, is done twice or dropped."""

import asyncio
import json
import time
from datetime import timedelta

import pytest
from django.db import DataError, OperationalError, connection, transaction
from django.test.utils import CaptureQueriesContext

from notifications import api, times
from notifications.extension import WorkerPart
from notifications.jobs import calling_owed
from notifications.models import Attempt, Notification, OwedCall, SeenMark
from notifications.signals import rung
from notifications.testing import run_jobs
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
RECORDING = ("before_created", "on_created", "on_attempts", "on_ends", "last")


@pytest.fixture(autouse=True)
def short_pauses(monkeypatch, forgotten_log):
    monkeypatch.setattr(calling_owed, "pause_after", lambda failures: min(0.05 * 2**failures, 0.2))


def recorded_once(user, *results):
    """Assert that these jobs were run once, and have one notification each."""
    rows = until_done(*results)
    assert [(job.state, job.fence, job.attempt) for job in rows] == [("succeeded", 1, 1)] * len(rows)
    found = list(Notification.objects.filter(user=user, job__in=[job.id for job in rows]))
    assert len({row.job for row in found}) == len(found) == len(rows)
    assert not Attempt.objects.filter(job__in=rows).exists()


def until_owed_calls_are_made():
    wait_until(lambda: not OwedCall.objects.exists(), what="the calls that are owed to be made")


@pytest.mark.parametrize("fault", faulty.FAULTS)
@pytest.mark.parametrize("hook", RECORDING)
def test_a_hook_that_fails(user, monkeypatch, hook, fault):
    """Whatever it does, the end is recorded at once, and the hook is called again until it works."""
    extension = faulty.install(monkeypatch, hook, fault=faulty.FAULTS[fault])
    result = tasks.noop.using(owner=user).enqueue()
    run_jobs()
    recorded_once(user, result)
    assert set(OwedCall.objects.values_list("extension", "hook", "tries")) == {("faulty", hook, 1)}
    extension.fault = None
    OwedCall.objects.update(due_at=times.now())
    run_duty("call hooks that are owed")
    assert not OwedCall.objects.exists()


def test_a_hook_that_returns_nothing(user, worker, monkeypatch):
    """It has no rows."""
    faulty.install(monkeypatch, *RECORDING, "prepare", fault=faulty.return_none)
    recorded_once(user, tasks.noop.using(owner=user).enqueue())


def test_a_hook_that_takes_long(user, worker, monkeypatch):
    faulty.install(monkeypatch, "on_ends", fault=lambda *args: time.sleep(1))
    recorded_once(user, *[tasks.noop.using(owner=user).enqueue() for _ in range(3)])


def test_many_jobs_that_end_while_a_hook_fails(user, worker, monkeypatch, caplog):
    """More than the worker has slots. Their rows come when it works, each once; it is logged once a minute."""
    faulty.install(monkeypatch, "on_ends", fault=lambda *args: fail_or_mark(user, fails))
    fails = [True]
    recorded_once(user, *[tasks.noop.using(owner=user).enqueue() for _ in range(12)])
    wait_until(lambda: not OwedCall.objects.filter(tries=0).exists(), what="each to be tried")
    assert (OwedCall.objects.count(), SeenMark.objects.count()) == (12, 0)
    assert caplog.text.count("Hook failed, and is called again later: faulty.on_ends") == 1
    fails.clear()
    until_owed_calls_are_made()
    assert SeenMark.objects.count() == 12


def fail_or_mark(user, fails):
    if fails:
        raise RuntimeError("No.")
    return [SeenMark(user_id=user.pk, up_to=7, at=times.now())]


def test_a_job_at_which_a_hook_fails(user, worker, monkeypatch):
    """What it adds to the others comes within a second, although they were recorded together."""
    titles = []

    def fail(outcomes, tx):
        if any(outcome.job.title == "Bad" for outcome in outcomes):
            raise RuntimeError("No.")
        titles.extend(outcome.job.title for outcome in outcomes)

    faulty.install(monkeypatch, "on_ends", fault=fail)
    with transaction.atomic():
        results = [
            tasks.noop.using(owner=user, title=title).enqueue() for title in ("Bad", "One", "Two", "Three")
        ]
    recorded_once(user, *results)
    wait_until(lambda: OwedCall.objects.count() == 1, what="the others")
    assert sorted(titles) == ["One", "Three", "Two"]
    assert str(OwedCall.objects.get().subject) == results[0].id


def test_a_hook_without_preparation(user, worker, monkeypatch):
    """What could not be prepared is logged, and the hooks are called all the same."""
    extension = faulty.install(monkeypatch, "prepare", "on_ends")
    plain = type(extension).prepare

    def prepare(self):
        plain(self)
        raise SystemExit("Out of order.")

    monkeypatch.setattr(type(extension), "prepare", prepare)
    faulty.install(monkeypatch)
    recorded_once(user, tasks.noop.using(owner=user).enqueue())
    assert "on_ends" in extension.calls and not OwedCall.objects.exists()


@pytest.mark.parametrize("hook", ["on_attempts", "on_ends", "on_created"])
def test_rows_that_the_database_refuses(user, worker, monkeypatch, hook):
    """The outcome is not to blame: they are those of a hook, which is named."""

    def make_rows(*args):
        return [SeenMark(user_id=user.pk, up_to=None, at=times.now())]

    extension = faulty.install(monkeypatch, hook, fault=make_rows)
    recorded_once(user, tasks.noop.using(owner=user).enqueue())
    wait_until(lambda: OwedCall.objects.filter(hook=hook, tries__gt=0).exists(), what="another try")
    extension.fault = None
    until_owed_calls_are_made()


def test_an_outcome_that_the_database_refuses(user, worker, monkeypatch):
    """It fails that job alone, although a hook fails too."""
    faulty.install(monkeypatch, "on_ends", fault=faulty.raise_error)
    with transaction.atomic():
        poison = tasks.echo.using(owner=user).enqueue("poison")
        good = tasks.noop.using(owner=user).enqueue()
    with refused(f"{ENDS}.*poison", error=DataError):
        recorded_once(user, good)
        [row] = until_done(poison)
    assert json.loads(row.error)["type"] == "result-not-storable"
    assert OwedCall.objects.filter(hook="on_ends").count() == 2


def test_a_deadlock_in_a_hook(user, worker, monkeypatch):
    """It is no fault of the hook: the transaction is repeated with it, and nothing is owed."""
    errors = [OperationalError("database is locked")]
    owed = []

    def fail_once(outcomes, tx):
        if errors:
            raise errors.pop()
        owed.append(OwedCall.objects.count())

    faulty.install(monkeypatch, "on_ends", fault=fail_once)
    recorded_once(user, tasks.noop.using(owner=user).enqueue())
    assert owed == [0]


def test_a_database_that_is_away_for_a_hook(user, worker, monkeypatch):
    """An error that is not repeated at once is met again with the hook."""
    errors = [OperationalError("server closed the connection unexpectedly")]
    owed = []

    def fail_once(outcomes, tx):
        if errors:
            raise errors.pop()
        owed.append(OwedCall.objects.count())

    faulty.install(monkeypatch, "on_ends", fault=fail_once)
    recorded_once(user, tasks.noop.using(owner=user).enqueue())
    assert owed == [0]


@pytest.mark.parametrize("hook", ["before_created", "on_created"])
def test_notify(user, monkeypatch, hook):
    """Outside of a transaction of the caller the notification is created, and the hook is called later."""
    extension = faulty.install(monkeypatch, hook, fault=faulty.raise_error)
    (id,) = api.notify(user, "Hello")
    assert Notification.objects.get().id == id
    assert OwedCall.objects.get(hook=hook).subject == id
    extension.fault = None
    run_duty("call hooks that are owed")
    assert not OwedCall.objects.exists()


def test_what_follows_the_commit_calls_hooks_as_always(user, monkeypatch):
    """A receiver of the project, in a callback after the commit, is not part of what is repeated without a hook."""
    titles = []

    def fail_first(rows, tx):
        titles.extend(row.title for row in rows)
        if rows[0].title == "First":
            raise RuntimeError("No.")
        return ()

    def notify_later(sender, users, **_):
        if len(titles) == 1:
            api.notify(user, "Second")

    faulty.install(monkeypatch, "on_created", fault=fail_first)
    rung.connect(notify_later, weak=False)
    try:
        api.notify(user, "First")
    finally:
        rung.disconnect(notify_later)
    assert titles == ["First", "Second"]
    assert Notification.objects.get(title="First").id == OwedCall.objects.get().subject


def test_calls_that_follow_one_that_failed_are_not_due(user, monkeypatch):
    """A duty would find them again and again, before the calls of others."""
    extension = faulty.install(monkeypatch, "on_attempts", "on_ends", fault=faulty.raise_error)
    tasks.noop.using(owner=user).enqueue()
    run_jobs()
    extension.fault = None
    assert set(OwedCall.objects.values_list("hook", flat=True)) == {"on_attempts", "on_ends"}
    OwedCall.objects.filter(hook="on_attempts").update(due_at=times.now() + timedelta(minutes=10))
    OwedCall.objects.filter(hook="on_ends").update(due_at=times.now())
    with CaptureQueriesContext(connection) as queries:
        run_duty("call hooks that are owed")
    assert OwedCall.objects.count() == 2
    assert not any("FOR UPDATE" in query["sql"] or query["sql"].startswith("UPDATE") for query in queries)
    OwedCall.objects.update(due_at=times.now())
    run_duty("call hooks that are owed")
    assert not OwedCall.objects.exists()


def test_a_notification_that_was_to_be_changed(user, monkeypatch):
    """Later, with its number, unless its user has read it since."""

    def mark_as_read(rows):
        if fails:
            raise RuntimeError("No.")
        for row in rows:
            row.read_at = row.created_at

    faulty.install(monkeypatch, "before_created", fault=mark_as_read)
    fails = [True]
    first, second = (api.notify(user, title)[0] for title in ("First", "Second"))
    moment = times.now()
    Notification.objects.filter(id=second).update(read_at=moment)
    fails.clear()
    run_duty("call hooks that are owed")
    row, other = Notification.objects.get(id=first), Notification.objects.get(id=second)
    assert row.read_at == row.created_at and row.seq > row.raised
    assert other.read_at == moment


class FailingPart(WorkerPart):
    async def run(self):
        raise SystemExit("Out of order.")

    async def before_outcome(self, job):
        raise SystemExit("Out of order.")


def test_a_part_of_a_worker_that_fails(user, monkeypatch, caplog):
    """No outcome waits for it."""
    faulty.install(monkeypatch, "worker_part", fault=lambda state: FailingPart())
    worker = LocalWorker()
    try:
        recorded_once(user, *[tasks.noop.using(owner=user).enqueue() for _ in range(5)])
    finally:
        worker.stop()
    assert caplog.text.count("was left out: faulty.before_outcome") == 1


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
