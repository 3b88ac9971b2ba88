"""Each alert begins when something is broken, notifies once, and is over when it works again."""

import json
from datetime import timedelta

import pytest
from django.utils import timezone

from notifications import times
from notifications.contrib import webhooks
from notifications.contrib.operations.models import Alert, AlertState, JobStatistics
from notifications.contrib.webhooks.models import WebhookEndpoint
from notifications.jobs import task_backends
from notifications.management import pause_queue
from notifications.models import Job, Notification, OwedCall, Wait, Worker, uuid7
from notifications.testing import run_jobs
from notifications.worker import DEADLINE_MARGIN_SECONDS
from tests.jobs import tasks
from tests.support.claims import claim_rows
from tests.support.duties import run_duty
from tests.support.outcomes import release

pytestmark = pytest.mark.with_all_apps("one of the conditions is that of webhooks")


def add_worker(seconds):
    """Insert a worker whose lease is over in so many seconds."""
    now = timezone.now()
    return Worker.objects.create(
        host="app-1",
        process="17",
        started_at=now,
        lease_until=now + timedelta(seconds=seconds),
        concurrency=1,
    )


def test_jobs_wait_too_long(alerts, operator):
    """In a queue that is not paused, until they are done."""
    alerts.limit(wait=0.000001)
    tasks.noop.using(queue_name="mail").enqueue()
    for _ in range(3):
        assert alerts.evaluate() == [("wait", "mail")]
    assert Alert.objects.get().detail.startswith("1 job waits, for")
    run_jobs()
    for _ in range(2):
        assert alerts.evaluate() == []
    title = "Jobs wait too long: mail"
    assert alerts.notified(operator) == [title, f"Over: {title}"]


def test_jobs_of_a_paused_queue_may_wait(alerts):
    """So may jobs that are delayed, and jobs that wait for less than the limit."""
    alerts.limit(wait=0.000001)
    tasks.noop.using(queue_name="mail").enqueue()
    tasks.noop.using(run_after=timezone.now() + timedelta(hours=1)).enqueue()
    pause_queue("mail")
    assert alerts.evaluate() == []
    alerts.limit(wait=3600)
    pause_queue("mail", is_paused=False)
    assert alerts.evaluate() == []


def test_queue_finishes_nothing(alerts, operator):
    """A job runs for longer than the limit, others wait for a slot, and none has ended; until it is released."""
    alerts.limit(stalled=0.000001)
    for _ in range(2):
        tasks.noop.using(queue_name="mail").enqueue()
    running = claim_rows(uuid7(), 1)
    assert alerts.evaluate() == [("stalled", "mail")]
    assert "None has ended" in Alert.objects.get().detail
    [job] = running
    release(job)
    assert alerts.evaluate() == []
    title = "Queue finishes nothing: mail"
    assert alerts.notified(operator) == [title, f"Over: {title}"]


def test_long_job_with_free_slots_is_not_stalled(alerts):
    """Jobs of another queue, of a paused one and delayed jobs do not wait for its slot."""
    alerts.limit(stalled=0.000001)
    for queue in ("mail", "paused"):
        tasks.noop.using(queue_name=queue).enqueue()
        claim_rows(uuid7(), 1)
        tasks.noop.using(queue_name=queue, run_after=timezone.now() + timedelta(hours=1)).enqueue()
    pause_queue("paused")
    tasks.noop.using(queue_name="paused").enqueue()
    assert alerts.evaluate() == []
    tasks.noop.using(queue_name="other").enqueue()
    assert alerts.evaluate() == []


def test_job_that_a_worker_is_about_to_claim_does_not_wait(alerts):
    """A queue with a long job and one that was just enqueued."""
    alerts.limit(stalled=10)
    tasks.noop.using(queue_name="mail").enqueue()
    claim_rows(uuid7(), 1)
    Job.objects.update(started_at=timezone.now() - timedelta(minutes=10))
    id = tasks.noop.using(queue_name="mail").enqueue().id
    assert alerts.evaluate() == []
    Job.objects.filter(id=id).update(queued_at=timezone.now() - timedelta(seconds=11))
    assert alerts.evaluate() == [("stalled", "mail")]


def test_job_over_its_timeout_is_stalled(alerts):
    """Its process is frozen: it would have ended the job otherwise. No other job need wait."""
    alerts.limit(stalled=0.000001)
    tasks.noop.enqueue()
    [job] = claim_rows(uuid7(), 1)
    timeout_at = job.deadline - timedelta(seconds=DEADLINE_MARGIN_SECONDS)
    assert alerts.evaluate() == []
    Job.objects.update(deadline=job.deadline - (timeout_at - timezone.now()) - timedelta(seconds=1))
    assert alerts.evaluate() == [("stalled", "default")]


def test_queue_with_one_long_job_that_finishes_others(alerts):
    """It is not stalled; another queue that finishes jobs does not count."""
    alerts.limit(stalled=0.000001)
    tasks.noop.using(queue_name="mail").enqueue()
    claim_rows(uuid7(), 1)
    tasks.noop.using(queue_name="other").enqueue()
    run_jobs()
    first = tasks.noop.using(queue_name="mail").enqueue().id
    assert alerts.evaluate() == [("stalled", "mail")]
    run_jobs()
    assert Job.objects.get(id=first).state == "succeeded"
    tasks.noop.using(queue_name="mail").enqueue()
    assert alerts.evaluate() == []


@pytest.mark.parametrize("limits", [{"failure_rate": 0.5}, {"failure_rate": 1, "max_failures": 2}])
def test_many_jobs_fail(alerts, operator, limits):
    """More of a task than the share or number of the limit, until its incident is over."""
    alerts.limit(min_failures=3, **limits)
    for _ in range(2):
        tasks.fail.enqueue()
    for _ in range(9):  # jobs of another task in the same queue
        tasks.noop.enqueue()
    run_jobs()
    assert alerts.evaluate() == []  # too few
    tasks.fail.enqueue()
    run_jobs()
    for _ in range(2):
        assert alerts.evaluate() == [("failures", "tests.jobs.tasks.fail")]
    JobStatistics.objects.filter(task_path__endswith=".fail").update(count=1)
    assert alerts.evaluate() == [("failures", "tests.jobs.tasks.fail")]
    assert alerts.notified(operator) == ["Many jobs fail: fail"]
    alerts.limit(failure_rate=None)
    assert alerts.evaluate() == []


def test_failed_webhooks_are_no_failures_of_their_queue(alerts, settings):
    """Nor do events that are received hide that the e-mails beside them fail."""
    settings.NOTIFICATIONS = {**settings.NOTIFICATIONS, "WEBHOOKS": True}
    alerts.limit(failure_rate=0.5, min_failures=1)
    endpoint = webhooks.create("https://hooks.example/", events=["job.failed"])
    WebhookEndpoint.objects.update(url="https://127.0.0.1/")  # which is not called

    def send():
        for _ in range(3):
            webhooks.send_test(endpoint.id)
        Job.objects.update(queue_name="mail")

    send()
    run_jobs()
    assert Job.objects.filter(state="failed", queue_name="mail").count() == 3
    assert alerts.evaluate() == []
    send()
    webhooks.delete(endpoint.id)
    tasks.fail.using(queue_name="mail").enqueue()
    run_jobs()
    assert alerts.evaluate() == [("failures", "tests.jobs.tasks.fail")]


def test_an_unanswered_question(alerts, operator, user):
    """Until it is answered. Pauses that are as old do not count."""
    alerts.limit(question=3_600)
    fields = {"attempt": 1, "title": "Ship?", "details": '{"choices": {"yes": "Ship"}, "body": "", "to": []}'}
    asked_at = timezone.now() - timedelta(hours=2)
    Wait.objects.create(job=uuid7(), name="nap", kind="pause", created_at=asked_at, **fields)
    recent = Wait.objects.create(
        job=uuid7(), name="ship", kind="question", created_at=timezone.now(), **fields
    )
    assert alerts.evaluate() == []
    recent.created_at = asked_at
    recent.save()
    assert alerts.evaluate() == [("question", "")]
    assert Alert.objects.get(closed_at=None).detail == "1 question is open, for 2 h. The limit is 60 min."
    recent.ended_at = timezone.now()
    recent.save()
    assert alerts.evaluate() == []
    assert alerts.notified(operator) == ["Question unanswered", "Over: Question unanswered"]


@pytest.mark.parametrize(
    ("number", "counted"), [(10_000, "10000 questions are open"), (10_001, "10000+ questions are open")]
)
def test_as_many_questions_as_are_counted(alerts, number, counted):
    """The text has a plus only if there are more than are counted."""
    alerts.limit(question=3_600)
    asked_at = timezone.now() - timedelta(hours=2)
    details = '{"choices": {"yes": "Ship"}, "body": "", "to": []}'
    fields = {"attempt": 1, "title": "Ship?", "details": details, "created_at": asked_at}
    Wait.objects.bulk_create(Wait(job=uuid7(), name="ship", kind="question", **fields) for _ in range(number))
    assert alerts.evaluate() == [("question", "")]
    assert Alert.objects.get(closed_at=None).detail.startswith(counted)


def test_no_worker(alerts, operator):
    """None whose lease holds, until one begins."""
    alerts.limit(no_worker=0.000001)
    alerts.evaluate()  # from now on it is known that there is none
    assert alerts.evaluate() == [("no_worker", "")]
    add_worker(seconds=-1)
    assert alerts.evaluate() == [("no_worker", "")]
    add_worker(seconds=20)
    assert alerts.evaluate() == []
    assert alerts.notified(operator) == ["No worker", "Over: No worker"]


def test_no_worker_is_needed_without_the_built_in_worker(alerts, settings):
    """A project that only notifies, for example."""
    backends = type(task_backends).__module__  # django.tasks or django_tasks
    settings.TASKS = {"default": {"BACKEND": f"{backends}.backends.dummy.DummyBackend"}}
    alerts.limit(no_worker=0.000001)
    alerts.evaluate()
    assert alerts.evaluate() == []


def test_worker_lost(alerts, operator):
    """One whose lease is over without an end, until the window has passed."""
    assert alerts.evaluate() == []
    add_worker(seconds=-1)
    run_duty("take jobs from lost workers")
    assert alerts.evaluate() == [("lease", "")]
    assert "app-1 17" in Alert.objects.get().detail
    AlertState.objects.update(lease_lost_at=timezone.now() - timedelta(minutes=6))
    assert alerts.evaluate() == []
    assert alerts.notified(operator) == ["Worker lost", "Over: Worker lost"]


def test_a_hook_of_an_extension_fails(alerts, operator):
    """As long as calls are owed that have failed again."""
    fields = {"extension": "sms", "hook": "on_ends", "due_at": times.now()}
    for tries in (0, 1, 2):
        OwedCall.objects.create(subject=uuid7(), tries=tries, **fields)
    OwedCall.objects.filter(tries=0).update(
        extension="notifications_operations"
    )  # the duty is about to make it
    assert alerts.evaluate() == [("hook", "sms.on_ends")]
    assert Alert.objects.get().detail.startswith("2 calls fail")
    [action] = json.loads(Notification.objects.get(user=operator).data)["actions"]
    assert "sms" not in action["url"]
    OwedCall.objects.all().delete()
    assert alerts.evaluate() == []
    assert [title.partition(":")[0] for title in alerts.notified(operator)] == ["Extension fails", "Over"]


@pytest.mark.parametrize("limits", [{"wait": None}, {"stalled": None}])
def test_none_turns_an_alert_off(alerts, limits):
    """And ends an open one."""
    alerts.limit(wait=0.000001, stalled=0.000001)
    for _ in range(2):
        tasks.noop.enqueue()
    claim_rows(uuid7(), 1)
    assert alerts.evaluate() == [("stalled", "default"), ("wait", "default")]
    alerts.limit(**{"wait": 0.000001, "stalled": 0.000001, **limits})
    assert [kind for kind, _ in alerts.evaluate()] == [
        kind for kind in ("stalled", "wait") if kind not in limits
    ]
