"""What Celery's signals record, called as in a process of a worker."""

import threading
import uuid

import pytest

from notifications.contrib.celery.recorder import Recorder
from notifications.jobs import Policy
from notifications.models import Job, Notification
from tests.contrib.celery.test_recording import new_row
from tests.support.outcomes import observer

pytest.importorskip("celery", reason="Celery is not installed.")

from celery.app.task import Context

from notifications.contrib.celery import observe

pytestmark = pytest.mark.django_db(transaction=True)


def test_end_whose_notify_function_is_slow_delays_no_other_record(user, monkeypatch):
    """The end is recorded when the function has returned, and is waited for when the process ends."""
    recorder, gate, ran = Recorder(), threading.Event(), threading.Event()
    monkeypatch.setattr(observe, "recorder", recorder)
    row = new_row(user)
    observer.insert([row])
    policy = Policy(notify=lambda job: {"title": f"{job.state} {gate.wait(10)}"})

    def end(job, policy):
        return observer.failed_as(job, policy, "timed-out")

    recorder.call(lambda: observe._finish_row(str(row.id), policy, end, None), wait=0)
    recorder.call(ran.set, wait=0)
    assert ran.wait(2)
    assert Job.objects.get().state == "queued"
    gate.set()
    recorder.drain(5)
    assert not observer.open_calls()
    assert (Job.objects.get().state, Notification.objects.get().title) == ("failed", "failed True")


@pytest.mark.parametrize(("name", "is_made"), [("export", False), ("fail", True)])
def test_functions_of_the_project_are_called_on_the_thread_of_the_task(
    celery_app, user, monkeypatch, name, is_made
):
    """Not on the recording thread, inside the transaction of a hundred tasks, if the header turns out to be forged."""
    made = []
    monkeypatch.setattr(
        observe.ObservedExecution, "begin", lambda execution: made.append("_job" in vars(execution.attempt))
    )
    task = celery_app.tasks[f"tests.contrib.celery.tasks.{name}"]
    request = Context(
        id=str(uuid.uuid4()), args=(user.pk, 2026), headers={"notifications": "forged"}, is_eager=False
    )
    monkeypatch.setattr(type(task), "request", request)
    observe.begin(request.id, task)
    assert made == [is_made]
