"""Batches: jobs that are enqueued together and shown as one job."""

import asyncio
import json
import uuid
from contextlib import nullcontext

import pytest
from django.db import transaction
from django.test import TestCase

from notifications.api import aaccepted, abatch, accepted, ajoin, batch, join, requester
from notifications.exceptions import JobFailed, TooManyJobs
from notifications.jobs import task_backends
from notifications.models import Attempt, Job, Notification
from notifications.signals import rung
from notifications.testing import run_jobs
from tests.jobs import tasks
from tests.jobs.batch_rows import row
from tests.jobs.conftest import notifications_of, until_state
from tests.support.django_tasks import task_enqueued

pytestmark = pytest.mark.nightly_on_old_django

ZERO_COUNTS = {"succeeded": 0, "failed": 0, "cancelled": 0}


def test_one_notification_and_one_result(worker, user):
    """The result counts the jobs."""
    with batch(owner=user, title="Numbers", url="/numbers/") as b:
        for number in range(5):
            tasks.echo.enqueue(number)
    assert join(b, timeout=20) == {**ZERO_COUNTS, "succeeded": 5}
    (note,) = notifications_of(user)
    assert (note.title, note.body, note.url, note.level, note.job) == (
        "Numbers",
        "All 5 jobs succeeded.",
        "/numbers/",
        "success",
        b.id,
    )
    job = row(b)
    assert (job.state, job.user_id, job.progress_current, job.progress_total) == ("succeeded", user.pk, 5, 5)
    assert sorted([job.seq, note.seq]) == [1, 2]
    assert list(Job.objects.filter(batch=b.id).order_by("id").values_list("user", "state", "result")) == [
        (None, "succeeded", str(number)) for number in range(5)
    ]


async def test_abatch(event_loop_database, start_worker):
    await asyncio.to_thread(start_worker)
    async with abatch() as b:
        await asyncio.gather(*(tasks.echo.aenqueue(number) for number in range(5)))
    assert await ajoin(b, timeout=20) == {**ZERO_COUNTS, "succeeded": 5}


def test_failed_jobs_are_counted(worker, user):
    with batch(owner=user) as b:
        for task in (tasks.noop, tasks.fail, tasks.fail_sync):
            task.enqueue()
    with pytest.raises(JobFailed, match=r"^1 of 3 done, 2 failed$") as caught:
        join(b, timeout=20)
    assert caught.value.error == {
        "type": "batch-failed",
        "title": "Failed",
        "detail": "1 of 3 done, 2 failed",
    }
    (note,) = notifications_of(user)
    assert (note.title, note.body, note.level) == ("3 jobs", "1 of 3 done, 2 failed", "error")
    result = b.result
    result.refresh()
    assert result.status == "FAILED"
    assert [error.exception_class for error in result.errors] == [JobFailed]


@pytest.mark.django_db(transaction=True)
def test_the_title_of_a_batch_of_one_job(user):
    with batch(owner=user):
        tasks.noop.enqueue()
    run_jobs()
    assert [(note.title, note.body) for note in notifications_of(user)] == [("1 job", "1 job succeeded.")]


@pytest.mark.django_db(transaction=True)
def test_single_jobs_can_be_joined(worker):
    with batch() as b:
        results = [tasks.echo.enqueue(number) for number in range(3)]
    assert [join(result, timeout=20) for result in results] == [0, 1, 2]
    assert join(b.result, timeout=20) == {**ZERO_COUNTS, "succeeded": 3}
    assert join(b.id, timeout=20) == {**ZERO_COUNTS, "succeeded": 3}


@pytest.mark.django_db(transaction=True)
def test_an_error_in_the_block_enqueues_nothing():
    with pytest.raises(ZeroDivisionError), batch() as b:
        tasks.noop.enqueue()
        1 / 0  # noqa: B018
    assert not Job.objects.exists()
    with pytest.raises(RuntimeError, match=r"The batch is enqueued at the end of its block"):
        b.result  # noqa: B018
    tasks.noop.enqueue()  # the batch has ended
    assert Job.objects.get().batch is None


@pytest.mark.django_db(transaction=True)
def test_nothing_is_inserted_before_the_end_of_the_block():
    with batch(title="Later") as b:
        result = tasks.add.enqueue(1, 2)
        assert (result.status, result.args) == ("READY", [1, 2])
        assert not Job.objects.exists()
    assert {str(job.id) for job in Job.objects.all()} == {result.id, str(b.id)}
    assert task_backends["default"].get_result(result.id).status == "READY"
    assert b.result.status == "RUNNING"
    assert (b.result.id, row(b).title) == (str(b.id), "Later")


@pytest.mark.django_db(transaction=True)
def test_task_enqueued_is_sent_after_the_insert():
    seen = []

    def receive(task_result, **kwargs):
        seen.append((task_result.id, Job.objects.filter(id=task_result.id).exists()))

    task_enqueued.connect(receive)
    try:
        with batch() as b:
            enqueued = [tasks.noop.enqueue() for _ in range(2)]
    finally:
        task_enqueued.disconnect(receive)
    assert seen == [(result.id, True) for result in [*enqueued, b.result]]


@pytest.mark.django_db(transaction=True)
def test_a_batch_whose_signals_nothing_takes_makes_each_result_once(monkeypatch):
    TaskResult, made = type(tasks.noop.enqueue()), []
    init = TaskResult.__init__
    monkeypatch.setattr(TaskResult, "__init__", lambda self, **kw: made.append(kw["id"]) or init(self, **kw))
    with batch() as b:
        enqueued = tasks.noop.enqueue()
    assert made == [enqueued.id, str(b.id)]  # which enqueue() and b.result return


@pytest.mark.django_db(transaction=True)
def test_a_rollback_removes_batch_and_jobs(user):
    with pytest.raises(ZeroDivisionError), transaction.atomic():
        with batch(owner=user):
            tasks.noop.enqueue()
        assert Job.objects.count() == 2
        1 / 0  # noqa: B018
    assert not Job.objects.exists()


@pytest.mark.django_db(transaction=True)
def test_rings_are_sent_at_the_commit(user):
    rings = []

    def receive(users, queue, **kwargs):
        rings.append((users, queue))

    rung.connect(receive)
    try:
        with transaction.atomic():
            with batch(owner=user):
                tasks.noop.enqueue()
            assert rings == []
    finally:
        rung.disconnect(receive)
    assert rings == [([user.pk], True)]


@pytest.mark.parametrize("in_transaction", [True, False])
def test_an_empty_batch_is_done_immediately(user, transactional_db, in_transaction):
    """No worker is needed, in a transaction or without one."""
    with transaction.atomic() if in_transaction else nullcontext(), batch(owner=user, title="Nothing") as b:
        pass
    assert join(b) == ZERO_COUNTS
    (note,) = notifications_of(user)
    assert (note.title, note.body) == ("Nothing", "All 0 jobs succeeded.")


@pytest.mark.django_db(transaction=True)
def test_a_batch_can_be_entered_once():
    b = batch()
    with b, pytest.raises(RuntimeError, match=r"A batch can be entered once. Create a new one."):
        b.__enter__()
    with pytest.raises(RuntimeError, match=r"A batch can be entered once"), b:
        pass


async def test_enqueueing_after_the_block_is_refused(event_loop_database):
    """Otherwise the job would silently be in no batch."""
    block_ended = asyncio.Event()

    async def enqueue_late():
        await block_ended.wait()
        await tasks.noop.aenqueue()

    async with abatch():
        late = asyncio.create_task(enqueue_late())
        await asyncio.sleep(0)
    block_ended.set()
    with pytest.raises(
        RuntimeError, match=r"after the end of its batch.s block. Await what the block has started"
    ):
        await late


@pytest.mark.parametrize(
    ("options", "error", "words"),
    [
        ({"title": ""}, ValueError, "title is empty"),
        ({"title": "x" * 201}, ValueError, "title has 201 characters"),
        ({"url": "javascript:1"}, ValueError, "url is 'javascript:1'"),
        ({"notify": lambda done: None}, TypeError, "or a function at the top level of a module"),
        (
            {"notify": "tests.jobs.tasks.describe"},
            TypeError,
            "or a function at the top level of a module",
        ),
        ({"notify": 1}, TypeError, "or a function at the top level of a module"),
    ],
)
def test_invalid_options(options, error, words):
    with pytest.raises(error, match=words):
        batch(**options)


def test_accepted_with_a_batch(user, rf, transactional_db):
    """The response describes the batch, and the user of the request owns it."""
    request = rf.post("/", HTTP_ACCEPT="application/json")
    request.user = user

    def enqueue():
        with batch(title="Accepted") as b:
            tasks.noop.enqueue()
        return b.result

    response = accepted(request, enqueue)
    assert response.status_code == 202
    item = json.loads(response.content)
    assert (item["title"], item["state"], item["progress"]) == (
        "Accepted",
        "running",
        {"current": 0, "total": 1, "message": ""},
    )
    assert Job.objects.get(user=user).id == uuid.UUID(item["id"])
    assert asyncio.iscoroutinefunction(aaccepted)


def test_jobs_that_jobs_of_a_batch_enqueue_have_its_owner(user, transactional_db):
    """The jobs of a batch, nested or not, have no owner themselves."""
    with batch(owner=user, title="Outer"):
        tasks.ask_child.enqueue()
        with batch(title="Inner"):
            tasks.ask_child_sync.enqueue()
    run_jobs()
    assert set(Job.objects.filter(task_path__endswith="noop").values_list("user", flat=True)) == {user.pk}
    assert Job.objects.filter(task_path__contains="ask_child", user=None).count() == 2
    assert sorted(note.title for note in notifications_of(user)) == ["Noop", "Noop", "Outer"]


def test_a_batch_inside_a_job(worker, user):
    """It has the owner of the job that enqueues it and waits for it."""
    result = tasks.batch_in_a_job.using(owner=user).enqueue(3)
    assert join(result, timeout=20) == {**ZERO_COUNTS, "succeeded": 3}
    assert sorted(note.title for note in notifications_of(user)) == ["Batch in a job", "Inner"]


def test_a_job_with_an_owner_in_a_batch(user, other_user, transactional_db):
    with batch(owner=user):
        tasks.noop.using(owner=other_user).enqueue()
    assert Job.objects.filter(user=other_user).count() == 1
    run_jobs()
    assert notifications_of(other_user) == []
    assert len(notifications_of(user)) == 1


def test_the_owner_in_a_concurrency_key(user, other_user, transactional_db):
    """{owner} is the owner of the batch."""
    with batch(owner=user), batch():
        tasks.one_an_owner.enqueue()
    with requester(other_user), batch(owner=user):
        tasks.one_an_owner.using(owner=other_user).enqueue()
    keys = Job.objects.exclude(concurrency_key="").order_by("id").values_list("concurrency_key", flat=True)
    assert list(keys) == [f"report:{user.pk}", f"report:{other_user.pk}"]


def test_a_batch_does_not_count_against_the_limit_of_its_queue(user, settings, start_worker):
    settings.TASKS = {"default": {**settings.TASKS["default"], "OPTIONS": {"limits": {"default": 1}}}}
    with batch(owner=user) as b:
        tasks.noop.enqueue()
    start_worker()
    assert join(b, timeout=20)["succeeded"] == 1


def test_the_limit_of_active_jobs(user, other_user, settings, transactional_db):
    """A batch counts as one job of its owner. Jobs with an owner count for that owner."""
    settings.NOTIFICATIONS = {**settings.NOTIFICATIONS, "ACTIVE_JOBS_PER_USER": 2}
    for _ in range(2):
        with batch(owner=user):
            for _ in range(5):
                tasks.noop.enqueue()
    with pytest.raises(TooManyJobs), batch(owner=user):
        tasks.noop.enqueue()
    with batch():
        tasks.noop.using(owner=other_user).enqueue()
    with pytest.raises(TooManyJobs), batch():
        for _ in range(2):
            tasks.noop.using(owner=other_user).enqueue()
    assert Job.objects.filter(user=other_user).count() == 1
    assert Job.objects.count() == 2 * 6 + 2


def test_no_worker_claims_a_batch(user, transactional_db):
    with batch(owner=user):
        pass
    with batch(owner=user) as b:
        tasks.noop.enqueue()
    run_jobs()
    assert not Attempt.objects.exists()
    assert row(b).worker is None


class InATestCase(TestCase):
    @pytest.fixture(autouse=True)
    def set_user(self, user):
        self.user = user

    def test_run_jobs_runs_batches_too(self):
        with batch(owner=self.user):
            tasks.noop.enqueue()
        with batch(owner=self.user):
            pass
        self.assertEqual(run_jobs(), 1)
        self.assertEqual(Notification.objects.filter(seq__isnull=False).count(), 2)


def test_the_state_of_a_running_batch(worker, gate, user):
    with batch(owner=user) as b:
        result = tasks.hold.enqueue("x")
    until_state(result, "running")
    b.result.refresh()
    assert (b.result.status, b.result.attempts) == ("RUNNING", 0)
    gate.set()
    assert join(b, timeout=20)["succeeded"] == 1
