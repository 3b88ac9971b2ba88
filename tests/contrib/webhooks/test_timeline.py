"""What became of webhooks and callbacks is shown with the notification and the job that they tell of."""

from datetime import timedelta

import pytest
from django.core.management import call_command
from django.utils import timezone

from notifications.api import notify
from notifications.contrib import webhooks
from notifications.contrib.webhooks.models import WebhookAttempt
from notifications.contrib.webhooks.timeline import read_calls_of
from notifications.inbox import read_timeline
from notifications.jobs import retry
from notifications.models import Job, Notification
from notifications.testing import run_jobs, run_until_idle
from tests.contrib.webhooks.endpoints.conftest import *  # noqa: F403 (fixtures)
from tests.jobs import tasks

pytestmark = [
    pytest.mark.django_db(transaction=True),
    pytest.mark.database_law,
    pytest.mark.nightly_on_postgres,
]

ATTEMPTS = 9
SEND = "notifications.contrib.webhooks.sending.send"


def texts(events):
    return [event.text for event in events if "ebhook" in event.text]


def texts_of(id, **options):
    return texts(read_timeline(Notification.objects.get(id=id), **options))


def test_attempts_and_the_next_one(create, receiver, user):
    """From the insertion of the job on: each attempt with its status, and the time of the next."""
    endpoint = create("/hook?token=treasure")
    (id,) = notify(user, "Hello")
    name = "Webhook 127.0.0.1, notification.created"
    assert texts_of(id) == [f"{name}: not sent yet."]
    receiver.answers = [503, 204]
    run_jobs()
    attempt, job = WebhookAttempt.objects.get(), Job.objects.get(task_path=SEND)
    events = [event for event in read_timeline(Notification.objects.get(id=id)) if name in event.text]
    assert [(event.at, event.text) for event in events] == [
        (attempt.started_at, f"{name}: status 503 after {attempt.milliseconds} ms."),
        (job.run_after, f"{name}: will be sent again, as attempt 2 of {ATTEMPTS}."),
    ]
    assert job.run_after > timezone.now()
    run_until_idle()
    last = WebhookAttempt.objects.latest("started_at")
    expected = [events[0].text, f"{name}: status 204 after {last.milliseconds} ms."]
    assert texts_of(id) == texts_of(id, for_user=True) == expected
    WebhookAttempt.objects.filter(status=503).update(status=None, error="Timeout")
    assert texts_of(id)[0] == f"{name}: no answer (Timeout)."
    webhooks.delete(endpoint.id)
    assert texts_of(id) == ["Deleted webhook, notification.created: sent."]


def test_what_was_not_sent(create, receiver, user):
    endpoint = create(description="CRM")
    (id,) = notify(user, "Hello")
    name = "Webhook CRM, notification.created"
    Job.objects.update(state="running", attempt=1)
    assert texts_of(id) == [f"{name}: is being sent."]
    Job.objects.update(state="queued", attempt=0)
    webhooks.turn_off(endpoint.id)
    run_jobs()
    assert texts_of(id) == [f"{name}: not sent again. The webhook is turned off."]
    Job.objects.update(state="cancelled")
    assert texts_of(id) == [f"{name}: cancelled."]
    Job.objects.update(state="queued", attempt=0, finished_at=None, error=None)
    webhooks.delete(endpoint.id)
    run_jobs()
    expected = "Deleted webhook, notification.created: not sent, because it was deleted before."
    assert texts_of(id) == [expected]


def test_events_of_its_job(create, receiver, user):
    """Those of all its ends."""
    create(events=["job.succeeded", "job.failed"])
    job = tasks.fail.using(owner=user).enqueue()
    run_until_idle()
    retry([job.id])
    run_until_idle()
    for row in Notification.objects.filter(job=job.id):
        shown = texts_of(row.id)
        assert len(shown) == 2 and all("Webhook 127.0.0.1, job.failed: status 204" in text for text in shown)


def test_of_whom_a_user_reads(create, user, other_user, user_client):
    """Those of the site and of other users are for staff only."""
    create(description="mine")
    create(description="site", owner=None)
    (id,) = notify(user, "Hello")
    notify(other_user, "Hello")
    run_jobs()
    assert {text.partition(",")[0] for text in texts_of(id)} == {"Webhook mine", "Webhook site"}
    assert [text.partition(",")[0] for text in texts_of(id, for_user=True)] == ["Webhook mine"]
    page = user_client.get(f"/notifications/{id}/").content.decode()
    assert "Webhook mine, notification.created: status 204" in page and "Webhook site" not in page


@pytest.mark.with_all_apps("explain is the command of deliveries")
def test_secrets_are_not_shown(create, user, user_client, admin_client, capsys):
    endpoint = create("/hook?token=treasure")
    job = tasks.noop.using(owner=user).enqueue()
    run_jobs()
    row = Notification.objects.get()
    call_command("notifications", "explain", str(row.id))
    call_command("notifications", "jobs", "show", job.id)
    call_command("notifications", "jobs", "show", job.id, "--json")
    shown = capsys.readouterr().out
    assert shown.count("Webhook 127.0.0.1, job.succeeded: status 204") == 3
    for client, path in (
        (admin_client, f"/admin/notifications/notification/{row.id}/change/"),
        (admin_client, f"/admin/notifications/job/{job.id}/change/"),
        (user_client, f"/notifications/{row.id}/"),
    ):
        page = client.get(path).content.decode()
        assert "Webhook 127.0.0.1, job.succeeded: status 204" in page
        shown += page
    assert "treasure" not in shown and endpoint.secret not in shown


def test_reads_are_bounded(create, user, django_assert_max_num_queries):
    """The newest calls are shown, and the first attempts of each."""
    create()
    job = tasks.noop.using(owner=user).enqueue()
    run_until_idle()
    sent = Job.objects.filter(task_path=SEND, event_source=job.id).get()
    for number in range(25):
        Job.objects.create(
            task_path=sent.task_path,
            args=sent.args,
            event_source=job.id,
            state="succeeded",
            title=str(number),
            created_at=sent.created_at,
            queued_at=sent.queued_at + timedelta(seconds=number),
        )
    row = Job.objects.get(id=job.id)
    with django_assert_max_num_queries(4):
        assert len(read_calls_of(row, None)) == 20


def test_handlers_are_no_calls(user, settings):
    """Their jobs have the same source, but call no program that the timeline names."""
    paths = {"notification.created": ["tests.contrib.webhooks.handlers.tasks.handle"]}
    settings.NOTIFICATIONS = {**settings.NOTIFICATIONS, "HANDLERS": paths}
    (id,) = notify(user, "Hello")
    assert Job.objects.get().event_source == id
    assert read_calls_of(Notification.objects.get(id=id), None) == []


def test_the_page_of_a_job_says_each_call_once(create, receiver, user, user_client):
    """In its timeline, and not in how its owner was notified as well, which has the calls for the notification."""
    create()
    id = tasks.noop.using(owner=user).enqueue().id
    run_until_idle()
    text = user_client.get(f"/notifications/jobs/{id}/").text
    timeline, _, notified = text.partition("How you were notified")
    assert (timeline.count(", job.succeeded: status"), notified.count(", job.succeeded: status")) == (1, 0)
    assert (timeline.count(", notification.created: "), notified.count(", notification.created: ")) == (0, 1)


def test_staff_see_the_handlers_of_a_job(user, settings):
    """Those that have ended, with how long they ran. Owners do not."""
    paths = {"job.succeeded": ["tests.contrib.webhooks.handlers.tasks.handle"]}
    settings.NOTIFICATIONS = {**settings.NOTIFICATIONS, "HANDLERS": paths}
    id = tasks.noop.using(owner=user).enqueue().id
    run_until_idle()
    handled = Job.objects.exclude(id=id).get()
    job = Job.objects.get(id=id)
    [event] = read_calls_of(job, None)
    assert event.text == "Handler tests.contrib.webhooks.handlers.tasks.handle: Succeeded"
    assert (event.at, event.until) == (handled.started_at, handled.finished_at)
    assert read_calls_of(job, user.pk) == []
    Job.objects.filter(id=handled.id).update(state="queued", finished_at=None)
    assert read_calls_of(job, None) == []


def test_none(user, django_assert_num_queries):
    notify(user, "Hello")
    row = Notification.objects.get()
    with django_assert_num_queries(1):
        assert read_calls_of(row, None) == []
