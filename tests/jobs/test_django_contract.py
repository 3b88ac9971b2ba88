"""The cases of Django's own tests of tasks and backends that are not in test_backend.py."""

import dataclasses
import logging
import pickle
import sys
import traceback
from datetime import UTC, datetime, timedelta

import django
import pytest
from django.core.checks import run_checks
from django.core.exceptions import ImproperlyConfigured
from django.db import transaction
from django.utils import timezone

from notifications.api import task
from notifications.jobs import task_backends
from notifications.models import Job
from notifications.testing import run_jobs
from tests.jobs import tasks
from tests.jobs.conftest import until_done, until_state
from tests.support.django_tasks import (
    BaseTaskBackend,
    InvalidTask,
    Task,
    TaskError,
    TaskResultDoesNotExist,
    TaskResultStatus,
    task_enqueued,
    task_finished,
    task_started,
)
from tests.support.waiting import wait_until

pytestmark = pytest.mark.django_db


class TaskHolder:
    def method(self):
        pass


LOGGER = "django.tasks" if django.VERSION >= (6, 0) else "django_tasks"
BOTH = pytest.mark.parametrize("task", [tasks.noop, tasks.noop_sync], ids=["async", "sync"])


class TestTask:
    def test_a_task_is_an_instance_of_the_backends_class(self):
        backend = task_backends["default"]
        assert isinstance(tasks.noop, backend.task_class) and issubclass(backend.task_class, Task)
        assert backend.task_class is not Task and tasks.noop.get_backend() is backend

    def test_defaults(self):
        plain = tasks.noop
        assert (plain.priority, plain.queue_name, plain.backend) == (0, "default", "default")
        assert (plain.run_after, plain.takes_context) == (None, False)

    def test_options_of_the_decorator(self):
        assert (tasks.of_reports.priority, tasks.of_reports.queue_name) == (5, "reports")
        result = tasks.of_reports.enqueue()
        row = Job.objects.get(id=result.id)
        assert (row.priority, row.queue_name, row.backend) == (5, "reports", "default")

    def test_names(self):
        assert tasks.noop.name == "noop"
        assert tasks.noop.module_path == "tests.jobs.tasks.noop"

    def test_a_task_is_frozen(self):
        with pytest.raises(dataclasses.FrozenInstanceError):
            tasks.noop.priority = 3

    @pytest.mark.parametrize("task", [tasks.add, tasks.add.using(priority=3)])
    def test_call_runs_the_function_and_enqueues_nothing(self, task):
        assert task.call(1, b=2) == 3
        assert task.func(1, 2) == 3
        assert not Job.objects.exists()

    async def test_acall_of_async_and_sync_tasks(self):
        assert await tasks.echo.acall("x") == "x"
        assert await tasks.add.acall(1, 2) == 3

    def test_call_of_an_async_task(self):
        assert tasks.echo.call("x") == "x"

    def test_only_functions_at_module_level_are_tasks(self):
        """A worker imports the function by its path."""

        async def local():
            pass

        for function in (local, lambda: None, TaskHolder().method):
            with pytest.raises(InvalidTask, match="must be defined at a module level"):
                task(function)

    def test_takes_context_without_a_context_argument(self):
        with pytest.raises(InvalidTask, match="does not have a first argument of 'context'"):
            task(takes_context=True)(tasks.echo.func)

    def test_the_decorator_refuses_run_after(self):
        with pytest.raises(TypeError):
            task(run_after=timezone.now())(tasks.echo.func)

    def test_a_task_of_an_unknown_queue(self, settings):
        settings.TASKS = {"default": {**settings.TASKS["default"], "QUEUES": ["default"]}}
        with pytest.raises(InvalidTask, match="Queue 'elsewhere' is not valid for backend"):
            task(queue_name="elsewhere")(tasks.echo.func)

    def test_a_task_of_an_unknown_backend(self):
        with pytest.raises(ImproperlyConfigured, match="elsewhere"):
            task(backend="elsewhere")(tasks.echo.func)


class TestUsing:
    def test_it_returns_a_changed_copy(self):
        later = timezone.now() + timedelta(days=1)
        other = tasks.noop.using(priority=9, queue_name="reports", run_after=later)
        assert (other.priority, other.queue_name, other.run_after) == (9, "reports", later)
        assert (tasks.noop.priority, tasks.noop.queue_name, tasks.noop.run_after) == (0, "default", None)
        assert other.func is tasks.noop.func and type(other) is type(tasks.noop)

    def test_calls_can_be_chained(self):
        """Each call keeps the options of earlier ones that it does not name."""
        other = tasks.noop.using(priority=9).using(queue_name="reports").using(title="x").using(priority=1)
        assert (other.priority, other.queue_name, other.options.title) == (1, "reports", "x")

    @pytest.mark.parametrize("priority", [-100, 0, 100])
    def test_valid_priorities(self, priority):
        assert tasks.noop.using(priority=priority).enqueue().task.priority == priority

    @pytest.mark.parametrize("priority", [-101, 101, 10**10, 0.5])
    def test_invalid_priorities(self, priority):
        with pytest.raises(InvalidTask):
            tasks.noop.using(priority=priority)

    def test_run_after_keeps_microseconds_and_the_instant(self):
        """A time in UTC is read back as the same instant, whatever the current time zone is."""
        run_after = datetime(2040, 1, 1, 12, 0, 0, 123456, tzinfo=UTC)
        result = tasks.noop.using(run_after=run_after).enqueue()
        assert tasks.noop.get_result(result.id).task.run_after == run_after


class TestEnqueue:
    @BOTH
    def test_the_task_of_the_result(self, task):
        result = task.enqueue()
        assert result.task == task and result.backend == "default"
        assert isinstance(result.id, str) and Job.objects.filter(id=result.id).exists()

    def test_arguments_are_converted_to_json(self):
        result = tasks.noop.enqueue((1, 2), {"a": (3,)}, key={"b": None, "c": 1.5, "d": True})
        assert result.args == [[1, 2], {"a": [3]}]
        assert result.kwargs == {"key": {"b": None, "c": 1.5, "d": True}}
        assert tasks.noop.get_result(result.id).args == result.args

    def test_bytes(self):
        """Valid UTF-8 is decoded, as in Django; other bytes are refused."""
        assert tasks.noop.enqueue(b"text").args == ["text"]
        with pytest.raises(ValueError):
            tasks.noop.enqueue(b"\x80")
        assert Job.objects.count() == 1

    @pytest.mark.django_db(transaction=True)
    async def test_aenqueue_checks_and_converts_in_the_same_way(self, event_loop_database):
        with pytest.raises(TypeError):
            await tasks.noop.aenqueue(object())
        result = await tasks.noop.using(priority=3).aenqueue((1,))
        assert (result.args, result.task.priority) == ([[1]], 3)

    def test_enqueue_validates_the_task_again(self, settings):
        """Its queue may have been removed from the settings since the task was declared."""
        declared = tasks.noop.using(queue_name="reports")
        settings.TASKS = {"default": {**settings.TASKS["default"], "QUEUES": ["default"]}}
        with pytest.raises(InvalidTask):
            task_backends["default"].enqueue(declared, [], {})

    def test_enqueueing_does_not_execute_the_task(self):
        result = tasks.fail.enqueue()
        result.refresh()
        assert (result.status, result.is_finished) == (TaskResultStatus.READY, False)

    def test_a_rollback_removes_the_job(self):
        with pytest.raises(RuntimeError), transaction.atomic():
            result = tasks.noop.enqueue()
            assert tasks.noop.get_result(result.id) == result
            raise RuntimeError
        with pytest.raises(TaskResultDoesNotExist):
            tasks.noop.get_result(result.id)


class TestResults:
    def test_the_states_of_a_result(self, worker, gate):
        """READY, RUNNING and SUCCESSFUL, each with its times. A result object changes only by refresh()."""
        result = tasks.hold.enqueue("x")
        until_state(result, "running")
        assert result.status == TaskResultStatus.READY
        result.refresh()
        assert (result.status, result.is_finished, result.attempts) == (TaskResultStatus.RUNNING, False, 1)
        assert result.started_at == result.last_attempted_at and result.finished_at is None
        assert result.worker_ids == [str(worker.id)]
        with pytest.raises(ValueError, match="Task has not finished yet"):
            result.return_value  # noqa: B018
        gate.set()
        until_done(result)
        assert result.status == TaskResultStatus.RUNNING
        result.refresh()
        assert (result.status, result.return_value, result.is_finished) == (
            TaskResultStatus.SUCCESSFUL,
            "x",
            True,
        )

    @pytest.mark.django_db(transaction=True)
    async def test_async_methods(self, event_loop_database):
        from asgiref.sync import sync_to_async

        result = await tasks.add.aenqueue(1, 2)
        await sync_to_async(run_jobs)()
        await result.arefresh()
        assert result.return_value == 3
        assert await tasks.add.aget_result(result.id) == result
        assert await task_backends["default"].aget_result(result.id) == result

    def test_get_result_of_the_backend(self):
        result = tasks.noop.enqueue()
        assert task_backends["default"].get_result(result.id) == result

    def test_a_result_of_another_backend(self, settings):
        """Each alias has jobs of its own."""
        settings.TASKS = {**settings.TASKS, "other": {**settings.TASKS["default"]}}
        result = tasks.noop.using(backend="other").enqueue()
        assert result.backend == "other"
        assert task_backends["other"].get_result(result.id).id == result.id
        with pytest.raises(TaskResultDoesNotExist):
            task_backends["default"].get_result(result.id)
        assert run_jobs() == 1, "Workers execute the jobs of all aliases of JobBackend."

    def test_attempts_are_counted(self, gate):
        """Each failed attempt has an error, each attempt a worker id, and started_at is that of the first one."""
        result = tasks.attempts_so_far.enqueue("v")
        for _ in range(3):
            run_jobs()
            Job.objects.filter(state="queued").update(run_after=None, due_at=None)
        assert tasks.seen == [(number, number, "RUNNING", "v") for number in (1, 2, 3)]
        result.refresh()
        assert (result.attempts, len(result.errors), len(result.worker_ids)) == (3, 2, 3)
        assert result.started_at < result.last_attempted_at <= result.finished_at

    def test_an_exception_that_is_not_json(self):
        result = tasks.fail_with_what_is_no_json.enqueue()
        run_jobs()
        result.refresh()
        assert result.errors[0].exception_class is tasks.NotSerializable
        assert "raise NotSerializable" in result.errors[0].traceback

    def test_an_exception_class_that_is_not_an_exception(self):
        """The path is stored, and reading exception_class raises ValueError, as in Django."""
        error = TaskError(exception_class_path="tests.jobs.tasks.noop", traceback="")
        with pytest.raises(ValueError, match="does not reference a valid exception"):
            error.exception_class  # noqa: B018

    @pytest.mark.parametrize("kind", ["object", "set"])
    def test_a_return_value_that_is_not_json(self, kind):
        result = tasks.not_json.enqueue(kind)
        run_jobs()
        result.refresh()
        assert result.status == TaskResultStatus.FAILED
        assert result.errors[0].exception_class is TypeError
        with pytest.raises(ValueError, match="Task failed"):
            result.return_value  # noqa: B018

    def test_pickling_keeps_the_return_value(self):
        result = tasks.add.enqueue(1, 2)
        run_jobs()
        result.refresh()
        copy = pickle.loads(pickle.dumps(result))
        assert copy == result and copy.return_value == 3


@pytest.fixture
def handled_exceptions():
    """Map the status of each finished job to the exception that was handled when task_finished was sent.

    With it the function that raised it, which the exception does not know afterwards.
    """
    exceptions = {}

    def receive(task_result, **kwargs):
        exc = sys.exc_info()[1]
        exceptions[task_result.status] = (exc, exc and traceback.extract_tb(exc.__traceback__)[-1].name)

    task_finished.connect(receive)
    yield exceptions
    task_finished.disconnect(receive)


class TestSignals:
    def test_django_logs_them(self, caplog):
        """Django's own receivers log that a job was enqueued, started and finished."""
        with caplog.at_level(logging.DEBUG, LOGGER):
            good, bad = tasks.noop.enqueue(), tasks.fail.enqueue()
            run_jobs()
        lines = [
            (record.levelname, record.getMessage()) for record in caplog.records if record.name == LOGGER
        ]
        assert any(good.id in line and "enqueued" in line for _, line in lines)
        assert {level for level, line in lines if good.id in line} == {"DEBUG", "INFO"}
        assert [level for level, line in lines if bad.id in line][-1] == "ERROR"

    @pytest.mark.parametrize("task", [tasks.fail, tasks.fail_sync], ids=["async", "sync"])
    @pytest.mark.django_db(transaction=True)
    def test_finished_is_sent_while_the_exception_is_handled(
        self, start_worker, handled_exceptions, caplog, task
    ):
        """Error trackers then report it, and Django's log line has the traceback down to the function of the task."""
        start_worker()
        until_done(task.enqueue("It is broken"), tasks.noop.enqueue())
        wait_until(lambda: len(handled_exceptions) == 2, what="both signals")
        failed, function = handled_exceptions["FAILED"]
        assert repr(failed) == "ValueError('It is broken')"
        assert function == task.func.__name__
        assert handled_exceptions["SUCCESSFUL"] == (None, None)
        wait_until(
            lambda: [record for record in caplog.records if record.name == LOGGER and record.exc_info],
            what="Django's log line",
        )
        (logged,) = [record for record in caplog.records if (record.exc_info or [None] * 3)[1] is failed]
        assert (logged.levelname, logged.name) == ("ERROR", LOGGER)

    def test_started_is_sent_for_each_attempt_and_finished_once(self, gate):
        sent = []

        def receive(signal, task_result, **kwargs):
            sent.append((signal, task_result.status, task_result.attempts))

        signals = (task_enqueued, task_started, task_finished)
        for signal in signals:
            signal.connect(receive)
        try:
            tasks.attempts_so_far.enqueue()
            for _ in range(3):
                run_jobs()
                Job.objects.filter(state="queued").update(run_after=None, due_at=None)
        finally:
            for signal in signals:
                signal.disconnect(receive)
        assert sent == [
            (task_enqueued, "READY", 0),
            *((task_started, "RUNNING", number) for number in (1, 2, 3)),
            (task_finished, "SUCCESSFUL", 3),
        ]

    def test_the_sender_is_the_backend(self):
        senders = []

        def receive(sender, **kwargs):
            senders.append(sender)

        backend = type(task_backends["default"])
        task_finished.connect(receive, sender=backend)
        try:
            tasks.noop.enqueue()
            run_jobs()
        finally:
            task_finished.disconnect(receive, sender=backend)
        assert senders == [backend]


class TestBackend:
    def test_capability_flags(self):
        for flag in ("supports_defer", "supports_async_task", "supports_get_result", "supports_priority"):
            assert getattr(task_backends["default"], flag) is True, flag
        assert isinstance(task_backends["default"], BaseTaskBackend)

    def test_queues_and_options(self, settings):
        settings.TASKS = {
            "default": {**settings.TASKS["default"], "QUEUES": ["a", "b"], "OPTIONS": {"limits": {"a": 1}}}
        }
        backend = task_backends["default"]
        assert (backend.alias, backend.queues, backend.options) == (
            "default",
            {"a", "b"},
            {"limits": {"a": 1}},
        )

    def test_without_queues_only_the_default_queue_is_allowed(self, settings):
        """As in Django: an empty list allows every queue, and without the key only "default" is allowed."""
        settings.TASKS = {"default": {"BACKEND": settings.TASKS["default"]["BACKEND"]}}
        assert task_backends["default"].queues == {"default"}

    def test_its_settings_are_checked(self, settings):
        settings.TASKS = {"default": {**settings.TASKS["default"], "OPTIONS": {"limits": {"a": 0}}}}
        assert [message.id for message in run_checks() if message.id == "notifications.W009"] == [
            "notifications.W009"
        ]
