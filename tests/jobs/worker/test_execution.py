"""Whatever a task does, its job gets an outcome, and the worker and its neighbours go on."""

import json
import threading
from datetime import timedelta

import pytest
from django.db.backends.signals import connection_created

from notifications.models import Attempt, Job
from tests.jobs import tasks
from tests.jobs.conftest import notifications_of, until_done, until_state
from tests.support.waiting import wait_until

RAISED = {
    tasks.fail: "builtins.ValueError",
    tasks.fail_sync: "builtins.ValueError",
    tasks.system_exit: "builtins.SystemExit",
    tasks.system_exit_sync: "builtins.SystemExit",
    tasks.keyboard_interrupt: "builtins.KeyboardInterrupt",
    tasks.keyboard_interrupt_sync: "builtins.KeyboardInterrupt",
    tasks.stop_iteration_sync: "builtins.RuntimeError",  # Python's own word for a StopIteration in a coroutine
    tasks.stop_iteration_in_thread: "builtins.RuntimeError",
    tasks.cancel_itself: "asyncio.exceptions.CancelledError",
    tasks.cancelled_error: "asyncio.exceptions.CancelledError",
    tasks.base_exception: "builtins.BaseException",
    tasks.child_exits: "builtins.RuntimeError",
    tasks.bad_progress: "builtins.ValueError",
}


def test_whatever_a_task_raises_is_its_outcome(worker, demo):
    """Each fails its own job with its class on the attempt; its owner is told once; the worker runs the next job."""
    results = {task: task.using(owner=demo).enqueue() for task in RAISED}
    jobs = dict(zip(results, until_done(*results.values()), strict=True))
    assert {task.name: job.state for task, job in jobs.items()} == {task.name: "failed" for task in RAISED}
    paths = dict(Attempt.objects.values_list("job_id", "exception_class_path"))
    assert {task.name: paths[job.id] for task, job in jobs.items()} == {
        task.name: path for task, path in RAISED.items()
    }
    assert {json.loads(job.error)["type"] for job in jobs.values()} == {"task-failed"}
    assert sorted(str(note.job) for note in notifications_of(demo)) == sorted(
        result.id for result in results.values()
    )
    assert until_done(tasks.noop.enqueue())[0].state == "succeeded"


def test_a_child_that_exits_unheard(worker):
    """A task that does not wait for what it started succeeds; what it started ends nothing but itself."""
    (job,) = until_done(tasks.child_exits_unheard.enqueue())
    assert (job.state, json.loads(job.result)) == ("succeeded", "done")
    assert isinstance(tasks.seen.pop().exception(), RuntimeError)


@pytest.mark.parametrize(
    "kind",
    ["nan", "infinity", "nul", "nul in key", "surrogate", "set", "object", "large", "huge number"],
)
def test_a_result_that_cannot_be_stored(worker, demo, kind):
    """The job fails, its owner reads why, and what was done beside it is recorded."""
    neighbour = tasks.noop.enqueue()
    job, other = until_done(tasks.not_json.using(owner=demo).enqueue(kind), neighbour)
    error = json.loads(job.error)
    assert (job.state, error["type"], job.result) == ("failed", "result-not-storable", None)
    assert other.state == "succeeded"
    (note,) = notifications_of(demo)
    assert note.body == error["detail"] == "The work was done, but its result cannot be stored."


def test_a_result_that_holds_itself(worker):
    (job,) = until_done(tasks.forever_nested.enqueue())
    assert json.loads(job.error)["type"] == "result-not-storable"


def test_results_are_kept_as_json(worker):
    value = {"a": [1, 2.5, None, True, "ä\n€😀"], "b": {}, "c": 2**60}
    (job,) = until_done(tasks.echo.enqueue(value))
    assert json.loads(job.result) == value


def test_an_error_without_words(worker, demo):
    (job,) = until_done(tasks.unspeakable.using(owner=demo).enqueue())
    assert job.state == "failed"
    assert len(notifications_of(demo)) == 1


@pytest.mark.parametrize("task", [tasks.hostile_error, tasks.hostile_words])
def test_an_error_that_raises_when_it_is_asked(worker, demo, task, caplog):
    """Its owner is told in the default words; the log has what it raised."""
    (job,) = until_done(*[task.using(owner=demo).enqueue(*[9] if task is tasks.hostile_error else [])])
    assert (job.state, json.loads(job.error)["type"]) == ("failed", "task-failed")
    assert notifications_of(demo)[0].body == "Something went wrong while this was being done."
    assert f"Host code failed: tell_owner of what {task.module_path} raised" in caplog.text


def test_an_error_that_raises_when_it_is_asked_for_a_pause(worker, caplog):
    """The job is tried again after the usual one."""
    (job,) = until_done(tasks.hostile_error.enqueue())
    assert (job.state, job.attempt) == ("succeeded", 2)
    assert "Host code failed: retry_after" in caplog.text


def test_a_result_that_raises_when_it_is_read(worker, demo):
    (job,) = until_done(tasks.broken_dict.using(owner=demo).enqueue())
    assert (job.state, json.loads(job.error)["type"]) == ("failed", "result-not-storable")
    assert len(notifications_of(demo)) == 1


def test_timeouts(worker, demo):
    """Async: cancelled. The owner reads how long it may take."""
    (job,) = until_done(tasks.slow.using(owner=demo).enqueue())
    error = json.loads(job.error)
    assert (job.state, error["type"]) == ("failed", "timed-out")
    assert notifications_of(demo)[0].body == "It took longer than the 0.2 seconds it may take."
    assert Attempt.objects.get().outcome == "timed_out"


def test_a_sync_task_that_takes_too_long_is_abandoned(worker, demo, gate):
    """It is failed while its thread goes on; what that does later changes nothing."""
    result = tasks.slow_sync.using(owner=demo).enqueue("a")
    (job,) = until_done(result)
    assert json.loads(job.error)["type"] == "timed-out"
    gate.set()
    wait_until(lambda: tasks.seen == ["late a"], what="the thread to go on")
    until_done(tasks.noop.enqueue())
    again = Job.objects.get(id=job.id)
    assert (again.state, again.version, again.progress_current) == ("failed", job.version, None)
    assert len(notifications_of(demo)) == 1


def test_time_spent_in_line_for_a_thread_does_not_count(start_worker, monkeypatch, gate):
    """A sync job that gets a thread late has all of its time from then on."""
    monkeypatch.setattr("notifications.jobs.worker.job_runner.MAX_SYNC_THREADS", 1)
    start_worker()
    first = tasks.hold_sync.enqueue("first")
    wait_until(lambda: tasks.held == ["first"], what="the first to hold the thread")
    second = tasks.short_sync.enqueue(0.05)
    claimed_as_async(second)
    waiting = until_state(second, "running")
    # Longer than the second may take: counted from its claim it would be over.
    wait_until(
        lambda: (_now() - waiting.started_at).total_seconds() > 1.3, what="the second's time to pass in line"
    )
    gate.set()
    assert [job.state for job in until_done(first, second)] == ["succeeded", "succeeded"]


def claimed_as_async(result):
    """Have a sync job claimed for which no thread is free, as of a task that was async when it was enqueued."""
    Job.objects.filter(id=result.id).update(lane="async")


def test_the_deadline_of_a_job_in_line_for_a_thread_is_put_off(start_worker, monkeypatch, gate):
    monkeypatch.setattr("notifications.jobs.worker.job_runner.MAX_SYNC_THREADS", 1)
    monkeypatch.setattr("notifications.jobs.worker.claim_check_loop.CLAIM_CHECK_INTERVAL_SECONDS", 0.1)
    monkeypatch.setattr("notifications.jobs.worker.claim_loop.POLL_INTERVAL_SECONDS", 0.1)
    start_worker()
    first, second = tasks.hold_sync.enqueue("first"), tasks.short_sync.enqueue(0.05)
    wait_until(lambda: tasks.held == ["first"], what="the first to hold the thread")
    claimed_as_async(second)
    until_state(second, "running")
    # It is claimed with the deadline of a task that is not known yet, and gets its own a moment later.
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


def test_calls_that_do_not_end_strand_nobody(start_worker, monkeypatch, gate, caplog):
    """A call that is over its time keeps its thread; another thread takes its place, and the log names the task."""
    monkeypatch.setattr("notifications.jobs.worker.job_runner.MAX_SYNC_THREADS", 1)
    start_worker()
    hanging = [tasks.slow_sync.enqueue(number) for number in range(2)]
    (job,) = until_done(tasks.noop_sync.enqueue())
    assert job.state == "succeeded"
    assert {job.state for job in until_done(*hanging)} == {"failed"}
    assert len(tasks.held) == 2
    assert "Task does not end and keeps a thread: job " in caplog.text
    assert tasks.slow_sync.module_path in caplog.text


def test_jobs_that_can_get_no_thread_go_back(start_worker, monkeypatch, gate):
    """Whether they wait already or come later: without an attempt, for another worker or a later time."""
    monkeypatch.setattr("notifications.jobs.worker.job_runner.MAX_SYNC_THREADS", 1)
    monkeypatch.setattr("notifications.db.threads.MAX_THREADS_PER_SLOT", 1)
    start_worker(concurrency=2)
    hanging = tasks.slow_sync.enqueue()
    wait_until(lambda: tasks.held, what="the thread to be held")
    results = [tasks.noop_sync.enqueue() for _ in range(3)]
    until_done(hanging)
    wait_until(lambda: Job.objects.filter(state="queued", run_after__isnull=False).count() == 3, what="all")
    assert {job.attempt for job in Job.objects.filter(state="queued")} == {0}
    assert until_done(tasks.noop.enqueue())[0].state == "succeeded"
    gate.set()
    wait_until(lambda: tasks.seen, what="the call to end")
    Job.objects.filter(state="queued").update(run_after=_now())
    assert {(job.state, job.attempt) for job in until_done(*results)} == {("succeeded", 1)}


def test_queries_of_async_tasks_share_connections(worker):
    """One for each thread, not one for each query, although CONN_MAX_AGE is 0."""
    opened = []

    def count(**kwargs):
        if threading.current_thread().name.startswith("notifications-database"):
            opened.append(threading.current_thread().name)

    connection_created.connect(count)
    try:
        (job,) = until_done(tasks.count_users_often.enqueue(50))
    finally:
        connection_created.disconnect(count)
    assert job.state == "succeeded"
    assert len(opened) == 1


def test_each_job_has_a_context_of_its_own(worker):
    """What one sets in its contextvars, another does not see; sync or async, on whatever thread."""
    results = [task.enqueue() for _ in range(10) for task in (tasks.leave_context, tasks.leave_context_sync)]
    assert {json.loads(job.result) for job in until_done(*results)} == {"clean"}
    assert tasks.left_behind.get() == "clean"


def test_the_language_of_who_asked(worker, demo):
    """It is active while the task runs and while its words are made."""
    from django.utils import translation

    with translation.override("de"):
        german = tasks.language.using(owner=demo).enqueue()
    english = tasks.language.enqueue()
    assert [json.loads(job.result) for job in until_done(german, english)] == ["de", "en"]


def test_a_connection_that_broke(worker, demo):
    """The database restarted under a thread: its next job has a new connection."""
    until_done(tasks.break_connection.enqueue())
    after = until_done(*(tasks.count_users.enqueue() for _ in range(3)))
    assert [json.loads(job.result) for job in after] == [1, 1, 1]


def test_database_work_of_async_tasks_is_spread_over_eight_threads(worker):
    """Not on one thread for the whole process, as it would be by itself."""
    results = [tasks.thread_name.enqueue() for _ in range(32)]
    names = {json.loads(job.result) for job in until_done(*results)}
    assert names == {f"notifications-database-{number}-1" for number in range(8)}


def test_sync_tasks_run_on_daemon_threads(worker):
    (job,) = until_done(tasks.thread_name_sync.enqueue())
    name = json.loads(job.result)
    assert name.startswith("notifications-sync-")
    assert [thread.daemon for thread in threading.enumerate() if thread.name == name] == [True]


def test_notify_in_a_job(worker, demo):
    """A job may tell somebody something besides its own notification."""
    until_done(tasks.notify_somebody.enqueue(demo.pk))
    wait_until(
        lambda: [note.seq for note in notifications_of(demo)] == [1], what="the number of the notification"
    )


def _now():
    from django.utils import timezone

    return timezone.now()
