"""What tasks do to the worker that runs them: open transactions, a blocked event loop, exits."""

import asyncio
import contextlib
import json
import os
import re
import sys
from collections import Counter

import pytest
from asgiref.sync import sync_to_async
from django.contrib.auth import get_user_model
from django.db import connection, transaction

from notifications.api import progress, task
from notifications.models import Attempt, Job
from tests.jobs import tasks
from tests.jobs.conftest import notifications_of, until_done
from tests.jobs.tasks import gate, seen
from tests.support.waiting import wait_until
from tests.worker.test_execution import RAISED

pytestmark = [pytest.mark.nightly_on_postgres, pytest.mark.nightly_on_old_django]


@task
def leak_transaction():
    transaction.atomic().__enter__()
    get_user_model().objects.create(username="never committed")


@task
async def leak_transaction_async():
    await sync_to_async(leak_transaction.func)()


@task
def leave_autocommit_off():
    transaction.set_autocommit(False)
    get_user_model().objects.create(username="never committed")


@task
def begin_and_forget():
    connection.cursor().execute("BEGIN")
    get_user_model().objects.create(username="never committed")


@task
async def begin_and_forget_async():
    await sync_to_async(begin_and_forget.func)()


@task
def commit_with_autocommit_off():
    transaction.set_autocommit(False)
    get_user_model().objects.create(username="committed")
    transaction.commit()


@task
def leak_and_fail():
    transaction.atomic().__enter__()
    raise ValueError("and a transaction is open")


@task
async def leak_and_go_on():
    """Read after a call that left a transaction open."""
    with contextlib.suppress(transaction.TransactionManagementError):
        await sync_to_async(leak_transaction.func)()
    return await get_user_model().objects.acount()


@task
async def block_the_loop(seconds=60):
    """Block it for so long, or until the gate is open."""
    await asyncio.sleep(0.01)  # else the loop might be late already, and what has blocked it was another task
    gate.wait(seconds)
    return "in the end"


@task
async def subtask_blocks_the_loop():
    await asyncio.gather(asyncio.create_task(block_the_loop.func()))


@task
def leave_process():
    """Start a process that runs longer than the job."""
    program = [sys.executable, "-c", "import time; time.sleep(60)"]
    return os.posix_spawn(sys.executable, program, os.environ)


@task
async def leave_subtask():
    """Start an asyncio task that runs longer than the job."""

    async def child():
        while not gate.is_set():  # noqa: ASYNC110
            await asyncio.sleep(0.01)
        progress(77)
        seen.append("child")

    seen.append(asyncio.create_task(child()))
    return "done"


DEFAULT_TEXT = "The job stopped because of an error. Try again, or give support this ID: "
TRANSACTION_ERROR = "django.db.transaction.TransactionManagementError"
BLOCKED = re.compile(r"has been blocked for ([\d.]+) s")


class TestOpenTransaction:
    @pytest.mark.parametrize(
        "task",
        [
            leak_transaction,
            leak_transaction_async,
            leave_autocommit_off,
            begin_and_forget,
            begin_and_forget_async,
        ],
        ids=lambda task: task.name,
    )
    def test_the_job_fails(self, worker, user, task):
        """What it wrote is rolled back, and the connection is clean for the next job."""
        (job,) = until_done(task.using(owner=user).enqueue())
        assert (job.state, json.loads(job.error)["detail"]) == ("failed", f"{DEFAULT_TEXT}{job.id}")
        (attempt,) = Attempt.objects.all()
        assert attempt.exception_class_path == TRANSACTION_ERROR
        assert "left a transaction open, which was rolled back" in attempt.traceback
        assert [note.body for note in notifications_of(user)] == ["The job stopped because of an error."]
        after = until_done(*(count.enqueue() for count in (tasks.count_users, tasks.count_users_async) * 9))
        assert {json.loads(job.result) for job in after} == {1}
        assert get_user_model().objects.count() == 1

    def test_a_commit_with_autocommit_off(self, worker, user):
        (job,) = until_done(commit_with_autocommit_off.enqueue())
        assert job.state == "succeeded"
        after = until_done(*(tasks.count_users.enqueue() for _ in range(3)))
        assert {json.loads(job.result) for job in after} == {2}

    def test_an_exception_of_the_task_is_the_error(self, worker, user):
        until_done(leak_and_fail.enqueue())
        assert Attempt.objects.get().exception_class_path == "builtins.ValueError"
        assert json.loads(until_done(tasks.count_users.enqueue())[0].result) == 1

    def test_an_async_task_may_handle_it(self, worker, user):
        """The call that left the transaction open raises, and the task may catch that."""
        (job,) = until_done(leak_and_go_on.enqueue())
        assert (job.state, json.loads(job.result)) == ("succeeded", 1)


class TestBlockedEventLoop:
    @pytest.mark.parametrize("task", [block_the_loop, subtask_blocks_the_loop])
    def test_the_log_names_the_task(self, worker, user, caplog, gate, task):
        """The warning, with the stack of the task, is logged while the loop is blocked. The job is not affected."""
        result = task.using(owner=user).enqueue()
        name = f"by {task.module_path} (job {result.id})"
        message = wait_until(lambda: find_message(caplog, name), what="the warning")
        assert Job.objects.get(id=result.id).state == "running"
        assert message.startswith(
            "The event loop, and with it all jobs of this worker, has been blocked for "
        )
        seconds = float(BLOCKED.search(message)[1])
        assert seconds >= 1 and "in block_the_loop\n" in message
        gate.set()
        (job,) = until_done(result, tasks.noop.enqueue())[:1]
        assert job.state == "succeeded"
        ends = wait_until(
            lambda: (
                len(ends := re.findall(r"The event loop runs again after ([\d.]+) s", caplog.text))
                == len(BLOCKED.findall(caplog.text))
                and ends
            ),
            what="the second log line",
        )
        assert max(map(float, ends)) >= seconds
        assert caplog.text.count(name) == 1

    def test_short_blocks_are_not_logged(self, worker, caplog):
        """One of a second is, as a busy machine makes it."""
        for _ in range(4):
            until_done(block_the_loop.enqueue(0.6))
        assert not [seconds for seconds in BLOCKED.findall(caplog.text) if float(seconds) < 1]


class TestWorkThatOutlivesItsJob:
    def test_a_process(self, start_worker):
        """Neither the job nor the end of the worker waits for a process that a task started."""
        worker = start_worker()
        (job,) = until_done(leave_process.enqueue())
        pid = json.loads(job.result)
        try:
            assert job.state == "succeeded"
            worker.stop()
            os.kill(pid, 0)
        finally:
            os.kill(pid, 9)
            os.waitpid(pid, 0)

    def test_an_asyncio_task(self, worker, user, gate):
        """It continues to run, and progress that it reports is not stored."""
        (job,) = until_done(leave_subtask.using(owner=user).enqueue())
        assert (job.state, json.loads(job.result)) == ("succeeded", "done")
        gate.set()
        wait_until(lambda: "child" in tasks.seen, what="the subtask to continue")
        until_done(tasks.noop.enqueue())
        stored = Job.objects.get(id=job.id)
        assert (stored.version, stored.progress_current) == (job.version, None)

    def test_an_asyncio_task_ends_with_the_worker(self, start_worker, gate):
        worker = start_worker()
        until_done(leave_subtask.enqueue())
        worker.stop()
        assert tasks.seen[0].cancelled()


@pytest.mark.nightly_names("*[*_sync]")
@pytest.mark.parametrize("task", ["exit_at_once", "exit_at_once_sync"])
def test_a_task_that_ends_its_process(site, tmp_path, task):
    """The task calls os._exit(): the job fails after its last attempt, and its owner is notified."""
    site.environment["EMBEDDED_WORKER"] = "0"
    path = tmp_path / "path"
    site.python(
        "from django.contrib.auth import get_user_model\n"
        "from tests.jobs import process_tasks\n"
        'demo = get_user_model().objects.get(username="demo")\n'
        f"process_tasks.{task}.using(owner=demo).enqueue({str(path)!r})\n"
    )
    max_attempts = 2 if task == "exit_at_once" else 1
    for attempt in range(1, max_attempts + 1):
        site.start_worker().popen.wait(60)
        assert len(path.read_text().split()) == attempt
    site.start_worker()
    wait_until(lambda: site.rows("SELECT state FROM notifications_job") == [("failed",)], what="the end")
    ((error,),) = site.rows("SELECT error FROM notifications_job")
    times = "2 times " if max_attempts == 2 else ""
    detail = f"The work was interrupted {times}and is not tried again."
    assert json.loads(error) == {"type": "worker-lost", "title": "Failed", "detail": detail}
    assert site.rows("SELECT body FROM notifications_notification") == [(detail,)]


def test_different_outcomes_in_one_group(worker, user, gate):
    """Each job has its own outcome, in the transaction of the group or in one of its own."""
    bad = [
        *RAISED,
        leak_transaction,
        leave_autocommit_off,
        tasks.fail_with_bad_text,
    ]
    with transaction.atomic():
        good = [tasks.hold.using(owner=user).enqueue(number) for number in range(10)]
    wait_until(lambda: len(tasks.held) == 10, what="all to run")
    with transaction.atomic():
        failing = [task.using(owner=user).enqueue() for task in bad]
        failing += [
            tasks.not_json.using(owner=user).enqueue(kind) for kind in ("nan", "nul", "surrogate", "large")
        ]
    gate.set()
    assert {job.state for job in until_done(*good)} == {"succeeded"}
    assert {job.state for job in until_done(*failing)} == {"failed"}
    assert len(notifications_of(user)) == len(good) + len(failing)
    # Those of one transaction have the same time.
    assert max(Counter(Job.objects.values_list("finished_at", flat=True)).values()) > 5


def find_message(caplog, text):
    return next((record.getMessage() for record in caplog.records if text in record.getMessage()), None)
