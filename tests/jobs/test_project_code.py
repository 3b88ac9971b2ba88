"""Code of the project runs on no thread that claims, records, numbers, pushes, authenticates or dispatches.

Receivers, functions of policies and authentication backends note the thread that they are called on, while a worker,
a hub and a dispatch_loop loop live through every kind of event.
"""

import asyncio
import threading
from datetime import timedelta

import pytest
from django.contrib.auth.backends import ModelBackend
from django.db import connections
from django.utils import timezone

from notifications.api import anotify, batch, notify, policy, requester, task
from notifications.compat import task_enqueued, task_finished, task_started
from notifications.engines import dispatch_loop
from notifications.jobs.transitions import manual
from notifications.models import Alert, Job, Notification, Schedule, Tick
from notifications.operations.announcing import announcer
from notifications.realtime import hub as hubs
from notifications.signals import job_finished, notification_recorded
from tests.jobs import tasks
from tests.support.waiting import wait_until

#: Threads of the app on which nothing may wait for the project.
PROTECTED = (
    "notifications-writer",
    "notifications-claim",
    "notifications-numbers",
    "notifications-hub",
    "notifications-auth",
    "notifications-lease",
    "notifications-doorbell",
    "dispatch under test",
)
calls = set()


def note(what):
    calls.add((what, threading.current_thread().name))


class NotingBackend(ModelBackend):
    """An authentication backend of a project."""

    def with_perm(self, *args, **kwargs):
        note("authentication backend")
        return super().with_perm(*args, **kwargs)


def notify_of_job(job):
    note("notify function of a policy")
    return {}


def notify_of_batch(job):
    note("notify function of a batch")
    return {}


@task
@policy(notify=notify_of_job)
async def report(key):
    await anotify(key, "from an async job")


@task
@policy(title="Handle {event[type]}")
def handle(event):
    note("handler")


@task
def notify_everybody(keys):
    notify(keys, "from a job")


@task
def fail_scheduled():
    raise ValueError("It is broken")


@pytest.fixture
def project(settings, make_user, monkeypatch):
    """A project with receivers of all signals, an authentication backend, schedules and short limits of alerts."""
    operator, owner = make_user("operator", is_superuser=True), make_user("owner")
    every = timedelta(seconds=1)
    path = "tests.jobs.test_project_code"
    settings.AUTHENTICATION_BACKENDS = [f"{path}.NotingBackend"]
    settings.NOTIFICATIONS = {
        **settings.NOTIFICATIONS,
        "SCHEDULES": {
            "failing": {"task": f"{path}.fail_scheduled", "every": every, "owner": "owner"},
            "missing": {"task": f"{path}.missing", "every": every, "owner": "owner"},
        },
        "HANDLERS": {
            "job.succeeded": [f"{path}.handle"],
            "job.failed": [f"{path}.handle"],
            "job.cancelled": [f"{path}.handle"],
            "notification.created": [f"{path}.handle"],
        },
        "ALERTS": {"interval": 0.5, "wait": 0.000001, "clear": 0.000001},
    }
    monkeypatch.setattr(announcer, "ROUND_INTERVAL_SECONDS", 0.2)
    calls.clear()
    signals = {
        "notification_recorded": notification_recorded,
        "job_finished": job_finished,
        "task_enqueued": task_enqueued,
        "task_started": task_started,
        "task_finished": task_finished,
    }
    receivers = []
    for name, signal in signals.items():
        receivers.append((signal, lambda name=name, **kwargs: note(f"receiver of {name}")))

    for signal, receiver in receivers:
        signal.connect(receiver, weak=False)
    yield operator, owner
    for signal, receiver in receivers:
        signal.disconnect(receiver)


def misplaced():
    """Return the calls on protected threads."""
    found = {
        (what, next((name for name in PROTECTED if thread.startswith(name)), "")) for what, thread in calls
    }
    return {call for call in found if call[1]}


def titles(user):
    return set(Notification.objects.filter(user=user).values_list("title", flat=True))


def begin_alert():
    """Insert a job that waits for a worker that does not exist."""
    Job.objects.create(
        task_path="tests.jobs.tasks.noop",
        backend="default",
        queue_name="elsewhere",
        executor="suspect",
        title="Waits",
        created_at=timezone.now(),
        queued_at=timezone.now() - timedelta(hours=1),
    )


@pytest.mark.django_db(transaction=True)
def test_worker(project, start_worker):
    """Jobs that succeed, fail, are cancelled, notify and belong to a batch; schedules; alerts that begin and end."""
    operator, owner = project
    start_worker(queues=["default"])  # which leaves the job of the alert alone
    with requester(owner):
        report.enqueue(owner.pk)
        tasks.fail.enqueue()
        notify_everybody.enqueue([owner.pk, operator.pk])
        cancelled = tasks.noop.using(run_after=timezone.now() + timedelta(hours=1)).enqueue()
        with batch(notify=notify_of_batch):
            tasks.noop.enqueue()
    manual.cancel([cancelled.id], by=operator.pk)
    wait_until(lambda: {"failing has failed", "missing has failed"} <= titles(owner), what="schedules")
    assert Schedule.objects.filter(problem="failed").count() == 2
    begin_alert()
    wait_until(lambda: "Jobs wait too long: elsewhere" in titles(operator), what="an alert")
    Job.objects.filter(queue_name="elsewhere").delete()
    wait_until(lambda: "Over: Jobs wait too long: elsewhere" in titles(operator), what="its end")
    wait_until(lambda: not Job.objects.filter(title="Report", seq=0).exists(), what="the jobs")
    assert misplaced() == set()
    assert {what for what, _ in calls} == {
        "authentication backend",
        "handler",
        "notify function of a batch",
        "notify function of a policy",
        "receiver of job_finished",
        "receiver of notification_recorded",
        "receiver of task_enqueued",
        "receiver of task_finished",
        "receiver of task_started",
    }


@pytest.mark.django_db(transaction=True)
def test_server_process(project):
    """Its hub announces alerts where no worker lives, "No worker" among them."""
    operator, _ = project
    begin_alert()

    def wait_for_alert():
        try:
            wait_until(lambda: "Jobs wait too long: elsewhere" in titles(operator), what="the alert")
        finally:
            connections.close_all()

    async def serve():
        hub = hubs.Hub(asyncio.get_running_loop())
        try:
            await asyncio.to_thread(wait_for_alert)
        finally:
            await hub.close()

    asyncio.run(serve())
    assert Alert.objects.filter(closed_at=None).exists()
    assert {what for what, _ in calls} == {
        "authentication backend",
        "receiver of notification_recorded",
        "receiver of task_enqueued",  # of the handler's job
    }
    assert misplaced() == set()


@pytest.mark.django_db(transaction=True)
def test_dispatch_loop(project, with_engine):
    """A server process that dispatches jobs enqueues those of schedules, and announces their problems."""
    _, owner = project
    loop = dispatch_loop.DispatchLoop()
    thread = threading.Thread(target=loop.run, name="dispatch under test")
    thread.start()
    try:
        wait_until(lambda: "missing has failed" in titles(owner), what="the announcement")
        wait_until(lambda: Tick.objects.filter(outcome="enqueued").exists(), what="a tick")
    finally:
        loop.stop()
        thread.join(60)
    assert {"receiver of task_enqueued", "receiver of notification_recorded"} <= {what for what, _ in calls}
    assert misplaced() == set()
