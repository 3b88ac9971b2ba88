"""Observed tasks that their publisher calls itself: ``task_always_eager`` and ``apply()``."""

import os
import signal
import time
from contextlib import ExitStack

import pytest

from notifications import times
from notifications.api import accepted, requester
from notifications.models import Attempt, Job, Worker
from tests.contrib.celery.conftest import bell_of
from tests.extension import faulty
from tests.support.duties import run_duty
from tests.support.outcomes import error_type
from tests.support.statements import refused
from tests.support.waiting import wait_until

pytest.importorskip("celery", reason="Celery is not installed.")


@pytest.fixture
def tasks():
    from tests.contrib.celery import tasks

    return tasks


@pytest.fixture
def eager(celery_app):
    celery_app.conf.task_always_eager = True
    yield
    celery_app.conf.task_always_eager = False


@pytest.mark.django_db
@pytest.mark.usefixtures("eager")
def test_an_eager_task_is_recorded_in_the_transaction_of_its_caller(tasks, user):
    with requester(user):
        result = tasks.add.delay(3, 4)
    job = Job.objects.get(id=result.id)
    assert (job.state, job.result, job.user_id, job.queue_name) == ("succeeded", "7", user.pk, "eager")
    assert bell_of(user) == [("Add 3 and 4", "7", "success")]
    failed = tasks.fail.delay(user.pk)
    assert Job.objects.get(id=failed.id).state == "failed"
    assert tasks.plain.delay(1).get() == 1


@pytest.mark.django_db
def test_a_test_captures_the_notification_of_an_eager_task(eager, tasks, user, capture_notifications):
    with capture_notifications(user) as captured:
        tasks.export.delay(user.pk, 2026)
    assert [note.title for note in captured] == ["Export 2026"]


@pytest.mark.django_db(transaction=True)
@pytest.mark.usefixtures("eager")
def test_an_eager_task_has_a_worker_while_it_runs(tasks, user, monkeypatch):
    """So that its job is ended if the process is killed."""
    found = []

    def find_worker(path):
        job = Job.objects.get(state="running")
        found.append(Worker.objects.filter(id=job.worker, lease_until__gt=times.now()).exists())

    monkeypatch.setattr(tasks, "held", find_worker)
    result = tasks.hold.apply((user.pk, ""))
    assert (result.state, found) == ("SUCCESS", [True])
    assert Job.objects.get(id=result.id).state == "succeeded"
    assert not Worker.objects.filter(queues="engine:eager").exists()


@pytest.mark.django_db
@pytest.mark.usefixtures("eager")
def test_an_eager_task_does_not_fail_by_its_progress(tasks, user, monkeypatch, caplog):
    """The database may be busy when it is stored."""
    monkeypatch.setattr(tasks, "held", lambda path: None)
    with refused("UPDATE notifications_job SET progress_current") as tries:
        result = tasks.report.delay(user.pk, "")
    assert tries and Job.objects.get(id=result.id).state == "succeeded"
    assert "Could not store the progress of a Celery task: The database is away." in caplog.text


@pytest.fixture
def propagating(eager, celery_app):
    celery_app.conf.task_eager_propagates = True
    yield
    celery_app.conf.task_eager_propagates = False


def assert_failed_once(job, user, caplog):
    assert (job.state, Attempt.objects.filter(job_id=job.id).count()) == ("failed", 1)
    assert [level for *_, level in bell_of(user)] == ["error"]
    assert "Could not record" not in caplog.text and "is not recorded" not in caplog.text


@pytest.mark.django_db
@pytest.mark.parametrize("call", ["delay", "apply"])
def test_an_exception_that_its_caller_gets(call, eager, celery_app, tasks, user, caplog):
    """Celery sends no signal of it, but one of an internal error, with ``task_eager_propagates`` and ``throw``."""
    celery_app.conf.task_eager_propagates = call == "delay"
    try:
        with pytest.raises(ValueError, match="broken"):
            tasks.fail.delay(user.pk) if call == "delay" else tasks.fail.apply((user.pk,), throw=True)
    finally:
        celery_app.conf.task_eager_propagates = False
    assert_failed_once(Job.objects.get(), user, caplog)
    assert "ValueError: broken" in Attempt.objects.get().traceback


@pytest.mark.django_db
@pytest.mark.parametrize("requeue", [False, True])
def test_a_rejected_eager_task_has_failed(requeue, eager, tasks, user, caplog):
    """No broker delivers its message again."""
    tasks.reject.delay(user.pk, requeue)
    assert_failed_once(Job.objects.get(), user, caplog)


@pytest.mark.django_db
def test_a_retry_that_its_caller_gets(propagating, tasks, user, caplog):
    """Celery does not try again then."""
    from celery.exceptions import Retry

    with pytest.raises(Retry):
        tasks.retried.delay(user.pk, 1)
    assert_failed_once(Job.objects.get(), user, caplog)
    assert Attempt.objects.get().exception_class_path == "builtins.OSError"


@pytest.mark.django_db
def test_a_retry_of_an_eager_task(eager, tasks, user):
    assert tasks.retried.delay(user.pk, 1).get() == 1
    job = Job.objects.get()
    assert (job.state, job.attempt) == ("succeeded", 2)
    assert bell_of(user) == [("Retried", "1", "success")]


@pytest.mark.django_db
def test_an_eager_task_succeeds_while_its_caller_handles_an_exception(propagating, tasks, user):
    try:
        raise LookupError
    except LookupError:
        tasks.export.delay(user.pk, 2026)
    assert Job.objects.get().state == "succeeded"


@pytest.mark.django_db(transaction=True)
@pytest.mark.usefixtures("eager")
@pytest.mark.parametrize("is_back", [True, False])
def test_an_eager_task_while_the_database_is_away(tasks, user, monkeypatch, caplog, is_back):
    """Its job is recorded with its end if the database is back then. Else it is lost, which the log counts."""
    with ExitStack() as away:
        away.enter_context(refused("notifications_"))
        monkeypatch.setattr(tasks, "held", lambda path: is_back and away.close())
        result = tasks.hold.delay(user.pk, "")
        assert result.get() == "released"
    assert list(Job.objects.values_list("state", flat=True)) == (["succeeded"] if is_back else [])
    assert ("records given up: " in caplog.text) is not is_back


@pytest.mark.django_db(transaction=True)
def test_the_end_of_a_called_task_that_could_not_be_recorded_is_unknown(tasks, user, monkeypatch):
    """Its work is done: to say that it was interrupted would be a guess."""
    with ExitStack() as away:
        monkeypatch.setattr(tasks, "held", lambda path: away.enter_context(refused(r"notifications_job\b")))
        result = tasks.hold.apply((user.pk, ""))
    assert (result.get(), Job.objects.get().state) == ("released", "running")
    run_duty("take jobs from lost workers")
    assert error_type(Job.objects.get()) == "outcome-unknown"
    assert bell_of(user) == [
        ("Held", "The worker that ran it is gone; whether it finished is not known.", "error")
    ]


@pytest.mark.django_db(transaction=True)
@pytest.mark.usefixtures("eager")
def test_soft_time_limit_while_a_notify_function_is_waited_for(tasks, user, settings):
    """The end is recorded with the default notification."""
    from celery.exceptions import SoftTimeLimitExceeded

    def exceed(*args):
        raise SoftTimeLimitExceeded

    def describe(job):
        os.kill(os.getpid(), signal.SIGUSR1)  # on the main thread, as Celery's own
        time.sleep(0.5)
        return {"title": "too late"}

    options = {"title": "Export {year}", "owner": "user_id", "notify": describe}
    settings.NOTIFICATIONS = {"CELERY": {"tasks": {tasks.export.name: options}}}
    handler = signal.signal(signal.SIGUSR1, exceed)
    try:
        result = tasks.export.delay(user.pk, 2026)
    finally:
        signal.signal(signal.SIGUSR1, handler)
    assert Job.objects.get(id=result.id).state == "succeeded"
    assert bell_of(user) == [("Export 2026", "Succeeded.", "success")]


@pytest.mark.django_db(transaction=True)
def test_an_end_at_which_a_hook_fails(tasks, user, monkeypatch):
    """Its caller goes on at once, and it is recorded when the hook works again."""
    extension = faulty.install(monkeypatch, "on_ends", fault=faulty.raise_error)
    started = time.monotonic()
    result = tasks.export.apply((user.pk, 2026))
    assert time.monotonic() - started < 5
    assert (result.state, Job.objects.get().state) == ("SUCCESS", "running")
    extension.fault = None
    wait_until(lambda: Job.objects.get().state == "succeeded", what="the end to be recorded")
    assert [title for title, *_ in bell_of(user)] == ["Export 2026"]


@pytest.mark.django_db(transaction=True)
@pytest.mark.usefixtures("eager")
def test_accepted_takes_no_celery_result(tasks, user, rf):
    """As docs/how-to/celery.md says."""
    request = rf.post("/")
    request.user = user
    with pytest.raises(TypeError, match=r"It must return what enqueue\(\) returned"):
        accepted(request, lambda: tasks.export.apply_async((user.pk, 2026)))
