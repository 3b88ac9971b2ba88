"""Each job gets an outcome, whatever its task raises or returns, and the worker runs other jobs."""

import asyncio
import contextvars
import json
import sys
import threading
from concurrent import futures
from datetime import timedelta

import pytest
from asgiref.sync import async_to_sync, sync_to_async
from django.db import connection
from django.db.backends.signals import connection_created
from django.utils import translation
from django.utils.translation import gettext_lazy

from notifications import outbound
from notifications.api import policy, task
from notifications.models import Attempt, Job
from notifications.outbound.slots import slots
from tests.jobs import tasks
from tests.jobs.conftest import notifications_of, until_done, until_state
from tests.jobs.tasks import BrokenDict, ForYou, seen
from tests.outbound.upstream import Upstream
from tests.support.checks import doctor
from tests.support.waiting import skip_time, wait_until

pytestmark = pytest.mark.nightly_on_postgres


@task
async def fail_in_french():
    translation.activate("fr")
    raise ForYou(gettext_lazy("Cancelled"))


@task
@policy(timeout=60)
def call_sync(url):
    """Call a URL, whose server has no free slot, and record how that ended."""
    tasks.held.append(url)
    try:
        async_to_sync(outbound.get)(url, deadline=600)
    finally:
        seen.append(sys.exc_info()[0])


left_behind = contextvars.ContextVar("left_behind", default="clean")


@task
async def leave_context():
    before = left_behind.get()
    left_behind.set("dirty")
    return before


@task
def leave_context_sync():
    before = left_behind.get()
    left_behind.set("dirty")
    return before


@task
def break_connection():
    """Close the connection as a restart of the database does."""
    connection.ensure_connection()
    connection.connection.close()


@task
async def keyboard_interrupt():
    raise KeyboardInterrupt


@task
def keyboard_interrupt_sync():
    raise KeyboardInterrupt


@task
def stop_iteration_sync():
    return next(iter(()))


@task
async def stop_iteration_in_thread():
    await sync_to_async(next)(iter(()))


@task
def cancelled_future_sync():
    raise futures.CancelledError


@task
async def cancel_itself():
    asyncio.current_task().cancel()
    await asyncio.sleep(0)


@task
async def cancelled_error():
    raise asyncio.CancelledError


@task
async def base_exception():
    raise BaseException("the last resort")


async def leave(how):
    raise how


@task
async def subtask_exits():
    """A subtask calls sys.exit(), which would end the event loop."""
    await asyncio.gather(asyncio.create_task(leave(SystemExit(3))))


@task
async def subtask_exits_alone():
    seen.append(asyncio.create_task(leave(KeyboardInterrupt())))
    await asyncio.sleep(0.05)
    return "done"


class Hostile(Exception):
    """Each attribute that the worker reads raises another exception."""

    @property
    def retry_after(self):
        raise KeyboardInterrupt

    @property
    def tell_owner(self):
        raise asyncio.CancelledError

    def __str__(self):
        raise GeneratorExit


class HostileWords(Exception):
    tell_owner = True

    def __str__(self):
        raise BaseException("no text")


@task(takes_context=True)
@policy(retry_on=(Hostile,), max_attempts=2)
async def hostile_error(context, attempts=1):
    if context.attempt <= attempts:
        raise Hostile
    return "at last"


@task
async def fail_with_hostile_text():
    raise HostileWords


@task
async def return_broken_dict():
    return BrokenDict(a=1)


@task
async def return_recursive_list():
    value = []
    value.append(value)
    return value


RAISED = {
    tasks.fail: "builtins.ValueError",
    tasks.fail_sync: "builtins.ValueError",
    tasks.system_exit: "builtins.SystemExit",
    tasks.system_exit_sync: "builtins.SystemExit",
    keyboard_interrupt: "builtins.KeyboardInterrupt",
    keyboard_interrupt_sync: "builtins.KeyboardInterrupt",
    stop_iteration_sync: "builtins.RuntimeError",  # Python raises it for a StopIteration in a coroutine
    stop_iteration_in_thread: "builtins.RuntimeError",
    cancelled_future_sync: "concurrent.futures._base.CancelledError",  # no cancellation of the job
    cancel_itself: "asyncio.exceptions.CancelledError",
    cancelled_error: "asyncio.exceptions.CancelledError",
    base_exception: "builtins.BaseException",
    subtask_exits: "builtins.RuntimeError",
}


def test_exceptions(worker, user):
    """Each job fails with the class of its exception and one notification, and the worker runs the next job."""
    results = {task: task.using(owner=user).enqueue() for task in RAISED}
    jobs = dict(zip(results, until_done(*results.values()), strict=True))
    assert {task.name: job.state for task, job in jobs.items()} == {task.name: "failed" for task in RAISED}
    paths = dict(Attempt.objects.values_list("job_id", "exception_class_path"))
    assert {task.name: paths[job.id] for task, job in jobs.items()} == {
        task.name: path for task, path in RAISED.items()
    }
    assert {json.loads(job.error)["type"] for job in jobs.values()} == {"task-failed"}
    assert sorted(str(note.job) for note in notifications_of(user)) == sorted(
        result.id for result in results.values()
    )
    assert until_done(tasks.noop.enqueue())[0].state == "succeeded"


def test_a_subtask_that_exits(worker):
    """The task that started it, and does not await it, succeeds."""
    (job,) = until_done(subtask_exits_alone.enqueue())
    assert (job.state, json.loads(job.result)) == ("succeeded", "done")
    assert isinstance(tasks.seen.pop().exception(), RuntimeError)


@pytest.mark.parametrize(
    "kind",
    ["nan", "infinity", "nul", "nul in key", "surrogate", "set", "object", "large", "huge number"],
)
def test_a_result_that_cannot_be_stored(worker, user, kind):
    """The job fails, its notification says why, and other outcomes are recorded."""
    other_result = tasks.noop.enqueue()
    job, other = until_done(tasks.not_json.using(owner=user).enqueue(kind), other_result)
    error = json.loads(job.error)
    assert (job.state, error["type"], job.result) == ("failed", "result-not-storable", None)
    assert other.state == "succeeded"
    (note,) = notifications_of(user)
    assert note.body == error["detail"] == "The work was done, but its result cannot be stored."


def test_a_recursive_result(worker):
    (job,) = until_done(return_recursive_list.enqueue())
    assert json.loads(job.error)["type"] == "result-not-storable"


def test_results_are_stored_as_json(worker):
    value = {"a": [1, 2.5, None, True, "ä\n€😀"], "b": {}, "c": 2**60}
    (job,) = until_done(tasks.echo.enqueue(value))
    assert json.loads(job.result) == value


def test_an_error_whose_text_raises(worker, user):
    (job,) = until_done(tasks.fail_with_bad_text.using(owner=user).enqueue())
    assert job.state == "failed"
    assert len(notifications_of(user)) == 1


@pytest.mark.parametrize("task", [hostile_error, fail_with_hostile_text])
def test_an_error_whose_attributes_raise(worker, user, task, caplog):
    """The notification has the default text, and the log has what was raised."""
    (job,) = until_done(*[task.using(owner=user).enqueue(*[9] if task is hostile_error else [])])
    assert (job.state, json.loads(job.error)["type"]) == ("failed", "task-failed")
    text = "The job stopped because of an error."
    assert notifications_of(user)[0].body == text
    assert f"Host code failed: tell_owner of what {task.module_path} raised" in caplog.text


def test_an_error_whose_retry_after_raises(worker, caplog):
    """The job is retried after the default backoff."""
    (job,) = until_done(hostile_error.enqueue())
    assert (job.state, job.attempt) == ("succeeded", 2)
    assert "Host code failed: retry_after" in caplog.text


def test_a_result_whose_methods_raise(worker, user):
    (job,) = until_done(return_broken_dict.using(owner=user).enqueue())
    assert (job.state, json.loads(job.error)["type"]) == ("failed", "result-not-storable")
    assert len(notifications_of(user)) == 1


def test_an_async_task_that_times_out(worker, user):
    """An async task is cancelled, and the notification says how long it may take."""
    (job,) = until_done(tasks.slow.using(owner=user).enqueue())
    error = json.loads(job.error)
    assert (job.state, error["type"]) == ("failed", "timed-out")
    assert notifications_of(user)[0].body == "It took longer than the 0.2 seconds it may take."
    assert Attempt.objects.get().outcome == "timed_out"


def test_a_sync_task_that_times_out(worker, user, gate):
    """Its job fails while its thread continues to run; progress that it reports later is not stored."""
    result = tasks.slow_sync.using(owner=user).enqueue("a")
    (job,) = until_done(result)
    assert json.loads(job.error)["type"] == "timed-out"
    gate.set()
    wait_until(lambda: tasks.seen == ["late a"], what="the thread to continue")
    until_done(tasks.noop.enqueue())
    stored = Job.objects.get(id=job.id)
    assert (stored.state, stored.version, stored.progress_current) == ("failed", job.version, None)
    assert len(notifications_of(user)) == 1


def test_the_timeout_does_not_include_the_wait_for_a_thread(start_worker, gate, one_sync_thread):
    """The timeout of a sync task starts when it gets a thread."""
    worker = start_worker()
    first = tasks.hold_sync.enqueue("first")
    wait_until(lambda: tasks.held == ["first"], what="the first to hold the thread")
    second = tasks.short_sync.enqueue(0.05)
    claimed_as_async(second)
    until_state(second, "running")
    until_done(tasks.noop.enqueue())  # the second, which was claimed before, is in line now
    worker.call(skip_time(31))  # its timeout would be over if it counted from the claim
    gate.set()
    assert [job.state for job in until_done(first, second)] == ["succeeded", "succeeded"]


def claimed_as_async(result):
    """Have a sync job claimed while no thread is free, as if its task had been async when it was enqueued."""
    Job.objects.filter(id=result.id).update(executor="async")


def test_the_deadline_of_a_job_that_waits_for_a_thread_is_extended(
    start_worker, set_bounds, gate, one_sync_thread
):
    set_bounds(polls=0.1)
    start_worker()
    first, second = tasks.hold_sync.enqueue("first"), tasks.short_sync.enqueue(0.05)
    wait_until(lambda: tasks.held == ["first"], what="the first to hold the thread")
    claimed_as_async(second)
    until_state(second, "running")
    # The claim sets the deadline by the default timeout, and the worker then by that of the task.
    claimed = wait_until(
        lambda: (
            (job := Job.objects.get(id=second.id)).deadline < job.started_at + timedelta(seconds=100)
            and job.deadline
        ),
        what="the task's own deadline",
    )
    later = wait_until(
        lambda: (now := Job.objects.get(id=second.id).deadline) > claimed and now, what="a later deadline"
    )
    gate.set()
    until_done(first, second)
    assert later > claimed


def test_sync_tasks_that_do_not_end(start_worker, gate, caplog, one_sync_thread):
    """Each keeps its thread after its timeout; another thread takes its place, and the log names the task."""
    start_worker()
    hanging = [tasks.slow_sync.enqueue(number) for number in range(2)]
    (job,) = until_done(tasks.noop_sync.enqueue())
    assert job.state == "succeeded"
    assert {job.state for job in until_done(*hanging)} == {"failed"}
    assert len(tasks.held) == 2
    assert "Task does not end and keeps a thread: job " in caplog.text
    assert tasks.slow_sync.module_path in caplog.text


def test_doctor_counts_calls_that_do_not_end(start_worker, gate, settings, one_sync_thread):
    """Those of sync tasks as well as those of periodic work."""
    settings.NOTIFICATIONS = settings.NOTIFICATIONS | {"LEASE": 4}
    start_worker()
    until_done(tasks.slow_sync.enqueue(0))
    wait_until(
        lambda: "code of the project that do not return: 1." in doctor("workers")[0]["message"],
        what="doctor to count the call",
    )
    gate.set()
    wait_until(lambda: "do not return" not in doctor("workers")[0]["message"], what="the call to return")


def test_a_sync_task_whose_call_waits_for_a_slot(worker, settings):
    """The wait ends with the timeout, and the thread with it. Nothing is sent."""
    upstream = Upstream()
    settings.NOTIFICATIONS = settings.NOTIFICATIONS | {
        "OUTBOUND_ALLOW": [upstream.address],
        "OUTBOUND_PER_HOST": 1,
    }
    origin = f"http://{upstream.address}"
    assert slots.try_acquire(origin, 1)
    try:
        result = call_sync.enqueue(upstream.url("/ok"))
        wait_until(lambda: slots.state()[2][origin] == (1, 1), what="the call to wait")
        worker.call(skip_time(60))
        (job,) = until_done(result)
        assert json.loads(job.error)["type"] == "timed-out"
        wait_until(lambda: tasks.seen, what="the task to end")
        assert slots.state()[2][origin] == (1, 0)
    finally:
        slots.release(origin)
        upstream.close()
    assert tasks.seen == [asyncio.CancelledError] and upstream.requests == []


def test_jobs_without_a_thread_are_requeued(start_worker, monkeypatch, gate, one_sync_thread):
    """Both jobs that wait for a thread and later ones are requeued. Their attempts do not count."""
    monkeypatch.setattr("notifications.db.threads.MAX_THREADS_PER_SLOT", 1)
    start_worker(concurrency=2)
    hanging = tasks.slow_sync.enqueue()
    wait_until(lambda: tasks.held, what="the thread to be held")
    results = [tasks.noop_sync.enqueue() for _ in range(3)]
    until_done(hanging)
    wait_until(
        lambda: Job.objects.filter(state="queued", run_after__isnull=False).count() == 3,
        what="three requeued jobs",
    )
    assert {job.attempt for job in Job.objects.filter(state="queued")} == {0}
    assert until_done(tasks.noop.enqueue())[0].state == "succeeded"
    gate.set()
    wait_until(lambda: tasks.seen, what="the call to end")
    Job.objects.filter(state="queued").update(run_after=_now(), due_at=_now())
    assert {(job.state, job.attempt) for job in until_done(*results)} == {("succeeded", 1)}


def test_queries_of_async_tasks_share_connections(worker):
    """There is one connection per thread, not one per query, although CONN_MAX_AGE is 0."""
    opened = set()

    def count(connection, **kwargs):
        if threading.current_thread().name.startswith("notifications-database"):
            opened.add(connection.connection)

    connection_created.connect(count)
    try:
        (job,) = until_done(tasks.count_users_often.enqueue(50))
    finally:
        connection_created.disconnect(count)
    assert job.state == "succeeded"
    assert len(opened) == 1


def test_each_job_has_its_own_context(worker):
    """A job, sync or async, does not get the contextvars that another one has set."""
    results = [task.enqueue() for _ in range(10) for task in (leave_context, leave_context_sync)]
    assert {json.loads(job.result) for job in until_done(*results)} == {"clean"}
    assert left_behind.get() == "clean"


def test_the_language_of_the_owner(worker, user):
    """The language that was active at enqueue is active while the task runs."""
    from django.utils import translation

    with translation.override("de"):
        german = tasks.language.using(owner=user).enqueue()
    english = tasks.language.enqueue()
    assert [json.loads(job.result) for job in until_done(german, english)] == ["de", "en"]


def test_the_text_of_an_exception_for_the_owner(worker, user):
    """In the owner's language, also if it is translated late and the task has activated another language."""
    from django.utils import translation

    with translation.override("de"):
        german = fail_in_french.using(owner=user).enqueue()
    [job] = until_done(german)
    assert json.loads(job.error)["detail"] == "Abgebrochen"


def test_a_broken_connection(worker, user):
    """As after a restart of the database, the next job on the thread gets a new connection."""
    until_done(break_connection.enqueue())
    after = until_done(*(tasks.count_users.enqueue() for _ in range(3)))
    assert [json.loads(job.result) for job in after] == [1, 1, 1]


def test_sync_tasks_run_on_daemon_threads(worker):
    (job,) = until_done(tasks.thread_name_sync.enqueue())
    name = json.loads(job.result)
    assert name.startswith("notifications-sync-")
    assert [thread.daemon for thread in threading.enumerate() if thread.name == name] == [True]


def test_notify_in_a_job(worker, user):
    """A task may call notify(), in addition to the notification of its job."""
    until_done(tasks.notify_user.enqueue(user.pk))
    wait_until(
        lambda: [note.seq for note in notifications_of(user)] == [1], what="the number of the notification"
    )


def _now():
    from django.utils import timezone

    return timezone.now()
