"""The recorder records reports in order, delays no task, and gives none up that waits for the database."""

import itertools
import threading
import time
import uuid

import pytest
from django.db import OperationalError, connection, transaction

from notifications.contrib.celery import recorder as module
from notifications.contrib.celery.recorder import Recorder
from notifications.jobs import Policy
from notifications.models import Job, Notification
from notifications.signals import job_finished
from notifications.worker import DaemonExecutor, NoThread
from tests.contrib.celery.test_recording import attempt_at, new_row
from tests.support.outcomes import succeeded
from tests.support.statements import preceded, refused
from tests.support.waiting import wait_until

pytestmark = pytest.mark.django_db(transaction=True)

#: The statement that stores the progress of a task.
PROGRESS = "UPDATE notifications_job SET progress_current"


@pytest.fixture
def recorder():
    recorder = Recorder()
    yield recorder
    recorder.drain(10)


@pytest.fixture
def patient_publisher(monkeypatch):
    """Have publishers wait for their rows, however busy the machine is."""
    monkeypatch.setattr(module, "MAX_WAIT_SECONDS", 30)


def test_a_call_has_run_when_it_returns(recorder):
    ran = []
    for number in range(5):
        recorder.call(lambda number=number: ran.append(number))
    assert ran == [0, 1, 2, 3, 4]


def test_a_call_is_tried_again_while_the_database_is_away(recorder, caplog):
    tries = []

    def write():
        tries.append(1)
        if len(tries) < 3:
            raise OperationalError("away")

    recorder.call(write)
    assert len(tries) == 3
    assert caplog.text.count("which is tried again") == 1


def test_a_call_is_tried_for_as_long_as_the_process_lives(recorder, caplog):
    """The log says for how long. That is counted from the first error, as after a suspension."""
    tries = []

    def write():
        tries.append(1)
        if len(tries) < 6:
            raise OperationalError("away")

    recorder.call(write, wait=30)
    assert len(tries) == 6
    assert (
        "Could not record Celery tasks for 0 s, which is tried again; reports that wait: 0: away"
        in caplog.text
    )
    assert "records given up" not in caplog.text


def test_tasks_do_not_wait_while_the_database_is_away(recorder):
    is_away, ran = threading.Event(), []
    is_away.set()

    def write(number):
        if is_away.is_set():
            raise OperationalError("away")
        ran.append(number)

    recorder.call(lambda: write(0), wait=0.2)
    started = time.monotonic()
    for number in range(1, 20):
        recorder.call(lambda number=number: write(number))
    assert time.monotonic() - started < 15  # Each would wait for two seconds.
    is_away.clear()
    wait_until(lambda: ran == list(range(20)), what="all calls in order")


def test_an_error_loses_only_its_own_call(recorder, caplog):
    ran = []
    recorder.call(lambda: 1 / 0)
    recorder.call(lambda: ran.append(1))
    assert (ran, "ZeroDivisionError" in caplog.text) == ([1], True)


def test_a_call_that_finds_its_row_locked_is_made_again(recorder):
    tries = []
    recorder.call(lambda: tries.append(1) or len(tries) > 2, wait=0)
    recorder.call(lambda: tries.append(2))
    wait_until(lambda: tries.count(1) == 2, what="the row to be free")
    assert tries[1] == 2  # others do not wait for it


def make_attempt(user, **fields):
    return attempt_at(new_row(user, **fields))


@pytest.fixture
def running(recorder, user):
    """An attempt whose start is recorded."""
    attempt = make_attempt(user)
    attempt.outcome, end = None, attempt.outcome
    attempt.end = end
    recorder.record(attempt)
    wait_until(lambda: attempt.is_begun, what="the start")
    return attempt


@pytest.fixture
def stored():
    """The statements that store the progress of tasks."""
    with preceded(PROGRESS, lambda: None, times=None) as statements:
        yield statements


def test_progress_is_stored_twice_a_second_and_the_latest_wins(recorder, running, stored):
    started = time.monotonic()
    for number in range(50):
        running.job.progress_current = number
        recorder.report_progress(running)
        time.sleep(0.02)
    wait_until(lambda: Job.objects.get().progress_current == 49, what="the latest report")
    assert len(stored) <= (time.monotonic() - started) / module.PROGRESS_INTERVAL_SECONDS + 1


def test_progress_of_a_task_that_has_ended_is_forgotten(recorder, running, stored):
    recorder.report_progress(running)
    wait_until(lambda: stored, what="the first report")
    recorder.report_progress(running)
    recorder.forget_progress(running)
    recorder.drain(5)
    assert (len(stored), recorder._progress) == (1, {})


def test_progress_that_a_thread_forgets_while_it_is_looked_at(recorder, running, caplog):
    class ForgottenMeanwhile(dict):
        def values(self):
            self.clear()
            return super().values()

    running.progress_stored_at = time.monotonic()
    recorder._progress = ForgottenMeanwhile()
    recorder.report_progress(running)
    wait_until(lambda: not recorder._progress, what="the thread to look")
    recorder.call(lambda: None)
    assert "A thread failed" not in caplog.text


def test_progress_is_stored_although_the_database_was_away(recorder, running):
    running.job.progress_current = 7
    with refused(PROGRESS, times=2) as tries:
        recorder.report_progress(running)
        wait_until(lambda: Job.objects.get().progress_current == 7, what="the progress to be stored")
    assert len(tries) == 2


def test_of_too_many_reports_progress_and_starts_are_dropped(recorder, running, user, monkeypatch, caplog):
    """The end of a task is recorded with its start."""
    monkeypatch.setattr(module, "MAX_REPORTS", 3)
    gate, attempts = threading.Event(), [make_attempt(user) for _ in range(4)]
    recorder.call(lambda: gate.wait(30), wait=0)
    wait_until(lambda: not recorder._reports, what="the call to run")
    ends = [attempt.outcome for attempt in attempts]
    for attempt in attempts:
        attempt.outcome = None
        recorder.record(attempt)
    recorder.report_progress(running)
    recorder.insert([make_attempt(user).job])
    assert (len(recorder._reports), recorder._progress) == (3, {})
    assert caplog.text.count("Dropping progress and starts of Celery tasks, because 3 reports wait") == 1
    for attempt, end in zip(attempts, ends, strict=True):
        attempt.outcome = end
        recorder.record(attempt)
    gate.set()
    until_succeeded(4)
    assert Job.objects.filter(state="queued").count() == 0


def until_succeeded(number):
    wait_until(lambda: Job.objects.filter(state="succeeded").count() == number, what="the jobs")


@pytest.fixture
def groups(monkeypatch):
    """Return the sizes of the groups that are recorded."""
    sizes, record = [], module.observer.record
    monkeypatch.setattr(module.observer, "record", lambda group: sizes.append(len(group)) or record(group))
    return sizes


def test_attempts_that_wait_are_recorded_in_one_transaction(recorder, user, groups):
    gate = threading.Event()
    recorder.call(gate.wait, wait=0)
    wait_until(lambda: not recorder._reports, what="the call to run")
    for _ in range(20):
        recorder.record(make_attempt(user))
    gate.set()
    until_succeeded(20)
    assert groups == [20]


def test_a_start_waits_for_the_end_of_its_task(recorder, user, groups, monkeypatch):
    """For a moment, so that a short task is recorded at once."""
    monkeypatch.setattr(module, "MIN_GATHER_SECONDS", 2)
    attempt = make_attempt(user)
    attempt.outcome, outcome = None, attempt.outcome
    recorder.record(attempt)
    time.sleep(0.2)
    attempt.outcome = outcome
    recorder.record(attempt)
    until_succeeded(1)
    assert groups == [1]


def test_reports_gather_after_a_long_transaction_but_not_those_that_are_awaited(recorder, user, groups):
    recorder._gather_until = time.monotonic() + 600
    for _ in range(3):
        recorder.record(make_attempt(user))
    time.sleep(0.3)
    assert groups == []
    started = time.monotonic()
    recorder.call(lambda: None, wait=50)
    assert time.monotonic() - started < 40
    assert groups == [3]


def test_a_group_is_bounded(recorder, user, groups, monkeypatch):
    monkeypatch.setitem(module.MAX_GROUP, connection.vendor, 3)
    gate = threading.Event()
    recorder.call(gate.wait, wait=0)
    wait_until(lambda: not recorder._reports, what="the call to run")
    for _ in range(7):
        recorder.record(make_attempt(user))
    gate.set()
    until_succeeded(7)
    assert groups == [3, 3, 1]


def test_a_receiver_that_hangs_does_not_keep_others_from_being_recorded(recorder, user):
    """Nor the rows of published messages, or other calls."""
    gate, received = threading.Event(), threading.Event()

    def hang(**kwargs):
        received.set()
        gate.wait(60)

    job_finished.connect(hang)
    try:
        recorder.record(make_attempt(user))
        assert received.wait(30)
        for _ in range(3):
            recorder.record(make_attempt(user))
        until_succeeded(4)
        gate.set()
    finally:
        gate.set()
        job_finished.disconnect(hang)


def test_drain_waits_for_signals(recorder, user):
    received = []

    def receive(job, **kwargs):
        time.sleep(0.2)
        received.append(job.id)

    job_finished.connect(receive)
    try:
        attempt = make_attempt(user)
        recorder.record(attempt)
        recorder.drain(30)
        assert received == [attempt.job.id]
    finally:
        job_finished.disconnect(receive)


def test_a_row_is_there_when_its_publisher_goes_on(recorder, user, patient_publisher):
    job = make_attempt(user).job
    recorder.insert([job])
    assert Job.objects.filter(id=job.id).exists()


def test_a_publisher_of_many_tasks_waits_for_a_share_of_its_time(
    recorder, user, patient_publisher, monkeypatch
):
    """The rows follow."""
    monkeypatch.setattr(module, "MAX_PUBLISHER_SHARE", 0.0001)
    with preceded('INSERT INTO "?notifications_job"?', lambda: time.sleep(0.1)):
        recorder.insert([make_attempt(user).job])
    gate = threading.Event()
    recorder.call(gate.wait, wait=0)
    for _ in range(50):  # each would wait for the gate
        recorder.insert([make_attempt(user).job])
    assert Job.objects.count() == 1
    gate.set()
    wait_until(lambda: Job.objects.count() == 51, what="the rows")


def test_an_event_loop_does_not_wait(recorder, user, patient_publisher):
    gate = threading.Event()
    recorder.call(gate.wait, wait=0)
    started = time.monotonic()
    for _ in range(5):
        recorder.insert([make_attempt(user).job], wait=False)
    assert time.monotonic() - started < 20
    gate.set()
    wait_until(lambda: Job.objects.count() == 5, what="the rows")


def test_the_connection_is_kept_for_the_next_call(recorder):
    """As ``CONN_MAX_AGE`` is 0, Django would open one for each."""
    seen = []

    def query():
        connection.ensure_connection()
        seen.append(connection.connection)

    for _ in range(3):
        recorder.call(query)
    assert len({id(raw) for raw in seen}) == 1


def test_neither_tasks_nor_records_wait_for_a_notify_function(recorder, user):
    gate, policy = threading.Event(), Policy(notify=lambda job: {"title": f"{job.state} {gate.wait(10)}"})
    slow, other = make_attempt(user), make_attempt(user)
    slow.outcome = succeeded(slow.job, policy=policy)
    started = time.monotonic()
    recorder.record(slow)
    recorder.record(other)
    until_succeeded(1)
    assert time.monotonic() - started < 4
    gate.set()
    recorder.drain(5)
    assert Job.objects.filter(state="succeeded").count() == 2
    assert set(Notification.objects.values_list("title", flat=True)) == {"Export", "succeeded True"}


def test_drain_waits_for_rows_that_others_hold_locked(recorder, user):
    """A child process that ends then would lose the end of its last task."""
    if connection.vendor != "postgresql":
        pytest.skip("SQLite locks no rows.")
    attempt = make_attempt(user)
    recorder.insert([attempt.make_job()])
    locked = threading.Event()

    def hold():
        with transaction.atomic():
            Job.objects.select_for_update().get(id=attempt.id)
            locked.set()
            time.sleep(0.5)
        connection.close()

    thread = threading.Thread(target=hold)
    thread.start()
    assert locked.wait(10)
    recorder.record(attempt)
    recorder.drain(10)
    assert Job.objects.get(id=attempt.id).state == "succeeded"
    thread.join()


def test_drain_waits_for_notify_functions(recorder, user):
    attempt = make_attempt(user)
    policy = Policy(notify=lambda job: time.sleep(0.5) or {"title": "Called"})
    attempt.outcome = succeeded(attempt.job, policy=policy)
    recorder.record(attempt)
    recorder.drain(30)
    assert Notification.objects.get().title == "Called"


def test_notify_function_for_which_there_is_no_thread_is_called_later(
    recorder, user, monkeypatch, caplog, forgotten_log
):
    """The log says so once a minute, although it is tried 50 times a second."""
    real, tries = DaemonExecutor.submit, itertools.count(1)

    def submit(*args):
        if next(tries) < 5:
            raise NoThread
        return real(*args)

    attempt = make_attempt(user)
    attempt.outcome = succeeded(attempt.job, policy=Policy(notify=lambda job: {"title": "Called"}))
    monkeypatch.setattr(DaemonExecutor, "submit", submit)
    recorder.record(attempt)
    until_succeeded(1)
    assert Notification.objects.get().title == "Called"
    assert caplog.text.count("Could not call notify functions") == 1


@pytest.fixture
def run_task(celery_app, user):
    """run_task(...) runs a published task in this process, as a child process of a worker does, and returns its job."""
    from celery.app.trace import build_tracer

    from notifications.contrib.celery.recorder import recorder

    task = celery_app.tasks["tests.contrib.celery.tasks.export"]

    def run(**request):
        id = str(uuid.uuid4())
        module.observer.insert([new_row(user, id=uuid.UUID(id), task_path=task.name)])
        request |= {"id": id, "ignore_result": True, "delivery_info": {}, "is_eager": False}
        build_tracer(task.name, task, app=celery_app)(id, (user.pk, 2026), {}, request)
        recorder.drain(10)
        return Job.objects.get(id=id)

    return run


def test_end_of_a_process_while_it_sends_the_result_is_no_success(run_task, monkeypatch, celery_app):
    """Celery has set the state to SUCCESS; the message is delivered again."""

    def end_process(*args, **kwargs):
        raise SystemExit

    monkeypatch.setattr(celery_app.backend, "mark_as_done", end_process)
    with pytest.raises(SystemExit):
        run_task(notifications="signed")
    assert Job.objects.get().state == "running"


def test_no_header_is_checked_where_the_job_has_a_row(run_task, monkeypatch):
    """With that, and the job that it names, the thread of a task took three times as long before the next one."""
    from notifications.contrib.celery import headers

    checked = []
    monkeypatch.setattr(headers, "decode", lambda value, id: checked.append(id))
    assert (run_task(notifications="signed").state, checked) == ("succeeded", [])


@pytest.mark.filterwarnings("ignore:Exception raised outside body")
def test_a_success_that_celery_could_not_report_is_a_failure(run_task, monkeypatch, celery_app):
    from kombu.exceptions import OperationalError as BackendIsAway

    def fail(*args, **kwargs):
        raise BackendIsAway("away")

    monkeypatch.setattr(celery_app.backend, "mark_as_done", fail)
    assert run_task(notifications="signed").state == "failed"
