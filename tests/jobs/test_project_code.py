"""Code of the project runs on no thread that claims, records, numbers, pushes or dispatches.

Receivers, functions of policies, authentication backends and the manager of users note the thread that they are called
on, while a worker, a hub and a dispatch loop live through every kind of event. Threads that sign in clients call the
project only for that.
"""

import asyncio
import threading
from datetime import timedelta

import pytest
from django.contrib.auth.backends import ModelBackend
from django.contrib.auth.models import UserManager
from django.db import connections
from django.utils import timezone

from notifications.api import anotify, batch, notify, policy, requester, task
from notifications.contrib.engines.server import ServerUpkeep
from notifications.contrib.operations.models import Alert
from notifications.contrib.schedules.models import Schedule, Tick
from notifications.extension import Upkeep, Where
from notifications.jobs import cancel
from notifications.models import Job, Notification, Wait
from notifications.realtime.hub import current_hub
from notifications.signals import job_finished, notification_recorded
from notifications.testing import run_jobs
from notifications.worker import SignalQueue
from tests.contrib.questions import question_tasks
from tests.jobs import tasks
from tests.jobs.conftest import until_done
from tests.realtime.conftest import Socket, in_thread, sign_in
from tests.support.django_tasks import task_enqueued, task_finished, task_started
from tests.support.waiting import wait_until

pytestmark = [pytest.mark.nightly_on_postgres, pytest.mark.nightly_on_old_django]

#: Threads of the app on which nothing may wait for the project, each with what it calls nevertheless.
PROTECTED = {
    "notifications-writer": (),
    "notifications-claim": (),
    "notifications-numbers": (),
    "notifications-hub": (),
    # Authentication consists of these calls. Only handshakes and the checks of sessions wait for them.
    "notifications-auth": ("sign-in by an authentication backend", "manager of users"),
    "notifications-lease": (),
    "notifications-doorbell": (),
    "notifications-dispatch": (),
    "upkeep under test": (),
}
calls = set()


def note(what):
    calls.add((what, threading.current_thread().name))


class NotingBackend(ModelBackend):
    """An authentication backend of a project. Its search for users with a permission waits for ``may_search``."""

    may_search = threading.Event()

    def get_user(self, user_id):
        note("sign-in by an authentication backend")
        return super().get_user(user_id)

    def with_perm(self, *args, **kwargs):
        note("authentication backend")
        assert self.may_search.wait(300)  # longer than any wait for what must not wait for it
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
def project(settings, make_user, over_at_once, monkeypatch, set_bounds):
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
        "ALERTS": {"interval": 0.5, "wait": 0.000001},
    }
    set_bounds(duties=0.2)
    get_queryset = UserManager.get_queryset

    def note_query(manager):
        note("manager of users")
        return get_queryset(manager)

    monkeypatch.setattr(UserManager, "get_queryset", note_query)
    NotingBackend.may_search.set()
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
    NotingBackend.may_search.set()
    for signal, receiver in receivers:
        signal.disconnect(receiver)


def misplaced():
    """Return the calls on protected threads."""
    return {
        (what, name)
        for what, thread in calls
        for name, expected in PROTECTED.items()
        if thread.startswith(name) and what not in expected
    }


def titles(user):
    return set(Notification.objects.filter(user=user).values_list("title", flat=True))


def begin_alert():
    """Insert a job that waits for a worker that does not exist."""
    Job.objects.create(
        task_path="tests.jobs.tasks.noop",
        backend="default",
        queue_name="elsewhere",
        executor="quarantined",
        title="Waits",
        created_at=timezone.now(),
        queued_at=timezone.now() - timedelta(hours=1),
    )


def ask_deactivated(user, *, is_reminder):
    """Have a job ask a user who then leaves. A reminder is due, or staff must be asked without one."""
    question_tasks.ask_sync.using(owner=user).enqueue(remind_hours=[1] if is_reminder else [])
    run_jobs()
    Wait.objects.filter(remind_at__isnull=False).update(remind_at=timezone.now())
    type(user).objects.filter(pk=user.pk).update(is_active=False)
    calls.clear()


@pytest.fixture(params=["reminder", "staff"])
def question(request, project, make_user, set_bounds):
    """An open question without an active addressee, which one of the two duties finds."""
    is_reminder = request.param == "reminder"
    interval = 300.0 if is_reminder else 0.1
    set_bounds(duties=interval)
    ask_deactivated(make_user("leaver"), is_reminder=is_reminder)


class TestQuestionsWithoutAddressee:
    """Staff are asked, whom the authentication backend and the manager of users find."""

    pytestmark = pytest.mark.django_db(transaction=True)

    def assert_asked(self, operator):
        wait_until(lambda: "Ship?" in titles(operator), what="the question to staff")
        assert {"authentication backend", "manager of users"} <= {what for what, _ in calls}
        assert misplaced() == set()

    def test_worker(self, project, question, start_worker):
        start_worker()
        self.assert_asked(project[0])

    def test_upkeep(self, project, question):
        """Of the main process of Celery, and of a server whose jobs an engine runs."""
        process, is_ended = Upkeep(Where.ENGINE, seconds=1), threading.Event()

        def run_rounds():
            signals = SignalQueue()
            signals.use_on_this_thread()
            while not is_ended.wait(0.05):
                process.run_round()
            signals.end()
            connections.close_all()

        thread = threading.Thread(target=run_rounds, name="upkeep under test")
        thread.start()
        try:
            self.assert_asked(project[0])
        finally:
            is_ended.set()
            thread.join(60)
            process.project_threads.end(60)


@pytest.mark.django_db(transaction=True)
def test_backend_that_hangs(project, make_user, start_worker, set_bounds):
    """All that search for users by permission wait for it. Jobs of other users, and schedules, do not."""
    set_bounds(duties=0.1)
    # The reminder last: running a job inline also reminds of due questions.
    for name, is_reminder in (("first", False), ("second", True)):
        ask_deactivated(make_user(name), is_reminder=is_reminder)
    begin_alert()
    NotingBackend.may_search.clear()
    start_worker(queues=["default"])

    def has_all_threads():  # of announcements, reminders and the search for questions
        return len({thread for what, thread in calls if what == "authentication backend"}) == 3

    try:
        wait_until(has_all_threads, what="three calls of the backend")
        ticks = Tick.objects.count()
        (job,) = until_done(tasks.noop.using(owner=project[1]).enqueue())
        assert job.state == "succeeded"
        wait_until(lambda: Tick.objects.count() > ticks, what="a tick of a schedule")
        assert "Ship?" not in titles(project[0])
    finally:
        NotingBackend.may_search.set()
    questions = Notification.objects.filter(user=project[0], title="Ship?", archived_at=None)
    wait_until(lambda: questions.count() == 2, what="questions to staff")
    assert misplaced() == set()


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
    cancel([cancelled.id], by=operator.pk)
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
        "manager of users",
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
    """Its hub announces alerts where no worker lives, "No worker" among them, and signs in a client."""
    operator, _ = project
    begin_alert()

    def wait_for_alert():
        try:
            wait_until(lambda: "Jobs wait too long: elsewhere" in titles(operator), what="the alert")
        finally:
            connections.close_all()

    async def serve():
        hub = current_hub()
        try:
            await asyncio.to_thread(wait_for_alert)
            socket = Socket(await in_thread(sign_in, operator))
            await socket.handshake()
            assert socket.accepted
            await socket.start()
            socket.task.cancel()
            await asyncio.gather(socket.task, return_exceptions=True)
        finally:
            await hub.close()

    asyncio.run(serve())
    assert Alert.objects.filter(closed_at=None).exists()
    assert {what for what, _ in calls} == {
        "authentication backend",
        "receiver of notification_recorded",
        "receiver of task_enqueued",  # of the handler's job
        "manager of users",
        "sign-in by an authentication backend",
    }
    assert ("sign-in by an authentication backend", "notifications-auth") in {
        (what, thread.rpartition("-")[0]) for what, thread in calls
    }
    assert misplaced() == set()


@pytest.mark.django_db(transaction=True)
def test_upkeep_of_a_server(project, with_engine):
    """A server process of a project with engines enqueues jobs of schedules, and announces their problems."""
    _, owner = project
    loop = ServerUpkeep()
    loop.wake()
    try:
        wait_until(lambda: "missing has failed" in titles(owner), what="the announcement")
        wait_until(lambda: Tick.objects.filter(outcome="enqueued").exists(), what="a tick")
    finally:
        loop.stop(60)
    assert {"receiver of task_enqueued", "receiver of notification_recorded"} <= {what for what, _ in calls}
    assert misplaced() == set()
