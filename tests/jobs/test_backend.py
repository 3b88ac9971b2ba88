"""The backend behaves as Django's Tasks API documents; the cases are those of Django's own backend tests."""

import dataclasses
import pickle
from datetime import datetime, timedelta

import django
import pytest
from django.core.exceptions import ImproperlyConfigured
from django.db import transaction
from django.utils import timezone

from notifications.api import batch
from notifications.exceptions import TooManyJobs
from notifications.jobs import task_backends
from notifications.jobs.backend import JobBackend
from notifications.models import Job
from notifications.signals import job_finished, rung
from notifications.testing import run_jobs
from tests.jobs import tasks
from tests.support.django_tasks import (
    InvalidTask,
    TaskResultDoesNotExist,
    TaskResultStatus,
    task_enqueued,
    task_finished,
    task_started,
)

pytestmark = pytest.mark.django_db

BOTH = pytest.mark.parametrize("task", [tasks.noop, tasks.noop_sync], ids=["async", "sync"])


@pytest.fixture
def record_calls():
    """record_calls(signal, *names) returns a list to which each later call adds its sender and the named arguments."""
    connected = []

    def record(signal, *names):
        calls = []

        def receive(sender, **kwargs):
            calls.append((sender, *(kwargs[name] for name in names)))

        signal.connect(receive)
        connected.append((signal, receive))
        return calls

    yield record
    for signal, receive in connected:
        signal.disconnect(receive)


def test_the_default_backend_supports_every_feature():
    """All four capability flags of Django are true, and its check reports nothing."""
    backend = task_backends["default"]
    assert isinstance(backend, JobBackend)
    assert backend.supports_defer and backend.supports_async_task
    assert backend.supports_get_result and backend.supports_priority
    assert list(backend.check()) == []


@BOTH
def test_enqueue_returns_a_result_that_is_ready(task):
    result = task.enqueue(1, two=3)
    assert result.status == TaskResultStatus.READY
    assert not result.is_finished
    assert result.task == task
    assert (result.args, result.kwargs) == ([1], {"two": 3})
    assert result.enqueued_at is not None
    assert (result.started_at, result.finished_at, result.last_attempted_at) == (None, None, None)
    assert (result.attempts, result.errors, result.worker_ids) == (0, [], [])
    with pytest.raises(ValueError, match="Task has not finished yet"):
        result.return_value  # noqa: B018


@pytest.mark.django_db(transaction=True)
@BOTH
async def test_aenqueue_returns_a_result_that_is_ready(task, event_loop_database):
    result = await task.aenqueue(1, two=3)
    assert result.status == TaskResultStatus.READY
    assert (result.args, result.kwargs) == ([1], {"two": 3})
    assert dataclasses.asdict(await task.aget_result(result.id)) == dataclasses.asdict(result)
    before = dataclasses.asdict(result)
    await result.arefresh()
    assert dataclasses.asdict(result) == before


@BOTH
def test_the_result_of_a_successful_job(task):
    """It has all times, one attempt and one worker."""
    result = task.enqueue(1, two=3)
    run_jobs()
    assert result.status == TaskResultStatus.READY, "A result object changes only when it is refreshed."
    result.refresh()
    assert result.status == TaskResultStatus.SUCCESSFUL
    assert result.is_finished
    assert result.return_value is None
    assert result.enqueued_at <= result.started_at <= result.finished_at
    assert result.last_attempted_at == result.started_at
    assert (result.attempts, result.errors, len(result.worker_ids)) == (1, [], 1)
    assert result == task.get_result(result.id)


def test_return_value():
    result = tasks.add.enqueue(40, b=2)
    run_jobs()
    result.refresh()
    assert result.return_value == 42


@pytest.mark.parametrize(
    ("task", "exception"),
    [
        (tasks.fail, ValueError),
        (tasks.fail_sync, ValueError),
        (tasks.system_exit, SystemExit),
        (tasks.system_exit_sync, SystemExit),
        (tasks.slow, TimeoutError),
    ],
)
def test_the_result_of_a_failed_job(task, exception):
    """It has the class and traceback of the exception, and no return value."""
    result = task.enqueue()
    run_jobs()
    result.refresh()
    assert result.status == TaskResultStatus.FAILED
    assert result.is_finished
    with pytest.raises(ValueError, match="Task failed"):
        result.return_value  # noqa: B018
    (error,) = result.errors
    assert error.exception_class is exception
    assert error.traceback.splitlines()[-1].startswith(exception.__name__)
    assert result.enqueued_at <= result.started_at <= result.finished_at


def test_a_return_value_that_is_not_json_fails_the_job():
    result = tasks.not_json.enqueue("object")
    run_jobs()
    result.refresh()
    assert result.status == TaskResultStatus.FAILED
    assert result.errors[0].exception_class is TypeError


@pytest.mark.parametrize(
    ("kind", "value"), [("bytes", "text"), ("mapping", {"a": [1, 2]}), ("sequence", [0, 1])]
)
def test_return_values_are_converted_to_json(kind, value):
    """Arguments are converted in the same way, and so are both by Django's own backends."""
    result = tasks.almost_json.enqueue(kind)
    run_jobs()
    result.refresh()
    assert result.return_value == value


@pytest.mark.parametrize("argument", [datetime(2030, 1, 1), object(), {1, 2}])
def test_arguments_that_are_not_json(argument):
    with pytest.raises(
        TypeError, match=r"Unsupported type: .* The arguments of \w+ are stored as JSON: pass ids"
    ):
        tasks.noop.enqueue(argument)
    assert not Job.objects.exists()


@pytest.mark.parametrize(
    ("argument", "words"),
    [
        (float("nan"), "cannot be written as JSON"),
        ("a\0b", "contain NUL"),
        ("\ud800", "lone surrogate"),
        ("x" * 300_000, "At most 262144 are allowed. Store it elsewhere and pass its id"),
    ],
)
def test_arguments_that_cannot_be_stored(argument, words):
    """The error states the problem, and nothing is enqueued."""
    with pytest.raises(ValueError, match=words):
        tasks.noop.enqueue(argument)
    with pytest.raises(ValueError, match=words):
        tasks.noop.enqueue(name=argument)
    assert not Job.objects.exists()


@pytest.mark.parametrize("id", ["123", "", "01920000-0000-7000-8000-000000000000"])
def test_get_result_of_an_unknown_id(id):
    with pytest.raises(TaskResultDoesNotExist):
        tasks.noop.get_result(id)


@pytest.mark.django_db(transaction=True)
async def test_aget_result_of_an_unknown_id(event_loop_database):
    with pytest.raises(TaskResultDoesNotExist):
        await tasks.noop.aget_result("123")


def test_get_result_of_another_task():
    result = tasks.noop.enqueue()
    with pytest.raises(Exception, match="Task does not match") as raised:
        tasks.noop_sync.get_result(result.id)
    assert type(raised.value).__name__ == "TaskResultMismatch"


def test_get_result_of_a_task_that_no_longer_exists():
    result = tasks.noop.enqueue()
    Job.objects.update(task_path="tests.jobs.tasks.no_such_task")
    with pytest.raises(TaskResultDoesNotExist):
        tasks.noop.get_result(result.id)


@pytest.mark.parametrize("field", [{"queue_name": "removed"}, {"backend": "default", "priority": 5}])
def test_a_result_is_read_after_the_settings_changed(field, settings):
    """The result of a job can be read, and the job is executed, after its queue was removed from the settings."""
    result = tasks.noop.using(**field).enqueue()
    settings.TASKS = {"default": {**settings.TASKS["default"], "QUEUES": ["default"]}}
    assert tasks.noop.get_result(result.id).status == TaskResultStatus.READY
    run_jobs()
    result.refresh()
    assert result.status == TaskResultStatus.SUCCESSFUL


def test_priority_and_run_after():
    """Options of .using() are stored with the job and read back with its result."""
    later = timezone.now() + timedelta(hours=1)
    result = tasks.noop.using(priority=7, run_after=later, queue_name="reports").enqueue()
    stored = tasks.noop.get_result(result.id)
    assert (stored.task.priority, stored.task.run_after, stored.task.queue_name) == (7, later, "reports")
    assert run_jobs() == 0


def test_jobs_run_by_priority_then_by_age():
    ids = [tasks.noop.using(priority=priority).enqueue().id for priority in (0, 10, -100, 10, 100)]
    run_jobs()
    executed = [str(id) for id in Job.objects.order_by("started_at").values_list("id", flat=True)]
    assert executed == [ids[4], ids[1], ids[3], ids[0], ids[2]]


def test_run_after_in_the_past():
    result = tasks.noop.using(run_after=timezone.now() - timedelta(seconds=1)).enqueue()
    assert run_jobs() == 1
    result.refresh()
    assert result.is_finished


@pytest.mark.parametrize("priority", [-101, 101, 3.1])
def test_invalid_priority(priority):
    with pytest.raises(InvalidTask, match="priority must be a whole number between -100 and 100"):
        tasks.noop.using(priority=priority)


def test_naive_run_after():
    with pytest.raises(InvalidTask, match="run_after must be an aware datetime"):
        tasks.noop.using(run_after=datetime(2030, 1, 1))


def test_queue_that_is_not_in_the_settings(settings):
    """.using() refuses it, and enqueue() checks again, because the settings may have changed since."""
    task = tasks.noop.using(queue_name="reports")
    settings.TASKS = {"default": {**settings.TASKS["default"], "QUEUES": ["default"]}}
    with pytest.raises(InvalidTask, match="Queue 'reports' is not valid for backend"):
        task.enqueue()
    with pytest.raises(InvalidTask, match="Queue 'reports' is not valid for backend"):
        tasks.noop.using(queue_name="reports")


@pytest.mark.parametrize(
    ("name", "words"),
    [("q" * 101, "queue_name has 101 characters"), ("", "queue_name is empty"), ("a\0b", "contains NUL")],
)
def test_queue_that_cannot_be_stored(name, words):
    with pytest.raises(ValueError, match=words):
        tasks.noop.using(queue_name=name).enqueue()
    assert not Job.objects.exists()


def test_unknown_backend():
    with pytest.raises(ImproperlyConfigured, match="unknown"):
        tasks.noop.using(backend="unknown")


def test_a_task_declared_for_another_backend(settings):
    """It has no owner and no title of its own, and can be enqueued on this backend nevertheless."""
    module = "django.tasks" if django.VERSION >= (6, 0) else "django_tasks"
    settings.TASKS = {
        "default": {"BACKEND": f"{module}.backends.immediate.ImmediateBackend", "QUEUES": []},
        "jobs": {"BACKEND": "notifications.jobs.backend.JobBackend", "QUEUES": []},
    }
    from tests.support.django_tasks import Task

    options = {"priority": 0, "queue_name": "default", "run_after": None}  # required by Django 6.0
    plain = Task(func=tasks.noop.func, backend="default", **options).using(backend="jobs")
    result = plain.enqueue()
    assert Job.objects.get(id=result.id).title == "Noop"


def test_context_of_a_sync_task():
    """The context has the result of the running job, the number of the attempt, and reports progress."""
    result = tasks.context_sync.enqueue()
    run_jobs()
    result.refresh()
    assert result.return_value == {
        "id": result.id,
        "attempt": 1,
        "status": "RUNNING",
        "workers": result.worker_ids,
    }
    job = Job.objects.get()
    assert (job.progress_current, job.progress_total, job.progress_message) == (1, 2, "half")


def test_context_of_an_async_task():
    result = tasks.context_async.enqueue("x")
    run_jobs()
    result.refresh()
    assert result.return_value == [result.id, 1, "x"]


@pytest.mark.parametrize("task", [tasks.noop, tasks.fail])
def test_signals(task, record_calls):
    """task_enqueued, task_started and task_finished are sent once each, with the TaskResult as it is at that time."""
    enqueued, started, finished = (
        record_calls(signal, "task_result") for signal in (task_enqueued, task_started, task_finished)
    )
    ended = record_calls(job_finished, "job")
    result = task.enqueue()
    assert [(sender, sent.id, sent.status) for sender, sent in enqueued] == [(JobBackend, result.id, "READY")]
    assert started == finished == []
    run_jobs()
    assert [(sender, sent.id, sent.status) for sender, sent in started] == [
        (JobBackend, result.id, "RUNNING")
    ]
    result.refresh()
    ((sender, sent),) = finished
    assert (sender, sent, sent.errors) == (JobBackend, result, result.errors)
    assert [(sender, str(job.id), job.state) for sender, job in ended] == [
        (Job, result.id, "succeeded" if task is tasks.noop else "failed")
    ]


def test_a_receiver_that_raises_affects_no_job():
    def broken(**kwargs):
        raise RuntimeError("no")

    signals = (task_enqueued, task_started, task_finished, job_finished)
    for signal in signals:
        signal.connect(broken)
    try:
        result = tasks.noop.enqueue()
        with batch() as b:
            tasks.noop.enqueue()
        run_jobs()
    finally:
        for signal in signals:
            signal.disconnect(broken)
    for finished in (result, b.result):
        finished.refresh()
        assert finished.status == TaskResultStatus.SUCCESSFUL


@pytest.mark.django_db(transaction=True)
def test_enqueue_is_part_of_the_transaction(record_calls):
    """The ring comes after the commit. A rollback leaves neither a row nor a ring."""
    rings = record_calls(rung, "queue")
    with transaction.atomic():
        tasks.noop.enqueue()
        assert not rings
    assert [queue for _, queue in rings] == [True]
    with pytest.raises(RuntimeError), transaction.atomic():
        tasks.noop.enqueue()
        raise RuntimeError
    assert len(rings) == 1
    assert Job.objects.count() == 1


@pytest.mark.django_db(transaction=True)
def test_a_savepoint_that_is_rolled_back_removes_its_job():
    with transaction.atomic():
        kept = tasks.noop.enqueue()
        with pytest.raises(RuntimeError), transaction.atomic():
            tasks.noop.enqueue()
            raise RuntimeError
    assert [str(job.id) for job in Job.objects.all()] == [kept.id]


def test_enqueue_is_one_insert(django_assert_num_queries, user):
    """One statement inserts the job and checks the owner's limit."""
    with transaction.atomic(), django_assert_num_queries(1):
        tasks.noop.enqueue()
    with transaction.atomic(), django_assert_num_queries(1):
        tasks.noop.using(owner=user).enqueue()


def test_too_many_active_jobs(settings, user):
    """The limit is per user, and finished jobs do not count."""
    settings.NOTIFICATIONS = {**settings.NOTIFICATIONS, "ACTIVE_JOBS_PER_USER": 2}
    for _ in range(2):
        tasks.noop.using(owner=user).enqueue()
    with pytest.raises(TooManyJobs, match=r"There are 2 active jobs already\. Wait until some are done"):
        tasks.noop.using(owner=user).enqueue()
    tasks.noop.enqueue()
    run_jobs()
    tasks.noop.using(owner=user).enqueue()


def test_pickling(user):
    """A task keeps its options of .using(), and a result its fields."""
    task = tasks.noop.using(owner=user.pk, title="Mine", url="/x/", priority=3)
    assert pickle.loads(pickle.dumps(task)) == task
    result = task.enqueue()
    assert pickle.loads(pickle.dumps(result)) == result
